"""The paper's sharpness construction: L_alpha(theta) = L(sqrt(alpha) theta)."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument
from escapade.landscape._base import AbstractLoss, positive_number
from escapade.landscape.examples import AbstractEmpirical


class Rescaled(AbstractLoss):
    """``L(sqrt(factor) theta)`` of another landscape; build it with `rescale`."""

    landscape: AbstractLoss
    factor: float

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.landscape.dim

    @property
    def minima(self) -> Float[np.ndarray, "minima dim"]:
        """The minima of the other landscape, drawn towards the origin."""
        return self.landscape.minima / np.sqrt(self.factor)

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return self.landscape._loss(self.factor**0.5 * theta)


def rescale(landscape: AbstractLoss, factor: float) -> AbstractLoss:
    """L_alpha(theta) = L(sqrt(alpha) theta): every Hessian eigenvalue times `factor`.

    This is the sharpness scan of Ibayashi and Imaizumi (section 5). It is exactly equivalent to
    learning rate times alpha and lengths times sqrt(alpha), so by itself it separates no theories.

    Raises:
        InvalidArgument: when the factor is not a positive number or the landscape has no loss.
    """
    factor = positive_number(factor, "factor")
    if not isinstance(landscape, AbstractLoss):
        raise InvalidArgument(
            f"landscape is {landscape!r}, which has no loss to rescale; give one that has"
        )
    if isinstance(landscape, AbstractEmpirical):
        root = float(np.sqrt(factor))
        scale, minima = _scaled_fields(landscape)
        return eqx.tree_at(_scaled_fields, landscape, (scale * root, minima / root))
    return Rescaled(landscape, factor)


def _scaled_fields(landscape: Any) -> tuple[float, Float[np.ndarray, "minima dim"]]:
    """What every loss over examples rescales itself by, whatever framework computes it."""
    return landscape.scale, landscape.minima_
