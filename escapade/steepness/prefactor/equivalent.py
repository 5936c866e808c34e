"""The diffusion that stands for a chain of Gaussian SGD: backward error analysis.

One step of learning rate eta advances a smooth function's mean as the generator of the diffusion
with drift ``F b + eps^2 beta`` and noise ``F C F^T`` does in the time eta, up to ``eta^3``, where

    ``F = (1 + (eta / 2) Db)^{-1},   beta = -(eta / 4) C : D^2 b``

for constant noise (Zygalakis, SIAM J. Sci. Comput. 33, 2011, to first order in eta; in this form
also exact in the stationary law for a linear drift). Noise that depends on theta changes by the
further ``-(eta / 2) (b . grad) C``, and the part of its effect that no diffusion has, a third
cumulant, is left out.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapade.landscape import AbstractLandscape
from escapade.noise import Constant, Isotropic
from escapade.steepness.hamiltonian import AbstractHamiltonian, GaussianHamiltonian


class EquivalentDiffusion(AbstractHamiltonian):
    """Hamiltonian of the diffusion that stands for a chain, in time ``t = eta * steps``."""

    chain: GaussianHamiltonian
    learning_rate: float

    @property
    def landscape(self) -> AbstractLandscape:
        """The chain's."""
        return self.chain.landscape

    @property
    def time_step(self) -> None:
        """It moves in continuous time."""
        return None

    def __call__(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, ""]:
        """Hamiltonian at a point and a momentum."""
        back = self._factor(x).T @ p
        covariance = self._noise(x)
        return back @ self.chain.drift(x) + back @ covariance @ back / 2

    def drift(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Drift ``F b``."""
        return self._factor(x) @ self.chain.drift(x)

    def covariance(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        """Noise ``F C F^T``, and its change along the drift."""
        factor = self._factor(x)
        return factor @ self._noise(x) @ factor.T

    def _factor(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        identity = jnp.eye(x.shape[0], dtype=x.dtype)
        bend = jax.jacfwd(self.chain.drift)(x)
        return jnp.linalg.inv(identity + self.learning_rate / 2 * bend)

    def _noise(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        if isinstance(self.chain.noise, Constant | Isotropic):
            return self.chain.covariance(x)
        covariance, change = jax.jvp(self.chain.covariance, (x,), (self.chain.drift(x),))
        return covariance - self.learning_rate / 2 * change


class StepDrift(eqx.Module):
    """The drift ``beta`` of order ``eps^2`` that finite steps add."""

    diffusion: EquivalentDiffusion

    @property
    def vanishes(self) -> bool:
        """Whether it is zero everywhere."""
        return False

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Beta at a JAX vector."""
        chain = self.diffusion.chain
        second = jax.jacfwd(jax.jacfwd(chain.drift))(x)
        spread = jnp.einsum("ijk,jk->i", second, chain.covariance(x))
        return -self.diffusion.learning_rate / 4 * spread
