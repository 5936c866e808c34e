"""The quasipotential on a grid, in two and three dimensions."""

from escapade.steepness.grid.field import GridQuasipotential
from escapade.steepness.grid.solve import quasipotential, quasipotential_on_grid

__all__ = ["GridQuasipotential", "quasipotential", "quasipotential_on_grid"]
