"""The expansion of a JAX loss over examples around one point."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from escapade.landscape.examples import AbstractExpansion
from escapade.precision import context

if TYPE_CHECKING:
    from escapade.landscape.empirical import Empirical


class Expansion(AbstractExpansion):
    """Products by forward and reverse differentiation, the whole data set at once."""

    def __init__(
        self,
        landscape: "Empirical",
        theta: Float[np.ndarray, " dim"],
        precision: str = "float64",
        memory: float | None = None,
    ):
        """Evaluate losses and gradient; products come later."""
        self.landscape = landscape
        self.precision = precision
        self.theta = np.asarray(theta, precision)
        self.weight_decay = landscape.weight_decay * landscape.scale**2
        self.example_losses = self._call(_losses)
        self.gradient = self._call(_gradient)

    def _call(self, function, *vectors):
        with context(self.precision):
            arguments = [jnp.asarray(np.asarray(v, self.precision)) for v in vectors]
            return np.asarray(function(self.landscape, jnp.asarray(self.theta), *arguments))

    def hessian_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``H v``."""
        return self._call(_hessian_product, vector)

    def example_slopes(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " examples"]:
        """``g_i . v``."""
        return self._call(_slopes, vector)

    def pull(self, weights: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " dim"]:
        """``sum_i w_i g_i``."""
        return self._call(_pull, weights)

    def example_curvatures(
        self, vector: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " examples"]:
        """``v^T H_i v``."""
        return self._call(_curvatures, vector)


@eqx.filter_jit
def _losses(landscape, theta):
    return landscape.example_losses(theta)


@eqx.filter_jit
def _gradient(landscape, theta):
    return landscape._gradient(theta)


@eqx.filter_jit
def _hessian_product(landscape, theta, vector):
    return jax.jvp(landscape._gradient, (theta,), (vector,))[1]


@eqx.filter_jit
def _slopes(landscape, theta, vector):
    return jax.jvp(landscape.example_losses, (theta,), (vector,))[1]


@eqx.filter_jit
def _pull(landscape, theta, weights):
    return jax.vjp(landscape.example_losses, theta)[1](weights)[0]


@eqx.filter_jit
def _curvatures(landscape, theta, vector):
    def slopes(point):
        return jax.jvp(landscape.example_losses, (point,), (vector,))[1]

    return jax.jvp(slopes, (theta,), (vector,))[1]
