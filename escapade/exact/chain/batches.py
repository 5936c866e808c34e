"""Exit of minibatch SGD in one or two dimensions, every batch enumerated.

``u(x) = 1 + sum_j p_j u(x - eta g_j(x))`` over the batches j, on a uniform grid with (bi)linear
interpolation: a killed chain on the nodes again, whose weights are positive. The mean exit time
jumps where a batch begins to carry x out, and interpolation adds a little noise of its own, so it
converges slowly, with the spacing at worst; grids are halved while they stay small, and the error
is the last difference. A walk that stays on grid points is solved exactly; one that does not, and
lands exactly on the boundary again and again, is not resolved.
"""

import itertools
import math

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import csr_array, vstack

from escapade.dynamics import GaussianSGD, MinibatchSGD
from escapade.errors import Unsupported
from escapade.escape import Escape
from escapade.exact.chain.interval import cut
from escapade.exact.chain.sparse import SparseChainLaw, sparse_chain_law
from escapade.exact.chunks import in_chunks, inside
from escapade.exact.line.process import line_of
from escapade.landscape import AbstractEmpirical
from escapade.noise import Empirical as EmpiricalNoise
from escapade.region.boundary import distance_to_boundary

MOST_BATCHES = 20_000

CELLS = {1: 1024, 2: 64}
"""Cells of the coarsest grid along each axis, by dimension."""

MOST_CELLS = {1: 2**15, 2: 2**9}

MOST_WORK = 5e8
"""Transitions times steps of the next grid, at most."""

MOST_TRANSITIONS = 5e6

MOST_ERROR = 0.2
"""Relative difference of the last two grids above which no number is returned."""

ROUNDING = 1e-12
"""Relative distance from the minimum within which a landing at the boundary is outside."""

LANDINGS = 2**16
"""Landing points held at a time."""

RAYS = 512
"""Rays that find the box around a plane region."""


def solve_batches(escape: Escape, start: Float[np.ndarray, " dim"]) -> tuple[SparseChainLaw, float]:
    """The law of the exit of minibatch SGD, and the relative error of its mean.

    Raises:
        Unsupported: in more than two dimensions, for shuffled epochs, with too many different
            batches, when a plane region has no end, when the chain relaxes too slowly or never
            leaves, or when the grids differ too much.
    """
    landscape, dynamics = escape.landscape, escape.dynamics
    assert isinstance(dynamics, MinibatchSGD)
    assert isinstance(landscape, AbstractEmpirical)
    if landscape.dim > 2:
        raise Unsupported(
            f"the chain of minibatches is solved in one or two dimensions, not in {landscape.dim}; "
            "simulate or split it"
        )
    batches = _batches(dynamics, landscape.examples)
    low, high = _box(escape, start)
    cells = CELLS[landscape.dim]
    law = _discretise(escape, start, low, high, cells, *batches)
    error = np.inf
    while error > 1e-12 and 2 * cells <= MOST_CELLS[landscape.dim]:
        growth = 2**landscape.dim
        if error < np.inf and (
            growth * law.transitions.nnz > MOST_TRANSITIONS
            or growth * law.transitions.nnz * law.steps > MOST_WORK
        ):
            break
        cells *= 2
        coarse, law = law, _discretise(escape, start, low, high, cells, *batches)
        error = abs(law.mean / coarse.mean - 1)
    if error > MOST_ERROR:
        raise Unsupported(
            f"grids of {cells // 2} and {cells} cells give mean exit times that differ by "
            f"{100 * error:.2g} %: batches of bounded steps hardly reach the boundary, or the "
            "region is wide; simulate or split"
        )
    # To first order in the spacing, what is left is as large as the last difference.
    return law, float(max(error, len(law.nodes) * np.finfo(float).eps))


def _batches(dynamics: MinibatchSGD, examples: int) -> tuple[csr_array, Float[np.ndarray, " b"]]:
    """Share of each example in each batch, shape (batches, examples), and the batches' chances.

    Raises:
        Unsupported: when there are too many, or the batches are not independent.
    """
    size = dynamics.batch_size
    if dynamics.sampling == "shuffled_epochs":
        raise Unsupported(
            "the state of shuffled epochs holds the order of the examples, so its chain is not "
            "solved; simulate, or sample with or without replacement"
        )
    repeated = dynamics.sampling == "with_replacement"
    count = math.comb(examples + size - 1, size) if repeated else math.comb(examples, size)
    if count > MOST_BATCHES:
        raise Unsupported(
            f"{examples} examples make {count:.2g} different batches of {size}, more than the "
            f"{MOST_BATCHES} that are enumerated; simulate or split, or solve GaussianSGD with the "
            "same noise covariance"
        )
    choose = itertools.combinations_with_replacement if repeated else itertools.combinations
    chosen = np.array(list(choose(range(examples), size))).reshape(count, size)
    entries = np.full(chosen.size, 1 / size)
    shares = csr_array(
        (entries, chosen.ravel(), np.arange(0, chosen.size + 1, size)), shape=(count, examples)
    )
    shares.sum_duplicates()
    if not repeated:
        return shares, np.full(count, 1 / count)
    repeats = np.rint(shares.data * size).astype(int)
    factorials = np.array([math.lgamma(k + 1) for k in range(size + 1)])
    orders = csr_array((factorials[repeats], shares.indices, shares.indptr), shape=shares.shape)
    log_chances = factorials[size] - orders.sum(axis=1) - size * np.log(examples)
    return shares, np.exp(log_chances)


