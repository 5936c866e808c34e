"""Nested grids: coarse before fine, and close to a degenerate source before far from it."""

import numpy as np
from jaxtyping import Float

from escapade.errors import Unstable
from escapade.steepness.grid import levels
from escapade.steepness.grid.box import Box, Field
from escapade.steepness.grid.source import (
    CycleSource,
    PointSource,
    RoughSource,
    SolvedSource,
    Source,
)
from escapade.steepness.grid.tables import Matrix, constant_covariance, problem_on

ZOOM = 12
"""Width, in cells of the coarsest grid, of the box solved first around a degenerate source."""
ZOOMS = 3
"""How many such boxes are nested: V at the innermost is below any rounding of interest."""


def solve_around(field: Field, box: Box, start: Float[np.ndarray, "n dim"]) -> levels.Jets:
    """V and its gradient, in grid coordinates, at the nodes of a box around a source.

    Args:
        field: drift and noise.
        box: the grid.
        start: one attracting point, or points along a stable cycle.

    Raises:
        NotAMinimum: when the points do not lie on a stable cycle.
        DegenerateNoise: when the covariance is singular somewhere.
        Diverged: when the drift is NaN or infinite somewhere.
    """
    constant = constant_covariance(field, box)
    return _solve(field, box, constant, _source_at(field, box, constant, start))


def _solve(field: Field, box: Box, constant: Matrix | None, start: Source) -> levels.Jets:
    """From the coarsest level to the box's own."""
    coarsest, *finer = levels.shapes_of(box.shape)
    grid = box._replace(shape=coarsest)
    problem, seed = problem_on(field, grid, constant), start.seed(grid)
    jets = levels.first_order(problem, seed)
    # Twice: the first solution is a far better guess than the march.
    levels.high_order(problem, seed, jets, coarsest=True)
    levels.high_order(problem, seed, jets, coarsest=True)
    for shape in finer:
        jets = levels.refined(jets, grid.shape, shape)
        grid = box._replace(shape=shape)
        problem, seed = problem_on(field, grid, constant), start.seed(grid)
        levels.high_order(problem, seed, jets, coarsest=False)
    return jets


def _source_at(
    field: Field, box: Box, constant: Matrix | None, start: Float[np.ndarray, "n dim"]
) -> Source:
    """What is known around the source."""
    if len(start) > 1:
        return CycleSource(field, start)
    point = start[0]
    try:
        return PointSource(field, point)
    except Unstable:
        pass  # an eigenvalue is zero: solved on nested boxes instead
    dim = len(box.shape)
    width = ZOOM * box._replace(shape=levels.shapes_of(box.shape)[0]).spacing
    inner: Source = RoughSource(field, point)
    for zoom in reversed(range(ZOOMS)):
        half = 0.5 * width * (ZOOM / levels.COARSEST[dim]) ** zoom
        small = Box(point - half, point + half, (levels.COARSEST[dim],) * dim)
        jets = _solve(field, small, constant, inner)
        ceiling = 0.9 * levels.lowest_on_edge(jets, small.shape)
        inner = SolvedSource(small, jets, ceiling)
    return inner
