"""The expansion of a JAX loss over examples around one point."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import Diverged, InvalidArgument
from escapade.landscape.examples import AbstractExpansion
from escapade.landscape.linearised import (
    Chunk,
    Linearised,
    along,
    back,
    back_and_along,
    chunk_size,
    curvatures,
    gradient,
    losses,
    losses_and_gradient,
)
from escapade.landscape.pytrees import cast
from escapade.precision import PRECISIONS, context, place

if TYPE_CHECKING:
    from escapade.landscape.empirical import Empirical

MEMORY = 2.0**28
"""Bytes kept of the examples unless said otherwise."""

AT_ONCE = 2.0**26
"""Bytes of intermediate results of one chunk, or an eighth of the memory; more is not faster."""


class Expansion(AbstractExpansion):
    """Products by forward and reverse differentiation, chunk by chunk over the examples.

    Each chunk's linearised gradient (for the Hessian) and linearised losses (for slopes, pulls and
    noise) are kept from their first use, for as many chunks as fit half of `memory` each; the
    others are differentiated anew at every product. The data in the precision asked are beside it.
    """

    def __init__(
        self,
        landscape: "Empirical",
        theta: ArrayLike,
        precision: str = "float64",
        memory: float | None = None,
    ):
        """Evaluate losses and gradient; products come later.

        Raises:
            InvalidArgument: when an argument does not fit.
            Diverged: when an example's loss or gradient is NaN or infinite.
        """
        if precision not in PRECISIONS:
            raise InvalidArgument(f"precision is {precision!r}; choose {' or '.join(PRECISIONS)}")
        if memory is not None and not memory >= 0:
            raise InvalidArgument(f"memory is {memory}; give a number of bytes, zero or more")
        memory = MEMORY if memory is None else memory
        self.precision = precision
        self.theta = _vector(theta, landscape.dim, precision, "theta")
        self._scale = landscape.scale
        self.weight_decay = landscape.weight_decay * self._scale**2
        with context(precision):
            part = _parts(landscape, self._scale * self.theta, precision)
            size = chunk_size(gradient, part, landscape.examples, min(AT_ONCE, memory / 8))
            self._chunks = [part(size, at) for at in range(0, landscape.examples, size)]
            self._evaluate(landscape.examples)
            self._check_finite(part)
        self._gradients = Linearised(gradient, self._chunks, memory / 2)
        self._losses = Linearised(losses, self._chunks, memory / 2)

    def hessian_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``H v``."""
        vector = self._parameters(vector)
        with context(self.precision):
            scaled = jnp.asarray(self._scale * vector)
            parts = (along(*piece, scaled) for piece in self._gradients.pieces())
            return self._pulled(parts) / self.examples + self.weight_decay * vector

    def example_slopes(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " examples"]:
        """``g_i . v``."""
        vector = self._parameters(vector)
        with context(self.precision):
            scaled = jnp.asarray(self._scale * vector)
            slopes = self._each(along(*piece, scaled) for piece in self._losses.pieces())
        return slopes + self.weight_decay * np.vdot(self.theta, vector)

    def pull(self, weights: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " dim"]:
        """``sum_i w_i g_i``."""
        weights = _vector(weights, self.examples, self.precision, "weights")
        rows = np.zeros((len(self._chunks), self._chunks[0].present.size), self.precision)
        rows.reshape(-1)[: weights.size] = weights
        with context(self.precision):
            pieces = zip(self._losses.pieces(), rows, strict=True)
            parts = (back(*piece, jnp.asarray(row)) for piece, row in pieces)
            return self._pulled(parts) + self.weight_decay * weights.sum() * self.theta

    def example_curvatures(
        self, vector: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " examples"]:
        """``v^T H_i v``."""
        vector = self._parameters(vector)
        with context(self.precision):
            scaled = jnp.asarray(self._scale * vector)
            each = self._each(curvatures(chunk, scaled) for chunk in self._chunks)
        return each + self.weight_decay * np.vdot(vector, vector)

    def noise_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``C v``, in one visit to each chunk: the mean slope is known from the gradient."""
        vector = self._parameters(vector)
        mean = np.vdot(self.gradient - self.weight_decay * self.theta, vector)
        with context(self.precision):
            scaled, taken = jnp.asarray(self._scale * vector), jnp.asarray(mean)
            pieces = self._losses.pieces()
            parts = (back_and_along(*piece, scaled, taken) for piece in pieces)
            return self._pulled(parts) / self.examples

    def _parameters(self, vector: ArrayLike) -> Float[np.ndarray, " dim"]:
        return _vector(vector, self.dim, self.precision, "vector")

    def _evaluate(self, examples: int) -> None:
        values = np.empty(0, self.precision)

        def gradients() -> Iterator[Array]:
            nonlocal values
            for chunk in self._chunks:
                losses_here, gradient_here = losses_and_gradient(chunk)
                values = np.concatenate([values, losses_here])
                yield gradient_here

        self.gradient = self._pulled(gradients()) / examples + self.weight_decay * self.theta
        decay = 0.5 * self.weight_decay * np.vdot(self.theta, self.theta)
        self.example_losses = values[:examples] + decay

    def _pulled(self, parts: Iterable[Array]) -> Float[np.ndarray, " dim"]:
        """Sum of the chunks' flat gradients, as a gradient in theta."""
        return self._scale * np.asarray(functools.reduce(operator.add, parts))

    def _each(self, parts: Iterable[Array]) -> Float[np.ndarray, " examples"]:
        return np.concatenate([np.asarray(part) for part in parts])[: self.examples]

    def _check_finite(self, part: Callable[[int, int], Chunk]) -> None:
        if np.isfinite(self.example_losses).all() and np.isfinite(self.gradient).all():
            return
        bad, what = np.flatnonzero(~np.isfinite(self.example_losses))[:5].tolist(), "loss"
        if not bad:
            bad, what = _first_without_gradient(part, self.examples), "gradient"
        raise Diverged(
            f"the {what} is NaN or infinite in {self.precision} for examples "
            f"{', '.join(map(str, bad))} (the first of them) at theta of norm "
            f"{np.linalg.norm(self.theta):.3g}; look at these, guard roots, logarithms and "
            "divisions in the loss, or give other parameters"
        )


