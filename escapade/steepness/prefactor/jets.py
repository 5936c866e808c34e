"""Truncated Taylor series of several variables: what derivatives of any order compose to.

A series is an array of coefficients over the monomials up to a degree, the last axis of any shape
``(..., monomials)``. JAX differentiates a function a few times at a point (`taylor`); everything
that is built from the functions is then polynomial arithmetic, in NumPy.
"""

import functools
import math
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

Series = Float[np.ndarray, "*shape monomials"]


class Jets:
    """Series in `dim` variables up to `degree`; use `jets`, which remembers the tables."""

    def __init__(self, dim: int, degree: int):
        """Tables of monomials and their products."""
        self.dim, self.degree = dim, degree
        # Monomials as sorted tuples of variables, (0, 0, 1) for x0^2 x1, by degree.
        self.monomials = [
            monomial
            for order in range(degree + 1)
            for monomial in combinations_with_replacement(range(dim), order)
        ]
        self.index = {monomial: i for i, monomial in enumerate(self.monomials)}
        self.orders = np.array([len(monomial) for monomial in self.monomials])
        triples = [
            (self.index[tuple(sorted(left + right))], i, j)
            for i, left in enumerate(self.monomials)
            for j, right in enumerate(self.monomials)
            if len(left) + len(right) <= degree
        ]
        target, self._left, self._right = np.array(sorted(triples)).T
        self._starts = np.searchsorted(target, np.arange(len(self.monomials)))
        self._raise = np.full((dim, len(self.monomials)), -1)
        self._count = np.zeros((dim, len(self.monomials)))
        for i, monomial in enumerate(self.monomials):
            for variable in range(dim if len(monomial) < degree else 0):
                higher = tuple(sorted((*monomial, variable)))
                self._raise[variable, i] = self.index[higher]
                self._count[variable, i] = higher.count(variable)
        self._factorials = np.array(
            [
                math.prod(math.factorial(monomial.count(v)) for v in set(monomial))
                for monomial in self.monomials
            ],
            dtype=float,
        )

    @property
    def variables(self) -> Series:
        """The coordinates as series, shape (dim, monomials)."""
        return np.eye(len(self.monomials))[1 : self.dim + 1]

    def product(self, left: Series, right: Series) -> Series:
        """Product, truncated."""
        terms = left[..., self._left] * right[..., self._right]
        return np.add.reduceat(terms, self._starts, axis=-1)

    def gradient(self, series: Series) -> Series:
        """Derivatives in every variable, a new axis before the last; one degree less is known."""
        return series[..., self._raise] * self._count

    def power(self, series: Series, exponent: float) -> Series:
        """A power of a series with positive constant term."""
        return self._outer(
            series,
            [math.prod(exponent - i for i in range(k)) for k in range(self.degree + 1)],
            exponent,
        )

    def log(self, series: Series) -> Series:
        """Logarithm of a series with positive constant term."""
        derivatives = [0.0] + [(-1.0) ** (k - 1) * math.factorial(k - 1) for k in range(1, 5)]
        result = self._outer(series, derivatives[: self.degree + 1], 0.0)
        result[..., 0] += np.log(series[..., 0])
        return result

    def _outer(self, series: Series, derivatives: Sequence[float], exponent: float) -> Series:
        """A function of ``1 + relative`` with these derivatives at 1, scaled by a power."""
        constant = series[..., :1]
        relative = series / constant
        relative[..., 0] = 0
        result, term = np.zeros_like(series), np.zeros_like(series)
        term[..., 0] = 1
        for k, derivative in enumerate(derivatives):
            result = result + derivative / math.factorial(k) * term
            term = self.product(term, relative)
        return result * constant**exponent

    def compose(self, outer: Series, inner: Series, outer_jets: "Jets") -> Series:
        """A series of `outer_jets` at displacements that are series without constant term."""
        powers: dict[tuple[int, ...], Series] = {(): np.eye(len(self.monomials))[0]}
        for monomial in outer_jets.monomials[1:]:
            powers[monomial] = self.product(powers[monomial[:-1]], inner[monomial[-1]])
        return outer @ np.array([powers[monomial] for monomial in outer_jets.monomials])

    def series(self, derivatives: Sequence[np.ndarray], shape: tuple[int, ...] = ()) -> Series:
        """From derivative tensors of orders 0, 1, ..., of a function with values of this shape."""
        result = np.zeros((*shape, len(self.monomials)))
        for i, monomial in enumerate(self.monomials[: int(np.sum(self.orders < len(derivatives)))]):
            tensor: Any = derivatives[len(monomial)]
            result[..., i] = tensor[(..., *monomial)]
        return result / self._factorials

    def derivative(self, series: Series, order: int) -> Float[np.ndarray, "..."]:
        """The symmetric tensor of derivatives of one order, of a scalar series."""
        tensor = np.zeros((self.dim,) * order)
        for where in np.ndindex(*tensor.shape):
            i = self.index[tuple(sorted(where))]
            tensor[where] = series[i] * self._factorials[i]
        return tensor


@functools.cache
def jets(dim: int, degree: int) -> Jets:
    """The algebra of series in `dim` variables up to `degree`."""
    return Jets(dim, degree)


def taylor(
    function: Callable[[Float[Array, " dim"]], Array], point: Float[Array, " dim"], degree: int
) -> tuple[Array, ...]:
    """Derivatives of orders 0 to `degree` of a JAX function, indices of derivatives last."""
    derivatives = [function(point)]
    for _ in range(degree):
        function = jax.jacfwd(function)
        derivatives.append(function(point))
    return tuple(derivatives)
