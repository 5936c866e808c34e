"""The experiment published with Ibayashi and Imaizumi (arXiv:2111.04004), as its code runs."""

from escapade.reproduction.published.experiment import BASE, Experiment, scan, variations
from escapade.reproduction.published.results import (
    Point,
    PublishedResult,
    Reparametrisation,
    Scan,
    Slope,
    VariedPoint,
)
from escapade.reproduction.published.run import (
    check_reparametrisation,
    load_published,
    measure,
    run_published,
)

__all__ = [
    "BASE",
    "Experiment",
    "Point",
    "PublishedResult",
    "Reparametrisation",
    "Scan",
    "Slope",
    "VariedPoint",
    "check_reparametrisation",
    "load_published",
    "measure",
    "run_published",
    "scan",
    "variations",
]
