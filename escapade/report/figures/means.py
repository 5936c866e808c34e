"""Mean exit time against what should govern it: the barrier, and the noise scale."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from escapade.report import formats
from escapade.report.figures import style
from escapade.report.reading import Reading, read_all, region_name
from escapade.study.results import StudyResult

Abscissa = Callable[[Reading], float]

_PLAIN: dict[str, Any] = {
    "color": style.MUTED,
    "linewidth": 1,
    "linestyle": ":",
    "marker": "x",
    "markersize": 4,
}

_FAR = 15.0  # ratio of barriers from which a linear axis would hide the lower ones


@style.styled
def mean_against_barrier(study: StudyResult) -> Figure:
    """Mean exit time in steps against the barrier b, one panel per region.

    Predictions are joined within one learning rate; far-reaching barriers get a logarithmic axis.
    """
    return _draw(
        study,
        "barrier b = (B / η) V₀",
        lambda reading: reading.result.diagnosis.groups.barrier,
        lambda reading: (reading.cell.learning_rate, reading.cell.sharpness),
        logarithmic=False,
    )


@style.styled
def mean_against_noise_scale(study: StudyResult) -> Figure:
    """Mean exit time in steps against B / eta, one panel per region.

    Predictions are joined within one size of the region.
    """
    return _draw(
        study,
        "batch size / learning rate, B / η",
        lambda reading: reading.cell.batch_size / reading.cell.learning_rate,
        lambda reading: (reading.cell.size, reading.cell.sharpness),
        logarithmic=True,
    )


def _draw(
    study: StudyResult,
    label: str,
    abscissa: Abscissa,
    held: Callable[[Reading], tuple[float, ...]],
    *,
    logarithmic: bool,
) -> Figure:
    measured = [reading for reading in read_all(study) if reading.measured]
    readings = [reading for reading in measured if np.isfinite(abscissa(reading))]
    regions = list(dict.fromkeys(reading.cell.region for reading in readings)) or [""]
    figure = style.new_figure(1.4 + 2.8 * len(regions))
    panels = figure.subplots(len(regions), 1, squeeze=False)[:, 0]
    for axes, region in zip(panels, regions, strict=True):
        here = [reading for reading in readings if reading.cell.region == region]
        xs = [abscissa(reading) for reading in here] or [1.0]
        if logarithmic or max(xs) > _FAR * min(xs):
            style.log_axis(axes, "x", *style.log_limits(xs))
        else:
            margin = max(0.07 * np.ptp(xs), 1.0 - np.ptp(xs) / 2)
            axes.set_xlim(max(min(xs) - margin, 0), max(xs) + margin)
        style.log_axis(axes, "y", *_limits(here))
        axes.set(ylabel="mean exit time (steps)", title=region_name(region))
        if not here:
            style.say_empty(axes, "no cell can be placed here")
        _draw_laws(axes, here, abscissa, held)
        places = style.side_by_side(axes, xs, gap=4.0) if here else []
        for reading, x, place in zip(here, xs, places, strict=False):
            interval = (reading.lower, reading.mean, reading.upper)
            style.draw_cell(axes, reading, "mean", x, interval, place)
    panels[-1].set_xlabel(label)

    laws = [
        Line2D([], [], color=style.INK, marker="_", linewidth=1, label="predicted"),
        Line2D([], [], label="plain exponential law", **_PLAIN),
    ]
    figure.legend(
        handles=[*style.dynamics_handles(readings), *laws], loc="outside upper left", ncols=2
    )
    lost = len(study.cells) - len(measured)
    style.note(
        figure,
        [
            style.not_drawn(lost, "whose replicas all diverged"),
            style.not_drawn(len(measured) - len(readings), "without a known barrier"),
        ],
    )
    return figure


def _limits(readings: Sequence[Reading]) -> tuple[float, float]:
    """Limits of y: what was measured, and what was predicted within a decade of it."""
    values = [end for reading in readings for end in (reading.mean, reading.lower, reading.upper)]
    low, high = style.log_limits(values, margin=12)
    for reading in readings:
        for log_value in (reading.log_predicted, reading.log_plain):
            if low <= formats.exponential(log_value) <= high:
                values.append(formats.exponential(log_value))
    return style.log_limits(values)


def _draw_laws(
    axes: Axes,
    readings: Sequence[Reading],
    abscissa: Abscissa,
    held: Callable[[Reading], tuple[float, ...]],
) -> None:
    """Predictions, and the plain law, joined where only one thing varies."""
    predicted = [reading for reading in readings if reading.compared]
    for _, members in groupby(sorted(predicted, key=held), key=held):
        # Dynamics often share a prediction, and lines drawn twice look heavier. A prediction
        # beyond the largest float is far outside the panel in any case.
        points = {(abscissa(r), min(r.log_predicted, 600), min(r.log_plain, 600)) for r in members}
        xs, uniform, plain = np.array(sorted(points)).T
        axes.plot(xs, np.exp(uniform), color=style.INK, linewidth=1, marker="_", markersize=11)
        axes.plot(xs, np.exp(plain), **_PLAIN)
