"""First-order solution by ordered marching: where the optimal paths come from, in which order.

An ordered line integral method (Dahiya and Cameron, J. Sci. Comput. 75, 2018, with the larger of
the midpoint and the trapezoidal rule): nodes are accepted in the order of their value, as in
Dijkstra's algorithm; each offers straight segments, from itself and from its edges with accepted
neighbours, to every node within a few cells. Long segments are needed where the drift is nearly
along the level sets.

All vectors are in grid coordinates (unit: one cell).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from escapade.steepness.grid.compiled import compiled, inlined

Metric = Float[np.ndarray, "nodes dim dim"] | Float[np.ndarray, "1 dim dim"]


@inlined
def push_up(
    heap: Int[np.ndarray, " nodes"],
    place: Int[np.ndarray, " nodes"],
    values: Float[np.ndarray, " nodes"],
    node: int,
    size: int,
) -> int:
    """Restore the order of the heap (smallest value on top) after a value has fallen."""
    at = place[node]
    if at < 0:
        at = size
        size += 1
    while at > 0:
        parent = heap[(at - 1) // 2]
        if values[parent] <= values[node]:
            break
        heap[at] = parent
        place[parent] = at
        at = (at - 1) // 2
    heap[at] = node
    place[node] = at
    return size


@inlined
def pop(
    heap: Int[np.ndarray, " nodes"],
    place: Int[np.ndarray, " nodes"],
    values: Float[np.ndarray, " nodes"],
    size: int,
) -> int:
    """Take the smallest node off a heap of `size` nodes."""
    top = heap[0]
    last = heap[size - 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size - 1:
            break
        if child + 1 < size - 1 and values[heap[child + 1]] < values[heap[child]]:
            child += 1
        if values[heap[child]] >= values[last]:
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = last
    place[last] = at
    place[top] = -2
    return top


@inlined
def inner(
    metric: Float[np.ndarray, "dim dim"],
    u: Float[np.ndarray, " dim"],
    v: Float[np.ndarray, " dim"],
) -> float:
    """``u^T M v``."""
    total = 0.0
    for i in range(len(u)):
        for j in range(len(v)):
            total += u[i] * metric[i, j] * v[j]
    return total


@inlined
def quadratics(
    first: Float[np.ndarray, " dim"],
    second: Float[np.ndarray, " dim"],
    first_change: Float[np.ndarray, " dim"],
    second_change: Float[np.ndarray, " dim"],
    metric: Float[np.ndarray, "dim dim"],
    coefficients: Float[np.ndarray, " 3"],
) -> None:
    """Coefficients in s of ``(u + s du)^T M (w + s dw)``."""
    coefficients[0] = inner(metric, first, second)
    coefficients[1] = inner(metric, first, second_change) + inner(metric, first_change, second)
    coefficients[2] = inner(metric, first_change, second_change)


@inlined
def along_edge(
    s: float,
    rise: float,
    forms: Float[np.ndarray, "3 3"],
) -> tuple[float, float]:
    """Change of the value from a segment's start moving along an edge, and its slope in s."""
    length = forms[0, 0] + s * (forms[0, 1] + s * forms[0, 2])
    speed = forms[1, 0] + s * (forms[1, 1] + s * forms[1, 2])
    root = np.sqrt(length * speed) + 1e-300
    longer = forms[0, 1] + 2 * s * forms[0, 2]
    faster = forms[1, 1] + 2 * s * forms[1, 2]
    value = s * rise + root - forms[2, 0] - s * (forms[2, 1] + s * forms[2, 2])
    slope = rise + 0.5 * (longer * speed + length * faster) / root
    return value, slope - forms[2, 1] - 2 * s * forms[2, 2]


@inlined
def best_on_edge(
    rise: float,
    lines: Float[np.ndarray, "2 dim"],
    drifts: Float[np.ndarray, "2 dim"],
    metric: Float[np.ndarray, "dim dim"],
    work: Float[np.ndarray, "2 dim"],
    forms: Float[np.ndarray, "3 3"],
) -> tuple[float, float]:
    """Least value, above that at the edge's first end, of a segment that starts within an edge.

    `lines` and `drifts` hold the segments from both ends and the drift at their middles. Returns
    infinity when the best start is an end of the edge.
    """
    for k in range(lines.shape[1]):
        work[0, k] = lines[1, k] - lines[0, k]
        work[1, k] = drifts[1, k] - drifts[0, k]
    quadratics(lines[0], lines[0], work[0], work[0], metric, forms[0])
    quadratics(drifts[0], drifts[0], work[1], work[1], metric, forms[1])
    quadratics(lines[0], drifts[0], work[0], work[1], metric, forms[2])
    low, high = 0.0, 1.0
    below, above = along_edge(low, rise, forms)[1], along_edge(high, rise, forms)[1]
    if not (below < 0 < above):
        return np.inf, 0.0
    value, s = np.inf, 0.5
    # Illinois: regula falsi, with the slope at an end that stays twice halved.
    for _ in range(12):
        s = (low * above - high * below) / (above - below)
        value, slope = along_edge(s, rise, forms)
        if slope > 0:
            high, above, below = s, slope, 0.5 * below
        else:
            low, below, above = s, slope, 0.5 * above
        if high - low < 1e-4 or slope == 0:
            break
    return value, s


