"""What a grid problem is made of: a box with a regular grid, and the drift and noise on it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise
from escapade.precision import in_float64

CHUNK = 8192
"""Points evaluated together: one compiled function serves grids of every size."""


class Box(NamedTuple):
    """A regular grid over a box."""

    lower: Float[np.ndarray, " dim"]
    upper: Float[np.ndarray, " dim"]
    shape: tuple[int, ...]

    @property
    def spacing(self) -> Float[np.ndarray, " dim"]:
        """Distance between neighbours along each axis."""
        return (self.upper - self.lower) / (np.array(self.shape) - 1)

    @property
    def axes(self) -> tuple[Float[np.ndarray, " points"], ...]:
        """Coordinates of the nodes along each axis."""
        return tuple(
            np.linspace(low, high, n)
            for low, high, n in zip(self.lower, self.upper, self.shape, strict=True)
        )

    @property
    def nodes(self) -> Float[np.ndarray, "nodes dim"]:
        """Coordinates of every node, in row-major order."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(
            -1, len(self.shape)
        )

    def positions(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Points in grid coordinates."""
        return (points - self.lower) / self.spacing


class Field(eqx.Module):
    """The drift ``b = -gradient`` and the covariance C that a grid problem is made of."""

    landscape: AbstractLandscape
    noise: AbstractNoise

    def drift(
        self, points: Float[np.ndarray, "points dim"]
    ) -> tuple[Float[np.ndarray, "points dim"], Float[np.ndarray, "points dim dim"]]:
        """Drift and its Jacobian, ``[i, k]`` the derivative of component i along k."""
        return _in_chunks(_drift, self.landscape, points)

    def covariance(
        self, points: Float[np.ndarray, "points dim"]
    ) -> Float[np.ndarray, "points dim dim"]:
        """Covariance of one example's gradient."""
        return _in_chunks(_covariance, (self.noise, self.landscape), points)


def _in_chunks(
    function: Callable[..., Any], owner: Any, points: Float[np.ndarray, "points dim"]
) -> Any:
    """Evaluate at many points with one compiled shape."""
    pieces = []
    for start in range(0, len(points), CHUNK):
        piece = points[start : start + CHUNK]
        # A short last chunk is filled up with copies of its last point.
        filled = np.concatenate([piece, np.repeat(piece[-1:], CHUNK - len(piece), axis=0)])
        result = in_float64(function, owner, filled)
        pieces.append(result)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(points)], *pieces)


def _drift(
    landscape: AbstractLandscape, points: Float[Array, "points dim"]
) -> tuple[Float[Array, "points dim"], Float[Array, "points dim dim"]]:
    def at(theta: Float[Array, " dim"]) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
        return -landscape._gradient(theta), -jax.jacfwd(landscape._gradient)(theta)

    return jax.lax.map(at, points, batch_size=512)


def _covariance(
    owner: tuple[AbstractNoise, AbstractLandscape], points: Float[Array, "points dim"]
) -> Float[Array, "points dim dim"]:
    noise, landscape = owner
    return jax.lax.map(lambda theta: noise._covariance(landscape, theta), points, batch_size=512)
