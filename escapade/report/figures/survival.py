"""Survival curves in units of the mean exit time, against the exponential law."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from escapade.report import formats
from escapade.report.figures import style
from escapade.report.reading import DYNAMICS, read_all
from escapade.study.results import StudyResult

_LONGEST = 6.0  # mean exit times
_LOWEST = 2e-3
_POINTS = 160  # of a curve with thousands of steps, as many as the eye can tell apart


@style.styled
def survival(study: StudyResult) -> Figure:
    """Kaplan-Meier curves with pointwise 95 % bands, time in units of each cell's mean."""
    readings = read_all(study)
    drawn = [
        (reading, reading.result.sample)
        for reading in readings
        if reading.exits > 1 and reading.result.sample is not None
    ]
    figure = style.new_figure(4.8)
    axes = figure.add_subplot()
    axes.set(
        yscale="log",
        xlim=(0, _LONGEST),
        ylim=(_LOWEST, 1.2),
        xlabel="time / measured mean exit time",
        ylabel="fraction still inside",
    )
    ticks = [0.003, 0.01, 0.03, 0.1, 0.3, 1]
    axes.set_yticks(ticks, [formats.percent(tick) for tick in ticks])
    axes.minorticks_off()
    grid = np.linspace(0, _LONGEST, _POINTS)
    for reading, sample in drawn:
        curve = sample.kaplan_meier()
        # The curve on the grid; beyond the last step observed it is unknown unless it is zero.
        steps = grid * reading.mean
        index = np.searchsorted(curve.steps, steps, side="right") - 1
        known = (steps <= curve.steps[-1]) | (curve.survival[-1] == 0)
        floor = _LOWEST / 10  # a fraction of zero lies below the panel
        times = grid[known]
        values, low, high = (
            np.maximum(array[index][known], floor)
            for array in (curve.survival, curve.lower, curve.upper)
        )
        color = style.marker(reading.cell.dynamics)[1]
        if reading.activated:
            axes.fill_between(times, low, high, color=color, alpha=0.07, linewidth=0)
        axes.step(
            times,
            values,
            where="post",
            color=color,
            linewidth=1.3,
            linestyle="-" if reading.activated else (0, (3, 1.5)),
            gid=f"survival-{reading.anchor}",
            url=f"#{reading.anchor}",
        )
    axes.plot(grid, np.exp(-grid), color=style.INK, linewidth=1.6, linestyle=":", zorder=4)
    if not drawn:
        style.say_empty(axes, "no cell has two exits")

    names = dict.fromkeys(reading.cell.dynamics for reading, _ in drawn)
    handles = [
        Line2D([], [], color=style.marker(name)[1], label=DYNAMICS.get(name, name))
        for name in names
    ]
    handles.append(
        Line2D([], [], color=style.INK, linewidth=1.6, linestyle=":", label="exponential law")
    )
    if any(not reading.activated for reading, _ in drawn):
        handles += [
            Line2D([], [], color=style.MUTED, label="activated, with 95 % band"),
            Line2D([], [], color=style.MUTED, linestyle=(0, (3, 1.5)), label="another mechanism"),
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    style.note(
        figure, [style.not_drawn(len(readings) - len(drawn), "with fewer than two exit times")]
    )
    return figure
