"""Euclidean balls."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_points, positive_number
from escapade.region._base import AbstractRegion, fits
from escapade.region.forms import QuadraticForm


class Ball(AbstractRegion):
    """``|theta - center| < radius``; the centre is the minimum unless given."""

    radius: float
    center: Float[np.ndarray, " dim"] | None

    def __init__(self, radius: float, center: ArrayLike | None = None):
        """Ball of a radius in parameter units.

        Raises:
            InvalidArgument: when the radius is not positive.
        """
        self.radius = positive_number(radius, "radius")
        self.center = None if center is None else as_points(center, np.size(center), "center")[0]

    def anchored(self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]) -> "Ball":
        """The ball around the minimum."""
        center = minimum if self.center is None else self.center
        fits(center, landscape.dim, "center")
        return Ball(self.radius, center)

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> QuadraticForm | None:
        """Exact when the ball is centred at the minimum, None otherwise."""
        if self.center is not None and not np.allclose(self.center, minimum, rtol=0, atol=1e-12):
            return None
        return QuadraticForm(np.eye(len(minimum)), self.radius)

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        displacement = theta if self.center is None else theta - self.center
        # abs and not sqrt in one dimension; elsewhere the square root is kept differentiable at
        # the centre, where the continuous dynamics asks for the gradient of the level.
        if displacement.shape[0] == 1:
            return jnp.abs(displacement[0]) - self.radius
        square = jnp.sum(displacement * displacement)
        at_center = square == 0
        return jnp.where(at_center, 0.0, jnp.sqrt(jnp.where(at_center, 1.0, square))) - self.radius

    def __str__(self) -> str:
        return f"ball of radius {self.radius:.4g}"
