"""The page of an inspection: one HTML file that needs nothing but itself."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from escapade.inspection import Inspection
from escapade.report import template
from escapade.report.formats import typeset
from escapade.report.inspection import words

HEADINGS = {
    "escape_map": "How long SGD stays, by learning rate and batch size",
    "spectrum": "Curvature, and the noise along it",
    "noise_shape": "How far from Gaussian the noise is",
    "layers": "Which parameters move at an exit",
}
"""Title of each figure."""

CAPTIONS = {
    "escape_map": (
        "Expected steps until SGD leaves the region named above the figure, all else as measured "
        "here; 10⁶ stands for the order of magnitude, ∞ for no exit at all. Hatching is the "
        "mechanism, thick lines part mechanisms; right of and below the coloured lines SGD is "
        "stable. Steps and mechanisms of the map are those of the quadratic approximation, in the "
        "ring too; the exits listed above include the true force and noise away from the point, "
        "and the assumptions are checked for them alone."
    ),
    "spectrum": (
        "Above: number of directions at each curvature, each seen through a bell, so that a single "
        "eigenvalue has the height 1; the band is two standard errors, absent where all "
        "eigenvalues are known. Ticks are the top eigenvalues, each found to its bound. Below: "
        "noise variance of one example along each of them, over all examples; if the noise "
        "covariance were c times the Hessian, they would lie on the line."
    ),
    "noise_shape": (
        "Above: skewness and excess kurtosis of the noise of one minibatch along each of the "
        "sharpest directions, both 0 if it were Gaussian; they fall with the batch size B as 1/√B "
        "and 1/B. Below: the part of the variance that one example alone brings."
    ),
    "layers": (
        "How the most likely exit from each region divides among the parameter arrays, beside the "
        "sharpest and the noisiest direction. A random direction would follow the grey bars."
    ),
}
"""How to read each figure."""


def render(found: Inspection, figures: Mapping[str, Figure], command: str = "") -> str:
    """The page of an inspection as HTML.

    Args:
        found: what the inspection found.
        figures: the figures by name.
        command: the command that gives it again, if there is one.
    """
    headline, trust = words.headline(found)
    hint = "The tables have the numbers."
    point = str(found.stationarity)
    return template.fill(
        "inspection/page.html",
        found=found,
        headline=headline,
        trust=trust,
        reliable=words.is_reliable(found),
        tiles=words.tiles(found),
        exits=[words.exit_row(outlook) for outlook in found.outlooks],
        changes=words.changes(found),
        mechanisms=words.mechanisms(found),
        point=typeset(f"{point[:1].upper()}{point[1:]}."),
        estimates=words.estimates(found),
        directions=words.directions(found),
        noisiest=words.noisiest(found),
        limits=words.limits(found),
        concentration=words.concentration(found),
        exhibits=template.exhibits(figures, HEADINGS, CAPTIONS, hint, {}),
        command=command,
        provenance=words.provenance(found),
    )
