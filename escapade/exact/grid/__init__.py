"""Exact exits of diffusions in two and three dimensions, on lattices."""

from escapade.exact.grid.solve import solve_grid

__all__ = ["solve_grid"]
