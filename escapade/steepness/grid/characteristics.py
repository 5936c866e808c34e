"""Values of high order by following the optimal paths back.

The quasipotential solves ``H(x, grad V) = b.p + p.C p / 2 = 0``, and along the optimal paths

    x' = b + C p,   p' = -dH/dx,   V' = p.C p / 2,   p = grad V.

From each node the path is followed back, by Runge-Kutta steps, into a cell whose corners all hold
final values and gradients; there V is interpolated to fourth order (`hermite`), and the momentum
at the node is corrected by Newton's method until the path arrives with ``p = grad V``. Errors of
the path enter the value squared, since it minimises the action. This is a gradient-augmented
semi-Lagrangian scheme (Nave, Rosales and Seibold, J. Comput. Phys. 229, 2010) for a stationary
equation, of better than second order overall.

All vectors are in grid coordinates (unit: one cell).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from escapade.steepness.grid.compiled import compiled, inlined
from escapade.steepness.grid.hermite import combine, fill_weights, locate
from escapade.steepness.grid.march import Metric, arrive, at_ends, best_on_edge, inner

CELLS = 4.0
"""Longest Runge-Kutta step, in cells."""
TURN = 0.2
"""Longest Runge-Kutta step, in units of the time in which the drift's Jacobian acts."""
FINE = 129
"""Nodes along an axis from which such steps shrink as the root of the spacing: near the source
they are as many cells long on every grid, and their error, of second order, would be all that is
left."""
STEPS = 48
"""Runge-Kutta steps after which a path that has met no finished cell is given up."""
NEWTON = 5
MATCHED = 0.01
"""Relative change of the momentum below which Newton's method stops."""
ACCEPTED = 0.1
"""Relative change of the momentum up to which its result is kept: its square enters the value."""
NEGLIGIBLE = 0.01
"""Momentum, as a share of the drift, below which its relative change does not matter."""
CHEAP = 1.02
"""Straight segments are used where they cost no more than this multiple of the guess."""
LEAST, MOST = 0.5, 1.15
"""Multiples of the guess between which a path is believed; beyond, it is another branch's."""


class Problem(NamedTuple):
    """Everything about the equation on one grid.

    Attributes:
        jets: value and derivatives of the drift, and of the covariance's upper triangle where it
            varies, shape (nodes, fields, 1 + dim).
        covariance: the covariance where it is constant, shape (dim, dim).
        metrics: inverse covariance at each node, or once.
        shape: nodes along each axis.
        strides: their distances in memory.
    """

    jets: Float[np.ndarray, "nodes fields 1+dim"]
    covariance: Float[np.ndarray, "dim dim"]
    metrics: Metric
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Work(NamedTuple):
    """Scratch space of one sweep."""

    fraction: Float[np.ndarray, " dim"]
    weights: Float[np.ndarray, "corners 1+dim 1+dim"]
    row: Float[np.ndarray, "1 1+dim"]
    fields: Float[np.ndarray, "fields 1+dim"]
    velocity: Float[np.ndarray, " dim"]
    jacobian: Float[np.ndarray, "dim dim"]
    covariance: Float[np.ndarray, "dim dim"]
    state: Float[np.ndarray, " state"]
    stage: Float[np.ndarray, " state"]
    rates: tuple[Float[np.ndarray, " state"], ...]
    turned: Float[np.ndarray, "dim dim"]
    moved: Float[np.ndarray, "dim dim"]
    first: Float[np.ndarray, "2 dim"]
    second: Float[np.ndarray, "2 dim"]
    momentum: Float[np.ndarray, " dim"]
    arrival: Float[np.ndarray, " dim"]
    previous: Float[np.ndarray, " dim"]
    mismatch: Float[np.ndarray, " dim"]
    curvature: Float[np.ndarray, "dim dim"]
    lines: Float[np.ndarray, "2 dim"]
    drifts: Float[np.ndarray, "2 dim"]
    edge: Float[np.ndarray, "2 dim"]
    forms: Float[np.ndarray, "3 3"]
    system: Float[np.ndarray, "dim dim"]


