"""From a first-order solution on a coarse grid to high order on the fine one.

Each level starts from the interpolated solution of a grid half as fine, which gives the order in
which its nodes are finished and the directions in which their paths are looked for.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from escapade.steepness.grid.characteristics import (
    Problem,
    extrapolate,
    step_straight,
    sweep,
    workspace,
)
from escapade.steepness.grid.hermite import interpolate, strides_of
from escapade.steepness.grid.march import ball_offsets, march

COARSEST = {2: 65, 3: 25}
"""Nodes per axis of the coarsest grid, about."""
RADIUS = {2: 8, 3: 4}
"""Length in cells of the segments of the first-order march."""
SHORT = {2: 3, 3: 2}
"""Length in cells of the segments of last resort."""
MARGIN = 1.05
"""Finer grids improve values up to this multiple of the least on the edge of the box."""
PASSES = 60
"""Most rounds of extrapolation into nodes that no path has finished."""

Jets = Float[np.ndarray, "nodes 1 1+dim"]


class Seed(NamedTuple):
    """Known values: which nodes hold them, their V and its gradient in grid coordinates."""

    known: Bool[np.ndarray, " nodes"]
    jets: Jets


def shapes_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of all levels, coarsest first: halved until every axis is short."""
    levels = [tuple(shape)]
    while max(levels[0]) > 1.5 * COARSEST[len(shape)]:
        levels.insert(0, tuple(min(n, max((n + 1) // 2, 9)) for n in levels[0]))
    return levels


def first_order(problem: Problem, seed: Seed) -> Jets:
    """Solution by the ordered march."""
    dim = len(problem.shape)
    values = np.where(seed.known, seed.jets[:, 0, 0], np.inf)
    momenta = seed.jets[:, 0, 1:].copy()
    drift = np.ascontiguousarray(problem.jets[:, :dim, 0])
    offsets = ball_offsets(dim, RADIUS[dim])
    march(
        values, momenta, seed.known, drift, problem.metrics, problem.shape, problem.strides, offsets
    )
    return np.concatenate([values[:, None], momenta], axis=1)[:, None, :]


def refined(jets: Jets, old: tuple[int, ...], new: tuple[int, ...]) -> Jets:
    """Solution interpolated to another grid of the same box."""
    ratio = (np.array(new) - 1) / (np.array(old) - 1)
    axes = [np.arange(n) / q for n, q in zip(new, ratio, strict=True)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(new))
    result = np.empty((len(positions), 1, 1 + len(new)))
    interpolate(positions, jets, old, strides_of(old), result)
    result[:, :, 1:] /= ratio
    return result


def high_order(problem: Problem, seed: Seed, jets: Jets, *, coarsest: bool) -> None:
    """Finish every node by its optimal path, in place; `jets` holds guesses."""
    dim = len(problem.shape)
    work = workspace(dim, problem.jets.shape[1])
    offsets = ball_offsets(dim, SHORT[dim])
    jets[seed.known] = seed.jets[seed.known]
    guess = jets.copy()
    ceiling = MARGIN * lowest_on_edge(jets, problem.shape)
    done = seed.known.copy()
    order = np.argsort(jets[:, 0, 0])
    active = order
    if not coarsest:
        active = order[: np.searchsorted(jets[order, 0, 0], ceiling, side="right")]
    sweep(problem, jets, done, done, active, coarsest, work)
    opened = order[~done[order]]
    extend = False
    for _ in range(PASSES):
        usable = done.copy()
        extrapolate(problem, jets, done, usable, opened, False)
        front = opened[usable[opened]]
        front = front[jets[front, 0, 0] <= ceiling]
        front = front[np.argsort(jets[front, 0, 0])]
        finished = 0 if extend else sweep(problem, jets, done, done, front, False, work)
        # Once finished cells alone no longer do, paths may end between extrapolated ones too.
        extend |= finished <= 0.1 * len(front)
        if extend:
            finished += sweep(problem, jets, done, usable, front, False, work)
        if finished == 0:
            finished = step_straight(problem, jets, guess, done, front, offsets, work)
        if finished == 0:
            break
        opened = opened[~done[opened]]
    opened = opened[~done[opened]]
    # Where the velocity vanishes, at saddles and other attractors, there is no path to follow, but
    # there are finished nodes on every side. Other nodes keep their guess, but on the coarsest
    # grid where the march is better repeated from what is known by now.
    jets[opened] = guess[opened]
    extrapolate(problem, jets, done, done, opened, True)
    if coarsest:
        jets[:] = first_order(problem, Seed(done, jets))


def lowest_on_edge(jets: Jets, shape: tuple[int, ...]) -> float:
    """Least value on the edge of the box."""
    values = jets[:, 0, 0].reshape(shape)
    faces = [np.take(values, side, axis) for axis in range(len(shape)) for side in (0, -1)]
    return float(min(np.nanmin(face) for face in faces))
