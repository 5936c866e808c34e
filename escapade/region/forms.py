"""The two shapes a region takes near a minimum, in displacements x from it: linear or quadratic."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument


class LinearForm(eqx.Module):
    """``normal . x < offset``, or ``|normal . x| < offset`` when two-sided."""

    normal: Float[np.ndarray, " dim"]
    offset: float
    two_sided: bool = eqx.field(static=True)

    def __init__(self, normal: ArrayLike, offset: float, two_sided: bool):
        """Form of a normal of any length; the offset is in the units of ``normal . x``.

        Raises:
            InvalidArgument: when the normal is zero or the offset is not positive.
        """
        self.normal = np.asarray(normal, dtype=np.float64)
        if self.normal.ndim != 1 or not 0 < np.linalg.norm(self.normal) < np.inf:
            raise InvalidArgument(
                f"normal is {normal!r}; give a finite vector of shape (dim,) that is not zero"
            )
        self.offset = _positive(offset, "offset")
        self.two_sided = bool(two_sided)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.normal)

    def distance_along(
        self, directions: Float[np.ndarray, "points dim"]
    ) -> Float[np.ndarray, " points"]:
        """Multiple of each direction that lies on the boundary; infinite when none does."""
        slope = directions @ self.normal
        slope = np.abs(slope) if self.two_sided else slope
        return _ratio(self.offset, slope, slope > 0)

    def normal_at(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Unit outward normals at boundary points."""
        sign = np.sign(points @ self.normal) if self.two_sided else np.ones(len(points))
        return sign[:, None] * self.normal / np.linalg.norm(self.normal)


class QuadraticForm(eqx.Module):
    """``x^T matrix x < radius^2``: a ball (identity) or a sublevel set (Hessian, 2 depth)."""

    matrix: Float[np.ndarray, "dim dim"]
    radius: float

    def __init__(self, matrix: ArrayLike, radius: float):
        """Form of a symmetric positive semi-definite matrix, not zero.

        Asymmetry and negative eigenvalues up to 1e-8 of the largest entry are taken for rounding.

        Raises:
            InvalidArgument: when the matrix is of another kind or the radius is not positive.
        """
        given = np.asarray(matrix, dtype=np.float64)
        scale = np.max(np.abs(given), initial=0.0)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not 0 < scale < np.inf:
            raise InvalidArgument(
                f"matrix has shape {given.shape} and largest entry {scale:.3g}; give a finite "
                "square matrix that is not zero"
            )
        if np.max(np.abs(given - given.T)) > 1e-8 * scale:
            raise InvalidArgument("matrix is not symmetric; give its symmetric part")
        self.matrix = (given + given.T) / 2
        try:
            np.linalg.cholesky(self.matrix + 1e-8 * scale * len(given) * np.eye(len(given)))
        except np.linalg.LinAlgError:
            raise InvalidArgument(
                "matrix has the negative eigenvalue "
                f"{np.linalg.eigvalsh(self.matrix)[0]:.3g}, so its form is not a valley; use the "
                "matrix of a minimum"
            ) from None
        self.radius = _positive(radius, "radius")

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.matrix)

    def distance_along(
        self, directions: Float[np.ndarray, "points dim"]
    ) -> Float[np.ndarray, " points"]:
        """Multiple of each direction that lies on the boundary; infinite when none does."""
        square = np.einsum("pi,pi->p", directions @ self.matrix, directions)
        return _ratio(self.radius, np.sqrt(np.maximum(square, 0.0)), square > 0)

    def normal_at(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Unit outward normals at boundary points."""
        gradient = points @ self.matrix
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)


def _positive(value: float, argument: str) -> float:
    if not (np.ndim(value) == 0 and 0 < value < np.inf):
        raise InvalidArgument(f"{argument} is {value}; give a positive number")
    return float(value)


def _ratio(
    numerator: float, denominator: Float[np.ndarray, " points"], usable: Bool[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.inf), where=usable)
