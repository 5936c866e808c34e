"""How far from Gaussian the noise of a minibatch is."""

import numpy as np
from matplotlib.figure import Figure

from escapade.inspection import Inspection
from escapade.report import formats
from escapade.report.figures import style


@style.styled
def noise_shape(found: Inspection) -> Figure:
    """Skewness and excess kurtosis along the sharpest directions, and who brings the noise."""
    shape = found.noise_shape
    rank = np.arange(1, len(shape.variance) + 1)
    figure = style.new_figure(5.2)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    top.axhline(0, color=style.INK, linewidth=1, label="Gaussian: 0")
    for values, label, marker, color in (
        (shape.skewness, "skewness", "o", style.BLUE),
        (shape.excess_kurtosis, "excess kurtosis", "s", style.VERMILLION),
    ):
        top.vlines(rank, 0, values, color=color, linewidth=1, alpha=0.6)
        top.plot(rank, values, marker, color=color, markersize=6, label=label, 
                 markerfacecolor=color if marker == "o" else style.PAPER)  # fmt: skip
    reach = max(1.0, np.nanmax(np.abs([shape.skewness, shape.excess_kurtosis])))
    top.set_yscale("symlog", linthresh=1.0)
    top.set_ylim(-1.6 * reach, 1.6 * reach)
    ticks = [10.0**k for k in range(int(np.log10(reach)) + 1)]
    ticks = [*(-tick for tick in reversed(ticks)), 0.0, *ticks]
    top.set_yticks(ticks, [f"{tick:g}".replace("-", formats.MINUS) for tick in ticks])
    top.minorticks_off()
    top.set_ylabel(f"noise of a minibatch of {found.batch_size}")
    bottom.bar(rank, 100 * shape.largest_share, color=style.SKY, width=0.6)
    bottom.axhline(100 / found.examples, color=style.INK, linewidth=1, linestyle=":",
                   label="if all examples were alike")  # fmt: skip
    bottom.set(
        xlabel="Hessian eigenvector, sharpest first", ylabel="% from one example",
        ylim=(0, max(5.0, 115 * shape.largest_share.max())), xlim=(0.4, len(rank) + 0.6),
    )  # fmt: skip
    bottom.set_xticks(rank)
    bottom.legend(loc="upper right")
    figure.legend(handles=top.get_legend_handles_labels()[0], loc="outside upper left", ncols=3)
    return figure
