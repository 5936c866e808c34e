"""Theories of escape: formulas with their assumptions, and the mechanism that applies."""

from escapade.theory.diagnose import diagnose
from escapade.theory.predict import predict
from escapade.theory.prediction import Diagnosis, Groups, Prediction
from escapade.theory.relaxation import Relaxation, hazard_ratio, relaxation

__all__ = [
    "Diagnosis",
    "Groups",
    "Prediction",
    "Relaxation",
    "diagnose",
    "hazard_ratio",
    "predict",
    "relaxation",
]
