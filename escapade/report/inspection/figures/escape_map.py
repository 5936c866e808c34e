"""Mean exit steps over learning rate and batch size."""

from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from escapade.inspection import EscapeMap, Inspection
from escapade.report import formats
from escapade.report.figures import style

HATCHES = {"activated": "", "diffusive": "///", "drift": "...", "unstable": "xxx"}
"""Mechanisms, told apart without colour."""

_LOG_STEPS = Normalize(0, 9)  # decades; later than a billion steps is never
_LIGHT, _DARK = "#fdfdfd", "#101010"  # on coloured cells, whether or not the page is dark
_SHARE = 0.35  # opacity of hatching

Edges = Float[np.ndarray, " edges"]


@style.styled
def escape_map(found: Inspection) -> Figure:
    """Colour and number: steps until the exit; hatching: mechanism; lines: where SGD is stable."""
    grid = found.escape_map
    assert grid is not None
    colours = mpl.colormaps["viridis"]
    figure = style.new_figure(5.6)
    axes = figure.subplots()
    across, up = _edges(grid.batch_sizes), _edges(grid.learning_rates)
    axes.set(xscale="log", yscale="log", xlim=across[[0, -1]], ylim=up[[0, -1]])
    logs = np.log10(np.maximum(np.where(np.isfinite(grid.steps), grid.steps, 1e300), 1))
    for row, column in np.ndindex(grid.steps.shape):
        if not np.isnan(grid.steps[row, column]):
            box = across[column : column + 2], up[row : row + 2]
            _cell(axes, box, float(logs[row, column]), grid, (row, column), colours)
    axes.add_collection(LineCollection(_borders(grid, across, up), colors=_DARK, linewidths=1.6))
    handles = _limits(axes, found, across)
    ring: dict[str, Any] = {"marker": "o", "linestyle": "none", "markerfacecolor": "none",
            "markeredgecolor": style.VERMILLION, "label": "this setting"}  # fmt: skip
    axes.plot(
        [found.batch_size], [found.learning_rate], markersize=19, markeredgewidth=2.6, gid="here",
        zorder=5, **ring,
    )  # fmt: skip
    axes.grid(False)
    axes.minorticks_off()
    axes.set_xticks(grid.batch_sizes, [f"{size:.0f}" for size in grid.batch_sizes])
    ticks = grid.learning_rates[:: max(1, len(grid.learning_rates) // 7)]
    axes.set_yticks(ticks, [formats.number(rate, 2) for rate in ticks])
    axes.set(xlabel="batch size", ylabel="learning rate")
    present = [grid.names[k] for k in np.unique(grid.mechanisms[~np.isnan(grid.steps)])]
    here = Line2D([], [], markersize=9, markeredgewidth=2, **ring)
    entries: list[Artist] = [here, *handles, *map(_patch, present)]
    figure.legend(handles=entries, loc="outside upper left", ncols=3)
    bar = figure.colorbar(
        mpl.cm.ScalarMappable(_LOG_STEPS, colours), ax=axes, label="steps until the exit",
        extend="max", aspect=30, pad=0.02,
    )  # fmt: skip
    bar.ax.grid(False)
    bar.set_ticks(range(0, 10, 3), labels=[formats.power_of_ten(k) for k in range(0, 10, 3)])
    missing = int(np.isnan(grid.steps).sum())
    style.note(
        figure, [f"Left white, without a prediction: {missing} settings." if missing else ""]
    )
    return figure


def _edges(centres: Float[np.ndarray, " cells"]) -> Edges:
    """Edges of cells around positions on a logarithmic axis."""
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.35, 0.35]))
    middles = (logs[1:] + logs[:-1]) / 2
    ends = [2 * logs[0] - middles[0], 2 * logs[-1] - middles[-1]]
    return np.exp(np.concatenate([ends[:1], middles, ends[1:]]))


def _cell(
    axes: Axes,
    box: tuple[Edges, Edges],
    log_steps: float,
    grid: EscapeMap,
    place: tuple[int, int],
    colours: Colormap,
) -> None:
    (left, right), (low, high) = box
    colour = colours(_LOG_STEPS(log_steps))
    contrast = _DARK if mpl.colors.rgb_to_hsv(colour[:3])[2] > 0.72 else _LIGHT
    axes.add_patch(Rectangle((left, low), right - left, high - low, color=colour, linewidth=0.3))
    hatch = HATCHES[grid.names[grid.mechanisms[place]]]
    if hatch:
        axes.add_patch(
            Rectangle(
                (left, low), right - left, high - low, fill=False, linewidth=0, hatch=hatch,
                edgecolor=(*mpl.colors.to_rgb(contrast), _SHARE),
            )
        )  # fmt: skip
    axes.text(
        np.sqrt(left * right), np.sqrt(low * high), _steps(grid.steps[place]),
        ha="center", va="center", fontsize=7.5, color=contrast,
    )  # fmt: skip


def _steps(steps: float) -> str:
    """Steps in the space of a cell: 42, 10⁵."""
    if not np.isfinite(steps):
        return "∞"
    return f"{steps:.0f}" if steps < 999.5 else formats.power_of_ten(round(np.log10(steps)))


def _borders(grid: EscapeMap, across: Edges, up: Edges) -> list[list[tuple[float, float]]]:
    """Lines between cells of different mechanisms."""
    kinds = np.where(np.isnan(grid.steps), -1, grid.mechanisms)
    rows, columns = kinds.shape
    lines = []
    for row, column in np.ndindex(rows, columns):
        if column + 1 < columns and kinds[row, column] != kinds[row, column + 1]:
            lines.append([(across[column + 1], up[row]), (across[column + 1], up[row + 1])])
        if row + 1 < rows and kinds[row, column] != kinds[row + 1, column]:
            lines.append([(across[column], up[row + 1]), (across[column + 1], up[row + 1])])
    return lines


def _limits(axes: Axes, found: Inspection, across: Edges) -> list[Line2D]:
    """Where the mean of SGD, and where its mean square, is no longer stable."""
    batches = np.geomspace(across[0], across[-1], 60)
    curvatures = found.curvature.values[: len(found.stability.curvature_spread)]
    limits = [
        found.stability.at(curvatures, found.learning_rate, batch).mean_square_limit
        for batch in batches
    ]
    low, high = axes.get_ylim()
    lines = []
    for name, xs, ys, dashes, label in (
        ("square", batches, np.array(limits), "--", "largest stable rate, in mean square"),
        ("mean", across[[0, -1]], np.full(2, found.stability.linear_limit), ":", "2 / sharpness"),
    ):
        if not (ys < low).all() and not (ys > high).all():
            line: dict[str, Any] = {"color": style.VERMILLION, "linewidth": 2, "linestyle": dashes}
            lines += axes.plot(xs, ys, label=label, gid=f"limit-{name}", **line)
    return lines


def _patch(mechanism: str) -> Patch:
    return Patch(facecolor="none", edgecolor=style.MUTED, hatch=HATCHES[mechanism], label=mechanism)
