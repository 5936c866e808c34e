"""Regions given by a predicate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.region._base import AbstractRegion


class Where(AbstractRegion):
    """``predicate(theta)`` is true inside; theta itself, not relative to the minimum."""

    predicate: Callable[[Float[Array, " dim"]], Bool[Array, ""]]

    def anchored(self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]) -> "Where":
        """The region itself, once the predicate is known to return one truth value."""
        theta = jax.ShapeDtypeStruct((landscape.dim,), jnp.float32)
        try:
            result = jax.eval_shape(self.predicate, theta)
        except Exception as error:
            raise InvalidArgument(
                f"predicate cannot be traced by JAX on {landscape.dim} parameters ({error}); "
                "write it with jax.numpy and return one truth value"
            ) from error
        if result.shape != () or result.dtype != bool:
            raise InvalidArgument(
                f"predicate returns {result.dtype}{list(result.shape)}; it must return one truth "
                "value, true inside the region"
            )
        return self

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> None:
        """A predicate has no closed form."""
        return None

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        # A comparison with NaN is false, which would read as outside.
        level = jnp.where(self.predicate(theta), -1.0, 1.0)
        return jnp.where(jnp.isnan(theta).any(), jnp.nan, level)

    def __str__(self) -> str:
        return "region where the predicate holds"
