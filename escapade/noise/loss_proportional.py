"""Noise proportional to the loss, as that of the square loss is."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import DegenerateNoise, InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape, AbstractLoss
from escapade.landscape._base import as_numbers, positive_number
from escapade.noise._base import AbstractNoise, positive_factor, semidefinite_factor
from escapade.noise.constant import square_matrix
from escapade.precision import in_float64

ROUNDING = 1e-9
"""How far below the offset the loss at a minimum may lie, relative to either."""


class LossProportional(AbstractNoise):
    """``C(theta) = c (L(theta) - offset) H``, with H the Hessian at the minimum.

    With ``c = 2`` and no offset it is the noise of the square loss in the decoupling approximation
    of Mori, Ziyin, Liu and Ueda ("Power-law escape rate of SGD", ICML 2022), whose loss must be
    positive at the minimum. On a quadratic loss of the one curvature h its quasipotential is ``2
    ln(L / L*) / (c h)``, losses counted from the offset: mean exit times are powers of their ratio.
    `offset` is the loss at which the noise vanishes: what a regulariser adds; or, negative, what
    the examples' misfit adds to a loss that is counted from its minimum.
    """

    factor: Float[np.ndarray, "dim dim"] | None
    c: float
    offset: float

    def __init__(self, hessian: ArrayLike | None = None, c: float = 2.0, offset: float = 0.0):
        """Set H, the factor c and the loss at which the noise vanishes.

        Args:
            hessian: shape (dim, dim), or its diagonal; the positive part of the Hessian at the
                landscape's only known minimum unless given.
            c: dimensionless.
            offset: in units of the loss.

        Raises:
            InvalidArgument: when a number or shape is wrong.
            DegenerateNoise: when the matrix is zero or not symmetric positive semi-definite.
        """
        given = None if hessian is None else square_matrix(hessian, "hessian")
        self.factor = None if given is None else semidefinite_factor(given, "hessian")
        self.c = positive_number(c, "c")
        number = as_numbers(offset, "offset")
        if number.ndim != 0 or not np.isfinite(number):
            raise InvalidArgument(f"offset is {offset!r}; give one finite loss")
        self.offset = float(number)

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        factor = self._factor(landscape, theta)
        return self._strength(landscape, theta) * (factor @ factor.T)

    def variance(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """``c (L - offset) d^T H d``; negative where the loss lies below the offset."""
        components = self._factor(landscape, theta).T @ direction
        return self._strength(landscape, theta) * jnp.vdot(components, components)

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per parameter."""
        return landscape.dim

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """Normals through a factor of the covariance; NaN where the loss lies below the offset."""
        strength = self._strength(landscape, theta)
        return jnp.sqrt(strength) * (self._factor(landscape, theta) @ normals)

    def prepared(self, landscape: AbstractLandscape) -> "LossProportional":
        """With its Hessian, once no known minimum lies below the offset."""
        if not isinstance(landscape, AbstractLoss):
            raise Unsupported(
                "noise LossProportional needs a loss but the landscape is a drift; use "
                "noise.Isotropic, Constant or Function"
            )
        factor = self.factor
        if factor is None:
            factor = in_float64(_factor_at_minimum, landscape)
        if len(factor) != landscape.dim:
            raise InvalidArgument(
                f"hessian is {len(factor)} x {len(factor)} but the landscape has {landscape.dim} "
                "parameters"
            )
        for loss in map(landscape.loss, landscape.minima):
            if loss - self.offset < -ROUNDING * max(abs(loss), abs(self.offset)):
                raise DegenerateNoise(
                    f"offset is {self.offset:.6g}, but the loss at a minimum is {loss:.6g}: a loss "
                    "below the offset would make the variance negative; give an offset of at most "
                    "the least loss"
                )
        return LossProportional(factor @ factor.T, self.c, self.offset)

    def _strength(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, ""]:
        assert isinstance(landscape, AbstractLoss)
        return self.c * (landscape._loss(theta) - self.offset)

    def _factor(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        if self.factor is None:
            return _factor_at_minimum(landscape)
        return jnp.asarray(self.factor, theta.dtype)


def _factor_at_minimum(landscape: AbstractLandscape) -> Float[Array, "dim dim"]:
    """A factor of the positive part of the Hessian at the only minimum.

    Raises:
        InvalidArgument: when there are several minima, or none is known.
    """
    if len(landscape.minima) != 1:
        raise InvalidArgument(
            f"hessian is not given and {type(landscape).__name__} knows {len(landscape.minima)} "
            "minima; give noise.LossProportional the Hessian at the one that is left, for example "
            "that of escapade.find_minimum(landscape, near)"
        )
    return positive_factor(jax.jacfwd(landscape._gradient)(jnp.asarray(landscape.minima[0])))
