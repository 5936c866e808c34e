"""Mean exit times along the four scans of the paper's experiment, as its own figures show them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapade.exits import ExitSample
from escapade.report import formats
from escapade.report.figures import style

LABELS = {
    "learning_rate": "learning rate η",
    "batch_size": "batch size B",
    "radius": "radius r",
    "sharpness": "sharpness factor k",
}

_EXPONENT: dict[str, Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]] = {
    "learning_rate": lambda value: 1 / value,
    "batch_size": lambda value: value,
    "radius": lambda value: value**2,
    "sharpness": lambda value: 1 / value,
}
"""What log E[nu] would be proportional to, according to the titles of the paper's panels."""


@dataclass(frozen=True)
class Panel:
    """One scan, ready to be drawn.

    Attributes:
        quantity: a key of `LABELS`.
        values: of the quantity.
        samples: exit times at each.
        known: other mean exit times at the same values, NaN where there are none.
        power: log-log slope of the measured means and half its interval.
    """

    quantity: str
    values: Float[np.ndarray, " n"]
    samples: tuple[ExitSample, ...]
    known: Float[np.ndarray, " n"]
    power: tuple[float, float]


@style.styled
def draw_panels(given: tuple[dict[str, Panel], str]) -> Figure:
    """Four panels; a scan that failed leaves its own empty. With the name of what is `known`."""
    panels, name = given
    figure = style.new_figure(5.6)
    grid = figure.subplots(2, 2).ravel()
    for axes, quantity in zip(grid, LABELS, strict=True):
        axes.set_xlabel(LABELS[quantity])
        if quantity in panels:
            _draw(axes, panels[quantity], name)
        else:
            style.say_empty(axes, "this scan failed")
    for axes in grid[::2]:
        axes.set_ylabel("mean exit time (steps)")
    entries: dict[str, Artist] = {}
    for axes in grid:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=3)
    return figure


def _draw(axes: Axes, panel: Panel, name: str) -> None:
    means = np.array([sample.mean for sample in panel.samples])
    ends = np.array([sample.interval for sample in panel.samples])
    seen = np.isfinite(means)
    shown = [*means[seen], *ends[seen].ravel(), *panel.known]
    style.log_axis(axes, "x", *style.log_limits(panel.values, margin=1.06, least=1.5))
    style.log_axis(axes, "y", *style.log_limits(shown, margin=1.15, least=4.0))
    grid = np.geomspace(panel.values[0], panel.values[-1], 60)
    exponent = _EXPONENT[panel.quantity]
    if seen[0]:
        law = means[0] ** (exponent(grid) / exponent(panel.values[:1]))
        axes.plot(grid, law, color=style.MUTED, linewidth=1.1, linestyle=":",
                  label="exponential law from the first point")  # fmt: skip
    if np.isfinite(panel.known).any():
        axes.plot(panel.values, panel.known, "x", color=style.INK, markersize=5.5, label=name,
                  zorder=4)  # fmt: skip
    axes.vlines(panel.values[seen], *ends[seen].T, color=style.BLUE, linewidth=1.2)
    axes.plot(panel.values[seen], means[seen], "o", color=style.BLUE, markersize=4.5,
              label="measured here")  # fmt: skip
    slope, half = panel.power
    text = f"power {slope:.2f} ± {half:.2f}" if np.isfinite(half) else f"power {slope:.2f}"
    if np.isfinite(slope):
        height, side = (0.06, "bottom") if slope > 0 else (0.95, "top")
        axes.text(0.97, height, text.replace("-", formats.MINUS), transform=axes.transAxes,
                  va=side, ha="right", **style.REMARK)  # fmt: skip
