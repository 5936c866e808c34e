"""The corrected experiments: measured against predicted, and which power each contrast measures."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from escapade.report.figures import style
from escapade.reproduction.corrected import CorrectedResult, Fit, Point

_STUDIES = {
    "quadratic": ("o", style.BLUE, "quadratic"),
    "styblinski_tang": ("s", style.GREEN, "Styblinski-Tang"),
    "avila_subset": ("D", style.PURPLE, "Avila, 512 examples"),
    "avila": ("^", style.VERMILLION, "Avila network"),
}
_OTHER = ("X", style.MUTED, "other")


@style.styled
def corrected_agreement(result: CorrectedResult) -> Figure:
    """Measured over predicted mean exit time, by barrier: ours, and the plain exponential law."""
    shown = [point for point in result.points if np.isfinite(point.log_predicted)]
    shown = [point for point in shown if np.isfinite(point.high) and not point.scattered]
    figure = style.new_figure(6.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    barriers = style.log_limits([point.barrier for point in shown], margin=1.2)
    for axes, law, name in (
        (top, "log_predicted", "measured / predicted"),
        (bottom, "log_exponential_law", "measured / plain law"),
    ):
        style.log_axis(axes, "x", *barriers)
        ratios = [np.exp(np.log(point.mean) - getattr(point, law)) for point in shown]
        style.log_axis(axes, "y", *style.log_limits([*ratios, 1.0], margin=1.5, least=9.0))
        axes.axhline(1, color=style.INK, linewidth=1)
        axes.set_ylabel(name)
        for point, ratio in zip(shown, ratios, strict=True):
            _draw(axes, point, ratio)
        if not shown:
            style.say_empty(axes, "nothing was measured")
    top.tick_params(labelbottom=False)
    bottom.set_xlabel("barrier b = (B / η) V₀")
    present = dict.fromkeys(point.study for point in shown)
    handles = [
        Line2D([], [], linestyle="none", marker=shape, color=color, label=label)
        for shape, color, label in (_STUDIES.get(name, _OTHER) for name in present)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    lost = len(result.points) - len(shown)
    hollow = "Filled: activated; hollow: another mechanism."
    style.note(
        figure, [hollow, style.not_drawn(lost, "without prediction or exit, or whose runs scatter")]
    )
    return figure


def _draw(axes, point: Point, ratio: float) -> None:  # type: ignore[no-untyped-def]
    shape, color, _ = _STUDIES.get(point.study, _OTHER)
    low, high = ratio * point.low / point.mean, ratio * point.high / point.mean
    axes.vlines(point.barrier, low, high, color=color, linewidth=1.1)
    face = color if point.mechanism == "activated" else style.PAPER
    axes.plot(point.barrier, ratio, shape, color=color, markerfacecolor=face, markersize=5)


@style.styled
def corrected_powers(result: CorrectedResult) -> Figure:
    """With which power of each variable the barrier grows, beside what the laws say."""
    fits = [fit for fit in result.fits if fit.power is not None]
    figure = style.new_figure(1.5 + 0.42 * max(len(fits), 2))
    axes = figure.subplots()
    for row, fit in enumerate(fits):
        assert fit.power is not None
        axes.hlines(row, fit.power.low, fit.power.high, color=style.BLUE, linewidth=2.2)
        axes.plot(fit.power.value, row, "o", color=style.BLUE, markersize=6, zorder=4)
        axes.plot(fit.power.predicted, row, "|", color=style.INK, markersize=15, zorder=3)
        for power, inside in fit.rivals.values():
            axes.plot(power, row, "x", markersize=6, zorder=2,
                      color=style.GREEN if inside else style.VERMILLION)  # fmt: skip
    axes.set_yticks(range(len(fits)), [fit.contrast for fit in fits])
    axes.invert_yaxis()
    axes.set_xlabel("power of the variable in the barrier (B / η) V₀")
    axes.grid(axis="y", visible=False)
    if not fits:
        style.say_empty(axes, "no contrast has its cells")
    handles = [
        Line2D([], [], color=style.BLUE, marker="o", label="measured, 95 % interval"),
        Line2D([], [], color=style.INK, marker="|", markersize=13, linestyle="none",
               label="predicted (finite step included)"),
        Line2D([], [], color=style.GREEN, marker="x", linestyle="none", label="a law's, allowed"),
        Line2D([], [], color=style.VERMILLION, marker="x", linestyle="none",
               label="a law's, excluded"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


@style.styled
def corrected_network(result: CorrectedResult) -> Figure:
    """Real minibatch SGD on the Avila network: steps against B / eta, with how exponential."""
    fits = [fit for fit in result.fits if fit.contrast.startswith("Avila, ") and fit.x]
    figure = style.new_figure(5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    xs = [x for fit in fits for x in fit.x]
    style.log_axis(top, "x", *style.log_limits(xs, margin=1.15))
    means = [np.exp(value) for fit in fits for value in (*fit.log_means, *fit.log_predictions)]
    style.log_axis(top, "y", *style.log_limits(means, margin=1.6))
    top.set_ylabel("mean exit time (steps)")
    bottom.axhspan(0.9, 1.1, color=style.GREEN, alpha=0.12, linewidth=0)
    bottom.axhline(1, color=style.INK, linewidth=1, linestyle=":")
    bottom.set(xlabel="batch size / learning rate, B / η", ylabel="coefficient of\nvariation",
               ylim=(0.5, 1.5))  # fmt: skip
    marks = (("o", style.BLUE), ("s", style.VERMILLION), ("^", style.GREEN), ("D", style.PURPLE))
    for fit, (shape, color) in zip(fits, marks, strict=False):
        _draw_fit(top, bottom, result, fit, shape, color)
    if not fits:
        style.say_empty(top, "no contrast has its cells")
    handles, labels = top.get_legend_handles_labels()
    handles.append(Line2D([], [], color=style.INK, linewidth=1))
    figure.legend(handles, [*labels, "predicted"], loc="outside upper left")
    return figure


def _draw_fit(top, bottom, result: CorrectedResult, fit: Fit, shape: str, color: str) -> None:  # type: ignore[no-untyped-def]
    order = np.argsort(fit.x)
    x = np.array(fit.x)[order]
    means, errors = np.exp(np.array(fit.log_means))[order], np.array(fit.errors)[order]
    top.plot(x, np.exp(np.array(fit.log_predictions))[order], color=style.INK, linewidth=1)
    top.vlines(x, means * np.exp(-1.96 * errors), means * np.exp(1.96 * errors), color=color,
               linewidth=1.2)  # fmt: skip
    name = fit.contrast.removeprefix("Avila, ").replace("eta", "η")
    if fit.law_slope is not None:
        low, high = fit.law_slope.low, fit.law_slope.high
        name += f": slope on prediction {fit.law_slope.value:.3f} ({low:.3f} to {high:.3f})"
    top.plot(x, means, shape, color=color, markersize=5.5, markerfacecolor=style.PAPER,
             label=name)  # fmt: skip
    points = [point for point in result.points_of(fit) if np.isfinite(point.variation)]
    where = dict(zip(fit.identities, fit.x, strict=True))
    for point in points:
        at = where[point.cell.identity]
        half = 1.96 * point.variation_error
        bottom.vlines(at, point.variation - half, point.variation + half, color=color,
                      linewidth=1.2)  # fmt: skip
        bottom.plot(at, point.variation, shape, color=color, markersize=5.5,
                    markerfacecolor=style.PAPER)  # fmt: skip
