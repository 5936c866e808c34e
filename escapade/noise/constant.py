"""Noise that is the same everywhere."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import DegenerateNoise, InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_numbers
from escapade.noise._base import AbstractNoise, semidefinite_factor


class Isotropic(AbstractNoise):
    """``C = scale * identity``."""

    scale: float

    def __init__(self, scale: float = 1.0):
        """Isotropic noise; `scale` is the variance of one example's gradient per coordinate.

        Raises:
            DegenerateNoise: when the scale is zero, negative or not finite.
        """
        if np.ndim(scale) != 0 or not 0 < as_numbers(scale, "scale") < np.inf:
            raise DegenerateNoise(
                f"scale is {scale}: without positive noise SGD never leaves a minimum"
            )
        self.scale = float(scale)

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        return self.scale * jnp.eye(landscape.dim, dtype=theta.dtype)

    def variance(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """``scale |d|^2``."""
        return self.scale * jnp.vdot(direction, direction)

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per parameter."""
        return landscape.dim

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """Scaled normals."""
        return jnp.sqrt(jnp.asarray(self.scale, theta.dtype)) * normals

    def prepared(self, landscape: AbstractLandscape) -> "Isotropic":
        """Itself."""
        return self


class Constant(AbstractNoise):
    """A given covariance, the same at every theta."""

    matrix: Float[np.ndarray, "dim dim"]
    factor: Float[np.ndarray, "dim dim"] | Float[np.ndarray, " dim"]

    def __init__(self, covariance: ArrayLike):
        """Noise of a (dim, dim) covariance, or of independent coordinates with variances (dim,).

        Raises:
            InvalidArgument: when the matrix is not square.
            DegenerateNoise: when it is zero or not symmetric positive semi-definite.
        """
        matrix = square_matrix(covariance, "covariance")
        factor = semidefinite_factor(matrix)
        diagonal = np.diag(np.diag(matrix))
        self.matrix = matrix
        # A diagonal factor is kept as a vector: drawing then costs no matrix product.
        self.factor = np.sqrt(np.diag(matrix)) if np.array_equal(matrix, diagonal) else factor

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        return jnp.asarray(self.matrix)

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per parameter."""
        return landscape.dim

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """Normals through the covariance's factor."""
        if self.factor.ndim == 1:
            return normals * self.factor
        return jnp.matmul(self.factor, normals)

    def prepared(self, landscape: AbstractLandscape) -> "Constant":
        """Itself, once it fits."""
        if self.matrix.shape[0] != landscape.dim:
            raise InvalidArgument(
                f"covariance is {self.matrix.shape[0]} x {self.matrix.shape[0]} but the landscape "
                f"has {landscape.dim} parameters"
            )
        return self


def square_matrix(values: ArrayLike, argument: str) -> Float[np.ndarray, "dim dim"]:
    """A square matrix, or the diagonal matrix of the numbers given.

    Raises:
        InvalidArgument: when they are neither.
    """
    matrix = as_numbers(values, argument)
    matrix = np.diag(np.atleast_1d(matrix)) if matrix.ndim < 2 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise InvalidArgument(
            f"{argument} has shape {np.shape(values)}; give a square matrix or its diagonal"
        )
    return matrix
