"""The easiest way out: where the instanton runs, and where along it the steepness is spent."""

from collections.abc import Sequence

import jax
import matplotlib as mpl
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.landscape import AbstractLandscape, AbstractLoss
from escapade.landscape.descent import jacobian
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.report import formats
from escapade.report.figures import style
from escapade.steepness import GridQuasipotential, Instanton
from escapade.study.results import StudyResult

_DIRECTIONS = 5  # Hessian directions drawn one by one
_POINTS = 161  # per side of a map
_SHAPE = 1.28  # width of a map over its height
_COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE)


def instanton_map(
    escape: Escape, instanton: Instanton, quasipotential: GridQuasipotential | None = None
) -> Figure:
    """The path over a two-dimensional landscape, and its action density.

    Contours are those of the quasipotential where it is given, else of the loss; a drift without
    a loss is drawn as arrows. Other local minimisers are thin.

    Raises:
        InvalidArgument: when the landscape is not two-dimensional.
    """
    if escape.landscape.dim != 2:
        raise InvalidArgument(
            f"escape has {escape.landscape.dim} parameters and a map has 2; use "
            "instanton_directions"
        )
    with mpl.rc_context(style.SETTINGS):
        figure = style.new_figure(7.2)
        top, bottom = figure.subplots(2, 1, height_ratios=(3, 1))
        _draw_map(top, escape, instanton, quasipotential)
        _draw_density(bottom, instanton.times, instanton.actions)
        figure.legend(loc="outside upper left", ncols=3)
        shown = (
            "Contours: the quasipotential."
            if quasipotential is not None
            else "Contours: the loss."
            if isinstance(escape.landscape, AbstractLoss)
            else "Arrows: the drift."
        )
        said = _said(instanton.value, instanton.error, len(instanton.orbits))
        style.note(figure, [said, shown])
        return figure


def instanton_directions(escape: Escape, instanton: Instanton) -> Figure:
    """The path along the sharpest Hessian directions of the minimum, and its action density."""
    matrix = jacobian(escape.landscape, escape.minimum)
    vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))[1][:, ::-1]
    along = (instanton.path - escape.minimum) @ vectors
    with mpl.rc_context(style.SETTINGS):
        figure = style.new_figure(5.4)
        _draw_directions(figure, instanton.times, instanton.actions, along)
        style.note(figure, [_said(instanton.value, instanton.error, len(instanton.orbits))])
        return figure


@style.styled
def easiest_path(study: StudyResult) -> Figure:
    """The instanton of a study along the Hessian's directions, and its action density."""
    figure = style.new_figure(5.4)
    found = study.instanton
    if found is None:
        axes = figure.subplots()
        axes.set(xlabel="steps, the exit at 0", ylabel="displacement from the minimum")
        style.say_empty(axes, "No instanton was computed in this study.")
        return figure
    _draw_directions(figure, found.times, found.actions, found.along)
    deviation = formats.percent(abs(found.value / found.quadratic_value - 1))
    side = "above" if found.value > found.quadratic_value else "below"
    style.note(
        figure,
        [_said(found.value, found.error, 1), f"{deviation} {side} the quadratic approximation."],
    )
    return figure


def _said(value: float, error: float, orbits: int) -> str:
    """The number a figure shows."""
    others = f"; {formats.count(orbits - 1, 'other local minimiser')}" if orbits > 1 else ""
    return f"Minimum steepness V₀ = {value:.6g}, relative error {error:.0e}{others}."


