"""What the page says about an inspection: tiles, rows of tables, provenance."""

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from escapade.inspection import Inspection, Outlook
from escapade.inspection.text import LASTING, answer, failures, reliability
from escapade.minimum.krylov import Estimate
from escapade.region import AbstractRegion, Ball, HalfSpace, Slab, Sublevel
from escapade.report import formats
from escapade.report.formats import number, typeset
from escapade.study.run import LIBRARIES

HOLDS = "holds: "
"""How predictions mark the assumptions that hold."""

REGIONS: dict[type[AbstractRegion], str] = {
    Slab: "a move along one direction (the sharpest unless given), either way",
    HalfSpace: "a move along one direction, one way",
    Sublevel: "a rise of the loss by the depth, whichever way",
    Ball: "a move of that length, whichever way: flat directions count, and often come first",
}
"""What leaving each kind of region means."""

_MECHANISMS = {
    "activated": "A rare fluctuation carries SGD over a barrier: the time is exponential in b.",
    "diffusive": "The noise alone spreads SGD as far as the boundary: no rare event.",
    "drift": "A mean motion, of descent or induced by noise, carries SGD out.",
    "unstable": "The learning rate is too large for this curvature to hold SGD.",
}

_OPTIONAL = ("torch", "flax")


@dataclass(frozen=True)
class ExitRow:
    """A row of the table of exits.

    Attributes:
        name: the region.
        meaning: what leaving it means.
        steps: expected number.
        error: of it, as stated.
        barrier: b.
        mechanism: name of it.
        reason: why that mechanism.
        holding, failing: assumptions of the prediction.
        source: of the prediction.
    """

    name: str
    meaning: str
    steps: str
    error: str
    barrier: str
    mechanism: str
    reason: str
    holding: list[str]
    failing: list[str]
    source: str


def headline(found: Inspection) -> tuple[str, str]:
    """The answer, and how far to trust it."""
    what, trust = answer(found)
    return typeset(what), typeset(trust)


def is_reliable(found: Inspection) -> bool:
    """Whether the number in the answer can be taken as it stands."""
    first = found.first_exit
    if first is None or not found.stationarity.is_minimum:
        return False
    prediction = first.prediction
    return prediction is not None and prediction.relative_error < 1 and not failures(first)


def tiles(found: Inspection) -> list[tuple[str, str]]:
    """The inspection in a few numbers: each with what it is."""
    entries = []
    first = found.first_exit
    if first is not None:
        entries = [
            (steps(first.steps), "steps until the first exit"),
            (first.diagnosis.mechanism, "mechanism"),
            (_checked(first), "assumptions of the prediction hold"),
        ]
    stability = found.stability
    return [
        *entries,
        (found.stationarity.verdict, "what the point is"),
        (number(found.sharpness, 4), "sharpness λ_max"),
        (formats.short(stability.margin), "largest stable learning rate over this one"),
    ]  # fmt: skip


def _checked(outlook: Outlook) -> str:
    if outlook.prediction is None:
        return "no prediction"
    total = len(outlook.prediction.assumptions)
    return f"{total - len(failures(outlook))} of {total}"


def steps(amount: float) -> str:
    """A number of steps; those beyond any training are marked so."""
    return f"stays ({number(amount, 2)})" if LASTING <= amount < np.inf else _amount(amount)


def _amount(steps: float) -> str:
    if not np.isfinite(steps):
        return "none in sight"
    return formats.parameter(steps) if steps == round(steps) < 1e5 else number(steps)


def exit_row(outlook: Outlook) -> ExitRow:
    """An exit as the table shows it."""
    prediction = outlook.prediction
    lines = () if prediction is None else prediction.assumptions
    return ExitRow(
        name=str(outlook.region),
        meaning=REGIONS[type(outlook.region)],
        steps=_amount(outlook.steps),
        error=typeset(reliability(outlook)) or formats.UNKNOWN,
        barrier=number(outlook.diagnosis.groups.barrier),
        mechanism=outlook.diagnosis.mechanism,
        reason=typeset(outlook.diagnosis.reason),
        holding=[typeset(line.removeprefix(HOLDS)) for line in lines if line.startswith(HOLDS)],
        failing=[typeset(line) for line in failures(outlook)],
        source="" if prediction is None else prediction.source,
    )


def changes(found: Inspection) -> list[tuple[str, str, str, str, str, str]]:
    """Other settings: what, learning rate, batch size, steps, times as many, mechanism."""
    first = found.first_exit
    now = np.nan if first is None else first.steps
    rows = []
    for change in found.changes:
        factor = change.steps / now if np.isfinite(change.steps) and now > 0 else np.nan
        rows.append((
            change.text, formats.parameter(change.learning_rate), f"{change.batch_size:,}",
            steps(change.steps), formats.ratio(factor) if np.isfinite(factor) else formats.UNKNOWN,
            change.mechanism,
        ))  # fmt: skip
    return rows