def _parts(
    landscape: "Empirical", flat: Float[np.ndarray, " dim"], precision: str
) -> Callable[..., Chunk]:
    """Cutter of the data: some examples from a position on, filled up with the last one."""
    bare = place(cast(precision, landscape.without_numbers()))
    moving = jax.tree.map(jnp.asarray, landscape._unravelled(flat))

    def part(size: int, at: int = 0) -> Chunk:
        index = np.arange(at, at + size)
        present = (index < landscape.examples).astype(precision)
        last = landscape.examples - 1

        def cut(leaf: np.ndarray) -> np.ndarray:
            whole = at + size <= landscape.examples
            return leaf[at : at + size] if whole else leaf[np.minimum(index, last)]

        examples = jax.tree.map(cut, landscape.data)
        return Chunk(bare, moving, place(cast(precision, examples)), jnp.asarray(present))

    return part


def _first_without_gradient(part: Callable[[int, int], Chunk], examples: int) -> list[int]:
    """The first examples whose own gradient is not finite."""
    bad = (
        at for at in range(examples) if not np.isfinite(losses_and_gradient(part(1, at))[1]).all()
    )
    return list(itertools.islice(bad, 5))


def _vector(values: ArrayLike, size: int, precision: str, name: str) -> Float[np.ndarray, " size"]:
    vector = np.asarray(values, precision)
    if vector.shape != (size,):
        raise InvalidArgument(f"{name} has shape {vector.shape}; give {size} numbers")
    return vector
