"""The chapter page of a reproduction, for a reader who has read the abstract only."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from escapade.report import template
from escapade.report.reproduction import ledger, protocols
from escapade.reproduction import Reproduction
from escapade.reproduction.claims import CLAIMS

HEADINGS = {
    "published_sgd": "The public experiment, SGD",
    "published_sgld": "The public experiment, SGLD",
    "described": "The experiment of the text",
    "corrected_powers": "Which power of each variable the barrier follows",
    "corrected_agreement": "Measured against two laws, at every barrier",
    "corrected_network": "Real minibatch SGD on a real network",
}
"""Title of each figure."""

_SCANS = (
    "Mean exit time along the four scans, with 95 % intervals, on logarithmic axes; “power” is the "
    "log-log slope. Dotted: the exponential law that the titles of the published panels name, "
    "through the first point. "
)
CAPTIONS = {
    "published_sgd": _SCANS + "Crosses: the published result arrays.",
    "published_sgld": _SCANS + "Of SGLD only the powers of the arrays are compared.",
    "described": _SCANS + "Crosses: the uniform prediction for each point.",
    "corrected_powers": (
        "Each row is one contrast: everything held but one quantity. Measured power with its 95 % "
        "interval, the prediction of Freidlin and Wentzell's theory at this step size, and the "
        "powers of other laws: green where the interval allows them, red where it excludes them."
    ),
    "corrected_agreement": (
        "Above: over the prediction with prefactor and finite step size. Below: over the plain law "
        "exp((B/η) V₀)/η of the paper. Bars are 95 % intervals; deep exits are measured by "
        "splitting."
    ),
    "corrected_network": (
        "Exits of true minibatch SGD across the sharpest direction of a network on the Avila data. "
        "Lines: predicted, nothing fitted. Below: the coefficient of variation, 1 for an "
        "exponential law; points measured by splitting have none."
    ),
}
"""How to read each figure."""


@dataclass(frozen=True)
class Paper:
    """What the page says of the paper itself."""

    authors: str
    title: str
    identifier: str
    abstract: str


PAPERS = {
    "ibayashi-imaizumi-2022": Paper(
        "H. Ibayashi and M. Imaizumi",
        "Exponential escape efficiency of SGD from sharp minima in non-stationary regime",
        "arXiv:2111.04004",
        "The abstract says that SGD escapes from sharp minima exponentially fast, even before it "
        "reaches a stationary law, and that a theory of large deviations for SGD with Gaussian "
        "noise proves this for continuous and for discrete SGD. Its key notion is the steepness of "
        "a path: in version 1 the mean exit time is exponential in the batch size over the "
        "learning rate, times the least steepness of a path to the boundary. This page measures "
        "each of these statements.",
    )
}
"""The papers, by the names of `escapade.reproduction.PAPERS`."""


def render(found: Reproduction, figures: Mapping[str, Figure], command: str = "") -> str:
    """The page of a reproduction as HTML.

    Args:
        found: what its folder holds.
        figures: the figures by name, those of claims as ``claim-NUMBER``.
        command: the command that gives it again.
    """
    made = protocols.columns(found)
    claims = [ledger.claim_row(result) for result in found.claims]
    titles = {f"claim-{row.number}": row.statement for row in claims}
    captions = dict.fromkeys(titles, "")
    quick = found.quick
    return template.fill(
        "reproduction/page.html",
        paper=PAPERS[found.paper],
        quick=quick,
        fuller=f"The full one: escapade reproduce {found.paper}",
        headline=ledger.headline(found.claims, len(CLAIMS)),
        counts=[(str(verdict), count) for verdict, count in ledger.verdict_counts(found.claims)],
        lessons=[f"{column.title}: {column.aspects['What it shows']}." for column in made],
        claims=claims,
        meanings=[(str(verdict), meaning) for verdict, meaning in ledger.MEANINGS.items()],
        columns=made,
        aspects=protocols.side_by_side(made),
        exhibits=template.exhibits(
            figures,
            {**HEADINGS, **titles},
            {**CAPTIONS, **captions},
            "The tables have the numbers.",
            {},
        ),
        command=command or f"escapade reproduce {found.paper}{' --quick' if quick else ''}",
        provenance=template.flat(found.provenance),
    )
