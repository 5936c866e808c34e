"""Sublevel sets of the loss: the valley up to a given depth."""

import numpy as np
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape, AbstractLoss
from escapade.landscape._base import positive_number
from escapade.region._base import AbstractRegion
from escapade.region.forms import QuadraticForm


class Sublevel(AbstractRegion):
    """``L(theta) < L(minimum) + depth``, every connected part of it: only the loss is read."""

    depth: float
    landscape: AbstractLoss | None
    floor: float

    def __init__(self, depth: float, landscape: AbstractLoss | None = None, floor: float = 0.0):
        """Sublevel set of a depth in units of the loss.

        Raises:
            InvalidArgument: when the depth is not positive.
        """
        self.depth = positive_number(depth, "depth")
        self.landscape = landscape
        self.floor = floor

    def anchored(
        self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]
    ) -> "Sublevel":
        """The sublevel set above the loss of the minimum."""
        if not isinstance(landscape, AbstractLoss):
            raise InvalidArgument(
                "region is a Sublevel but the landscape is a drift without a loss; use Ball, "
                "HalfSpace, Slab or Where"
            )
        return Sublevel(self.depth, landscape, float(landscape.loss(minimum)))

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> QuadraticForm:
        """The ellipsoid of the quadratic approximation, ``x^T hessian x < 2 depth``."""
        return QuadraticForm(hessian, float(np.sqrt(2 * self.depth)))

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        if self.landscape is None:
            raise Unsupported(
                "a Sublevel has no level before it belongs to an Escape; use escape.region.level"
            )
        return self.landscape._loss(theta) - self.floor - self.depth

    def __str__(self) -> str:
        return f"sublevel set of depth {self.depth:.4g}"