def workspace(dim: int, fields: int) -> Work:
    """Scratch space for a dimension and number of fields."""
    state = 2 * dim + 1
    return Work(
        fraction=np.empty(dim),
        weights=np.empty((2**dim, 1 + dim, 1 + dim)),
        row=np.empty((1, 1 + dim)),
        fields=np.empty((fields, 1 + dim)),
        velocity=np.empty(dim),
        jacobian=np.empty((dim, dim)),
        covariance=np.empty((dim, dim)),
        state=np.empty(state),
        stage=np.empty(state),
        rates=tuple(np.empty(state) for _ in range(4)),
        turned=np.empty((dim, dim)),
        moved=np.empty((dim, dim)),
        first=np.empty((2, dim)),
        second=np.empty((2, dim)),
        momentum=np.empty(dim),
        arrival=np.empty(dim),
        previous=np.empty(dim),
        mismatch=np.empty(dim),
        curvature=np.empty((dim, dim)),
        system=np.empty((dim, dim)),
        lines=np.empty((2, dim)),
        drifts=np.empty((2, dim)),
        edge=np.empty((2, dim)),
        forms=np.empty((3, 3)),
    )


@inlined
def flow(
    problem: Problem,
    state: Float[np.ndarray, " state"],
    rate: Float[np.ndarray, " state"],
    work: Work,
) -> bool:
    """Time derivative of the state going back in time; whether it lies inside the grid.

    The state holds position, momentum, and the action from there to the node. Leaves the velocity
    and its derivatives, by position and by momentum, in `work`.
    """
    dim = len(problem.shape)
    constant, fields = problem.covariance, work.fields
    velocity, jacobian, covariance = work.velocity, work.jacobian, work.covariance
    corner = locate(state, problem.shape, problem.strides, work.fraction)
    if corner < 0:
        return False
    fill_weights(work.fraction, problem.strides, work.weights)
    combine(work.fraction, work.weights, problem.jets, corner, problem.strides, fields)
    for k in range(dim):
        velocity[k] = fields[k, 0]
        rate[dim + k] = 0.0
        for i in range(dim):
            jacobian[i, k] = fields[i, 1 + k]
            rate[dim + k] += fields[i, 1 + k] * state[dim + i]
    cost = 0.0
    if len(fields) == dim:
        for i in range(dim):
            for j in range(dim):
                covariance[i, j] = constant[i, j]
                pull = constant[i, j] * state[dim + j]
                velocity[i] += pull
                cost += 0.5 * state[dim + i] * pull
    else:
        field = dim
        for i in range(dim):
            for j in range(i, dim):
                p, q = state[dim + i], state[dim + j]
                entry = fields[field, 0]
                covariance[i, j] = entry
                covariance[j, i] = entry
                share = 0.5 if i == j else 1.0
                velocity[i] += entry * q
                if i != j:
                    velocity[j] += entry * p
                cost += share * entry * p * q
                for k in range(dim):
                    slope = fields[field, 1 + k]
                    jacobian[i, k] += slope * q
                    if i != j:
                        jacobian[j, k] += slope * p
                    rate[dim + k] += share * slope * p * q
                field += 1
    for i in range(dim):
        rate[i] = -velocity[i]
    rate[2 * dim] = cost
    return True


@inlined
def vary(step: float, work: Work) -> None:
    """Carry the derivatives by the node's momentum over a step, given the flow in its middle.

    To second order, and without the drift's second derivatives: Newton's method needs no better.
    """
    turned, moved, jacobian, covariance = work.turned, work.moved, work.jacobian, work.covariance
    first, second = work.first, work.second
    dim = len(jacobian)
    for j in range(dim):
        for k in range(dim):
            first[0, k], first[1, k] = 0.0, 0.0
            for i in range(dim):
                first[0, k] += jacobian[i, k] * turned[i, j]
                first[1, k] -= jacobian[k, i] * moved[i, j] + covariance[k, i] * turned[i, j]
        for k in range(dim):
            second[0, k], second[1, k] = 0.0, 0.0
            for i in range(dim):
                second[0, k] += jacobian[i, k] * first[0, i]
                second[1, k] -= jacobian[k, i] * first[1, i] + covariance[k, i] * first[0, i]
        for k in range(dim):
            turned[k, j] += step * (first[0, k] + 0.5 * step * second[0, k])
            moved[k, j] += step * (first[1, k] + 0.5 * step * second[1, k])


