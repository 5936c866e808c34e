"""Steepness: the cost of leaving, and the path of least cost."""

from escapade.steepness.action import steepness
from escapade.steepness.grid import GridQuasipotential, quasipotential
from escapade.steepness.instanton import Instanton, minimum_steepness
from escapade.steepness.trace import SteepnessTrace, trace_steepness

__all__ = [
    "GridQuasipotential",
    "Instanton",
    "SteepnessTrace",
    "minimum_steepness",
    "quasipotential",
    "steepness",
    "trace_steepness",
]
