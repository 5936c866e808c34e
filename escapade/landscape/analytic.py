"""Analytic test landscapes of the field."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.landscape._base import AbstractLoss, positive_dimension
from escapade.landscape.descent import newton


class DoubleWell(AbstractLoss):
    """``L(x) = x^4/4 - x^2/2``: minima at -1 and 1, barrier 1/4 at 0."""

    @property
    def dim(self) -> int:
        """One parameter."""
        return 1

    @property
    def minima(self) -> Float[np.ndarray, "2 1"]:
        """The two minima, left first."""
        return np.array([[-1.0], [1.0]])

    def _loss(self, theta: Float[Array, " 1"]) -> Float[Array, ""]:
        x = theta[0]
        return x**4 / 4 - x**2 / 2


class StyblinskiTang(AbstractLoss):
    """``L(theta) = 1/2 sum_i (theta_i^4 - 16 theta_i^2 + 5 theta_i)`` (Styblinski and Tang, 1990).

    Each coordinate has a deep minimum near -2.9035, a shallow one near 2.7468 and a saddle between
    them near 0.1567.
    """

    dim_: int

    def __init__(self, dim: int):
        """A landscape of `dim` independent coordinates."""
        self.dim_ = positive_dimension(dim)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.dim_

    @property
    def minima(self) -> Float[np.ndarray, "2 dim"]:
        """The global minimum (all coordinates deep), then the shallowest (all shallow)."""
        stationary = np.sort(np.roots([2.0, 0.0, -16.0, 2.5]).real)
        return np.outer(stationary[[0, 2]], np.ones(self.dim))

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        square = theta * theta
        return 0.5 * jnp.sum(square * square - 16 * square + 5 * theta)


class MuellerBrown(AbstractLoss):
    """The Mueller-Brown surface (Theoretica Chimica Acta 53, 1979): three minima, two saddles."""

    @property
    def dim(self) -> int:
        """Two parameters."""
        return 2

    @property
    def minima(self) -> Float[np.ndarray, "3 2"]:
        """The three minima, deepest first."""
        rough = [[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]]
        return np.stack([newton(self, point) for point in rough])

    def _loss(self, theta: Float[Array, " 2"]) -> Float[Array, ""]:
        x, y = theta[0], theta[1]
        amplitudes = (-200.0, -100.0, -170.0, 15.0)
        xx = (-1.0, -1.0, -6.5, 0.7)
        xy = (0.0, 0.0, 11.0, 0.6)
        yy = (-10.0, -10.0, -6.5, 0.7)
        centres = ((1.0, 0.0), (0.0, 0.5), (-0.5, 1.5), (-1.0, 1.0))
        wells = (
            amplitude * jnp.exp(a * (x - cx) ** 2 + b * (x - cx) * (y - cy) + c * (y - cy) ** 2)
            for amplitude, a, b, c, (cx, cy) in zip(amplitudes, xx, xy, yy, centres, strict=True)
        )
        return sum(wells, start=jnp.zeros_like(x))
