"""The Hessian spectrum of the minimum beside the gradient noise."""

import numpy as np
from matplotlib.figure import Figure

from escapade.report import formats
from escapade.report.figures import style
from escapade.study.results import StudyResult

_LEAST = 1e-10  # of the largest value: smaller ones are rounding, or as good as zero
_FAINT = 1e-3  # of what c H would give
_MANY = 400  # directions beyond which the axis is logarithmic and some are left out


@style.styled
def spectrum(study: StudyResult) -> Figure:
    """Hessian eigenvalues, noise variance along each eigenvector, and the best ``c lambda``."""
    minimum = study.minimum
    dim = minimum.eigenvalues.size
    index = np.arange(dim)
    if dim > _MANY:
        index = np.unique(np.geomspace(1, dim, _MANY).round().astype(int)) - 1
    eigenvalues, noise = minimum.eigenvalues[index], minimum.noise_along[index]
    fitted = minimum.alignment.c * eigenvalues
    rank = index + 1
    filled = {"marker": "o", "markersize": 4, "linestyle": "none", "color": style.BLUE}
    hollow = {**filled, "color": style.VERMILLION, "markerfacecolor": style.PAPER}

    figure = style.new_figure(5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    if dim > _MANY:
        style.log_axis(top, "x", 0.9, 1.1 * dim)
    else:
        sides = 0.03 * dim + 0.3
        top.set_xlim(1 - sides, dim + sides)
    low, high = style.log_limits([*eigenvalues, *noise, *fitted], 1.6)
    low = max(low, _LEAST * high)
    style.log_axis(top, "y", low, high)
    top.set_ylabel("curvature, noise variance")
    top.tick_params(labelbottom=False)
    c = formats.number(minimum.alignment.c)
    top.plot(rank, fitted, color=style.INK, linewidth=1, label=f"c λ, best c = {c}")
    top.plot(rank, eigenvalues, label="Hessian eigenvalue λ", gid="hessian", **filled)
    top.plot(rank, noise, label="gradient noise variance vᵀ C v", gid="noise", **hollow)

    positive = fitted > 0
    ratio = noise[positive] / fitted[positive]
    small, large = style.log_limits([0.5, 2.0, *ratio], 1.2, least=1)
    style.log_axis(bottom, "y", max(small, _FAINT), min(large, 1 / _FAINT))
    bottom.set(ylabel="vᵀ C v / (c λ)", xlabel="Hessian eigenvector, sharpest first")
    bottom.axhline(1, color=style.INK, linewidth=1)
    bottom.plot(rank[positive], ratio, gid="ratio", **hollow)
    figure.legend(loc="outside upper left", ncols=2)
    hidden = int(np.sum(minimum.eigenvalues <= 0))
    flat = f"Not drawn: {formats.count(hidden, 'eigenvalue')} at or below zero." if hidden else ""
    some = f"Drawn: {index.size} of {dim:,} directions, evenly on this axis." if dim > _MANY else ""
    below = int(np.sum(noise < low)), int(np.sum(ratio < _FAINT))
    faint = (
        f"Below the panels: {below[0]} and {formats.count(below[1], 'direction')} with hardly any "
        "noise."
    )
    style.note(figure, [some, flat, faint if any(below) else ""])
    return figure
