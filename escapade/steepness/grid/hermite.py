"""Cubic Hermite interpolation on a regular grid, from values and gradients at its nodes.

The serendipity (Adini) element: multilinear interpolation plus, along each axis, the bubble by
which the cubic Hermite interpolant of an edge differs from a straight line. It needs no mixed
derivatives and reproduces every cubic polynomial: values to fourth order, gradients to third.

Derivatives are with respect to grid coordinates (unit: one cell), and index 0 of the last axis of
weights and results is the value, 1 + k the derivative along axis k.
"""

import numpy as np
from jaxtyping import Float

from escapade.steepness.grid.compiled import compiled, inlined


@inlined
def locate(
    position: Float[np.ndarray, " dim"],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    fraction: Float[np.ndarray, " dim"],
) -> int:
    """Lowest corner of the cell around a position in grid coordinates; -1 outside the grid.

    Writes the position within the cell to `fraction`.
    """
    corner = 0
    for axis in range(len(shape)):
        at = position[axis]
        # The tolerance lets a path that ends on the edge of the box arrive.
        if not (-1e-9 <= at <= shape[axis] - 1 + 1e-9):
            return -1
        cell = min(max(int(at), 0), shape[axis] - 2)
        fraction[axis] = at - cell
        corner += cell * strides[axis]
    return corner


@inlined
def bubble(
    s: float,
    rise: float,
    first: float,
    last: float,
) -> tuple[float, float]:
    """What the cubic Hermite interpolant of an edge adds to a straight line, and its slope."""
    t = 1 - s
    a, b = first - rise, last - rise
    return s * t * (a * t - b * s), a * t * (t - 2 * s) + b * s * (s - 2 * t)


@inlined
def fill_weights(
    fraction: Float[np.ndarray, " dim"],
    strides: tuple[int, ...],
    weights: Float[np.ndarray, "corners 1+dim 1+dim"],
) -> None:
    """Weights of each corner's value and derivatives, in the value and gradient at a position.

    `combine` does not need them in two dimensions.
    """
    dim = len(strides)
    if dim == 2:
        return
    for corner in range(2**dim):
        linear = 1.0
        for axis in range(dim):
            linear *= fraction[axis] if corner >> axis & 1 else 1 - fraction[axis]
        weights[corner, 0, 0] = linear
        for k in range(dim):
            weights[corner, 0, 1 + k] = 0.0
        for axis in range(dim):
            s = fraction[axis]
            t = 1 - s
            if corner >> axis & 1:
                slope, bubble, bubble_slope = 1.0, -s * t * (t - s), -((t - s) ** 2) + 2 * s * t
                tangent, tangent_slope = -s * s * t, s * (s - 2 * t)
            else:
                slope, bubble, bubble_slope = -1.0, s * t * (t - s), (t - s) ** 2 - 2 * s * t
                tangent, tangent_slope = s * t * t, t * (t - 2 * s)
            across = 1.0
            for other in range(dim):
                if other != axis:
                    across *= fraction[other] if corner >> other & 1 else 1 - fraction[other]
            weights[corner, 0, 0] += bubble * across
            weights[corner, 1 + axis, 0] = tangent * across
            weights[corner, 0, 1 + axis] += (slope + bubble_slope) * across
            weights[corner, 1 + axis, 1 + axis] = tangent_slope * across
            for k in range(dim):
                if k != axis:
                    change = 1.0 if corner >> k & 1 else -1.0
                    for other in range(dim):
                        if other != axis and other != k:
                            change *= (
                                fraction[other] if corner >> other & 1 else 1 - fraction[other]
                            )
                    weights[corner, 0, 1 + k] += bubble * change
                    weights[corner, 1 + axis, 1 + k] = tangent * change


@inlined
def combine(
    fraction: Float[np.ndarray, " dim"],
    weights: Float[np.ndarray, "corners 1+dim 1+dim"],
    jets: Float[np.ndarray, "nodes fields 1+dim"],
    corner: int,
    strides: tuple[int, ...],
    results: Float[np.ndarray, "fields 1+dim"],
) -> None:
    """Value and gradient of every field at a position in a cell.

    In two dimensions from the formula; in three from weights that serve every field.
    """
    dim = len(strides)
    if dim == 2:
        s, t = fraction[0], fraction[1]
        low, right, up = corner, corner + strides[0], corner + strides[1]
        far = right + strides[1]
        for field in range(len(results)):
            v00, v10 = jets[low, field, 0], jets[right, field, 0]
            v01, v11 = jets[up, field, 0], jets[far, field, 0]
            x0, x0s = bubble(s, v10 - v00, jets[low, field, 1], jets[right, field, 1])
            x1, x1s = bubble(s, v11 - v01, jets[up, field, 1], jets[far, field, 1])
            y0, y0t = bubble(t, v01 - v00, jets[low, field, 2], jets[up, field, 2])
            y1, y1t = bubble(t, v11 - v10, jets[right, field, 2], jets[far, field, 2])
            bottom, top = v00 + s * (v10 - v00) + x0, v01 + s * (v11 - v01) + x1
            results[field, 0] = bottom + t * (top - bottom) + y0 + s * (y1 - y0)
            below, above = v10 - v00 + x0s, v11 - v01 + x1s
            results[field, 1] = below + t * (above - below) + y1 - y0
            results[field, 2] = top - bottom + y0t + s * (y1t - y0t)
        return
    results[:] = 0.0
    for vertex in range(2**dim):
        node = corner
        for axis in range(dim):
            if vertex >> axis & 1:
                node += strides[axis]
        for field in range(len(results)):
            for dof in range(1 + dim):
                value = jets[node, field, dof]
                for k in range(1 + dim):
                    results[field, k] += weights[vertex, dof, k] * value


@compiled
def interpolate(
    positions: Float[np.ndarray, "points dim"],
    jets: Float[np.ndarray, "nodes fields 1+dim"],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    results: Float[np.ndarray, "points fields 1+dim"],
) -> None:
    """Values and gradients at many positions in grid coordinates; NaN outside the grid."""
    dim = len(shape)
    fraction = np.empty(dim)
    weights = np.empty((2**dim, 1 + dim, 1 + dim))
    for point in range(len(positions)):
        corner = locate(positions[point], shape, strides, fraction)
        if corner < 0:
            results[point] = np.nan
            continue
        fill_weights(fraction, strides, weights)
        combine(fraction, weights, jets, corner, strides, results[point])


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Distance in memory (row-major) between neighbours along each axis."""
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
