"""What the figures share: colours, markers, axes, and the drawing of a measured cell."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Literal, TypeVar

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform
from scipy.optimize import isotonic_regression

from escapade.report import formats
from escapade.report.reading import DYNAMICS, Reading

Result = TypeVar("Result")
"""What is drawn: a study or an inspection."""

INK, MUTED, RULE, PAPER = "#1f2328", "#646c75", "#d5dade", "#ffffff"
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
VERMILLION, PURPLE = "#d55e00", "#cc79a7"

_MARKERS = {
    "minibatch": ("o", BLUE),
    "minibatch_without_replacement": ("v", SKY),
    "minibatch_shuffled_epochs": ("P", ORANGE),
    "gaussian": ("s", VERMILLION),
    "continuous": ("^", GREEN),
    "langevin": ("D", PURPLE),
}
_OTHER = ("X", MUTED)

MECHANISMS = {"activated": GREEN, "diffusive": ORANGE, "drift": PURPLE, "unstable": INK}

REMARK: dict[str, Any] = {
    "fontsize": 8.5,
    "color": MUTED,
    "bbox": {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 1},
}
"""How words beside markers look."""

WIDTH = 6.2  # inches; two fit side by side on a page, one is legible on a telephone

SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1.4,
    "svg.hashsalt": "escapade",
}


def styled(draw: Callable[[Result], Figure]) -> Callable[[Result], Figure]:
    """Draw with the report's Matplotlib settings, leaving those of the caller as they are."""

    @wraps(draw)
    def inner(result: Result) -> Figure:
        with mpl.rc_context(SETTINGS):
            return draw(result)

    return inner


def new_figure(height: float) -> Figure:
    """An empty figure, WIDTH by ``height`` inches, that draws itself without a window."""
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    return figure


def marker(dynamics: str) -> tuple[str, str]:
    """Marker and colour of a dynamics."""
    return _MARKERS.get(dynamics, _OTHER)


def note(figure: Figure, lines: Iterable[str]) -> None:
    """Say below the figure what it leaves out, if anything."""
    text = "\n".join(filter(None, lines))
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color=MUTED)


def not_drawn(amount: int, why: str) -> str:
    """The sentence of a note on cells left out, or ""."""
    return f"Not drawn: {formats.count(amount, 'cell')} {why}." if amount else ""


def say_empty(axes: Axes, text: str) -> None:
    """An empty panel says why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def log_axis(axes: Axes, name: Literal["x", "y"], low: float, high: float) -> None:
    """Make an axis logarithmic, from ``low`` to ``high``, with ticks in plain text: 50, 10⁶."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    decades = np.log10(high / low)
    digits: tuple[int, ...] = (1, 3) if decades < 3.5 else (1,)
    if decades < 2.2:
        digits = (1, 2, 5) if decades > 0.75 else (1, 2, 3, 4, 6, 8)
    stride = max(1, int(np.ceil(decades / 7)))
    exponents = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    exponents = exponents[exponents % stride == 0]
    ticks = np.array([digit * 10.0**exponent for exponent in exponents for digit in digits])
    axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
    inside = (ticks >= low * 0.999) & (ticks <= high * 1.001)
    axis.set_major_locator(FixedLocator(ticks[inside].tolist()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    if -4 < exponent < 5:
        return f"{value:,.{max(-exponent, 0)}f}"
    leading = round(value / 10.0**exponent)
    return formats.power_of_ten(exponent) if leading == 1 else formats.number(value, 1)


def log_limits(
    values: Iterable[float], margin: float = 1.5, least: float = 10.0
) -> tuple[float, float]:
    """Limits of a logarithmic axis that hold the positive finite values.

    The values get a margin, and the limits a ratio of at least ``least``.
    """
    kept = np.array([value for value in values if np.isfinite(value) and value > 0])
    if kept.size == 0:
        return 1.0, 1e3
    low, high = float(kept.min() / margin), float(kept.max() * margin)
    missing = max(1.0, np.sqrt(least / (high / low)))
    return low / missing, high * missing


def spread(positions: Float[np.ndarray, " n"], gap: float) -> Float[np.ndarray, " n"]:
    """The positions moved as little as possible, in least squares, to be ``gap`` apart."""
    if positions.size == 0:
        return positions
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(positions.size)
    moved = np.empty(positions.size)
    moved[order] = isotonic_regression(positions[order] - steps).x + steps
    return moved


def side_by_side(axes: Axes, xs: Sequence[float], gap: float = 8.0) -> list[Transform]:
    """Transforms from data that set markers which would coincide side by side.

    They end up ``gap`` points apart, less where they are many. The data stay what they are: only
    the drawing moves. Set the scale and limits of x first.
    """
    left, right = axes.get_xlim()
    scale = axes.xaxis.get_transform().transform
    width = 0.8 * 72 * WIDTH
    points = width * (scale(np.array(xs)) - scale(left)) / (scale(right) - scale(left))
    gap = min(gap, 0.7 * width / max(len(points), 1))
    return [
        axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        for shift in spread(points, gap) - points
    ]


def draw_cell(
    axes: Axes,
    reading: Reading,
    panel: str,
    x: float,
    y: tuple[float, float, float],
    transform: Transform,
    *,
    color: str | None = None,
    filled: bool | None = None,
) -> None:
    """A cell at ``x`` with its interval: filled if activated, an arrow up if ``y`` is a bound.

    Args:
        axes: where.
        reading: the cell; its marker links to its row in the table.
        panel: name of the panel, to tell the cell's markers apart.
        x: abscissa.
        y: lower end, value and upper end; an infinite value makes the lower end a bound.
        transform: from data to the drawing.
        color: instead of the colour of its dynamics.
        filled: instead of whether it is activated.
    """
    low, middle, high = y
    shape, own = marker(reading.cell.dynamics)
    color = color or own
    filled = reading.activated if filled is None else filled
    bound = np.isinf(middle)
    if bound:
        middle = low
        axes.annotate(
            "",
            xy=(x, low),
            xycoords=transform,
            xytext=(0, 22),
            textcoords="offset points",
            arrowprops={"arrowstyle": "<-", "color": color, "linewidth": 1.4, "shrinkA": 0},
        )
    elif not (np.isnan(low) or np.isnan(high)):
        axes.add_line(Line2D([x, x], [low, high], color=color, linewidth=1.2, transform=transform))
    axes.add_line(
        Line2D(
            [x],
            [middle],
            linestyle="none",
            marker=shape,
            markersize=6.5,
            color=color,
            markerfacecolor=color if filled else PAPER,
            markeredgecolor=color,
            markeredgewidth=1.3,
            transform=transform,
            gid=f"{panel}-{reading.anchor}",
            url=f"#{reading.anchor}",
            zorder=3,
        )
    )


def dynamics_handles(readings: Sequence[Reading]) -> list[Line2D]:
    """Legend entries of the dynamics present, and of filled and hollow markers if both occur."""
    present = dict.fromkeys(reading.cell.dynamics for reading in readings)
    handles = [
        Line2D([], [], linestyle="none", marker=shape, color=color, label=DYNAMICS.get(name, name))
        for name in present
        for shape, color in [marker(name)]
    ]
    if any(not reading.activated for reading in readings):
        for face, label in ((INK, "filled: activated"), (PAPER, "hollow: another mechanism")):
            handles.append(
                Line2D(
                    [],
                    [],
                    linestyle="none",
                    marker="o",
                    color=INK,
                    markerfacecolor=face,
                    label=label,
                )
            )
    return handles
