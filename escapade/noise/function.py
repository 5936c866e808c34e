"""Noise given by the user as a function of theta."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.noise._base import AbstractNoise, positive_factor


class Function(AbstractNoise):
    """``C(theta) = function(theta)``: a (dim, dim) matrix, or one number times the identity."""

    function: Callable[[Float[Array, " dim"]], Array]

    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        value = jnp.asarray(self.function(theta), theta.dtype)
        return value * jnp.eye(landscape.dim, dtype=theta.dtype) if value.ndim == 0 else value

    def normals(self, landscape: AbstractLandscape) -> int:
        """One normal per parameter."""
        return landscape.dim

    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """Normals through a factor of the covariance at theta."""
        value = jnp.asarray(self.function(theta), theta.dtype)
        if value.ndim == 0:
            return jnp.sqrt(jnp.clip(value, 0.0)) * normals
        return positive_factor(value) @ normals

    def prepared(self, landscape: AbstractLandscape) -> "Function":
        """Itself, once its output fits."""
        dim = landscape.dim
        theta = jax.ShapeDtypeStruct((dim,), jnp.float32)
        try:
            shape = jax.eval_shape(self.function, theta).shape
        except Exception as error:
            raise InvalidArgument(
                f"noise function cannot be traced by JAX on {dim} parameters ({error}); write it "
                "with jax.numpy"
            ) from error
        if shape not in ((), (dim, dim)):
            raise InvalidArgument(
                f"noise function returns shape {shape}; it must return one number or ({dim}, {dim})"
            )
        return self
