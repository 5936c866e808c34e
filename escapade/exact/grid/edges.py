"""Where the edges of lattice nodes lead: to nodes, out of the region, or to a reflecting side."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from escapade.errors import Unsupported
from escapade.exact.grid.lattice import Lattice
from escapade.exact.grid.process import Process
from escapade.exact.grid.selling import selling

SHORTEST = 1e-7
"""Shortest part of an edge that is kept where it is cut."""

HALVINGS = 32
"""Bisections of an edge that leaves the region."""

NEGLIGIBLE = 1e-13
"""Part of the largest weight below which an offset is left out."""

ROUNDING = 1e-6
"""Spacings by which a boundary may lie beyond a side of the box and still be on it."""

LONGEST = 60
"""Longest offset, in spacings, that is still taken for local."""


class Edges(eqx.Module):
    """Where the edges of each node lead: columns are offsets, the second half the opposite ones.

    `target` is a node or -1; `arm` the part of the edge up to the boundary or to the image behind a
    reflecting side; `cut` and `reflected` say which of the two.
    """

    offsets: Int[np.ndarray, "nodes edges dim"]
    weights: Float[np.ndarray, "nodes edges"]
    target: Int[np.ndarray, "nodes edges"]
    arm: Float[np.ndarray, "nodes edges"]
    cut: Bool[np.ndarray, "nodes edges"]
    reflected: Bool[np.ndarray, "nodes edges"]


def edges_of(process: Process, lattice: Lattice, indices: np.ndarray, number: np.ndarray) -> Edges:
    """Edges of the nodes with the given lattice indices.

    `number` is the node at each point of the lattice, or -1.

    Raises:
        DegenerateNoise: when the noise has no part in some direction.
        Unsupported: when the noise is too anisotropic.
    """
    inverse = lattice.box.axes / lattice.spacing
    covariance = inverse.T @ process.covariance(lattice.points(indices)) @ inverse
    offsets, weights = selling((covariance + covariance.transpose(0, 2, 1)) / 2)
    weights = np.where(weights > NEGLIGIBLE * weights.max(axis=1, keepdims=True), weights, 0.0)
    longest = int(np.abs(offsets * (weights > 0)[:, :, None]).max())
    if longest > LONGEST:
        raise Unsupported(
            f"the noise is so anisotropic, askew of the axes, that its offsets reach {longest} "
            "spacings; rotate the parameters, or simulate"
        )
    offsets = np.where((weights > 0)[:, :, None], offsets, 0)
    shape = (len(indices), 2 * offsets.shape[1])
    offsets = np.broadcast_to(np.concatenate([offsets, -offsets], axis=1), (*shape, process.dim))
    weights = np.broadcast_to(np.concatenate([weights, weights], axis=1), shape)
    target = np.full(shape, -1)
    arm = np.ones(shape)
    cut = np.zeros(shape, dtype=bool)
    reflected = np.zeros(shape, dtype=bool)
    for column in range(shape[1]):
        step = offsets[:, column]
        used = weights[:, column] > 0
        flat = lattice.flat(indices + step)
        end = np.where(used & (flat >= 0), number[flat], -1)
        end = np.where(_straddles(process, lattice, indices, step, end >= 0), -1, end)
        target[:, column] = end
    missing = np.nonzero((weights > 0) & (target < 0))
    arm[missing], cut[missing] = _arms(process, lattice, indices[missing[0]], offsets[missing])
    reflected[missing] = ~cut[missing]
    return Edges(offsets, weights, target, arm, cut, reflected)


def _straddles(
    process: Process, lattice: Lattice, indices: np.ndarray, step: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """Whether a long edge between two nodes leaves the region on its way."""
    length = np.abs(step).max(axis=1)
    out = np.zeros(len(indices), dtype=bool)
    for part in range(1, int(length.max(initial=1))):
        long = np.flatnonzero(held & ~out & (length > part))
        between = indices[long] + step[long] * (part / length[long])[:, None]
        out[long] = ~process.inside(lattice.points(between))
    return out


def _arms(
    process: Process, lattice: Lattice, indices: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Length of the edges that leave the region or the box, and which ones leave the region."""
    if not len(indices):
        return np.ones(0), np.zeros(0, dtype=bool)
    low, high = np.zeros(len(indices)), _first_outside(process, lattice, indices, step)
    ends = np.isfinite(high)
    low = np.where(ends, high - 1 / np.abs(step).max(axis=1), 0.0)
    high = np.where(ends, high, 1.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        within = process.inside(lattice.points(indices + middle[:, None] * step))
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    crossing = lattice.points(indices + high[:, None] * step)
    cuts = ends & lattice.box.holds(crossing, ROUNDING * lattice.spacing)
    # The image of a node behind a side is twice as far as the side; askew edges are just dropped.
    places = lattice.points(indices) @ lattice.box.axes
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = step * lattice.spacing
        sides = np.where(jump > 0, lattice.box.high - places, lattice.box.low - places) / jump
        to_side = np.where(jump != 0, sides, np.inf).min(axis=1)
    straight = (step != 0).sum(axis=1) == 1
    images = np.where(straight, np.minimum(2 * to_side, 2.0), 1.0)
    return np.maximum(np.where(cuts, high, images), SHORTEST), cuts


def _first_outside(
    process: Process, lattice: Lattice, indices: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """First of the evenly spaced places on each edge that is outside the region, or infinity."""
    length = np.abs(step).max(axis=1)
    first = np.full(len(indices), np.inf)
    for part in range(1, int(length.max()) + 1):
        todo = np.flatnonzero(np.isinf(first) & (length >= part))
        fraction = part / length[todo]
        within = process.inside(lattice.points(indices[todo] + fraction[:, None] * step[todo]))
        first[todo[~within]] = fraction[~within]
    return first
