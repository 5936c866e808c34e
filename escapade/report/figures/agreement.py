"""Measured against predicted mean exit time: the figure of the answer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from escapade.report import formats
from escapade.report.figures import style
from escapade.report.reading import TOLERANCE, Reading, read_all
from escapade.study.results import StudyResult

_RATIO_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1, 1.15, 1.5, 2, 3, 5, 10)


@style.styled
def agreement(study: StudyResult) -> Figure:
    """Measured against predicted mean exit time in steps, and their ratio below.

    Cells whose prediction or ratio lies outside a panel get an arrow at its edge; cells without a
    prediction stand in a strip of their own.
    """
    readings = read_all(study)
    compared = [reading for reading in readings if reading.compared]
    alone = [reading for reading in readings if reading.measured and not reading.compared]

    figure = style.new_figure(6.4)
    grid = figure.add_gridspec(
        2, 2 if alone else 1, height_ratios=(2.2, 1), width_ratios=(1, 0.09) if alone else None
    )
    top, bottom = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    limits = _limits(readings)
    _draw_means(top, compared, limits)
    _draw_ratios(bottom, compared, limits)
    if alone:
        _draw_alone(figure.add_subplot(grid[0, 1], sharey=top), alone)

    handles = [
        *style.dynamics_handles([*compared, *alone]),
        Line2D([], [], color=style.INK, linewidth=1, label="measured = predicted"),
        Patch(color=style.MUTED, alpha=0.22, linewidth=0, label=f"±{formats.percent(TOLERANCE)}"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    lost = sum(not reading.measured for reading in readings)
    style.note(figure, [style.not_drawn(lost, "whose replicas all diverged")])
    return figure


def _limits(readings: Sequence[Reading]) -> tuple[float, float]:
    """Common limits of both axes: what was measured, and what was predicted within a decade."""
    values = [end for reading in readings for end in (reading.mean, reading.lower, reading.upper)]
    low, high = style.log_limits(values, margin=10)
    predicted = [formats.exponential(reading.log_predicted) for reading in readings]
    return style.log_limits([*values, *(mean for mean in predicted if low <= mean <= high)])


def _draw_means(axes: Axes, readings: Sequence[Reading], limits: tuple[float, float]) -> None:
    style.log_axis(axes, "x", *limits)
    style.log_axis(axes, "y", *limits)
    axes.set(ylabel="measured mean exit time (steps)")
    axes.tick_params(labelbottom=False)
    if not readings:
        style.say_empty(axes, "no cell has both a measurement\nand a prediction")
        return
    line = np.array(limits)
    axes.fill_between(
        line,
        (1 - TOLERANCE) * line,
        (1 + TOLERANCE) * line,
        color=style.MUTED,
        alpha=0.22,
        linewidth=0,
    )
    axes.plot(line, line, color=style.INK, linewidth=1)
    for reading in readings:
        x = formats.exponential(reading.log_predicted)
        interval = (reading.lower, reading.mean, reading.upper)
        if limits[0] <= x <= limits[1]:
            style.draw_cell(axes, reading, "means", x, interval, axes.transData)
            continue
        # Beyond the panel: at its edge, with the number.
        right, edge = x > limits[1], axes.get_yaxis_transform()
        x = 0.98 if right else 0.02
        style.draw_cell(axes, reading, "means", x, interval, edge)
        predicted = formats.number_from_log(reading.log_predicted, 2)
        axes.annotate(
            f"predicted {predicted} →" if right else f"← predicted {predicted}",
            xy=(x, reading.mean if reading.exits else reading.lower),
            xycoords=edge,
            xytext=(-9 if right else 9, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            **style.REMARK,
        )


def _draw_ratios(axes: Axes, readings: Sequence[Reading], limits: tuple[float, float]) -> None:
    style.log_axis(axes, "x", *limits)
    shown = [0.7, 1.45]
    for reading in [r for r in readings if r.activated] or readings:
        low, middle, high = np.exp(np.clip(reading.log_ratio, -5, 5))
        if reading.exits:
            shown += [np.clip(middle, 0.1, 10), *np.clip([low, high], 0.4, 2.5)]
    low, high = style.log_limits(shown, margin=1.06, least=1)
    axes.set(
        yscale="log",
        ylim=(low, high),
        xlabel="predicted mean exit time (steps)",
        ylabel="measured / predicted",
    )
    ticks = [tick for tick in _RATIO_TICKS if low <= tick <= high]
    if high / low > 8:
        ticks = [tick for tick in ticks if tick not in (0.3, 0.7, 0.85, 1.15, 1.5, 3)]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color=style.MUTED, alpha=0.22, linewidth=0)
    axes.axhline(1, color=style.INK, linewidth=1)

    inside = [
        reading
        for reading in readings
        if limits[0] <= formats.exponential(reading.log_predicted) <= limits[1]
    ]
    xs = [formats.exponential(reading.log_predicted) for reading in inside]
    for reading, x, place in zip(inside, xs, style.side_by_side(axes, xs), strict=True):
        lower, ratio, upper = map(formats.exponential, reading.log_ratio)
        middle = ratio if reading.exits else lower
        if 1.04 * low <= middle <= high / 1.04:  # a marker at the very edge would be cut
            style.draw_cell(axes, reading, "ratio", x, (lower, ratio, upper), place)
            continue
        # Beyond the panel: at its edge, with the number.
        edge, y = axes.get_xaxis_transform(), 0.93 if middle > 1 else 0.07
        style.draw_cell(axes, reading, "ratio", x, (np.nan, y, np.nan), edge)
        words = formats.ratio(middle) if reading.exits else f"> {formats.ratio(middle)}"
        right = np.log(x / limits[0]) > 0.8 * np.log(limits[1] / limits[0])
        axes.annotate(
            f"{words} {'↑' if middle > 1 else '↓'}",
            xy=(x, y),
            xycoords=edge,
            xytext=(-8 if right else 8, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            **style.REMARK,
        )


def _draw_alone(axes: Axes, readings: Sequence[Reading]) -> None:
    axes.set(xlim=(-1, 1), xticks=[])
    axes.tick_params(labelleft=False, left=False)
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("no prediction", rotation=270, va="bottom")
    for reading in readings:
        interval = (reading.lower, reading.mean, reading.upper)
        style.draw_cell(axes, reading, "means", 0, interval, axes.transData)
