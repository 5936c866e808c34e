"""An inspection in words: the answer in two sentences, and a summary for a terminal."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from escapade.inspection.outlook import Outlook
from escapade.minimum.krylov import Eigenpairs, Estimate
from escapade.region import Sublevel

if TYPE_CHECKING:
    from escapade.inspection.inspection import Inspection

WIDTH = 100

LASTING = 1e9
"""Steps beyond any training run: an exit later than that is none."""

_FAILS = "FAILS: "


def answer(found: "Inspection") -> tuple[str, str]:
    """What SGD will do here, and how far that can be trusted: a sentence each."""
    first = found.first_exit
    if first is None:
        why = "no direction curves upwards" if found.sharpness <= 0 else "the time was spent before"
        return f"{_sgd(found)} was not followed out of here: {why}.", _about_the_point(found)
    return _what_happens(found, first), _trust(found, first)


def failures(outlook: Outlook) -> list[str]:
    """Assumptions of the prediction that fail, each with its evidence."""
    lines = () if outlook.prediction is None else outlook.prediction.assumptions
    return [line.removeprefix(_FAILS) for line in lines if line.startswith(_FAILS)]


def failure_names(outlook: Outlook) -> list[str]:
    """The same, in a few words each."""
    return [line.partition(": ")[0].partition(", but")[0] for line in failures(outlook)]


def reliability(outlook: Outlook) -> str:
    """How exact the number of steps is: its stated error if all its assumptions hold."""
    if not np.isfinite(outlook.steps):
        return ""
    if outlook.prediction is None or outlook.steps != outlook.prediction.mean:
        return "order of magnitude"
    if failures(outlook):
        return "assumptions fail"
    error = outlook.prediction.relative_error
    if not error < 9:
        return "exponent only"
    return f"± {max(100 * error, 0.1):.2g} %" if error < 1 else f"factor {1 + error:.2g}"


def steps_text(steps: float) -> str:
    """A number of steps."""
    return f"{steps:.3g}" if np.isfinite(steps) else "none in sight"


def with_error(estimate: Estimate) -> str:
    """A value with its standard error."""
    value, error = float(estimate.value), float(estimate.standard_error)
    return f"{value:.4g}" if error == 0 else f"{value:.4g} ± {error:.2g}"


def summary(found: "Inspection") -> str:
    """The inspection on one screen."""
    parts = [
        [
            f"{found.network}: {found.dim:,} parameters, {found.examples:,} examples, "
            f"loss {found.loss:.6g} ({found.precision})"
        ],
        [line for sentence in answer(found) for line in textwrap.wrap(sentence, WIDTH)],
        _exits(found),
        _changes(found),
        _point(found),
        _curvature_and_noise(found),
        _stability(found),
    ]
    if found.skipped:
        parts.append(
            textwrap.wrap(f"left out, for want of time: {', '.join(found.skipped)}", WIDTH)
        )
    lines = [line for part in parts if part for line in [*part, ""]]
    return "\n".join([*lines, f"{found.seconds:.1f} s, seed {found.key}"])


def _sgd(found: "Inspection") -> str:
    return f"SGD at learning rate {found.learning_rate:g} and batch size {found.batch_size}"


def _what_happens(found: "Inspection", first: Outlook) -> str:
    place, steps = f"the {first.region}", steps_text(first.steps)
    if isinstance(first.region, Sublevel):
        place += f" (where the loss has risen by {first.region.depth:.3g})"
    mechanism, reason = first.diagnosis.mechanism, first.diagnosis.reason
    if mechanism == "unstable":
        out = "at once" if first.steps < 2 else f"after about {steps} steps"
        return f"{_sgd(found)} does not stay here and is out of {place} {out}: {reason}."
    if mechanism == "drift" and first.steps < LASTING:
        return f"{_sgd(found)} is carried out of {place} in about {steps} steps (drift: {reason})."
    sure = first.prediction is not None and not failures(first)
    stays = "stays" if sure else "is predicted to stay"
    leaves = "leaves" if sure else "is predicted to leave"
    if not first.steps < LASTING:
        later = f": about {first.steps:.1g} steps" if np.isfinite(first.steps) else ""
        return f"{_sgd(found)} {stays}: no exit from {place} in any run that can be made{later}."
    why = f"{mechanism}: {reason}"
    return f"{_sgd(found)} {leaves} {place} after about {steps} steps on average ({why})."


def _trust(found: "Inspection", first: Outlook) -> str:
    if not found.stationarity.is_minimum:
        return _about_the_point(found)
    if first.prediction is None or first.steps != first.prediction.mean:
        return "The number is an order of magnitude, not a prediction with a stated error."
    names = failure_names(first)
    if not names:
        held = f"All {len(first.prediction.assumptions)} assumptions behind this number hold"
        if first.prediction.relative_error < 1:
            return f"{held}; the error it states is {reliability(first)}."
        return f"{held}, but the error it states is large ({reliability(first)})."
    doubt = "Do not rely on the number" if first.steps < LASTING else "That is not sure"
    return f"{doubt}: it assumes what fails here ({'; '.join(names)})."


def _about_the_point(found: "Inspection") -> str:
    return f"The point is {found.stationarity}."


def _exits(found: "Inspection") -> list[str]:
    if not found.outlooks:
        return []
    rows = [("exit from", "steps", "error", "barrier", "mechanism")]
    notes: list[list[str]] = [[]]
    for outlook in found.outlooks:
        barrier = outlook.diagnosis.groups.barrier
        rows.append((
            str(outlook.region), steps_text(outlook.steps), reliability(outlook),
            f"{barrier:.3g}" if np.isfinite(barrier) else "-", outlook.diagnosis.mechanism,
        ))  # fmt: skip
        # The evidence of one exit fills a screen; the others name what fails.
        first = outlook is found.first_exit
        failed = failures(outlook) if first else ["; ".join(failure_names(outlook))]
        notes.append([outlook.diagnosis.reason, *(f"fails: {line}" for line in failed if line)])
    lines = []
    for row, said in zip(_aligned(rows, right={1, 3}), notes, strict=True):
        lines.append(row)
        for note in said:
            lines += textwrap.wrap(note, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
    return lines


def _changes(found: "Inspection") -> list[str]:
    if not found.changes:
        return []
    rows = [("what would change the first exit", "steps", "mechanism")]
    rows += [(change.text, steps_text(change.steps), change.mechanism) for change in found.changes]
    return _aligned(rows, right={1})


def _point(found: "Inspection") -> list[str]:
    at = found.stationarity
    return [
        "the point",
        *_row("verdict", str(at)),
        *_row("gradient norm", f"{at.gradient_norm:.3g}"),
        *_row("Newton step", f"of length {at.newton_distance:.3g}"),
    ]


def _curvature_and_noise(found: "Inspection") -> list[str]:
    alignment, shape, scale = found.alignment, found.noise_shape, found.noise_scale
    lines = [
        "curvature",
        *_row("top eigenvalues", _values(found.curvature)),
        *_row("trace", with_error(alignment.hessian_trace)),
        "gradient noise of one example",
        *_row("trace", with_error(found.noise_trace)),
    ]
    if found.noise is not None:
        lines += _row("top eigenvalues", _values(found.noise))
    lines += _row(
        "aligned with H",
        f"cosine {with_error(alignment.cosine)}; C = c H with c = {with_error(alignment.c)} leaves "
        f"{with_error(alignment.relative_residual)} of C",
    )
    if np.isfinite(scale.simple) and scale.simple < 1e12:
        lines += _row(
            "noise scale", f"tr C / |g|² = {scale.simple:.3g}, tr HC / gHg = {scale.critical:.3g}"
        )
    return lines + _row(
        f"at batch size {found.batch_size}",
        f"along the sharpest direction skewness {shape.skewness[0]:+.2g}, excess kurtosis "
        f"{shape.excess_kurtosis[0]:+.2g}; one example alone brings "
        f"{100 * shape.largest_share[0]:.2g} % of the variance",
    )


def _stability(found: "Inspection") -> list[str]:
    stability = found.stability
    return [
        "stability",
        *_row(
            "largest learning rate",
            f"{stability.linear_limit:.4g} for the mean, {stability.mean_square_limit:.4g} for "
            f"minibatches of {found.batch_size}; now {found.learning_rate:g}"
            + ("" if stability.stable else ": UNSTABLE"),
        ),
    ]


def _values(pairs: Eigenpairs) -> str:
    shown = ", ".join(f"{value:.4g}" for value in pairs.values[:5])
    worst = pairs.residuals[:5].max()
    return f"{shown} (each within {worst:.1g}{'' if pairs.converged else ', NOT CONVERGED'})"


def _aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Rows as columns of equal width, the first one a heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for number, row in enumerate(rows):
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((("" if number == 0 else "  ") + cells[0] + ("  " if number == 0 else "")
                      + "  " + "  ".join(cells[1:])).rstrip())  # fmt: skip
    return lines


def _row(name: str, text: str) -> list[str]:
    head = f"  {name:<22}"
    lines = textwrap.wrap(text, WIDTH - len(head)) or [""]
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]
