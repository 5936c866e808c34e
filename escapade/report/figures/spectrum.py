"""The Hessian spectrum of the minimum beside the gradient noise."""

import numpy as np
from matplotlib.figure import Figure

from escapade.report import formats
from escapade.report.figures import style
from escapade.study.results import StudyResult

_MANY = 400  # directions beyond which lines replace markers, to keep the drawing small


@style.styled
def spectrum(study: StudyResult) -> Figure:
    """Hessian eigenvalues, noise variance along each eigenvector, and the best ``c lambda``."""
    minimum = study.minimum
    eigenvalues, noise = np.asarray(minimum.eigenvalues), np.asarray(minimum.noise_along)
    fitted = minimum.alignment.c * eigenvalues
    index = np.arange(1, eigenvalues.size + 1)
    look = (
        {"marker": "o", "markersize": 4, "linestyle": "none"}
        if eigenvalues.size <= _MANY
        else {"linewidth": 1.2}
    )

    figure = style.new_figure(5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    if eigenvalues.size > _MANY:
        style.log_axis(top.xaxis, 0.9, 1.1 * eigenvalues.size)
    else:
        sides = 0.03 * eigenvalues.size + 0.3
        top.set_xlim(1 - sides, eigenvalues.size + sides)
    style.log_axis(top.yaxis, *style.log_limits([*eigenvalues, *noise, *fitted], 1.6))
    top.set_ylabel("curvature, noise variance")
    top.tick_params(labelbottom=False)
    c = formats.number(minimum.alignment.c)
    hollow = {**look, "color": style.VERMILLION, "markerfacecolor": style.PAPER}
    top.plot(index, fitted, color=style.INK, linewidth=1, label=f"c λ, best c = {c}")
    top.plot(
        index, eigenvalues, color=style.BLUE, label="Hessian eigenvalue λ", gid="hessian", **look
    )
    top.plot(index, noise, label="gradient noise variance vᵀ C v", gid="noise", **hollow)

    positive = fitted > 0
    ratio = noise[positive] / fitted[positive]
    style.log_axis(bottom.yaxis, *style.log_limits([0.5, 2.0, *ratio], 1.2, least=1))
    bottom.set(ylabel="vᵀ C v / (c λ)", xlabel="Hessian eigenvector, sharpest first")
    bottom.axhline(1, color=style.INK, linewidth=1)
    bottom.plot(index[positive], ratio, gid="ratio", **hollow)
    figure.legend(loc="outside upper left", ncols=2)
    hidden = int(np.sum(eigenvalues <= 0))
    flat = f"Not drawn: {formats.count(hidden, 'eigenvalue')} at or below zero." if hidden else ""
    style.note(figure, [flat])
    return figure
