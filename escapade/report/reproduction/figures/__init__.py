"""The figures of a reproduction: each a function of what was found, by its name."""

from matplotlib.figure import Figure

from escapade.report.reproduction.figures.corrected import (
    corrected_agreement,
    corrected_network,
    corrected_powers,
)
from escapade.report.reproduction.figures.described import described
from escapade.report.reproduction.figures.evidence import claim_figure
from escapade.report.reproduction.figures.published import published_sgd, published_sgld
from escapade.reproduction import Reproduction


def drawn(found: Reproduction) -> dict[str, Figure]:
    """The figures that there is something to show in, those of claims as ``claim-NUMBER``."""
    figures = {}
    if found.published is not None:
        figures["published_sgd"] = published_sgd(found.published)
        figures["published_sgld"] = published_sgld(found.published)
    if found.described is not None:
        figures["described"] = described(found.described)
    if found.corrected is not None:
        figures["corrected_powers"] = corrected_powers(found.corrected)
        figures["corrected_agreement"] = corrected_agreement(found.corrected)
        figures["corrected_network"] = corrected_network(found.corrected)
    for result in found.claims:
        if result.evidence.figures:
            figures[f"claim-{result.number}"] = claim_figure(result.evidence.figures)
    return figures
