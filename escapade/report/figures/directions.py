"""Along which Hessian eigenvectors the replicas left."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from escapade.report import formats
from escapade.report.figures import style
from escapade.report.reading import Reading, read_all
from escapade.study.results import StudyResult

_TOP = 5
_SHADES = ("#08306b", "#0a5a9c", "#2e86c1", "#7fb8dc", "#bcd7eb")
_LEGIBLE = 0.1  # share from which a number fits into its bar


@style.styled
def exit_directions(study: StudyResult) -> Figure:
    """Share of the squared exit displacement along the sharpest eigenvectors, a bar per cell.

    The lowest bar is a displacement in a random direction, for comparison.
    """
    readings = [
        reading for reading in read_all(study) if np.isfinite(reading.result.exit_shares).all()
    ]
    # Cells of one region and one dynamics together, otherwise in the order of the grid.
    readings.sort(key=lambda reading: (reading.cell.region, reading.cell.dynamics))
    dim = study.minimum.eigenvalues.size
    top = min(_TOP, dim)
    bars = [(_label(reading), np.asarray(reading.result.exit_shares)) for reading in readings]
    bars.append(("random direction", np.full(dim, 1 / dim)))

    pitch = float(np.clip(8 / len(bars), 0.17, 0.29))  # inches
    figure = style.new_figure(2.0 + pitch * len(bars))
    axes = figure.add_subplot()
    axes.set(
        xlim=(0, 1),
        ylim=(len(bars) - 0.4, -0.6),
        xlabel="share of the squared exit displacement",
        yticks=range(len(bars)),
        yticklabels=[label for label, _ in bars],
        xticks=np.linspace(0, 1, 6),
        xticklabels=[formats.percent(tick) for tick in np.linspace(0, 1, 6)],
    )
    axes.tick_params(axis="y", length=0, pad=15, labelsize=min(8.5, 36 * pitch))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    for row, reading in enumerate(readings):
        shape, color = style.marker(reading.cell.dynamics)
        axes.plot(
            [-0.02],
            [row],
            marker=shape,
            markersize=min(6, 25 * pitch),
            color=color,
            markerfacecolor=color if reading.activated else style.PAPER,
            clip_on=False,
        )
    for row, (_, shares) in enumerate(bars):
        rest = shares[top:].sum()
        left = 0.0
        for rank, share in enumerate([*shares[:top], rest]):
            shade = _SHADES[rank] if rank < top else style.RULE
            anchor = readings[row].anchor if row < len(readings) else "random"
            axes.barh(row, share, left=left, color=shade, height=0.72, gid=f"share{rank}-{anchor}")
            if share >= _LEGIBLE:
                color = style.INK if rank == top else "#fefefe" if rank < 3 else "#202020"
                axes.text(
                    left + share / 2,
                    row,
                    formats.percent(share),
                    ha="center",
                    va="center",
                    fontsize=min(8, 34 * pitch),
                    color=color,
                )
            left += share
    handles = [Patch(color=_SHADES[rank], label=f"v{'₁₂₃₄₅'[rank]}") for rank in range(top)]
    if dim > top:
        handles.append(Patch(color=style.RULE, label=f"the other {dim - top}"))
    figure.legend(handles=style.dynamics_handles(readings), loc="outside upper left", ncols=2)
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=6,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=0.9,
        borderaxespad=0.2,
    )
    lost = len(study.cells) - len(readings)
    style.note(figure, [style.not_drawn(lost, "without an exit")])
    return figure


def _label(reading: Reading) -> str:
    cell = reading.cell
    return f"{reading.region} {cell.size:.3g}, B {formats.parameter(cell.batch_size)}"
