"""What a claim is judged by: measured numbers with intervals, and the data of figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from escapade.errors import InvalidArgument

SCALES = ("linear", "log")

Numbers = Sequence[float] | np.ndarray
"""A row of numbers."""

Progress = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True)
class Quantity:
    """One measured number, beside what each position predicts for it.

    Attributes:
        name: what it is; the rule of a claim refers to it.
        value: the measurement.
        interval: of a statistical measurement its 95 % interval; of an exact solution the value
            with its stated numerical error on either side, or the range over the points it rests
            on.
        expected: what each position predicts, by the position's name.
        unit: for example "steps"; empty for a pure number.
    """

    name: str
    value: float
    interval: tuple[float, float]
    expected: dict[str, float] = field(default_factory=dict)
    unit: str = ""


@dataclass(frozen=True)
class Series:
    """Points or a line of a figure.

    Attributes:
        label: for the legend.
        x: abscissas.
        y: ordinates.
        low: lower ends of error bars (a band, if drawn as a line); empty for none.
        high: upper ends.
        line: drawn as a line; as points otherwise.
        position: the position whose prediction this is; empty for a measurement.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    line: bool = False
    position: str = ""


@dataclass(frozen=True)
class Figure:
    """Everything a plotting function needs to draw one panel."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: str = "linear"
    y_scale: str = "linear"

    def __post_init__(self) -> None:
        for one in self.series:
            lengths = {len(one.x), len(one.y), *(len(end) for end in (one.low, one.high) if end)}
            if len(lengths) != 1:
                raise InvalidArgument(
                    f"series {one.label!r} has {len(one.x)} abscissas, {len(one.y)} ordinates and "
                    f"{len(one.low)}, {len(one.high)} error bars; give as many of each, or no bars"
                )
        for scale in (self.x_scale, self.y_scale):
            if scale not in SCALES:
                raise InvalidArgument(f"scale is {scale!r}; choose one of {', '.join(SCALES)}")


@dataclass(frozen=True)
class Evidence:
    """What one measurement of a claim found.

    Attributes:
        quantities: the measured numbers.
        figures: panels of the claim's figure.
        notes: what a reader must know about this run, such as which data were used.
        failed: assumptions about the regime of the test that did not hold; the test then decides
            nothing.
    """

    quantities: tuple[Quantity, ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Quantity:
        """The quantity of a name.

        Raises:
            KeyError: when there is none.
        """
        for one in self.quantities:
            if one.name == name:
                return one
        raise KeyError(name)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Evidence":
        """The evidence of ``dataclasses.asdict``, also after a round trip through JSON."""
        return cls(
            quantities=tuple(
                Quantity(**{**one, "interval": tuple(one["interval"])})
                for one in content["quantities"]
            ),
            figures=tuple(
                Figure(
                    **{**figure, "series": tuple(_series(one) for one in figure["series"])},
                )
                for figure in content["figures"]
            ),
            notes=tuple(content["notes"]),
            failed=tuple(content["failed"]),
        )


def _series(content: dict[str, Any]) -> Series:
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in content.items()
    }
    return Series(**values)


def exact(
    name: str, value: float, error: float, expected: dict[str, float], unit: str = ""
) -> Quantity:
    """A number from exact solutions, with its absolute numerical error."""
    interval = (float(value - error), float(value + error))
    return Quantity(name, float(value), interval, _plain(expected), unit)


def computed(
    name: str, value: float, expected: dict[str, float] | None = None, unit: str = ""
) -> Quantity:
    """A number of linear algebra or quadrature in double precision: nine digits are stated."""
    return exact(name, value, 1e-9 * abs(value), expected or {}, unit)


def measured(
    name: str,
    value: float,
    interval: tuple[float, float],
    expected: dict[str, float],
    unit: str = "",
) -> Quantity:
    """A statistical measurement with its 95 % interval."""
    low, high = interval
    return Quantity(name, float(value), (float(low), float(high)), _plain(expected), unit)


def power(
    name: str,
    x: Numbers,
    y: Numbers,
    errors: Numbers,
    expected: dict[str, float],
) -> Quantity:
    """The power of x that y follows: its log-log slope, by least squares over exact solutions.

    The interval is the range of the slopes between neighbouring points, which shows how far from a
    power law y is, widened by the relative numerical errors of y.
    """
    log_x, log_y, error = np.log(x), np.log(y), np.asarray(errors)
    slope = np.polyfit(log_x, log_y, 1)[0]
    apart = np.diff(log_x)
    steps, widths = np.diff(log_y) / apart, (error[1:] + error[:-1]) / np.abs(apart)
    interval = (float((steps - widths).min()), float((steps + widths).max()))
    return Quantity(name, float(slope), interval, _plain(expected))


def points(label: str, x: Numbers, y: Numbers, bars: Sequence[tuple[float, float]] = ()) -> Series:
    """Measured points, with intervals if given."""
    low, high = zip(*bars, strict=True) if bars else ((), ())
    return Series(label, _floats(x), _floats(y), _floats(low), _floats(high))


def line(label: str, x: Numbers, y: Numbers, position: str = "") -> Series:
    """A line, the prediction of a position if it is given."""
    return Series(label, _floats(x), _floats(y), line=True, position=position)


def _plain(expected: dict[str, float]) -> dict[str, float]:
    return {position: float(value) for position, value in expected.items()}


def _floats(values: Numbers) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
