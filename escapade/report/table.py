"""The table of all cells."""

from dataclasses import dataclass

import numpy as np

from escapade.report import formats
from escapade.report.reading import Reading
from escapade.report.words import VERDICTS
from escapade.study.cell import Cell

COLUMNS = (
    ("Dynamics", "rule by which the parameters move"),
    ("η", "learning rate"),
    ("B", "batch size"),
    ("Sharpness", "factor by which the loss was sharpened"),
    ("Region", "what is left"),
    ("Size", "half-width, offset, radius or depth of the region"),
    ("b", "barrier (B / η) V₀"),
    ("s", "gradient over minibatch noise at the exit point"),
    ("η λ", "learning rate times sharpness; 2 is the edge of stability"),
    ("Measured mean", "mean exit time in steps, with its 95 % interval"),
    ("Predicted mean", "mean exit time in steps, with the error the theory states for itself"),
    ("Ratio", "measured / predicted, with its 95 % interval"),
    ("CV", "coefficient of variation of the exit times; 1 for an exponential law"),
    ("Exits", "replicas that left, of those that count"),
    ("p", "p-value of the exponential law of exit times"),
    ("Mechanism", "diagnosed from the dimensionless groups and the exit times"),
)
"""Headings with their explanations."""


@dataclass(frozen=True)
class Field:
    """One field of the table.

    Attributes:
        text: what it says.
        key: what it is sorted by; "" sorts last.
        detail: a second line, in small print.
    """

    text: str
    key: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """One cell in the table.

    Attributes:
        anchor: name of the row.
        mechanism: its mechanism.
        verdict: "agrees", "deviates", "open" or "".
        verdict_text: the verdict in words.
        fields: one for each of COLUMNS.
        reason: why this mechanism, and why there is no prediction if there is none.
        assumptions: what the prediction assumes.
        source: where it comes from.
    """

    anchor: str
    mechanism: str
    verdict: str
    verdict_text: str
    fields: tuple[Field, ...]
    reason: str
    assumptions: tuple[str, ...]
    source: str


def row(reading: Reading) -> Row:
    """The row of a cell."""
    cell, result = reading.cell, reading.result
    groups, prediction = result.diagnosis.groups, result.prediction
    fields = (
        Field(reading.dynamics, reading.dynamics),
        _chosen(cell.learning_rate),
        _chosen(cell.batch_size),
        _sharpness(cell),
        Field(reading.region, reading.region),
        Field(f"{cell.size:.4g}", repr(cell.size)),
        _computed(groups.barrier),
        _computed(groups.signal_to_noise),
        _computed(groups.stiffness),
        Field(
            reading.mean_text,
            _key(reading.mean if reading.exits else reading.lower),
            _interval(reading),
        ),
        Field(
            formats.number_from_log(reading.log_predicted),
            _key(reading.log_predicted),
            _stated_error(reading),
        ),
        _ratio(reading),
        Field(formats.ratio(reading.variation), _key(reading.variation)),
        Field(f"{reading.exits:,}", str(reading.exits), _lost(reading)),
        Field(_p_value(reading.p_value), _key(reading.p_value)),
        Field(reading.mechanism, reading.mechanism),
    )
    reasons = [result.diagnosis.reason]
    if result.silence:
        reasons.append(f"No prediction: {result.silence}")
    return Row(
        anchor=reading.anchor,
        mechanism=reading.mechanism,
        verdict=reading.verdict,
        verdict_text=VERDICTS.get(reading.verdict, "not compared"),
        fields=fields,
        reason=" ".join(f"{reason.rstrip('.')}." for reason in reasons),
        assumptions=reading.assumptions,
        source=f"{prediction.theory}: {prediction.source}" if prediction else "",
    )


def _key(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _sharpness(cell: Cell) -> Field:
    detail = "" if cell.lambda_max is None else f"λ_max = {formats.parameter(cell.lambda_max)}"
    factor = f"{formats.TIMES}{formats.parameter(cell.sharpness)}"
    return Field(factor, repr(cell.lambda_max or cell.sharpness), detail)


def _chosen(value: float) -> Field:
    return Field(formats.parameter(value), repr(value))


def _computed(value: float) -> Field:
    return Field(formats.number(value), _key(value))


def _interval(reading: Reading) -> str:
    if not reading.measured:
        return "all diverged"
    if not reading.exits:
        return "no exit"
    return formats.interval(reading.lower, reading.upper)


def _stated_error(reading: Reading) -> str:
    error = reading.stated_error
    if np.isnan(error):
        return ""
    return f"± {formats.percent(error)}" if np.isfinite(error) else "log scale only"


def _ratio(reading: Reading) -> Field:
    if not reading.compared:
        return Field(formats.UNKNOWN, "")
    low, middle, high = reading.log_ratio
    if not reading.exits:
        return Field(f"> {formats.ratio_from_log(low)}", _key(low))
    interval = formats.interval(low, high, formats.ratio_from_log)
    return Field(formats.ratio_from_log(middle), _key(middle), interval)


def _lost(reading: Reading) -> str:
    parts = ["by splitting"] if reading.result.rare is not None else []
    if reading.censored:
        parts.append(f"{reading.censored:,} censored")
    if reading.diverged:
        parts.append(f"{reading.diverged:,} diverged")
    return ", ".join(parts)


def _p_value(value: float) -> str:
    return "< 0.001" if value < 1e-3 else formats.number(value, 2)
