"""The three protocols in words: side by side, and each with its numbers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from escapade.exits import ExitSample
from escapade.report import formats
from escapade.report.reproduction.symbols import formula
from escapade.reproduction import Reproduction
from escapade.reproduction.corrected import CONTRASTS, CorrectedResult, Estimate, Fit
from escapade.reproduction.described import DescribedResult
from escapade.reproduction.published import PublishedResult
from escapade.reproduction.published.experiment import Quantity


@dataclass(frozen=True)
class Table:
    """A table of a protocol; columns whose place is in `texts` are words."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Column:
    """One protocol.

    Attributes:
        name: of the protocol.
        title: its heading.
        meaning: what it is, in a few words.
        aspects: what it does and finds, by aspect.
        paragraphs: what its numbers say.
        figures: names of its figures.
        tables: its numbers.
    """

    name: str
    title: str
    meaning: str
    aspects: dict[str, str]
    paragraphs: tuple[str, ...]
    figures: tuple[str, ...]
    tables: tuple[Table, ...] = field(default=())


ASPECTS = (
    "Start",
    "Gradients",
    "Region",
    "Sharpness",
    "Runs",
    "Steps at the base point",
    "Coefficient of variation",
    "Power of the learning rate η",
    "Power of the batch size B",
    "Power of the radius r",
    "Power of the sharpness",
    "What it shows",
)

_NAMES = {"size": "radius"}


def columns(found: Reproduction) -> list[Column]:
    """The protocols that were run."""
    made = []
    if found.published is not None:
        made.append(_published(found.published))
    if found.described is not None and any(scan.points for scan in found.described.scans):
        made.append(_described(found.described))
    if found.corrected is not None:
        made.append(_corrected(found.corrected))
    return made


