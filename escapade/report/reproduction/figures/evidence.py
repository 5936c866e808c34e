"""The figure of a claim: what was measured, beside what each position says."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapade.report.figures import style
from escapade.report.reproduction.symbols import formula
from escapade.reproduction.claims import evidence

_MEASURED = (
    ("o", style.BLUE),
    ("s", style.VERMILLION),
    ("^", style.GREEN),
    ("D", style.PURPLE),
    ("v", style.ORANGE),
    ("P", style.SKY),
)
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


@style.styled
def claim_figure(panels: Sequence[evidence.Figure]) -> Figure:
    """One panel below the other, each with its own legend."""
    heights = [3.1 + 0.19 * _legend_rows(panel) for panel in panels]
    figure = style.new_figure(sum(heights))
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, panel in zip(parts, panels, strict=True):
        part.set_facecolor("none")
        axes = part.subplots()
        _draw(axes, panel)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            part.legend(handles, labels, loc="outside lower left", ncols=_columns(panel))
    return figure


def _draw(axes: Axes, panel: evidence.Figure) -> None:
    axes.set_title(formula(panel.title), wrap=True)
    axes.set(xlabel=formula(panel.x_label), ylabel=formula(panel.y_label))
    _scale(axes, panel)
    shapes, dashes = itertools.cycle(_MEASURED), itertools.cycle(_DASHES)
    filled = True
    for series in panel.series:
        label = formula(series.label)
        if series.line:
            color = style.INK if series.position else style.MUTED
            axes.plot(series.x, series.y, color=color, linewidth=1.2, linestyle=next(dashes),
                      label=label, zorder=1)  # fmt: skip
            if series.low:
                axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.12,
                                  linewidth=0)  # fmt: skip
            continue
        shape, color = next(shapes)
        if series.low:
            axes.vlines(series.x, series.low, series.high, color=color, linewidth=1.2)
        # Every second kind of point is hollow and larger, so that points which coincide are seen.
        face, size = (color, 5) if filled else ("none", 7)
        axes.plot(series.x, series.y, linestyle="none", marker=shape, color=color, markersize=size,
                  markerfacecolor=face, label=label, zorder=3)  # fmt: skip
        filled = not filled
    if not panel.series:
        style.say_empty(axes, "nothing was measured")


def _scale(axes: Axes, panel: evidence.Figure) -> None:
    """Logarithmic axes with ticks in plain text, wide enough for all there is to see."""
    for name, scale in (("x", panel.x_scale), ("y", panel.y_scale)):
        if scale != "log":
            continue
        values = [
            value
            for series in panel.series
            for values in ((series.x,) if name == "x" else (series.y, series.low, series.high))
            for value in values
        ]
        margin = 1.15 if name == "x" else 1.4
        style.log_axis(axes, name, *style.log_limits(values, margin, least=3.0))  # type: ignore[arg-type]


def _columns(panel: evidence.Figure) -> int:
    longest = max((len(formula(series.label)) for series in panel.series), default=0)
    return int(np.clip(80 // (longest + 6), 1, 3))


def _legend_rows(panel: evidence.Figure) -> int:
    return -(-len(panel.series) // _columns(panel))
