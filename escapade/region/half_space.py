"""Half-spaces and slabs: exit along one direction."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_numbers, as_points, positive_number
from escapade.region._base import AbstractRegion, direction, fits
from escapade.region.forms import LinearForm


class HalfSpace(AbstractRegion):
    """``normal . (theta - minimum) < offset``; the normal is scaled to unit length."""

    normal: Float[np.ndarray, " dim"]
    offset: float
    reference: Float[np.ndarray, " dim"] | None

    def __init__(self, normal: ArrayLike, offset: float, reference: ArrayLike | None = None):
        """Half-space whose face stands `offset` away from the minimum (or from `reference`).

        Raises:
            InvalidArgument: when the normal is zero or the offset is not finite.
        """
        self.normal = direction(normal)
        if np.ndim(offset) != 0 or not np.isfinite(as_numbers(offset, "offset")):
            raise InvalidArgument(f"offset is {offset}; give a finite number")
        self.offset = float(offset)
        self.reference = _reference(reference, self.normal)

    def anchored(
        self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]
    ) -> "HalfSpace":
        """The half-space measured from the minimum."""
        fits(self.normal, landscape.dim, "normal")
        return HalfSpace(
            self.normal, self.offset, minimum if self.reference is None else self.reference
        )

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> LinearForm | None:
        """Exact; None when the face does not stand beyond the minimum."""
        shift = 0.0 if self.reference is None else float(self.normal @ (self.reference - minimum))
        offset = self.offset + shift
        return LinearForm(self.normal, offset, two_sided=False) if offset > 0 else None

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return _along(self.normal, theta, self.reference) - self.offset

    def __str__(self) -> str:
        return f"half-space with offset {self.offset:.4g}"


class Slab(AbstractRegion):
    """``|normal . (theta - minimum)| < half_width``; the normal is scaled to unit length."""

    normal: Float[np.ndarray, " dim"]
    half_width: float
    reference: Float[np.ndarray, " dim"] | None

    def __init__(self, normal: ArrayLike, half_width: float, reference: ArrayLike | None = None):
        """Slab centred at the minimum (or at `reference`).

        Raises:
            InvalidArgument: when the normal is zero or the half-width is not positive.
        """
        self.normal = direction(normal)
        self.half_width = positive_number(half_width, "half_width")
        self.reference = _reference(reference, self.normal)

    def anchored(self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]) -> "Slab":
        """The slab measured from the minimum."""
        fits(self.normal, landscape.dim, "normal")
        return Slab(
            self.normal, self.half_width, minimum if self.reference is None else self.reference
        )

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> LinearForm | None:
        """Exact when the slab is centred at the minimum, None otherwise."""
        shift = 0.0 if self.reference is None else float(self.normal @ (self.reference - minimum))
        if abs(shift) > 1e-12 * self.half_width:
            return None
        return LinearForm(self.normal, self.half_width, two_sided=True)

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.abs(_along(self.normal, theta, self.reference)) - self.half_width

    def __str__(self) -> str:
        return f"slab of half-width {self.half_width:.4g}"


def _reference(
    reference: ArrayLike | None, normal: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"] | None:
    return None if reference is None else as_points(reference, normal.size, "reference")[0]


def _along(
    normal: Float[np.ndarray, " dim"],
    theta: Float[Array, " dim"],
    reference: Float[np.ndarray, " dim"] | None,
) -> Float[Array, ""]:
    return jnp.dot(normal, theta if reference is None else theta - reference)
