"""The map of regimes: which mechanism where, and how exponential the exit times are."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from escapade.report.figures import style
from escapade.report.reading import DYNAMICS, Reading, read_all
from escapade.study.results import StudyResult
from escapade.theory.groups import SHELL

BARRIER = 4.0
"""Barrier from which the exponential law can be expected."""


@style.styled
def regimes(study: StudyResult) -> Figure:
    """Barrier, and coefficient of variation, against the shell ratio; coloured by mechanism."""
    readings = read_all(study)
    placed = [reading for reading in readings if _shell(reading) > 0]
    shells = style.log_limits([*map(_shell, placed), SHELL, 1.0], margin=1.7)
    figure = style.new_figure(6.2)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1))

    style.log_axis(top, "x", *shells)
    style.log_axis(top, "y", *style.log_limits([*map(_barrier, placed), BARRIER], margin=1.7))
    top.set_ylabel("barrier b")
    top.axhline(BARRIER, color=style.MUTED, linewidth=1, linestyle="--")
    top.fill_between(
        [shells[0], SHELL], BARRIER, top.get_ylim()[1], color=style.GREEN, alpha=0.09, linewidth=0
    )
    remark = {"transform": top.transAxes, **style.REMARK}
    top.text(0.015, 0.97, "a barrier law can hold here", va="top", **remark)
    _scatter(top, placed, "barrier", _barrier)

    variations = [reading.variation for reading in placed if np.isfinite(reading.variation)]
    bottom.set(
        ylim=(0, 1.12 * max([1.25, *variations])),
        xlabel="shell ratio: (typical distance / size of the region)²",
        ylabel="coefficient of variation",
    )
    bottom.axhline(1, color=style.INK, linewidth=1, linestyle=":")
    bottom.text(shells[1], 1.02, "exponential law: 1 ", ha="right", va="bottom", **style.REMARK)
    _scatter(bottom, placed, "variation", lambda reading: reading.variation)
    for axes in (top, bottom):
        axes.axvline(SHELL, color=style.MUTED, linewidth=1, linestyle="--")
        axes.axvline(1, color=style.MUTED, linewidth=1, linestyle=":")
        if not placed:
            style.say_empty(axes, "no cell can be placed here")
    top.tick_params(labelbottom=False)

    present = dict.fromkeys(reading.mechanism for reading in placed)
    shapes = dict.fromkeys(reading.cell.dynamics for reading in placed)
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=_color(name), label=name)
        for name in present
    ]
    handles += [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=style.marker(name)[0],
            color=style.MUTED,
            markerfacecolor=style.PAPER,
            label=DYNAMICS.get(name, name),
        )
        for name in shapes
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    blind = sum(not np.isfinite(_barrier(reading)) for reading in placed)
    still = sum(not np.isfinite(reading.variation) for reading in placed)
    style.note(
        figure,
        [
            style.not_drawn(len(readings) - len(placed), "without a known shell ratio"),
            style.not_drawn(blind, "without a known barrier (above)"),
            style.not_drawn(still, "with fewer than two exit times (below)"),
        ],
    )
    return figure


def _shell(reading: Reading) -> float:
    return reading.result.diagnosis.groups.shell_ratio


def _barrier(reading: Reading) -> float:
    return reading.result.diagnosis.groups.barrier


def _color(mechanism: str) -> str:
    return style.MECHANISMS.get(mechanism, style.MUTED)


def _scatter(
    axes: Axes, readings: list[Reading], panel: str, value: Callable[[Reading], float]
) -> None:
    shown = [reading for reading in readings if np.isfinite(value(reading))]
    xs = [_shell(reading) for reading in shown]
    for reading, x, place in zip(shown, xs, style.side_by_side(axes, xs), strict=True):
        y = (np.nan, value(reading), np.nan)
        color = _color(reading.mechanism)
        style.draw_cell(axes, reading, panel, x, y, place, color=color, filled=True)