def side_by_side(made: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """What each protocol does and finds, one row an aspect."""
    return [
        (aspect, [column.aspects.get(aspect, formats.UNKNOWN) for column in made])
        for aspect in ASPECTS
    ]


def _published(result: PublishedResult) -> Column:
    sgd, sgld = result.base("sgd"), result.base("sgld")
    ratios = [scan.ratio for scan in result.scans if np.isfinite(scan.ratio[0])]
    within = max((abs(ratio - 1) for ratio, _ in ratios), default=float("nan"))
    zeroed = [one for one in result.variations if one.point.experiment.gradients == "zeroed"]
    aspects = {
        "Start": "fresh random weights in each run; the trained weights are not loaded",
        "Gradients": "accumulated over all steps (momentum 1); inputs and labels drawn "
        "independently of each other",
        "Region": "sum over the weight matrices of their distances from the start",
        "Sharpness": "L(√k θ), started at θ/√k",
        "Runs": f"{sgd.replicas} at the base point, up to {sgd.max_steps} steps",
        "Steps at the base point": _mean(sgd),
        "Coefficient of variation": formats.number(sgd.coefficient_of_variation, 2),
        "What it shows": _regularity(sgd),
        **_powers({scan.quantity: scan.slope.value for scan in result.scans
                   if scan.optimiser == "sgd"},
                  {scan.quantity: scan.slope.interval for scan in result.scans
                   if scan.optimiser == "sgd"}),
    }  # fmt: skip
    paragraphs = [
        "The public experiment code, run again as it is. Averaged over each scan, the mean exit "
        f"times agree with the published arrays within {formats.percent(within)}. The two labels "
        "“SGD” and “discrete SGD” name the same code.",
        "Exit over a barrier has a coefficient of variation near 1, and a mean that follows the "
        "dotted lines; the measured ones stand beside them.",
        *(_zeroed(one.point.sample) for one in zeroed),
        f"SGLD: {_mean(sgld)} steps, coefficient of variation "
        f"{formats.number(sgld.coefficient_of_variation, 2)}. Its means follow the powers "
        f"{_slope(result, 'learning_rate')} of the learning rate and {_slope(result, 'radius')} of "
        f"the radius; a free random walk has {formats.MINUS}2 and 2.",
        *(_identity(one.factor, one.differing, len(one.plain)) for one in
          result.reparametrisations[:1]),
    ]  # fmt: skip
    rows = []
    for scan in result.scans:
        ratio, error = scan.ratio
        published = scan.published_slope()
        rows.append(
            (
                f"{scan.optimiser.upper()}, {scan.quantity.replace('_', ' ')}",
                formats.span(scan.values, formats.parameter),
                f"{ratio:.3f} ± {error:.3f}" if np.isfinite(ratio) else "means not published",
                _with_interval(scan.slope.value, scan.slope.interval),
                _with_interval(published.value, published.interval),
            )
        )
    header = ("Scan", "From, to", "Measured / published", "Power here", "Power of the arrays")
    table = Table("Each scan against the published arrays", header, tuple(rows))
    varied = Table(
        "The base point with one thing changed",
        ("Changed", "Steps", "Coefficient of variation", "What it means"),
        tuple(
            (one.name, _mean(one.point.sample),
             formats.number(one.point.sample.coefficient_of_variation, 2), one.reads)
            for one in result.variations
        ),
        texts=(0, 3),
    )  # fmt: skip
    return Column(
        "published", "Published", "the public experiment code, as it runs", aspects,
        tuple(paragraphs), ("published_sgd", "published_sgld"), (table, varied),
    )  # fmt: skip


def _regularity(sample: ExitSample) -> str:
    variation = sample.coefficient_of_variation
    kind = "exit over a barrier" if 0.8 <= variation <= 1.2 else "no exit over a barrier"
    if variation < 0.5:
        kind = "runs that leave almost together, as a sum of many steps does, and " + kind
    return f"{kind} (coefficient of variation {formats.number(variation, 2)}), from random weights"


def _slope(result: PublishedResult, quantity: Quantity) -> str:
    found = result.scan("sgld", quantity)
    if found is None:
        return "unknown"
    return _with_interval(found.slope.value, found.slope.interval)


def _zeroed(sample: ExitSample) -> str:
    left = f"{sample.exits} of {formats.count(sample.replicas, 'run')}"
    return (
        f"With the gradients set to zero before each step, as an optimiser step is usually "
        f"written, {left} left within {sample.max_steps:,} steps."
    )


def _identity(factor: float, differing: int, runs: int) -> str:
    return (
        "The scan of sharpness repeats those of learning rate and radius: with the same random "
        f"numbers, {runs - differing} of {runs} runs at k = {factor:g} leave at the very step at "
        "which they leave at learning rate kη and radius √k r."
    )


def _described(result: DescribedResult) -> Column:
    by_name = {_NAMES.get(scan.quantity, scan.quantity): scan for scan in result.scans}
    points = [point for scan in result.scans for point in scan.points]
    base = points[0]
    fits = {name: scan.slope for name, scan in by_name.items()}
    mechanisms = Counter(point.mechanism for point in points)
    variations = [point.sample.coefficient_of_variation for point in points if point.sample.exits]
    shells = [point.shell_ratio for point in points]
    aspects = {
        "Start": f"a minimum: gradient norm {formats.number(result.minimum.gradient_norm, 1)}",
        "Gradients": "of the step's own minibatch, inputs with their labels",
        "Region": "Euclidean ball",
        "Sharpness": "L(√α θ), started at its minimum",
        "Runs": f"{base.sample.replicas} a point, up to {base.sample.max_steps:,} steps",
        "Steps at the base point": _mean(base.sample),
        "Coefficient of variation": formats.span(variations, lambda value: f"{value:.2g}"),
        **_powers(
            {name: fit.slope for name, fit in fits.items() if fit is not None},
            {name: fit.slope_interval for name, fit in fits.items() if fit is not None},
        ),
        "What it shows": "a ball in a network of this size is left by "
        + formats.listing([_by(name) for name in mechanisms])
        + ", not over a barrier" * ("activated" not in mechanisms),
    }
    left_open = formats.count(len(result.openings), "thing")
    paragraphs = (
        f"The experiment that the text of version 1 describes, on {len(result.minimum.theta)} "
        f"parameters. The text leaves {left_open} open; the choices made here are listed below.",
        f"Mean squared stationary distance over the squared radius: {formats.span(shells)}. Where "
        "it is near 1 or above, the region lies inside the typical shell of the noise, so that "
        f"runs leave without climbing. {base.reason[:1].upper()}{base.reason[1:]}.",
        "Predictions are of exits over a barrier; where another mechanism is named, they are shown "
        "for the size of the error that the name prevents.",
    )
    rows = []
    for name, scan in by_name.items():
        for value, point in zip(scan.values, scan.points, strict=True):
            rows.append(
                (
                    f"{name.replace('_', ' ')} {formats.parameter(float(value))}",
                    _mean(point.sample),
                    formats.number_from_log(point.log_predicted),
                    formats.number_from_log(point.log_exponential_law),
                    formats.number(point.sample.coefficient_of_variation, 2),
                    point.mechanism,
                )
            )
    header = ("Point", "Steps measured", "Predicted", "Plain law", "CV", "Mechanism")
    openings = Table(
        "What the text leaves open",
        ("Question", "Choice here", "Why"),
        tuple((one.question, formula(one.choice), formula(one.reason)) for one in result.openings),
        texts=(0, 1, 2),
    )
    tables = (Table("Every point", header, tuple(rows), texts=(0, 5)), openings)
    return Column("described", "Described", "what the text says", aspects, paragraphs,
                  ("described",), tables)  # fmt: skip


def _by(mechanism: str) -> str:
    known = {"activated": "activation", "diffusive": "diffusion", "unstable": "instability"}
    return known.get(mechanism, mechanism)


def _corrected(result: CorrectedResult) -> Column:
    activated = [point for point in result.points if point.mechanism == "activated"]
    powers = [fit.power for fit in result.fits if fit.power is not None]
    exactly = [power for power in powers if power.agrees]
    within = [power for power in powers if power.allows(power.predicted)]
    variations = [point.variation for point in activated if np.isfinite(point.variation)]
    barriers = [point.barrier for point in activated]
    means = [point.mean for point in activated if np.isfinite(point.mean)]
    questions = {contrast.name: contrast for contrast in CONTRASTS}
    aspects = {
        "Start": "a minimum, polished to rounding",
        "Gradients": "full with Gaussian noise (isotropic, c H, or measured), continuous and "
        "discrete; and true minibatches",
        "Region": "ball, sublevel set, half-space across the sharpest direction",
        "Sharpness": "the largest eigenvalue alone, or L(√α θ)",
        "Runs": f"{formats.count(len(result.points), 'cell')}; by splitting where b is above 8",
        "Steps at the base point": f"{formats.span(means)} over all cells",
        "Coefficient of variation": f"{formats.span(variations, lambda v: f'{v:.2f}')} where "
        "activated",
        "Power of the learning rate η": _contrast_power(result, "depth, C = cH, learning rate"),
        "Power of the batch size B": _contrast_power(result, "depth, C = cH, batch size"),
        "Power of the radius r": _contrast_power(result, "radius, C = cH, radius"),
        "Power of the sharpness": _contrast_power(result, "depth, C = cH, lambda_max")
        + " at fixed depth; "
        + _contrast_power(result, "radius, C = cH, lambda_max")
        + " at fixed radius",
        "What it shows": f"{len(within)} of {len(powers)} powers of the barrier are as predicted, "
        "within the 95 % interval and the error that the prediction states for itself "
        f"({len(exactly)} within the interval alone), at barriers "
        f"{formats.span(barriers, formats.short)}",
    }
    others = result.not_activated
    paragraphs = [
        "One quantity at a time, over a decade or more, at barriers at which the laws differ. The "
        "powers here are those of the barrier (B/η) V₀ (of log E[ν] less the logarithm of the "
        "predicted prefactor), those of the other two protocols of E[ν] itself.",
    ]
    if others:
        first = others[0]
        kinds = Counter(point.mechanism for point in others)
        listed = formats.listing([f"{count} {name}" for name, count in kinds.items()])
        paragraphs.append(
            f"Where the exponential law fails ({listed}), the reason is part of the result. "
            f"{first.cell}: {first.reason}."
        )
    doubtful = [point for point in result.points if point.scattered]
    if doubtful:
        listed = formats.listing([f"{point.cell} (b = {point.barrier:.3g})" for point in doubtful])
        paragraphs.append(f"Left out of every fit, since its runs of splitting scatter: {listed}.")
    rows = []
    for fit in result.fits:
        contrast = questions[fit.contrast]
        rows.append(
            (
                formula(contrast.question),
                str(len(fit.identities)),
                formats.span(fit.barriers, formats.short),
                _estimate(fit.power),
                _estimate(fit.law_slope),
                _estimate(fit.law_intercept),
                _rivals(fit),
            )
        )
    header = ("Question", "Cells", "Barriers", "Power of the barrier", "Slope on prediction",
              "Intercept", "Other laws")  # fmt: skip
    caption = "Each contrast: estimate, 95 % interval, and what theory predicts"
    tables = [Table(caption, header, tuple(rows), texts=(0, 6))]
    if result.missing:
        tables.append(Table("Without a fit", ("Why",), tuple((one,) for one in result.missing)))
    figures = ("corrected_powers", "corrected_agreement", "corrected_network")
    return Column("corrected", "Corrected", "experiments that can tell the laws apart", aspects,
                  tuple(map(formula, paragraphs)), figures, tuple(tables))  # fmt: skip


def _contrast_power(result: CorrectedResult, contrast: str) -> str:
    try:
        return _estimate(result.fit(contrast).power)
    except KeyError:
        return formats.UNKNOWN


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return formats.UNKNOWN
    value = _with_interval(found.value, (found.low, found.high))
    return f"{value}, predicted {formats.number(found.predicted, 3)}"


def _rivals(fit: Fit) -> str:
    said = [
        f"{'allows' if inside else 'excludes'} {formats.number(power, 2)} ({formula(name)})"
        for name, (power, inside) in fit.rivals.items()
    ]
    return "; ".join(said) or formats.UNKNOWN


def _powers(values: dict[str, float], intervals: dict[str, tuple[float, float]]) -> dict[str, str]:
    aspects = zip(
        ASPECTS[7:11], ("learning_rate", "batch_size", "radius", "sharpness"), strict=True
    )
    return {
        aspect: _with_interval(values[name], intervals[name])
        for aspect, name in aspects
        if name in values
    }


def _with_interval(
    value: float, interval: tuple[float, float], text: Callable[[float], str] | None = None
) -> str:
    show = text or (lambda number: f"{number:.3f}".replace("-", formats.MINUS))
    low, high = interval
    if not (np.isfinite(low) and np.isfinite(high)):
        return show(value)
    return f"{show(value)} ({show(low)} to {show(high)})"


def _mean(sample: ExitSample) -> str:
    low, high = sample.interval
    if not sample.exits:
        return f"> {formats.number(low)}"
    return f"{formats.number(sample.mean)} ({formats.number(low)} to {formats.number(high)})"
