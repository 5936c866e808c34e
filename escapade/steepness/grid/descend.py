"""Optimal paths, traced back through a solution on a grid.

All vectors are in grid coordinates (unit: one cell).
"""

import numpy as np
from jaxtyping import Float

from escapade.steepness.grid.characteristics import Problem, Work, flow
from escapade.steepness.grid.compiled import compiled
from escapade.steepness.grid.hermite import combine, fill_weights, locate

LONGEST = 200
"""Longest optimal path, in half cells, as a multiple of the nodes along an axis."""
HALT = 0.02
"""Speed, in cells by the drift's Jacobian, below which a path stands still."""


@compiled
def pull_back(
    state: Float[np.ndarray, " state"],
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    work: Work,
) -> bool:
    """Velocity ``-(b + C grad V)`` at a position, in `work.velocity`; false outside the grid."""
    dim = len(problem.shape)
    corner = locate(state, problem.shape, problem.strides, work.fraction)
    if corner < 0:
        return False
    fill_weights(work.fraction, problem.strides, work.weights)
    combine(work.fraction, work.weights, jets, corner, problem.strides, work.row)
    for k in range(dim):
        state[dim + k] = work.row[0, 1 + k]
    flow(problem, state, work.rates[0], work)
    return True


@compiled
def stacked(
    path: list[Float[np.ndarray, " dim"]],
) -> Float[np.ndarray, "points dim"]:
    """Points of a path in one array."""
    result = np.empty((len(path), len(path[0])))
    for point in range(len(path)):
        result[point] = path[point]
    return result


@compiled
def leave(
    now: Float[np.ndarray, " state"],
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    place: Float[np.ndarray, " state"],
) -> None:
    """Position of the node of least V within two cells."""
    dim = len(problem.shape)
    least = np.inf
    for neighbour in range(5**dim):
        node, inside, part = 0, True, neighbour
        for axis in range(dim):
            at = int(np.round(now[axis])) + part % 5 - 2
            inside &= 0 <= at < problem.shape[axis]
            node += at * problem.strides[axis]
            part //= 5
        if inside and jets[node, 0, 0] < least:
            least = jets[node, 0, 0]
            for axis in range(dim):
                place[axis] = node // problem.strides[axis] % problem.shape[axis]


@compiled
def descend(
    end: Float[np.ndarray, " dim"],
    source: Float[np.ndarray, "n dim"],
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    work: Work,
) -> Float[np.ndarray, "points dim"]:
    """Path from a point down the gradient of V, in steps of half a cell, to the nearest source.

    The midpoint rule along ``-(b + C grad V)``; ends in the source from half a cell away.
    """
    dim = len(problem.shape)
    path = [end.copy()]
    now, middle = np.zeros(len(work.state)), np.zeros(len(work.state))
    now[:dim] = end
    for _ in range(LONGEST * max(problem.shape)):
        best, nearest = np.inf, 0
        for s in range(len(source)):
            gap = 0.0
            for k in range(dim):
                gap += (now[k] - source[s, k]) ** 2
            if gap < best:
                best, nearest = gap, s
        if best < 0.25:
            path.append(source[nearest].copy())
            break
        for half in range(2):
            state = middle if half else now
            if not pull_back(state, problem, jets, work):
                return stacked(path)
            speed, still = 0.0, 0.0
            for k in range(dim):
                speed += work.velocity[k] ** 2
                for i in range(dim):
                    still += work.jacobian[k, i] ** 2
            speed, still = np.sqrt(speed), HALT * np.sqrt(still)
            if half == 0 and speed <= still:
                # At a saddle, whose cell has no direction to follow: on to the least V beside it.
                leave(now, problem, jets, middle)
                break
            length = 0.5 if half else 0.25
            for k in range(dim):
                middle[k] = now[k] - length * work.velocity[k] / speed
        now[:dim] = middle[:dim]
        path.append(now[:dim].copy())
    return stacked(path)