def mechanisms(found: Inspection) -> dict[str, str]:
    """The mechanisms on the page, with what they are."""
    present = {outlook.diagnosis.mechanism for outlook in found.outlooks}
    if found.escape_map is not None:
        shown = found.escape_map.mechanisms[~np.isnan(found.escape_map.steps)]
        present |= {found.escape_map.names[k] for k in np.unique(shown)}
    return {name: text for name, text in _MECHANISMS.items() if name in present}


def estimates(found: Inspection) -> list[tuple[str, str, str]]:
    """Sizes of curvature and noise: name, value, standard error."""
    alignment, scale = found.alignment, found.noise_scale
    rows = [
        ("tr H, sum of all curvatures", alignment.hessian_trace),
        ("|H|, their root sum of squares", alignment.hessian_size),
        ("tr C, noise variance of one example", found.noise_trace),
        ("|C|", alignment.noise_size),
        ("cosine of C and H", alignment.cosine),
        ("c of the best C = c H", alignment.c),
        (f"|C {formats.MINUS} c H| / |C|, what that leaves", alignment.relative_residual),
    ]
    told = [(name, *_estimate(estimate)) for name, estimate in rows]
    for name, value in (
        ("noise scale tr C / |g|²", scale.simple),
        ("noise scale tr HC / gᵀHg", scale.critical),
    ):
        told.append((name, number(value) if value < 1e12 else "∞ (no gradient)", formats.UNKNOWN))
    return told


def _estimate(estimate: Estimate) -> tuple[str, str]:
    error = float(estimate.standard_error)
    return number(float(estimate.value), 4), "exact" if error == 0 else number(error, 2)


def directions(found: Inspection) -> list[Sequence[str]]:
    """The sharpest directions: rank, curvature, its bound, noise variance, ratio to c λ, shape."""
    shape, pairs = found.noise_shape, found.curvature
    c = float(found.alignment.c.value)
    count = min(len(pairs.values), len(shape.variance))
    rows: list[Sequence[str]] = []
    for k in range(count):
        fitted = c * pairs.values[k]
        rows.append((
            str(k + 1), number(float(pairs.values[k]), 4), number(float(pairs.residuals[k]), 1),
            number(float(shape.variance[k])),
            formats.ratio(float(shape.variance[k] / fitted)) if fitted > 0 else formats.UNKNOWN,
            _signed(float(shape.skewness[k])), _signed(float(shape.excess_kurtosis[k])),
            formats.percent(float(shape.largest_share[k])),
        ))  # fmt: skip
    return rows


def noisiest(found: Inspection) -> str:
    """The largest eigenvalues of the noise covariance."""
    if found.noise is None:
        return "left out"
    values = ", ".join(number(float(value)) for value in found.noise.values[:5])
    return f"{values} (each within {number(float(found.noise.residuals[:5].max()), 1)})"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value, 2)


def limits(found: Inspection) -> list[tuple[str, str, str]]:
    """Largest learning rates: of what, value, times the present one."""
    stability = found.stability
    rows = [
        ("of the mean: 2 / sharpness", stability.linear_limit),
        (f"in mean square, for minibatches of {found.batch_size}", stability.mean_square_limit),
    ]
    return [(name, number(value, 4), formats.ratio(value / found.learning_rate))
            for name, value in rows]  # fmt: skip


def concentration(found: Inspection) -> str:
    """Where the exit direction lives, in a sentence."""
    first = found.first_exit
    if first is None or first.direction is None:
        return ""
    shares = found.layers(first.direction)
    name, share = max(shares.items(), key=lambda item: item[1])
    numbers = dict(zip(found.parameters, _sizes(found), strict=True))
    return (
        f"The exit from the {first.region} moves {formats.percent(share)} in "
        f"{name.rpartition(' (')[0]}, which holds "
        f"{formats.percent(numbers[name] / found.dim)} of the parameters."
    )


def _sizes(found: Inspection) -> list[int]:
    """Parameters in each array, counted by the share of a vector of ones."""
    shares = found.layers(np.ones(found.dim))
    return [round(share * found.dim) for share in shares.values()]


def provenance(found: Inspection) -> list[tuple[str, str]]:
    """How to get the same numbers again."""
    libraries = [*LIBRARIES, *(name for name in _OPTIONAL if name in sys.modules)]
    return [
        ("seed", str(found.key)),
        ("precision", found.precision),
        ("time taken", formats.duration(found.seconds)),
        ("page written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("python", platform.python_version()),
        *((name, importlib.metadata.version(name)) for name in libraries),
    ]
