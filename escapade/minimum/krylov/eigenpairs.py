"""Extreme eigenvalues and eigenvectors by Lanczos iterations with a memory cap."""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.minimum.krylov.basis import project_out, random_unit, rotate
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector, norm

# A projected matrix less symmetric than this (relative) does not belong to a symmetric operator.
_ASYMMETRY = 0.1
# A gap of so many residuals is believed to be one.
_APART = 3
_TINY = 1e-300


class Eigenpairs(eqx.Module):
    """Eigenvalues at one end of a spectrum, the outermost first, with what is known of each.

    Within `residuals` of every value lies an eigenvalue, rigorously up to the error of the
    products themselves, part of which (their asymmetry) is measured and included. That none was
    missed rests on the random start: of a repeated eigenvalue `block_size` copies are found, unless
    the spectrum is so simple that the Krylov space ends, which is noticed.

    Attributes:
        values: Rayleigh quotients of the vectors.
        vectors: orthonormal, in columns.
        residuals: bounds of ``|A v - value v|``.
        value_errors: ``min(residual, residual^2 / gap)``: a bound once the gap to the nearest other
            eigenvalue is known, which is taken from the computed spectrum; the residual alone where
            that shows no clear gap.
        products: products spent.
        converged: whether every value is as exact as was asked for.
    """

    values: Float[np.ndarray, " count"]
    vectors: Float[np.ndarray, "dim count"]
    residuals: Float[np.ndarray, " count"]
    value_errors: Float[np.ndarray, " count"]
    products: int
    converged: bool


class Extremes(NamedTuple):
    """Both ends of a spectrum, from one run."""

    largest: Eigenpairs
    lowest: Eigenpairs


def largest_eigenpairs(product: Product, dim: int, count: int = 1, **options: Any) -> Eigenpairs:
    """The algebraically largest eigenvalues, in descending order.

    Options, errors and method are those of `extreme_eigenpairs`.
    """
    return extreme_eigenpairs(product, dim, count, 0, **options).largest


def lowest_eigenpairs(product: Product, dim: int, count: int = 1, **options: Any) -> Eigenpairs:
    """The algebraically lowest eigenvalues, in ascending order.

    Options, errors and method are those of `extreme_eigenpairs`.
    """
    return extreme_eigenpairs(product, dim, 0, count, **options).lowest