def _box(
    escape: Escape, start: Float[np.ndarray, " dim"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Box around the region; on a line an endless side is cut as for Gaussian noise."""
    dynamics, region, landscape = escape.dynamics, escape.region, escape.landscape
    assert isinstance(dynamics, MinibatchSGD)
    assert isinstance(landscape, AbstractEmpirical)
    if landscape.dim == 1:
        left_over = max(dynamics.finite_population_factor(landscape), 1e-12)
        gaussian = GaussianSGD(
            dynamics.learning_rate, dynamics.batch_size / left_over, EmpiricalNoise()
        )
        twin = Escape(landscape, gaussian, region, start, escape.minimum)
        low, high = cut(line_of(twin, start), float(escape.minimum[0]))
        return np.array([low]), np.array([high])
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ends = distance_to_boundary(region, escape.minimum, rays)
    if not np.isfinite(ends).all():
        raise Unsupported(
            f"the region ({region}) has no end in some directions, so its chain of minibatches is "
            "not solved; leave a Ball or Sublevel, or simulate or split"
        )
    corners = escape.minimum + ends[:, None] * rays
    return corners.min(axis=0), corners.max(axis=0)


def _discretise(
    escape: Escape,
    start: Float[np.ndarray, " dim"],
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    cells: int,
    shares: csr_array,
    chances: Float[np.ndarray, " batches"],
) -> SparseChainLaw:
    """The chain on a grid of the box.

    A node outside the region stands for its side of the cells that the boundary cuts.
    """
    dim = len(low)
    axes = [np.linspace(low[k], high[k], cells + 1) for k in range(dim)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dim)
    points = np.concatenate([nodes, start[None]])
    gradients = in_chunks(_example_gradients, escape.landscape, points=points)
    rate, count = escape.dynamics.learning_rate, len(chances)
    rows, exits = [], []
    step = max(1, LANDINGS // count)
    for first in range(0, len(points), step):
        here = slice(first, first + step)
        examples = gradients[here].transpose(1, 0, 2).reshape(shares.shape[1], -1)
        mean = (shares @ examples).reshape(count, -1, dim).transpose(1, 0, 2)
        landings = points[here, None] - rate * mean
        outward = landings + ROUNDING * (landings - escape.minimum)
        alive = inside(escape.region, outward.reshape(-1, dim)).reshape(-1, count)
        exits.append(~alive @ chances)
        position = np.clip((landings - low) / (high - low), 0, 1) * cells
        rows.append(_interpolation(position, chances * alive, cells))
    weights = np.full(len(nodes), float(np.prod((high - low) / cells)))
    return sparse_chain_law(nodes, weights, vstack(rows).tocsr(), np.concatenate(exits))


def _interpolation(
    positions: Float[np.ndarray, "points batches dim"],
    chances: Float[np.ndarray, "points batches"],
    cells: int,
) -> csr_array:
    """Chances shared among the corners of the cells in which positions, in cells, lie."""
    count, batches, dim = positions.shape
    corner = np.minimum(positions.astype(np.int64), cells - 1)
    part = positions - corner
    values, columns = chances[:, :, None], np.zeros((count, batches, 1), np.int64)
    for axis in range(dim):
        share = part[:, :, axis, None]
        values = np.concatenate([values * (1 - share), values * share], axis=2)
        columns = columns * (cells + 1) + corner[:, :, axis, None]
        columns = np.concatenate([columns, columns + 1], axis=2)
    ends = np.arange(0, values.size + 1, batches * 2**dim)
    shape = (count, (cells + 1) ** dim)
    matrix = csr_array((values.ravel(), columns.ravel(), ends), shape=shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _example_gradients(
    landscape: AbstractEmpirical, points: Float[Array, "points dim"]
) -> Float[Array, "points examples dim"]:
    return jax.vmap(landscape.example_gradients)(points)
