"""A training run as a sequence of stays and escapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from escapade.errors import InvalidArgument
from escapade.report import formats
from escapade.report.figures import style
from escapade.training import Monitor, Record, Stay, read_records, stays

_SEEN: dict[str, Any] = {"color": style.BLUE, "marker": "o", "markersize": 2.5, "linewidth": 1.1}
_LIMIT: dict[str, Any] = {"color": style.VERMILLION, "linewidth": 1.4, "linestyle": (0, (5, 2))}
_STAYED: dict[str, Any] = {"color": style.INK, "marker": "|", "markersize": 6, "linewidth": 2.2}
_SHADE = 0.55  # of the rule's colour, behind every other stay
_FAR = 8.0  # decades above the longest stay beyond which a prediction is an arrow
_JUMPY = 20.0  # ratio of losses from which their axis is logarithmic


def training(source: Monitor | str | Path) -> Figure:
    """Loss, sharpness and its limit of stability, stays, and accumulated steepness over the steps.

    Every other stay is shaded. A stay is drawn over the steps it lasted, at the height of its
    length; the mark above or below is the length predicted where it began, in the colour of its
    mechanism.

    Args:
        source: a monitor, or the CSV file or folder it wrote.

    Raises:
        InvalidArgument: when there is no record yet.
        DataError: when the file is none of a monitor.
    """
    records = source.records if isinstance(source, Monitor) else read_records(source)
    seen = [record for record in records if not record.error]
    if not seen:
        raise InvalidArgument("the monitor has no records yet; train for some steps first")
    found = stays(records)
    with mpl.rc_context(style.SETTINGS):
        figure = style.new_figure(9.2)
        panels = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1, 1.25, 1))
        last = max(seen[-1].step, seen[0].step + 1)
        panels[-1].set_xlim(seen[0].step - 0.01 * last, 1.01 * last)
        for axes in panels:
            for stay in found[1::2]:
                axes.axvspan(
                    stay.first_step, stay.last_step, color=style.RULE, alpha=_SHADE, linewidth=0
                )
        _draw_loss(panels[0], seen)
        _draw_sharpness(panels[1], seen)
        _draw_stays(panels[2], found)
        _draw_steepness(panels[3], seen)
        panels[-1].set_xlabel("SGD steps")
        failed = len(records) - len(seen)
        rows = (len(found) > 1 and "Shaded: every other stay.", _failures(failed), _remark(seen))
        style.note(figure, [row for row in rows if row])
        return figure


def _failures(amount: int) -> str:
    return f"Not drawn: {formats.count(amount, 'record')} that failed." if amount else ""


def _remark(records: Sequence[Record]) -> str:
    notes = [record.note for record in records if "not given" in record.note]
    return f"{notes[-1][0].upper()}{notes[-1][1:]}." if notes else ""


def _column(records: Sequence[Record], name: str) -> Float[np.ndarray, " records"]:
    return np.array([getattr(record, name) for record in records], np.float64)


def _draw_loss(axes: Axes, records: Sequence[Record]) -> None:
    steps, loss = _column(records, "step"), _column(records, "loss")
    if loss.min() > 0 and loss.max() > _JUMPY * loss.min():
        style.log_axis(axes, "y", *style.log_limits(loss))
    axes.plot(steps, loss, gid="loss", **_SEEN)
    axes.set(ylabel="loss", title="loss over the examples watched")


def _draw_sharpness(axes: Axes, records: Sequence[Record]) -> None:
    steps, sharpness = _column(records, "step"), _column(records, "sharpness")
    limit = sharpness * _column(records, "linear_margin")
    error = _column(records, "sharpness_error")
    axes.fill_between(
        steps, sharpness - error, sharpness + error, color=style.SKY, alpha=0.35, linewidth=0
    )
    axes.plot(steps, sharpness, gid="sharpness", **_SEEN)
    top = float(np.nanmax(sharpness + np.nan_to_num(error)))
    handles = [Line2D([], [], label="sharpness ± standard error", **_SEEN)]
    known = limit[np.isfinite(limit)]
    if known.size and known.min() < 4 * top:
        axes.plot(steps, limit, gid="limit", **_LIMIT)
        top = max(top, float(min(known.max(), 4 * top)))
        handles.append(Line2D([], [], label="limit of stability, 2 / η", **_LIMIT))
    axes.set_ylim(min(0.0, float(np.nanmin(sharpness))), 1.12 * top if top > 0 else None)
    _legend(axes, "sharpness", handles)
    axes.set_ylabel("curvature")


def _draw_stays(axes: Axes, found: Sequence[Stay]) -> None:
    lengths = [max(stay.steps, 1) for stay in found]
    reach = max(lengths) * 10.0**_FAR
    shown = [stay.predicted for stay in found if 0 < stay.predicted <= reach]
    style.log_axis(axes, "y", *style.log_limits([*lengths, *shown], 2.5))
    top = axes.get_ylim()[1]
    for stay, length in zip(found, lengths, strict=True):
        color = style.MECHANISMS.get(stay.mechanism, style.MUTED)
        middle = stay.first_step + stay.steps / 2
        ends = [stay.first_step, stay.last_step]
        axes.plot(ends, [length] * 2, **_STAYED)
        if not stay.escaped:
            axes.plot(stay.last_step, length, color=style.INK, marker=5, markersize=6)
        predicted = stay.predicted
        if np.isnan(predicted):
            continue
        beyond = not predicted <= reach
        at = top / 1.25 if beyond else max(predicted, 1)
        axes.plot([middle] * 2, [length, at], color=color, linewidth=0.9, alpha=0.7)
        axes.plot(middle, at, color=color, marker="^" if beyond else "D", markersize=5)
    names = [name for name in style.MECHANISMS if any(stay.mechanism == name for stay in found)]
    handles: list[Any] = [Line2D([], [], label="stayed", **_STAYED)]
    handles += [
        Line2D(
            [],
            [],
            linestyle="none",
            marker="D",
            markersize=5,
            color=style.MECHANISMS[name],
            label=name,
        )
        for name in names
    ]
    _legend(axes, f"{formats.count(len(found), 'stay')}, and predictions by mechanism", handles)
    axes.set_ylabel("steps (log scale)")


def _draw_steepness(axes: Axes, records: Sequence[Record]) -> None:
    steps = _column(records, "step")
    spent, expected = _column(records, "steepness"), _column(records, "expected_steepness")
    if np.isnan(spent).all():
        style.say_empty(axes, "steepness is given for plain SGD only")
        axes.set_title("accumulated steepness")
        return
    # Noise spends 1/2 with variance 1/2 per direction and interval: variance equals expectation.
    spread = 2 * np.sqrt(expected)
    axes.fill_between(
        steps, expected - spread, expected + spread, color=style.GREEN, alpha=0.25, linewidth=0
    )
    axes.plot(steps, spent, gid="steepness", **_SEEN)
    _legend(
        axes,
        "accumulated steepness",
        [
            Line2D([], [], label="of the run", **_SEEN),
            Patch(color=style.GREEN, alpha=0.25, label="of noise alone, ± 2 standard deviations"),
        ],
    )
    axes.set_ylabel("(B / η) S")


def _legend(axes: Axes, title: str, handles: Sequence[Any]) -> None:
    """A title, and below it the legend in one line."""
    axes.set_title(title, pad=20)
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 0.98),
        ncols=len(handles),
        borderaxespad=0,
        fontsize=8.5,
        handletextpad=0.5,
    )
