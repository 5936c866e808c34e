"""Escape before stationarity: replicas leave at a settled rate while slow directions relax."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from escapade.errors import InvalidArgument
from escapade.exits import ExitSample
from escapade.report import formats
from escapade.report.figures import style
from escapade.theory.relaxation import Relaxation

_WIDTH = 4.9  # inches per case
_HIGHEST = 1.42  # relative hazard
_GROWTH = 1.45  # of the bins in which hazards are measured
_EXACT: dict[str, Any] = {
    "color": style.SKY,
    "linewidth": 4.5,
    "alpha": 0.75,
    "solid_capstyle": "round",
}
_LAW: dict[str, Any] = {"color": style.INK, "linewidth": 1.3}
_SETTLED: dict[str, Any] = {"color": style.PURPLE, "linewidth": 1.6, "linestyle": (0, (4, 2))}
_BEFORE, _AFTER = style.VERMILLION, style.BLUE


@dataclass(frozen=True)
class Course:
    """What one escape does over time, started at its minimum.

    Attributes:
        title: what is shown, in a few words.
        relaxation: its time scales.
        steps: numbers of steps, increasing, at which the curves are known.
        law: hazard relative to its final value, by `hazard_ratio`.
        survival: predicted P(exit time > steps).
        exact_hazard: the same as `law`, exactly.
        exact_survival: the same as `survival`, exactly.
        settled_survival: exactly, from the quasi-stationary law instead of the minimum.
        sample: simulated exits.
    """

    title: str
    relaxation: Relaxation
    steps: Int[np.ndarray, " steps"]
    law: Float[np.ndarray, " steps"]
    survival: Float[np.ndarray, " steps"] | None = None
    exact_hazard: Float[np.ndarray, " steps"] | None = None
    exact_survival: Float[np.ndarray, " steps"] | None = None
    settled_survival: Float[np.ndarray, " steps"] | None = None
    sample: ExitSample | None = None


def stationarity(courses: Sequence[Course], title: str = "") -> Figure:
    """Hazard and survival over steps, with the relaxation time of every direction.

    One column for each course: above, the hazard relative to its final value, measured in bins with
    exact Poisson intervals; below, the fraction still inside. Marks on the lower curve stand at the
    relaxation times of the Hessian directions: filled where the direction relaxes before the
    typical exit, hollow where it does not.

    Raises:
        InvalidArgument: when there is no course.
    """
    if not courses:
        raise InvalidArgument("courses is empty; give at least one Course")
    with mpl.rc_context(style.SETTINGS):
        figure = style.new_figure(6.6)
        figure.set_size_inches(max(_WIDTH * len(courses), style.WIDTH), 6.6)
        figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.08)
        grid = figure.subplots(2, len(courses), squeeze=False, sharex="col", sharey="row")
        for index, course in enumerate(courses):
            top, bottom = grid[:, index]
            low, high = _limits(course)
            style.log_axis(bottom, "x", low, high)
            _draw_hazard(top, course)
            _draw_survival(bottom, course)
            for axes in (top, bottom):
                _draw_times(axes, course.relaxation)
            _name_times(top, course.relaxation)
            top.set_title(course.title, pad=30)
            bottom.set_xlabel("SGD steps from the minimum (log scale)")
        grid[0, 0].set_ylabel("hazard / settled hazard")
        grid[1, 0].set_ylabel("fraction still inside")
        figure.legend(handles=_handles(courses), loc="outside lower center", ncols=3)
        if title:
            figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=12.5)
        return figure


def _limits(course: Course) -> tuple[float, float]:
    times = course.relaxation.times
    return 0.8, float(2.5 * max(times.max(), 5 * course.relaxation.exit_time))


def _draw_hazard(axes: Axes, course: Course) -> None:
    axes.set(ylim=(0, _HIGHEST), yticks=[0, 0.25, 0.5, 0.75, 1.0, 1.25])
    if course.exact_hazard is not None:
        axes.plot(course.steps, course.exact_hazard, gid="exact-hazard", **_EXACT)
    axes.plot(course.steps, course.law, gid="law", **_LAW)
    if course.exact_hazard is not None:
        _magnify(axes, course, course.exact_hazard)
    if course.sample is None:
        return
    measured = course.sample.hazard(_edges(course.sample))
    scale = course.relaxation.exit_time
    for first, last, rate, low, high, exposure in zip(
        measured.edges[:-1] + 1,
        measured.edges[1:],
        measured.rate,
        measured.lower,
        measured.upper,
        measured.exposure,
        strict=True,
    ):
        # Hardly anyone is left to leave in the tail.
        if exposure < 8 * scale and last > scale:
            continue
        middle, top = np.sqrt(first * last), min(high * scale, 2 * _HIGHEST)
        axes.add_line(Line2D([middle, middle], [low * scale, top], color=_AFTER, linewidth=1.2))
        axes.plot(middle, rate * scale, "o", color=_AFTER, markersize=4.5, gid="measured", zorder=3)


def _magnify(axes: Axes, course: Course, exact: Float[np.ndarray, " steps"]) -> None:
    """The hazard once the exit direction has relaxed, magnified to where the slow ones show."""
    late = (course.steps >= 10 * course.relaxation.carrier_time) & (
        course.steps <= _limits(course)[1]
    )
    if late.sum() < 2:
        return
    steps = course.steps[late]
    values = np.concatenate([exact[late], course.law[late]])
    low, high = float(values.min()), float(values.max())
    # Its steps stand where they stand in the panel.
    inset = axes.inset_axes(
        (float(steps[0]), 0.14, float(steps[-1] - steps[0]), 0.38),
        transform=axes.get_xaxis_transform(),
    )
    room = 0.12 * (high - low) + 1e-15
    inset.set(xscale="log", xlim=(steps[0], steps[-1]), ylim=(low - room, high + room))
    inset.plot(steps, exact[late], gid="exact-magnified", **_EXACT)
    inset.plot(steps, course.law[late], gid="law-magnified", **_LAW)
    inset.set_yticks([low, high], [f"{value:.5f}" for value in (low, high)])
    inset.set_xticks([])
    inset.minorticks_off()
    inset.tick_params(labelsize=8)
    inset.set_facecolor(style.PAPER)
    inset.text(0.02, 1.02, "the same, magnified", transform=inset.transAxes, **style.REMARK)


def _edges(sample: ExitSample) -> Int[np.ndarray, " edges"]:
    """Single steps at first, then bins that grow with time."""
    edges = [0]
    while edges[-1] < sample.times.max():
        edges.append(max(edges[-1] + 1, int(edges[-1] * _GROWTH)))
    return np.array(edges)


def _draw_survival(axes: Axes, course: Course) -> None:
    axes.set(ylim=(-0.04, 1.08), yticks=[0, 0.25, 0.5, 0.75, 1.0])
    axes.set_yticklabels([formats.percent(tick) for tick in (0, 0.25, 0.5, 0.75, 1.0)])
    steps, known = course.steps, None
    if course.exact_survival is not None:
        known = course.exact_survival
        axes.plot(steps, known, gid="exact-survival", **_EXACT)
    if course.settled_survival is not None:
        axes.plot(steps, course.settled_survival, gid="settled-survival", **_SETTLED)
    if course.survival is not None:
        known = course.survival if known is None else known
        axes.plot(steps, course.survival, gid="survival", **_LAW)
    if course.sample is not None:
        curve = course.sample.kaplan_meier()
        index = np.searchsorted(curve.steps, steps, side="right") - 1
        inside = steps <= curve.steps[-1]
        axes.fill_between(
            steps[inside],
            curve.lower[index[inside]],
            curve.upper[index[inside]],
            color=_AFTER,
            alpha=0.3,
            linewidth=0,
        )
        known = np.where(inside, curve.survival[index], curve.survival[-1])
        axes.plot(
            steps[inside], known[inside], color=_AFTER, linewidth=1.6, gid="measured-survival"
        )
    if known is None:
        return
    times = course.relaxation.times
    at = np.interp(np.log(np.maximum(times, steps[0])), np.log(steps), known)
    for chosen, face in (
        (times <= course.relaxation.exit_time, _BEFORE),
        (times > course.relaxation.exit_time, style.PAPER),
    ):
        axes.plot(
            times[chosen],
            at[chosen],
            linestyle="none",
            marker="D",
            markersize=5,
            color=_BEFORE,
            markerfacecolor=face,
            markeredgewidth=1.1,
            gid="directions",
            zorder=4,
        )
    _say_shares(axes, course.relaxation, steps, known)


def _say_shares(
    axes: Axes,
    relaxation: Relaxation,
    steps: Int[np.ndarray, " steps"],
    inside: Float[np.ndarray, " steps"],
) -> None:
    """How many leave before the direction of the exit relaxes, and which relax only later."""
    first = max(int(np.searchsorted(steps, relaxation.carrier_time, side="right")) - 1, 0)
    axes.annotate(
        f"{formats.percent(1 - inside[first])} have left",
        xy=(relaxation.carrier_time, 0.62),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=_BEFORE,
    )
    axes.annotate(
        f"{relaxation.unrelaxed} of {formats.count(relaxation.times.size, 'direction')}\n"
        "not relaxed yet",
        xy=(relaxation.exit_time, 0.75),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=style.INK,
    )


def _draw_times(axes: Axes, relaxation: Relaxation) -> None:
    axes.axvline(relaxation.carrier_time, color=_BEFORE, linewidth=1.1, zorder=1)
    axes.axvline(relaxation.exit_time, color=style.INK, linewidth=1.1, linestyle=":", zorder=1)
    axes.axvspan(
        relaxation.times.min(),
        relaxation.times.max(),
        ymin=0.965,
        ymax=1.0,
        color=_BEFORE,
        alpha=0.14,
        linewidth=0,
    )
    for time in relaxation.times:
        axes.axvline(time, ymin=0.965, ymax=1.0, color=_BEFORE, linewidth=0.8)


def _name_times(axes: Axes, relaxation: Relaxation) -> None:
    names = [
        (relaxation.carrier_time, "exit direction\nrelaxes: ", _BEFORE),
        (relaxation.exit_time, "mean exit:\n", style.INK),
        (float(relaxation.times.max()), "slowest\nrelaxes: ", _BEFORE),
    ]
    for time, name, color in names:
        axes.annotate(
            name + formats.number(float(f"{time:.3g}"), 2 if time < 100 else 3),
            xy=(time, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=color,
        )


def _handles(courses: Sequence[Course]) -> list[Line2D]:
    handles = []
    if any(course.exact_hazard is not None for course in courses):
        handles.append(Line2D([], [], label="exact, from the minimum", **_EXACT))
    if any(course.settled_survival is not None for course in courses):
        handles.append(Line2D([], [], label="exact, from the settled law", **_SETTLED))
    handles.append(Line2D([], [], label="predicted", **_LAW))
    if any(course.sample is not None for course in courses):
        handles.append(
            Line2D([], [], color=_AFTER, marker="o", markersize=4.5, label="measured, 95 %")
        )
    for face, label in ((_BEFORE, "relaxes before the mean exit"), (style.PAPER, "relaxes after")):
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker="D",
                markersize=5,
                color=_BEFORE,
                markerfacecolor=face,
                label=f"direction {label}",
            )
        )
    return handles
