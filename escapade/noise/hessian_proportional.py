"""Noise proportional to the Hessian, the paper's C = H."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise, Unsupported
from escapade.landscape import AbstractLandscape, AbstractLoss, Quadratic
from escapade.landscape._base import as_numbers
from escapade.noise._base import AbstractNoise, positive_factor
from escapade.noise.constant import Constant


class HessianProportional(AbstractNoise):
    """``C(theta) = c * H(theta)``; c has the units of the loss.

    Where the Hessian has negative eigenvalues those directions carry no noise (the positive part
    is taken), since a covariance cannot be negative.
    """

    c: float

    def __init__(self, c: float = 1.0):
        """Proportionality constant.

        Raises:
            DegenerateNoise: when c is zero, negative or not finite.
        """
        if np.ndim(c) != 0 or not 0 < as_numbers(c, "c") < np.inf:
            raise DegenerateNoise(f"c is {c}: without positive noise SGD never leaves a minimum")
        self.c = float(c)

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        factor = self._factor(landscape, theta)
        return factor @ factor.T

    def variance(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """``c d^T H d`` by one Hessian-vector product.

        Without the positive part, which is not smooth: negative where H is, along d, negative.
        """
        curved = jax.jvp(landscape._gradient, (theta,), (direction,))[1]
        return self.c * jnp.vdot(direction, curved)

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per parameter."""
        return landscape.dim

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """Normals through a factor of the Hessian at theta."""
        return self._factor(landscape, theta) @ normals

    def prepared(self, landscape: AbstractLandscape) -> AbstractNoise:
        """Constant noise on a quadratic landscape, itself on any other loss."""
        if not isinstance(landscape, AbstractLoss):
            raise Unsupported(
                "noise HessianProportional needs a loss but the landscape is a drift; use "
                "noise.Isotropic, Constant or Function"
            )
        if isinstance(landscape, Quadratic):
            return Constant(self.c * landscape.hessian)
        return self

    def _factor(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        return positive_factor(self.c * jax.jacfwd(landscape._gradient)(theta))