@inlined
def at_ends(
    line: Float[np.ndarray, " dim"],
    mean: Float[np.ndarray, " dim"],
    last: Float[np.ndarray, " dim"],
    metric: Float[np.ndarray, "dim dim"],
) -> float:
    """Action of a straight segment by the trapezoidal rule, from its mean and its last drift.

    The midpoint rule alone would take a segment across a saddle to be free.
    """
    length, first_speed, last_speed, along = 0.0, 0.0, 0.0, 0.0
    for i in range(len(line)):
        for j in range(len(line)):
            weight = metric[i, j]
            length += weight * line[i] * line[j]
            along += weight * line[i] * mean[j]
            first_speed += weight * (2 * mean[i] - last[i]) * (2 * mean[j] - last[j])
            last_speed += weight * last[i] * last[j]
    return 0.5 * np.sqrt(length) * (np.sqrt(first_speed) + np.sqrt(last_speed)) - along


@inlined
def arrive(
    line: Float[np.ndarray, " dim"],
    drift: Float[np.ndarray, " dim"],
    metric: Float[np.ndarray, "dim dim"],
    momentum: Float[np.ndarray, " dim"],
) -> None:
    """Momentum ``C^-1 (v - b)`` at the end of a path that arrives along a direction."""
    scale = np.sqrt(inner(metric, drift, drift) / inner(metric, line, line))
    for i in range(len(momentum)):
        momentum[i] = 0.0
        for j in range(len(momentum)):
            momentum[i] += metric[i, j] * (scale * line[j] - drift[j])


@compiled
def march(
    values: Float[np.ndarray, " nodes"],
    momenta: Float[np.ndarray, "nodes dim"],
    fixed: Bool[np.ndarray, " nodes"],
    drift: Float[np.ndarray, "nodes dim"],
    metrics: Metric,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offsets: Int[np.ndarray, "offsets dim"],
) -> None:
    """Fill values and momenta, in place, outwards from the fixed nodes (others: infinity)."""
    dim = len(shape)
    nodes = len(values)
    heap = np.empty(nodes, np.int64)
    place = np.full(nodes, -1)
    size = 0
    for node in range(nodes):
        if fixed[node]:
            size = push_up(heap, place, values, node, size)
    flat = np.zeros(len(offsets), np.int64)
    for o in range(len(offsets)):
        for axis in range(dim):
            flat[o] += offsets[o, axis] * strides[axis]
    varying = 1 if len(metrics) > 1 else 0
    at = np.empty(dim, np.int64)
    lines, drifts, work = np.empty((2, dim)), np.empty((2, dim)), np.empty((2, dim))
    forms, metric = np.empty((3, 3)), np.empty((dim, dim))
    mates = np.empty(2 * dim, np.int64)
    mate_steps = np.empty((2 * dim, dim))
    while size > 0:
        node = pop(heap, place, values, size)
        size -= 1
        for axis in range(dim):
            at[axis] = node // strides[axis] % shape[axis]
        count = 0
        for axis in range(dim):
            for side in (-1, 1):
                mate = node + side * strides[axis]
                if 0 <= at[axis] + side < shape[axis] and place[mate] == -2:
                    mates[count] = mate
                    mate_steps[count] = 0.0
                    mate_steps[count, axis] = side
                    count += 1
        for o in range(len(offsets)):
            inside = True
            for axis in range(dim):
                inside &= 0 <= at[axis] + offsets[o, axis] < shape[axis]
            if not inside:
                continue
            target = node + flat[o]
            if fixed[target] or place[target] == -2:
                continue
            for i in range(dim):
                lines[0, i] = offsets[o, i]
                drifts[0, i] = 0.5 * (drift[node, i] + drift[target, i])
                for j in range(dim):
                    metric[i, j] = 0.5 * (
                        metrics[varying * node, i, j] + metrics[varying * target, i, j]
                    )
            product = inner(metric, lines[0], lines[0]) * inner(metric, drifts[0], drifts[0])
            value = values[node] + np.sqrt(product) - inner(metric, lines[0], drifts[0])
            if value < values[target]:
                ends = at_ends(lines[0], drifts[0], drift[target], metric)
                value = max(value, values[node] + ends)
            if value < values[target]:
                values[target] = value
                arrive(lines[0], drift[target], metric, momenta[target])
                for m in range(count):
                    for i in range(dim):
                        lines[1, i] = lines[0, i] - mate_steps[m, i]
                        drifts[1, i] = 0.5 * (drift[mates[m], i] + drift[target, i])
                    rise = values[mates[m]] - values[node]
                    change, s = best_on_edge(rise, lines, drifts, metric, work, forms)
                    if values[node] + change >= values[target]:
                        continue
                    for i in range(dim):
                        work[0, i] = (1 - s) * lines[0, i] + s * lines[1, i]
                        work[1, i] = (1 - s) * drifts[0, i] + s * drifts[1, i]
                    ends = s * rise + at_ends(work[0], work[1], drift[target], metric)
                    if values[node] + max(change, ends) < values[target]:
                        values[target] = values[node] + max(change, ends)
                        arrive(work[0], drift[target], metric, momenta[target])
                size = push_up(heap, place, values, target, size)


def ball_offsets(dim: int, radius: int) -> Int[np.ndarray, "offsets dim"]:
    """Every nonzero grid vector no longer than a radius."""
    axes = np.indices((2 * radius + 1,) * dim).reshape(dim, -1).T - radius
    square = (axes**2).sum(axis=1)
    return axes[(square > 0) & (square <= radius**2)]
