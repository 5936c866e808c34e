"""Theories of escape: formulas with their assumptions, and the mechanism that applies."""

from escapade.theory._base import Silent, Theory
from escapade.theory.catalogue import THEORIES
from escapade.theory.compare import Comparison, compare
from escapade.theory.diagnose import diagnose
from escapade.theory.predict import predict
from escapade.theory.prediction import Diagnosis, Groups, Prediction
from escapade.theory.relaxation import Relaxation, hazard_ratio, relaxation

__all__ = [
    "THEORIES",
    "Comparison",
    "Diagnosis",
    "Groups",
    "Prediction",
    "Relaxation",
    "Silent",
    "Theory",
    "compare",
    "diagnose",
    "hazard_ratio",
    "predict",
    "relaxation",
]
