"""Where the curvature is, and how much noise lies along it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from escapade.inspection import Inspection
from escapade.report import formats
from escapade.report.figures import style

_POINTS = 500
_NARROW = 0.012  # width of the bell each eigenvalue is drawn as, of the whole range
_LEAST = 1e-3  # of one direction: less is left out


@style.styled
def spectrum(found: Inspection) -> Figure:
    """Spectral density with its standard error above; noise against curvature below."""
    figure = style.new_figure(6.2)
    top, bottom = figure.subplots(2, 1, height_ratios=(1.15, 1))
    _density(top, found)
    _noise(bottom, found)
    return figure


def _density(axes: Axes, found: Inspection) -> None:
    values, lowest = found.curvature.values, found.stationarity.lowest_curvature
    span = max(values[0] - min(lowest, 0.0), 1e-12 * max(abs(lowest), 1e-30))
    low, high = min(lowest, 0.0) - 0.06 * span, values[0] + 0.06 * span
    axes.set(xlim=(low, high), xlabel="curvature λ", ylabel="directions per bin")
    if found.density is None:
        style.say_empty(axes, "no spectral density: the time budget was spent")
        axes.set_yticks([])
    else:
        width = _NARROW * span
        grid = np.linspace(low, high, _POINTS)
        estimate = found.density.density(grid, width)
        # Directions within one bell, so that the height of a single eigenvalue is one.
        bell = np.sqrt(2 * np.pi) * width
        count, error = bell * np.asarray(estimate.value), bell * np.asarray(estimate.standard_error)
        style.log_axis(axes, "y", 0.05, max(3 * np.nanmax(count + error), 10.0))
        floor = axes.get_ylim()[0]
        upper = np.maximum(count + 2 * error, floor)
        lower = np.maximum(count - 2 * error, floor)
        axes.fill_between(grid, lower, upper, color=style.SKY, alpha=0.45, linewidth=0,
                          label="± 2 standard errors")  # fmt: skip
        axes.plot(grid, np.maximum(count, floor), color=style.BLUE, label="spectral density")
    base = axes.get_ylim()[0]
    axes.plot(values, np.full(len(values), base), "|", color=style.VERMILLION, markersize=22,
              markeredgewidth=1.6, clip_on=False, label="top eigenvalues")  # fmt: skip
    axes.axvline(0, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.legend(loc="upper right")


def _noise(axes: Axes, found: Inspection) -> None:
    noise = found.noise_shape.variance
    curvatures = found.curvature.values[: len(noise)]
    noise = noise[: len(curvatures)]
    shown = (curvatures > 0) & (noise > 0)
    if not shown.any():
        style.say_empty(axes, "no noise along directions of positive curvature")
        return
    xs, ys = curvatures[shown], noise[shown]
    c, error = float(found.alignment.c.value), float(found.alignment.c.standard_error)
    low, high = style.log_limits(xs, 1.4, least=4)
    line = np.array([low, high])
    style.log_axis(axes, "x", low, high)
    style.log_axis(axes, "y", *style.log_limits([*ys, *(c * xs)], 1.6, least=4))
    if c > 0:
        axes.fill_between(line, (c - 2 * error) * line, (c + 2 * error) * line,
                          color=style.MUTED, alpha=0.3, linewidth=0)  # fmt: skip
        label = f"C = c H, c = {formats.number(c)}"
        axes.plot(line, c * line, color=style.INK, linewidth=1, label=label)
    residuals = found.curvature.residuals[: len(noise)][shown]
    axes.errorbar(xs, ys, xerr=residuals, fmt="o", color=style.VERMILLION, markersize=5,
                  markerfacecolor=style.PAPER, label="top Hessian directions")  # fmt: skip
    axes.set(xlabel="curvature λ of the direction", ylabel="noise variance uᵀ C u")
    axes.legend(loc="upper left")
