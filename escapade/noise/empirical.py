"""The gradient noise a data set really has."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.landscape.examples import over_examples
from escapade.noise._base import AbstractNoise


class Empirical(AbstractNoise):
    """``C(theta) = (1/N) sum_i (g_i - g)(g_i - g)^T`` over the examples' gradients at theta."""

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        gradients = _over_examples(landscape).example_gradients(theta)
        centred = gradients - jnp.mean(gradients, axis=0)
        return centred.T @ centred / centred.shape[0]

    def variance(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """Variance over the examples of the slope of the loss along d: one forward pass."""
        losses = _over_examples(landscape).example_losses
        return jnp.var(jax.jvp(losses, (theta,), (direction,))[1])

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per example."""
        return _over_examples(landscape).examples

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " examples"],
    ) -> Float[Array, " dim"]:
        """One reverse pass: random weights of mean zero on the examples' gradients."""
        weights = (normals - jnp.mean(normals)) / jnp.sqrt(normals.shape[0])
        _, pullback = jax.vjp(_over_examples(landscape).example_losses, theta)
        return pullback(weights.astype(theta.dtype))[0]

    def prepared(self, landscape: AbstractLandscape) -> "Empirical":
        """Itself, on a landscape made of examples."""
        _over_examples(landscape)
        return self


def _over_examples(landscape: AbstractLandscape) -> AbstractEmpirical:
    return over_examples(
        landscape, "noise.Empirical", "noise.Isotropic, Constant, HessianProportional or Function"
    )
