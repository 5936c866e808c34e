"""A killed diffusion as a jump process on a lattice, to second order in the spacing.

Rates along the offsets of Selling's decomposition, with the exponential fitting of Scharfetter and
Gummel (IEEE Transactions on Electron Devices 16, 1969) along each edge: all rates are non-negative,
and a drift that is minus a gradient under constant noise has its exact barriers at any spacing.
Edges that leave the region are cut where they meet its boundary (Shortley and Weller, Journal of
Applied Physics 9, 1938); a side of the box beyond which the region goes on reflects, to second
order where the noise has no correlation across the side, to first order where it has.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from escapade.exact.grid.edges import Edges, edges_of
from escapade.exact.grid.lattice import Lattice
from escapade.exact.grid.process import Process

Triplets = tuple[np.ndarray, np.ndarray, np.ndarray]


class Generator(eqx.Module):
    """Jump rates per SGD step between lattice nodes, and out of the region.

    Attributes:
        lattice: where the nodes lie.
        indices: index of each node in the lattice.
        nodes: position of each node.
        rates: rates from each node (row) to the others; nothing on the diagonal.
        exit_nodes: node of each way out.
        exit_rates: rate of each way out.
        exit_points: where each way out meets the boundary.
        open_sides: for each node, whether the region goes on beyond the box on the (low, high)
            side of each axis.
        reach: how far the rates reach along each axis, in spacings.
    """

    lattice: Lattice
    indices: Int[np.ndarray, "nodes dim"]
    nodes: Float[np.ndarray, "nodes dim"]
    rates: csr_array
    exit_nodes: Int[np.ndarray, " exits"]
    exit_rates: Float[np.ndarray, " exits"]
    exit_points: Float[np.ndarray, "exits dim"]
    open_sides: Bool[np.ndarray, "nodes dim 2"]
    reach: Int[np.ndarray, " dim"]

    @property
    def leaving(self) -> Float[np.ndarray, " nodes"]:
        """Rate out of the region from each node."""
        return np.bincount(self.exit_nodes, self.exit_rates, len(self.nodes))

    @property
    def total(self) -> Float[np.ndarray, " nodes"]:
        """Rate of any jump from each node."""
        return np.asarray(self.rates.sum(axis=1)).ravel() + self.leaving

    def nearest(self, point: Float[np.ndarray, " dim"]) -> int:
        """The node nearest to a point, in spacings."""
        return int(np.argmin(((self.indices - self.lattice.nearest(point)) ** 2).sum(axis=1)))


def generator(process: Process, lattice: Lattice) -> Generator:
    """The generator on the nodes that the start can reach.

    Raises:
        DegenerateNoise: when the noise has no part in some direction.
        Unsupported: when drift or noise is not finite, or the noise too anisotropic.
    """
    every = lattice.indices
    inside = process.inside(lattice.points(every))
    indices = every[inside]
    number = np.full(len(every), -1)
    number[inside] = np.arange(len(indices))
    edges = edges_of(process, lattice, indices, number)
    inner = _inner_rates(process, lattice, indices, edges)
    end, exits = _end_rates(process, lattice, indices, edges)
    rows, columns, rates = (np.concatenate(pair) for pair in zip(inner, end, strict=True))
    size = len(indices)
    matrix = coo_array((rates, (rows, columns)), shape=(size, size)).tocsr()
    open_sides = np.zeros((size, lattice.start.size, 2), dtype=bool)
    for axis in range(lattice.start.size):
        steps = edges.offsets[:, :, axis]
        open_sides[:, axis, 0] = (edges.reflected & (steps < 0)).any(axis=1)
        open_sides[:, axis, 1] = (edges.reflected & (steps > 0)).any(axis=1)
    reach = np.maximum(np.abs(edges.offsets).reshape(-1, lattice.start.size).max(axis=0), 1)
    whole = Generator(lattice, indices, lattice.points(indices), matrix, *exits, open_sides, reach)
    return _reachable(whole)


def _reachable(whole: Generator) -> Generator:
    _, labels = connected_components(whole.rates, directed=True, connection="weak")
    kept = labels == labels[whole.nearest(whole.lattice.start)]
    if kept.all():
        return whole
    renumbered = np.cumsum(kept) - 1
    ways = kept[whole.exit_nodes]
    return Generator(
        whole.lattice,
        whole.indices[kept],
        whole.nodes[kept],
        whole.rates[kept][:, kept],
        renumbered[whole.exit_nodes[ways]],
        whole.exit_rates[ways],
        whole.exit_points[ways],
        whole.open_sides[kept],
        whole.reach,
    )


def _inner_rates(process: Process, lattice: Lattice, indices: np.ndarray, edges: Edges) -> Triplets:
    """Rates along whole edges, with the mean weight of their two nodes, in divergence form."""
    ending = (edges.cut | edges.reflected).any(axis=1)
    slopes = process.slope(lattice.points(indices), divergence_form=True)
    columns = edges.target.shape[1]
    # Under constant noise the opposite edges say the same.
    used = columns // 2 if process.constant else columns
    share = 0.5 if process.constant else 0.25
    parts: list[Triplets] = []
    for column in range(used):
        whole = np.flatnonzero(edges.target[:, column] >= 0)
        step, end = edges.offsets[whole, column], edges.target[whole, column]
        between = process.slope(lattice.points(indices[whole] + step / 2), divergence_form=True)
        slope = (slopes[whole] + 4 * between + slopes[end]) / 6
        rise = (lattice.displacements(step) * slope).sum(axis=1)
        weight = share * edges.weights[whole, column]
        for source, aim, sign in ((whole, end, -1), (end, whole, 1)):
            kept = ~ending[source]
            rate = weight * bernoulli(sign * rise)
            parts.append((source[kept], aim[kept], rate[kept]))
    return _joined(parts)


def _end_rates(
    process: Process, lattice: Lattice, indices: np.ndarray, edges: Edges
) -> tuple[Triplets, Triplets]:
    """Rates of the nodes whose edges do not all lead to nodes: to others, and out to points.

    They use their own weights and the form of the drift that is not a divergence, having no
    neighbours to average with.
    """
    ending = np.flatnonzero((edges.cut | edges.reflected).any(axis=1))
    here = indices[ending]
    slopes = process.slope(lattice.points(here), divergence_form=False)
    half = edges.target.shape[1] // 2
    arms = edges.arm[ending]
    factor = 2 / (arms[:, :half] + arms[:, half:])
    inner: list[Triplets] = []
    exits: list[Triplets] = []
    for column in range(2 * half):
        at = np.flatnonzero(edges.weights[ending, column] > 0)
        at = at[~edges.reflected[ending[at], column]]
        jump = arms[at, column, None] * edges.offsets[ending[at], column]
        middle, end = (
            process.slope(lattice.points(here[at] + part * jump), divergence_form=False)
            for part in (0.5, 1.0)
        )
        slope = (slopes[at] + 4 * middle + end) / 6
        rise = (lattice.displacements(jump) * slope).sum(axis=1)
        weight = 0.5 * edges.weights[ending[at], column] * factor[at, column % half]
        rate = weight / arms[at, column] * bernoulli(-rise)
        out = edges.cut[ending[at], column]
        source, target = ending[at], edges.target[ending[at], column]
        inner.append((source[~out], target[~out], rate[~out]))
        exits.append((source[out], rate[out], lattice.points(here[at] + jump)[out]))
    return _joined(inner), _joined(exits)


def _joined(parts: list[Triplets]) -> Triplets:
    first, second, third = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return first, second, third


def bernoulli(z: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """``z / (exp(z) - 1)``, one at zero."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(np.abs(z) < 1e-10, 1 - z / 2, z / np.expm1(z))
