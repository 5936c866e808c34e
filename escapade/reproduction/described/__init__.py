"""The exit experiment of Ibayashi and Imaizumi (version 1) as its text describes it."""

from escapade.reproduction.described.openings import OPENINGS, Opening
from escapade.reproduction.described.results import (
    DescribedMinimum,
    DescribedPoint,
    DescribedResult,
    DescribedScan,
)
from escapade.reproduction.described.run import load_described, run_described

__all__ = [
    "OPENINGS",
    "DescribedMinimum",
    "DescribedPoint",
    "DescribedResult",
    "DescribedScan",
    "Opening",
    "load_described",
    "run_described",
]