def _draw_map(
    axes: Axes,
    escape: Escape,
    instanton: Instanton,
    quasipotential: GridQuasipotential | None,
) -> None:
    low, high = _window(escape, [orbit.path for orbit in instanton.orbits])
    xs, ys = (np.linspace(low[i], high[i], _POINTS) for i in range(2))
    points = np.stack(np.meshgrid(xs, ys), axis=-1)
    if quasipotential is not None:
        heights = quasipotential.at(points.reshape(-1, 2)).reshape(points.shape[:2])
        _contours(axes, xs, ys, heights, 2 * instanton.value)
    elif isinstance(escape.landscape, AbstractLoss):
        heights = in_float64(_losses, escape.landscape, points.reshape(-1, 2))
        heights = heights.reshape(points.shape[:2]) - float(escape.landscape.loss(escape.minimum))
        _contours(axes, xs, ys, heights, 2 * _rise(escape, instanton))
    else:
        coarse = points[::8, ::8]
        drift = -in_float64(_gradients, escape.landscape, coarse.reshape(-1, 2))
        drift /= np.linalg.norm(drift, axis=1, keepdims=True) + 1e-300
        axes.quiver(*coarse.reshape(-1, 2).T, *drift.T, color=style.RULE, scale=40, width=0.002)
    levels = in_float64(_levels, escape.region, points.reshape(-1, 2)).reshape(points.shape[:2])
    if levels.min() < 0 < levels.max():
        axes.contour(xs, ys, levels, levels=[0], colors=style.INK, linewidths=1, linestyles="--")
        axes.plot([], [], color=style.INK, linewidth=1, linestyle="--", label="boundary")
    for orbit in instanton.orbits[1:]:
        axes.plot(*orbit.path.T, color=style.ORANGE, linewidth=0.9)
    if len(instanton.orbits) > 1:
        axes.plot([], [], color=style.ORANGE, linewidth=0.9, label="other local minimisers")
    axes.plot(*instanton.path.T, color=style.VERMILLION, linewidth=2, label="instanton")
    axes.plot(*escape.minimum, "o", color=style.BLUE, label="minimum")
    if np.isfinite(instanton.horizon):
        axes.plot(*instanton.path[0], "s", color=style.VERMILLION, label="start")
    axes.plot(*instanton.exit_point, "X", color=style.VERMILLION, markersize=8, label="exit")
    axes.set(xlabel="θ₁", ylabel="θ₂", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_aspect("equal")
    axes.grid(False)


def _window(
    escape: Escape, paths: Sequence[Float[np.ndarray, "n 2"]]
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """A box around every path, with room, as wide and high as the panel."""
    points = np.concatenate([*paths, escape.minimum[None]])
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = high - low
    size = np.array([max(width, _SHAPE * height), max(height, width / _SHAPE)])
    middle = 0.5 * (low + high)
    return middle - 0.75 * size, middle + 0.75 * size


def _rise(escape: Escape, instanton: Instanton) -> float:
    """Largest rise of the loss along the path."""
    losses = in_float64(_losses, escape.landscape, instanton.path)
    return float(losses.max() - losses[0])


def _contours(
    axes: Axes,
    xs: Float[np.ndarray, " n"],
    ys: Float[np.ndarray, " n"],
    heights: Float[np.ndarray, "n n"],
    top: float,
) -> None:
    axes.contourf(xs, ys, np.minimum(heights, top), levels=16, cmap="Blues", alpha=0.55)
    axes.contour(
        xs, ys, np.minimum(heights, top), levels=16, colors=style.MUTED, linewidths=0.4, alpha=0.8
    )


def _draw_directions(
    figure: Figure,
    times: Float[np.ndarray, " n"],
    actions: Float[np.ndarray, " n"],
    along: Float[np.ndarray, "n dim"],
) -> None:
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    shown = min(_DIRECTIONS, along.shape[1])
    for index in range(shown):
        top.plot(
            times,
            along[:, index],
            color=_COLORS[index],
            label=f"v{chr(0x2081 + index)}",
        )
    if along.shape[1] > shown:
        rest = np.linalg.norm(along[:, shown:], axis=1)
        top.plot(times, rest, color=style.MUTED, linestyle="--", label="all others (length)")
    top.set_ylabel("displacement from\nthe minimum")
    top.tick_params(labelbottom=False)
    figure.legend(loc="outside upper left", ncols=shown + 1)
    _draw_density(bottom, times, actions)
    bottom.set_xlim(*_when(times, actions))


def _draw_density(
    axes: Axes, times: Float[np.ndarray, " n"], actions: Float[np.ndarray, " n"]
) -> None:
    """As stairs, so that the area up to the exit is the value."""
    density = np.diff(actions) / np.diff(times)
    axes.stairs(density, times, fill=True, color=style.VERMILLION, alpha=0.25)
    axes.stairs(density, times, baseline=None, color=style.VERMILLION, linewidth=1.4)
    zero = "the exit" if times[-1] == 0 else "the start"
    axes.set(ylabel="steepness\nper step", xlabel=f"steps, {zero} at 0", ylim=(0, None))
    axes.set_xlim(*_when(times, actions))


def _when(times: Float[np.ndarray, " n"], actions: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The times between which all but one per mille of the steepness is spent at either end."""
    first = max(int(np.argmax(actions > 1e-3 * actions[-1])) - 1, 0)
    # A path to a saddle rests there; any other is shown to its end.
    last = int(np.argmax(actions > (1 - 1e-3) * actions[-1])) + 1
    return float(times[first]), float(times[min(last, len(times) - 1)])


def _losses(landscape: AbstractLoss, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
    return jax.lax.map(landscape._loss, points)


def _gradients(
    landscape: AbstractLandscape, points: Float[Array, "n dim"]
) -> Float[Array, "n dim"]:
    return jax.lax.map(landscape._gradient, points)


def _levels(region: AbstractRegion, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
    return jax.lax.map(region._level, points)
