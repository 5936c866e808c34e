"""Prefactors of mean exit times: from the exponent to the number of steps."""

from escapade.steepness.prefactor.boundary import boundary_prefactor, surface_prefactor
from escapade.steepness.prefactor.equivalent import EquivalentDiffusion
from escapade.steepness.prefactor.result import Passage, Prefactor
from escapade.steepness.prefactor.saddle import saddle_prefactor

__all__ = [
    "EquivalentDiffusion",
    "Passage",
    "Prefactor",
    "boundary_prefactor",
    "saddle_prefactor",
    "surface_prefactor",
]