@inlined
def trace(
    node: int,
    problem: Problem,
    done: Bool[np.ndarray, " nodes"],
    usable: Bool[np.ndarray, " nodes"],
    work: Work,
) -> int:
    """Follow the path back from a node, with `work.momentum` there, into a usable cell.

    All corners of such a cell are usable, and one at least is done, lest guesses support each
    other.

    Leaves the end of the path in `work.state`, its derivatives by the momentum at the node in
    `work.turned` (momentum) and `work.moved` (position) and its place in `work.fraction`; returns
    the lowest corner of the cell, -1 when the path leaves the grid or meets no such cell.
    """
    dim = len(problem.shape)
    strides = problem.strides
    state, stage = work.state, work.stage
    first, second, third, fourth = work.rates
    for axis in range(dim):
        state[axis] = node // strides[axis] % problem.shape[axis]
        state[dim + axis] = work.momentum[axis]
        for k in range(dim):
            work.turned[axis, k] = 1.0 if k == axis else 0.0
            work.moved[axis, k] = 0.0
    state[2 * dim] = 0.0
    size = 2 * dim + 1
    turn = TURN * min(1.0, np.sqrt(FINE / max(problem.shape)))
    for _ in range(STEPS):
        if not flow(problem, state, first, work):
            return -1
        speed, turning = 0.0, 0.0
        for i in range(dim):
            speed += work.velocity[i] ** 2
            for k in range(dim):
                turning += work.jacobian[k, i] ** 2
        step = min(CELLS / np.sqrt(speed + 1e-300), turn / np.sqrt(turning + 1e-300))
        for i in range(size):
            stage[i] = state[i] + 0.5 * step * first[i]
        if not flow(problem, stage, second, work):
            return -1
        for i in range(size):
            stage[i] = state[i] + 0.5 * step * second[i]
        if not flow(problem, stage, third, work):
            return -1
        vary(step, work)
        for i in range(size):
            stage[i] = state[i] + step * third[i]
        if not flow(problem, stage, fourth, work):
            return -1
        for i in range(size):
            state[i] += step / 6 * (first[i] + 2 * (second[i] + third[i]) + fourth[i])
        corner = locate(state, problem.shape, strides, work.fraction)
        if corner < 0:
            return -1
        ready, rooted = True, False
        for vertex in range(2**dim):
            at = corner
            for axis in range(dim):
                if vertex >> axis & 1:
                    at += strides[axis]
            ready &= usable[at]
            rooted |= done[at]
        if ready and rooted:
            return corner
    return -1


@inlined
def project(
    node: int,
    problem: Problem,
    work: Work,
) -> bool:
    """Scale the velocity ``b + C p`` so that ``H(x, p) = 0``; false where there is no velocity."""
    dim = len(problem.shape)
    metric = problem.metrics[node if len(problem.metrics) > 1 else 0]
    varying = problem.jets.shape[1] > dim
    drift = problem.jets[node, :dim, 0]
    field = dim
    for i in range(dim):
        work.velocity[i] = drift[i]
    for i in range(dim):
        for j in range(i, dim):
            entry = problem.jets[node, field, 0] if varying else problem.covariance[i, j]
            field += 1
            work.velocity[i] += entry * work.momentum[j]
            if i != j:
                work.velocity[j] += entry * work.momentum[i]
    size = inner(metric, work.velocity, work.velocity)
    scale = np.sqrt(inner(metric, drift, drift) / (size + 1e-300))
    if not 0 < scale < 1e100:
        return False
    for i in range(dim):
        work.arrival[i] = scale * work.velocity[i]
        work.velocity[i] = work.arrival[i] - drift[i]
    for i in range(dim):
        work.momentum[i] = 0.0
        for j in range(dim):
            work.momentum[i] += metric[i, j] * work.velocity[j]
    return True


