"""Which parameters move at an exit."""

import numpy as np
from matplotlib.figure import Figure

from escapade.inspection import Inspection
from escapade.report.figures import style

_MOST = 14  # parameter arrays shown


@style.styled
def layers(found: Inspection) -> Figure:
    """Share of the exit direction in each parameter array, beside that of its size."""
    shares = {
        f"exit from the {outlook.region}": found.layers(outlook.direction)
        for outlook in found.outlooks
        if outlook.direction is not None
    }
    shares["sharpest direction"] = found.layers(found.curvature.vectors[:, 0])
    if found.noise is not None:
        shares["noisiest direction"] = found.layers(found.noise.vectors[:, 0])
    table = np.array([[share[name] for name in found.parameters] for share in shares.values()])
    size = np.array([*found.layers(np.ones(found.dim)).values()])
    names = [name.rpartition(" (")[0] for name in found.parameters]
    kept = np.sort(np.argsort(-table.max(axis=0), kind="stable")[:_MOST])
    rows = np.arange(len(kept))

    figure = style.new_figure(1.9 + 0.42 * len(kept))
    axes = figure.subplots()
    axes.barh(rows, 100 * size[kept], height=0.72, color=style.RULE, zorder=1,
              label="its share of the parameters")  # fmt: skip
    looks = [("o", style.BLUE), ("s", style.GREEN), ("^", style.ORANGE), ("v", style.SKY)]
    looks = [looks[k % len(looks)] for k in range(len(shares))]
    # Beside each other where they would coincide.
    offsets = np.linspace(-0.26, 0.26, len(shares))
    for label, share, look, offset in zip(shares, table, looks, offsets, strict=True):
        marker, color = look
        if not label.startswith("exit"):
            marker, color = ("D", style.VERMILLION) if "sharpest" in label else ("X", style.PURPLE)
        filled = color if label.startswith("exit") else style.PAPER
        axes.plot(100 * share[kept], rows + offset, marker, color=color, markersize=5.5,
                  label=label, markerfacecolor=filled, linestyle="none", zorder=3)  # fmt: skip
    axes.set_yticks(rows, [names[k] for k in kept])
    axes.set(xlim=(-2, 102), ylim=(len(kept) - 0.4, -0.6), xlabel="% of the squared displacement")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=2)
    left = len(names) - len(kept)
    rest = 100 * (1 - table[:, kept].sum(axis=1)).max(initial=0)
    more = f"Not drawn: {left} more arrays, which hold at most {rest:.2g} % together."
    style.note(figure, [more if left else ""])
    return figure
