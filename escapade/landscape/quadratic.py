"""The quadratic loss, where every local formula is exact."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape._base import AbstractLoss, as_numbers, as_points


class Quadratic(AbstractLoss):
    """``L(theta) = 1/2 (theta - minimum)^T hessian (theta - minimum)``."""

    hessian: Float[np.ndarray, "dim dim"]
    minimum: Float[np.ndarray, " dim"]

    def __init__(self, hessian: ArrayLike, minimum: ArrayLike | None = None):
        """Hessian as a symmetric matrix, or its diagonal alone; minimum at 0 unless given.

        Raises:
            InvalidArgument: when the matrix is not square, symmetric and finite.
        """
        matrix = as_numbers(hessian, "hessian")
        matrix = np.diag(np.atleast_1d(matrix)) if matrix.ndim < 2 else matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise InvalidArgument(
                f"hessian has shape {np.shape(hessian)}; give a square matrix or its eigenvalues"
            )
        if not np.isfinite(matrix).all():
            raise InvalidArgument("hessian holds NaN or infinity; give finite numbers")
        if not np.allclose(matrix, matrix.T, rtol=1e-12, atol=1e-12 * np.abs(matrix).max()):
            raise InvalidArgument(
                "hessian is not symmetric; symmetrise it, or use landscapes.Drift for a linear "
                "drift that is not a gradient"
            )
        self.hessian = matrix
        dim = matrix.shape[0]
        self.minimum = np.zeros(dim) if minimum is None else as_points(minimum, dim, "minimum")[0]

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.hessian.shape[0]

    @property
    def minima(self) -> Float[np.ndarray, "1 dim"]:
        """The minimum."""
        return self.minimum[None]

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        displacement = theta - self.minimum
        return 0.5 * jnp.vdot(displacement, self.hessian @ displacement)

    def _gradient(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return jnp.matmul(self.hessian, theta - self.minimum)