@inlined
def solve_small(
    matrix: Float[np.ndarray, "dim dim"],
    vector: Float[np.ndarray, " dim"],
) -> None:
    """Solve a small linear system in place (Gauss, with pivoting)."""
    n = len(vector)
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(matrix[i, k]) > abs(matrix[pivot, k]):
                pivot = i
        if pivot != k:
            for j in range(n):
                matrix[k, j], matrix[pivot, j] = matrix[pivot, j], matrix[k, j]
            vector[k], vector[pivot] = vector[pivot], vector[k]
        for i in range(k + 1, n):
            factor = matrix[i, k] / matrix[k, k]
            for j in range(k + 1, n):
                matrix[i, j] -= factor * matrix[k, j]
            vector[i] -= factor * vector[k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            vector[k] -= matrix[k, j] * vector[j]
        vector[k] /= matrix[k, k]


@inlined
def curvature(
    corner: int,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    strides: tuple[int, ...],
    work: Work,
) -> None:
    """Second derivatives of V in a cell, from its corners' gradients: to first order only."""
    dim = len(strides)
    for k in range(dim):
        for j in range(dim):
            total = 0.0
            for vertex in range(2**dim):
                node, across = corner, 1.0
                for axis in range(dim):
                    upper = vertex >> axis & 1
                    node += strides[axis] * upper
                    if axis != j:
                        s = work.fraction[axis]
                        across *= s if upper else 1 - s
                total += (across if vertex >> j & 1 else -across) * jets[node, 0, 1 + k]
            work.curvature[k, j] = total


@inlined
def relax(
    node: int,
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    done: Bool[np.ndarray, " nodes"],
    usable: Bool[np.ndarray, " nodes"],
    work: Work,
) -> tuple[float, float]:
    """Value at a node by the path that starts from the guess in `work.momentum`.

    Improves that momentum by Newton's method. Returns the value and the relative size of the last
    change of the momentum, both infinite without a path.
    """
    dim = len(problem.shape)
    state, turned, moved = work.state, work.turned, work.moved
    system, mismatch, stage = work.system, work.mismatch, work.stage
    value, change = np.inf, np.inf
    metric = problem.metrics[node if len(problem.metrics) > 1 else 0]
    drift = problem.jets[node, :dim, 0]
    speed = inner(metric, drift, drift)
    if not project(node, problem, work):
        return value, change
    for _ in range(NEWTON):
        corner = trace(node, problem, done, usable, work)
        if corner < 0:
            return np.inf, np.inf
        fill_weights(work.fraction, problem.strides, work.weights)
        combine(work.fraction, work.weights, jets, corner, problem.strides, work.row)
        curvature(corner, jets, problem.strides, work)
        value = work.row[0, 0] + state[2 * dim]
        for k in range(dim):
            mismatch[k] = work.row[0, 1 + k] - state[dim + k]
            for j in range(dim):
                total = turned[k, j]
                for i in range(dim):
                    total -= work.curvature[k, i] * moved[i, j]
                system[k, j] = total
        for k in range(dim):
            stage[k] = mismatch[k]
        solve_small(system, mismatch)
        correction = 0.0
        for k in range(dim):
            for j in range(dim):
                slope = stage[k] * moved[k, j]
                correction += 0.5 * slope * mismatch[j]
        for k in range(dim):
            work.previous[k] = work.arrival[k]
            work.momentum[k] += mismatch[k]
        if not project(node, problem, work):
            return np.inf, np.inf
        for k in range(dim):
            work.previous[k] -= work.arrival[k]
        # work.velocity holds C p, so these are the sizes of the change of C p, of C p and of b.
        size = inner(metric, work.velocity, work.velocity)
        change = inner(metric, work.previous, work.previous)
        change = np.sqrt(change / (size + NEGLIGIBLE**2 * speed))
        if change <= MATCHED:
            # To the value at the corrected momentum: the derivative falls from Y^T m to zero.
            if abs(correction) <= change * state[2 * dim]:
                value += correction
            break
    return value, change


@compiled
def straight(
    node: int,
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    done: Bool[np.ndarray, " nodes"],
    offsets: Int[np.ndarray, "offsets dim"],
    work: Work,
) -> float:
    """Value at a node by straight segments from finished nodes and edges near it.

    For the few nodes without a usable path: where the velocity vanishes, and where the path leaves
    the box. Leaves the momentum in `work.momentum`.
    """
    dim = len(problem.shape)
    best = np.inf
    metric = problem.metrics[node if len(problem.metrics) > 1 else 0]
    for o in range(len(offsets)):
        start, inside = node, True
        for axis in range(dim):
            at = node // problem.strides[axis] % problem.shape[axis] - offsets[o, axis]
            inside &= 0 <= at < problem.shape[axis]
            start -= offsets[o, axis] * problem.strides[axis]
        if not inside or not done[start]:
            continue
        for i in range(dim):
            work.lines[0, i] = offsets[o, i]
            work.drifts[0, i] = 0.5 * (problem.jets[start, i, 0] + problem.jets[node, i, 0])
        line, drift = work.lines[0], work.drifts[0]
        product = inner(metric, line, line) * inner(metric, drift, drift)
        value = jets[start, 0, 0] + np.sqrt(product) - inner(metric, line, drift)
        last = problem.jets[node, :dim, 0]
        value = max(value, jets[start, 0, 0] + at_ends(line, drift, last, metric))
        if value >= best:
            continue
        best = value
        arrive(line, problem.jets[node, :dim, 0], metric, work.momentum)
        for axis in range(dim):
            for side in (-1, 1):
                at = start // problem.strides[axis] % problem.shape[axis] + side
                mate = start + side * problem.strides[axis]
                if not 0 <= at < problem.shape[axis] or not done[mate]:
                    continue
                for i in range(dim):
                    work.lines[1, i] = offsets[o, i]
                    work.drifts[1, i] = 0.5 * (problem.jets[mate, i, 0] + problem.jets[node, i, 0])
                work.lines[1, axis] -= side
                rise = jets[mate, 0, 0] - jets[start, 0, 0]
                change, s = best_on_edge(
                    rise, work.lines, work.drifts, metric, work.edge, work.forms
                )
                if jets[start, 0, 0] + change >= best:
                    continue
                for i in range(dim):
                    work.edge[0, i] = (1 - s) * work.lines[0, i] + s * work.lines[1, i]
                    work.edge[1, i] = (1 - s) * work.drifts[0, i] + s * work.drifts[1, i]
                change = max(change, s * rise + at_ends(work.edge[0], work.edge[1], last, metric))
                if jets[start, 0, 0] + change < best:
                    best = jets[start, 0, 0] + change
                    arrive(work.edge[0], problem.jets[node, :dim, 0], metric, work.momentum)
    return best


@compiled
def sweep(
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    done: Bool[np.ndarray, " nodes"],
    usable: Bool[np.ndarray, " nodes"],
    order: Int[np.ndarray, " ordered"],
    search: bool,
    work: Work,
) -> int:
    """Finish, in place, every open node of `order` whose path leads into a usable cell.

    Args:
        problem: the equation.
        jets: V and its gradient at the nodes; on entry, guesses where not done.
        done: which nodes are final; updated.
        usable: which nodes a path may end between; updated.
        order: nodes by increasing V.
        search: whether to try the gradients at finished neighbours, where a node's own fails.
        work: scratch space.

    Returns:
        Number of nodes finished.
    """
    dim = len(problem.shape)
    finished = 0
    best = np.empty(dim)
    for node in order:
        if done[node]:
            continue
        for k in range(dim):
            work.momentum[k] = jets[node, 0, 1 + k]
        value, change = relax(node, problem, jets, done, usable, work)
        low, high = LEAST * jets[node, 0, 0], MOST * jets[node, 0, 0] + 1e-12
        good = change <= ACCEPTED and low <= value <= high
        for k in range(dim):
            best[k] = work.momentum[k]
        if search and not good:
            for neighbour in range(3**dim):
                mate, inside, part = node, True, neighbour
                for axis in range(dim):
                    at = node // problem.strides[axis] % problem.shape[axis] + part % 3 - 1
                    inside &= 0 <= at < problem.shape[axis]
                    mate += (part % 3 - 1) * problem.strides[axis]
                    part //= 3
                if not inside or not done[mate]:
                    continue
                for k in range(dim):
                    work.momentum[k] = jets[mate, 0, 1 + k]
                other, change = relax(node, problem, jets, done, usable, work)
                if change > ACCEPTED or not low <= other <= high:
                    continue
                if not good or other < value:
                    good, value = True, other
                    for k in range(dim):
                        best[k] = work.momentum[k]
        if good:
            jets[node, 0, 0] = value
            for k in range(dim):
                jets[node, 0, 1 + k] = best[k]
            done[node] = usable[node] = True
            finished += 1
    return finished


@compiled
def extrapolate(
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    done: Bool[np.ndarray, " nodes"],
    usable: Bool[np.ndarray, " nodes"],
    order: Int[np.ndarray, " ordered"],
    every: bool,
) -> None:
    """Guess open nodes from pairs of finished nodes beside them, and make these guesses usable.

    One pair is enough, unless there must be one on `every` side that lies in the box (but for
    stationary points of the drift). The gradient is extrapolated linearly and integrated by the
    trapezoidal rule.
    """
    shape, strides = problem.shape, problem.strides
    dim = len(shape)
    total = np.empty(1 + dim)
    for node in order:
        if done[node]:
            continue
        total[:] = 0.0
        count, existing = 0, 0
        still, moving = 0.0, 0.0
        for axis in range(dim):
            at = node // strides[axis] % shape[axis]
            for side in (-1, 1):
                near, far = node + side * strides[axis], node + 2 * side * strides[axis]
                if not 0 <= at + 2 * side < shape[axis]:
                    continue
                existing += 1
                if not done[near] or not done[far]:
                    continue
                count += 1
                for k in range(dim):
                    still = max(still, abs(problem.jets[node, k, 0]))
                    moving = max(moving, abs(problem.jets[near, k, 0]))
                    total[1 + k] += 2 * jets[near, 0, 1 + k] - jets[far, 0, 1 + k]
                slope = 1.5 * jets[near, 0, 1 + axis] - 0.5 * jets[far, 0, 1 + axis]
                total[0] += jets[near, 0, 0] - side * slope
        if count > 0 and (count == existing or not every or still < 1e-6 * moving):
            usable[node] = True
            for k in range(1 + dim):
                jets[node, 0, k] = total[k] / count


@compiled
def step_straight(
    problem: Problem,
    jets: Float[np.ndarray, "nodes 1 1+dim"],
    guess: Float[np.ndarray, "nodes 1 1+dim"],
    done: Bool[np.ndarray, " nodes"],
    order: Int[np.ndarray, " ordered"],
    offsets: Int[np.ndarray, "offsets dim"],
    work: Work,
) -> int:
    """Finish nodes of `order` by straight segments where that is about as cheap as the guess.

    For the few nodes that no path from finished cells reaches, as just beyond a saddle.
    """
    finished = 0
    for node in order:
        value = straight(node, problem, jets, done, offsets, work)
        if value <= CHEAP * guess[node, 0, 0]:
            jets[node, 0, 0] = value
            for k in range(len(problem.shape)):
                jets[node, 0, 1 + k] = work.momentum[k]
            done[node] = True
            finished += 1
    return finished