def extreme_eigenpairs(
    product: Product,
    dim: int,
    largest: int,
    lowest: int,
    *,
    tolerance: float = 1e-4,
    of: str = "vectors",
    seed: int = 0,
    start: Vector | None = None,
    block_size: int = 1,
    basis_size: int | None = None,
    max_products: int | None = 1000,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> Extremes:
    """The algebraically largest and lowest eigenvalues of a symmetric operator.

    Band Lanczos (Ruhe 1979; a block of one is Lanczos's method) with full orthogonalisation and,
    when the basis is full, a thick restart (Wu and Simon, "Thick-restart Lanczos method for large
    symmetric eigenvalue problems", 2000). Stops at the first product after which all wanted values
    pass. Memory: ``basis_size + block_size + largest + lowest + 2`` vectors, touched as they are
    needed.

    Args:
        product: ``v -> A v``.
        dim: rows of A.
        largest: how many of the largest eigenvalues (fewer when dim is smaller).
        lowest: how many of the lowest.
        tolerance: relative to the largest absolute eigenvalue.
        of: what is held to the tolerance: "vectors" (the residuals, so the values are far more
            exact) or "values" (`value_errors`, so the vectors are less exact; fewest products).
        seed: of the random start.
        start: first vector, if a good one is known (earlier eigenvectors, summed).
        block_size: an eigenvalue is found as many times as it is repeated, up to this number;
            costs more products.
        basis_size: vectors kept; twice the wanted number plus 30 unless given.
        max_products: products that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit, or the operator is not symmetric.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget ends before there are as many values as asked for; a budget
            that ends later returns with ``converged`` False.
    """
    operator = Operator(product, dim, precision, max_products, deadline)
    _check(largest, lowest, tolerance, of, block_size)
    wanted = min(largest, dim) + min(lowest, dim)
    capacity = 2 * wanted + 30 if basis_size is None else basis_size
    smallest = wanted + 2 * block_size + 1
    if capacity < smallest:
        raise InvalidArgument(
            f"basis_size is {capacity}; {wanted} eigenvalues with block_size {block_size} need at "
            f"least {smallest}"
        )
    run = _Run(operator, min(capacity, dim), min(block_size, dim), np.random.default_rng(seed))
    run.begin(start)
    needed = min(wanted, dim)
    while True:
        if operator.exhausted and run.size < needed:
            operator.require("the eigenvalue iteration")
        run.step()
        if run.size < needed:
            continue
        ritz = run.ritz()
        chosen = _chosen(ritz, largest, lowest)
        errors = ritz.residuals if of == "vectors" else ritz.value_errors
        allowed = tolerance * float(np.abs(ritz.values).max())
        done = bool(np.all(errors[chosen] <= allowed))
        done = done and (run.complete or run.explored(largest, lowest, allowed))
        if done or run.complete or operator.exhausted:
            break
        if run.full:
            run.restart(ritz, _kept(run.size, largest, lowest, run.capacity - block_size))
    return Extremes(
        run.pairs(ritz, np.arange(len(ritz.values))[::-1][:largest], done),
        run.pairs(ritz, np.arange(len(ritz.values))[:lowest], done),
    )


def dense_extremes(product: Product, dim: int, largest: int, lowest: int) -> Extremes:
    """Both ends of a spectrum from the whole matrix: every copy of a repeated eigenvalue.

    Costs `dim` products and a matrix of dim x dim, so it is for small operators.

    Raises:
        Diverged: when a product is NaN or infinite.
    """
    operator = Operator(product, dim)
    matrix = np.stack([operator(row) for row in np.eye(dim)])
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    residuals = np.linalg.norm(matrix @ vectors - vectors * values, axis=0)

    def pairs(which: slice) -> Eigenpairs:
        return Eigenpairs(
            values[which],
            vectors[:, which],
            residuals[which],
            residuals[which],
            operator.products,
            True,
        )

    return Extremes(pairs(slice(None, -min(largest, dim) - 1, -1)), pairs(slice(min(lowest, dim))))


class _Ritz(NamedTuple):
    values: Float[np.ndarray, " size"]
    coordinates: Float[np.ndarray, "size size"]
    residuals: Float[np.ndarray, " size"]
    value_errors: Float[np.ndarray, " size"]


class _Run:
    """A basis V (rows), with ``A V^T = V^T projected + pending^T coupling`` at every moment.

    `pending` holds one vector per member of the block, orthogonal to the basis: where the Krylov
    space goes on.
    """

    def __init__(
        self, operator: Operator, capacity: int, block_size: int, rng: np.random.Generator
    ):
        self.operator, self.capacity, self.rng = operator, capacity, rng
        self.rows = np.empty((capacity, operator.dim), operator.dtype)
        self.projected = np.zeros((capacity, capacity))
        self.pending = np.empty((block_size, operator.dim), operator.dtype)
        self.coupling = np.zeros((block_size, capacity))
        self.size = 0
        self.turn = 0
        self.lost = 0.0
        # Where the basis went on from a new random vector, and the Ritz values it had before.
        self.fresh = 0
        self.before: Float[np.ndarray, " size"] | None = None

    @property
    def complete(self) -> bool:
        """Whether the basis spans everything."""
        return self.size == self.operator.dim

    @property
    def full(self) -> bool:
        """Whether a restart is due."""
        return self.size == self.capacity

    def begin(self, start: Vector | None) -> None:
        none = self.rows[:0]
        for k in range(len(self.pending)):
            self.pending[k] = random_unit(self.rng, none)
        if start is None:
            return
        first = np.asarray(start, self.operator.dtype)
        if first.shape != (self.operator.dim,) or not 0 < norm(first) < np.inf:
            raise InvalidArgument(
                f"start has shape {first.shape}; give a finite non-zero vector of "
                f"{self.operator.dim} numbers"
            )
        self.pending[0] = first / norm(first)

    def step(self) -> None:
        """One more basis vector and its product."""
        size, turn = self.size, self.turn
        known = self.rows[:size]
        vector, coupling = self.pending[turn], self.coupling[turn]
        before = max(norm(vector), np.finfo(self.operator.dtype).tiny)
        components = project_out(known, vector)
        self.projected[:size, :size] += np.outer(components, coupling[:size])
        length = norm(vector)
        # An exhausted direction (an invariant subspace): go on with a random one, not coupled.
        if length <= max(self.operator.rounding, 1e-3 * before / np.sqrt(vector.size)):
            self.lost = max(self.lost, length * float(np.abs(coupling).max(initial=0.0)))
            vector[:] = random_unit(self.rng, known)
            coupling[:] = 0.0
            length = 1.0
            self.fresh, self.before = size, np.linalg.eigvalsh(self._symmetric(0))
        self.rows[size] = vector / length
        self.projected[size, :size] = length * coupling[:size]
        self.size = size = size + 1
        image = self.operator(self.rows[size - 1])
        self.projected[:size, size - 1] = project_out(self.rows[:size], image)
        vector[:] = image
        coupling[:] = 0.0
        coupling[size - 1] = 1.0
        # The others of the block must not keep a component along the newest vector.
        for other in range(len(self.pending)):
            if other != turn:
                component = float(self.pending[other] @ self.rows[size - 1])
                self.pending[other] -= component * self.rows[size - 1]
                self.projected[size - 1, :size] += component * self.coupling[other, :size]
        self.turn = (turn + 1) % len(self.pending)

    def _symmetric(self, first: int) -> Float[np.ndarray, "size size"]:
        projected = self.projected[first : self.size, first : self.size]
        return (projected + projected.T) / 2

    def ritz(self, first: int = 0) -> _Ritz:
        """Ritz pairs in the basis, or in the part of it from a vector on."""
        part = slice(first, self.size)
        values, coordinates = np.linalg.eigh(self._symmetric(first))
        asymmetry = (self.projected[part, part] - self._symmetric(first)) @ coordinates
        scale = float(np.abs(values).max())
        if np.linalg.norm(asymmetry, axis=0).max() > _ASYMMETRY * scale > 0:
            raise InvalidArgument(
                "product is not that of a symmetric matrix (u . A v and v . A u differ by "
                f"{2 * np.linalg.norm(asymmetry, axis=0).max() / scale:.1g} of its norm); check "
                "that it is linear and the same at every call: no dropout, no resampled data"
            )
        outside = self.coupling[:, part] @ coordinates
        gram = (self.pending @ self.pending.T).astype(np.float64)
        squared = np.einsum("ik,ij,jk->k", outside, gram, outside)
        squared = np.maximum(squared, 0) + (asymmetry**2).sum(axis=0)
        residuals = np.sqrt(squared) + self.lost + self.operator.rounding
        value_errors = np.maximum(_value_errors(values, residuals), self.operator.rounding)
        return _Ritz(values, coordinates, residuals, value_errors)

    def explored(self, largest: int, lowest: int, allowed: float) -> bool:
        """Whether the latest random start shows that nothing wanted was missed.

        Where a Krylov space ends (it is invariant: few distinct eigenvalues, low rank), all
        residuals vanish, though further copies of the wanted eigenvalues may lie outside. The new
        start must have converged to its own extreme eigenvalue, and that must not be wanted.
        """
        if self.before is None:
            return True
        new = self.ritz(self.fresh)
        ends = []
        if largest:
            bar = self.before[-largest] if len(self.before) >= largest else -np.inf
            ends.append((new.values[-1] - bar, new.residuals[-1]))
        if lowest:
            bar = self.before[lowest - 1] if len(self.before) >= lowest else np.inf
            ends.append((bar - new.values[0], new.residuals[0]))
        allowed = max(allowed, self.operator.rounding)
        return all(beyond <= allowed and residual <= allowed for beyond, residual in ends)

    def restart(self, ritz: _Ritz, kept: np.ndarray) -> None:
        """Keep some Ritz vectors; the pending vectors stay orthogonal to them."""
        size = self.size
        asymmetry = self.projected[:size, :size] - self.projected[:size, :size].T
        self.lost = max(self.lost, float(np.linalg.norm(asymmetry)) / 2)
        rotation = ritz.coordinates[:, kept]
        rotate(self.rows, rotation)
        coupling = self.coupling[:, :size] @ rotation
        self.size = len(kept)
        self.projected[:] = 0.0
        self.projected[range(self.size), range(self.size)] = ritz.values[kept]
        self.coupling[:] = 0.0
        self.coupling[:, : self.size] = coupling
        self.before = None

    def pairs(self, ritz: _Ritz, index: np.ndarray, converged: bool) -> Eigenpairs:
        turn = ritz.coordinates[:, index].T.astype(self.rows.dtype)
        return Eigenpairs(
            values=ritz.values[index],
            vectors=(turn @ self.rows[: self.size]).T,
            residuals=ritz.residuals[index],
            value_errors=ritz.value_errors[index],
            products=self.operator.products,
            converged=converged,
        )


def _value_errors(
    values: Float[np.ndarray, " size"], residuals: Float[np.ndarray, " size"]
) -> Float[np.ndarray, " size"]:
    """``min(residual, residual^2 / gap)``; another Ritz value is as near as its error allows."""
    if len(values) == 1:
        return residuals
    distance = np.abs(values[:, None] - values) - residuals
    np.fill_diagonal(distance, np.inf)
    gap = distance.min(axis=1)
    return np.where(gap > _APART * residuals, residuals**2 / np.maximum(gap, _TINY), residuals)


def _chosen(ritz: _Ritz, largest: int, lowest: int) -> np.ndarray:
    size = len(ritz.values)
    index = np.arange(size)
    return (index >= size - largest) | (index < lowest)


def _kept(size: int, largest: int, lowest: int, capacity: int) -> np.ndarray:
    """Ritz values that survive a restart: the wanted ones and half of the room beside them."""
    wanted = largest + lowest
    extra = max(0, (capacity - wanted) // 2)
    share = extra if not lowest else 0 if not largest else extra // 2
    top = min(size, largest + share)
    low = min(size - top, lowest + (extra - share))
    return np.concatenate([np.arange(low), np.arange(size - top, size)])


def _check(largest: int, lowest: int, tolerance: float, of: str, block_size: int) -> None:
    if min(largest, lowest) < 0 or largest + lowest < 1:
        raise InvalidArgument(
            f"{largest} largest and {lowest} lowest eigenvalues were asked for; ask for 1 or more"
        )
    if not 0 < tolerance < 1:
        raise InvalidArgument(f"tolerance is {tolerance}; give a number between 0 and 1")
    if of not in ("vectors", "values"):
        raise InvalidArgument(f"of is {of!r}; give 'vectors' or 'values'")
    if block_size < 1:
        raise InvalidArgument(f"block_size is {block_size}; give 1 or more")
