"""Steepness: the cost of leaving, and the path of least cost."""

from escapade.steepness.action.steepness import steepness
from escapade.steepness.action.trace import SteepnessTrace, trace_steepness
from escapade.steepness.grid import GridQuasipotential, quasipotential
from escapade.steepness.instanton import Instanton, minimum_steepness

__all__ = [
    "GridQuasipotential",
    "Instanton",
    "SteepnessTrace",
    "minimum_steepness",
    "quasipotential",
    "steepness",
    "trace_steepness",
]
