"""The experiments that can tell the laws apart: one quantity at a time, over a decade."""

from escapade.reproduction.corrected.contrasts import CONTRASTS, Contrast
from escapade.reproduction.corrected.fits import Estimate, Fit, fit
from escapade.reproduction.corrected.result import CorrectedResult, Point
from escapade.reproduction.corrected.run import load_corrected, run_corrected

__all__ = [
    "CONTRASTS",
    "Contrast",
    "CorrectedResult",
    "Estimate",
    "Fit",
    "Point",
    "fit",
    "load_corrected",
    "run_corrected",
]
