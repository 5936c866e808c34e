"""Landscapes given by the user as a JAX function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape._base import (
    AbstractLandscape,
    AbstractLoss,
    as_points,
    positive_dimension,
)


class Function(AbstractLoss):
    """Any JAX function ``loss(theta) -> scalar`` of a vector of `dim` numbers."""

    function: Callable[[Float[Array, " dim"]], Float[Array, ""]]
    dim_: int
    minima_: Float[np.ndarray, "minima dim"]

    def __init__(
        self,
        loss: Callable[[Float[Array, " dim"]], Float[Array, ""]],
        dim: int,
        minima: ArrayLike | None = None,
    ):
        """Wrap a loss; `minima` may list known minima.

        Raises:
            InvalidArgument: when `loss` does not map `dim` numbers to one.
        """
        self.function = loss
        self.dim_ = positive_dimension(dim)
        self.minima_ = as_points(minima, dim, "minima")
        _check_output(loss, dim, (), "loss")

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.dim_

    @property
    def minima(self) -> Float[np.ndarray, "minima dim"]:
        """The minima the user named."""
        return self.minima_

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.asarray(self.function(theta))


class Drift(AbstractLandscape):
    """A noiseless drift ``field(theta) -> dtheta/dt`` that need not be a gradient."""

    field: Callable[[Float[Array, " dim"]], Float[Array, " dim"]]
    dim_: int
    minima_: Float[np.ndarray, "minima dim"]

    def __init__(
        self,
        field: Callable[[Float[Array, " dim"]], Float[Array, " dim"]],
        dim: int,
        minima: ArrayLike | None = None,
    ):
        """Wrap a drift; `minima` may list its known attracting points.

        Raises:
            InvalidArgument: when `field` does not map `dim` numbers to `dim` numbers.
        """
        self.field = field
        self.dim_ = positive_dimension(dim)
        self.minima_ = as_points(minima, dim, "minima")
        _check_output(field, dim, (dim,), "field")

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.dim_

    @property
    def minima(self) -> Float[np.ndarray, "attractors dim"]:
        """The attracting points the user named."""
        return self.minima_

    def _gradient(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return -jnp.asarray(self.field(theta))


class MaierStein(AbstractLandscape):
    """The Maier-Stein drift (Phys. Rev. E 48, 931, 1993), not a gradient unless beta = mu.

    ``u' = u - u^3 - beta u v^2``, ``v' = -mu (1 + u^2) v``; attractors at (-1, 0) and (1, 0).
    """

    beta: float
    mu: float = 1.0

    @property
    def dim(self) -> int:
        """Two parameters."""
        return 2

    @property
    def minima(self) -> Float[np.ndarray, "2 2"]:
        """The two attractors, left first."""
        return np.array([[-1.0, 0.0], [1.0, 0.0]])

    def _gradient(self, theta: Float[Array, " 2"]) -> Float[Array, " 2"]:
        u, v = theta[0], theta[1]
        return jnp.stack([u**3 - u + self.beta * u * v**2, self.mu * (1 + u**2) * v])


def _check_output(
    function: Callable[..., Array], dim: int, shape: tuple[int, ...], argument: str
) -> None:
    try:
        got = jax.eval_shape(function, jax.ShapeDtypeStruct((dim,), jnp.float32)).shape
    except Exception as error:
        raise InvalidArgument(
            f"{argument} cannot be traced by JAX on a vector of {dim} numbers ({error}); "
            "write it with jax.numpy"
        ) from error
    if got != shape:
        raise InvalidArgument(
            f"{argument} maps {dim} numbers to shape {got}; it must return shape {shape}"
        )
