"""Steepness: the cost of leaving, and the path of least cost."""

from escapade.steepness.instanton import Instanton, minimum_steepness

__all__ = ["Instanton", "minimum_steepness"]
