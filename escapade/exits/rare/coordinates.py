"""Reaction coordinates: numbers that grow on the way out. They decide the cost, not the answer."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from escapade.dynamics import AbstractOptimiser
from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.minimum import neighbourhood

Coordinate = Callable[[Float[Array, " dim"]], Float[Array, ""]]


class LocalQuasipotential(eqx.Module):
    """``(theta - minimum)^T S^-1 (theta - minimum) / 2``, of the quadratic theory."""

    minimum: Float[np.ndarray, " dim"]
    precision: Float[np.ndarray, "dim dim"]

    def __call__(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Value at theta."""
        displacement = theta - self.minimum
        return 0.5 * displacement @ (jnp.asarray(self.precision, theta.dtype) @ displacement)

    def __str__(self) -> str:
        return "the local quasipotential"


class Tabulated(eqx.Module):
    """A function known on a regular grid, such as a committor or a quasipotential.

    Linear between the nodes, constant beyond the grid; where the table is not finite, as outside
    the region, the largest finite value stands.
    """

    axes: tuple[Float[np.ndarray, " nodes"], ...]
    values: Float[np.ndarray, "..."]

    def __init__(self, axes: tuple[Float[np.ndarray, " nodes"], ...], values: np.ndarray):
        """Set the axes, each increasing in equal steps, and a value at each node.

        Raises:
            InvalidArgument: when shapes do not fit, a step varies, or no value is finite.
        """
        self.axes = tuple(np.asarray(axis, dtype=np.float64) for axis in axes)
        self.values = np.asarray(values, dtype=np.float64)
        if self.values.shape != tuple(axis.size for axis in self.axes):
            raise InvalidArgument(
                f"values has shape {self.values.shape} but the axes have "
                f"{tuple(axis.size for axis in self.axes)} nodes; give one value for each node"
            )
        known = np.isfinite(self.values)
        if not known.any():
            raise InvalidArgument("values holds no finite number; give one for each node")
        self.values = np.where(known, self.values, self.values[known].max())
        for number, axis in enumerate(self.axes):
            steps = np.diff(axis)
            if axis.size < 2 or steps.min() <= 0 or np.ptp(steps) > 1e-6 * steps.mean():
                raise InvalidArgument(
                    f"axis {number} does not increase in equal steps; give a regular grid"
                )

    def __call__(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Value at theta."""
        places = [
            (theta[number] - axis[0]) / (axis[1] - axis[0]) for number, axis in enumerate(self.axes)
        ]
        values = jnp.asarray(self.values, theta.dtype)
        return map_coordinates(values, [place[None] for place in places], 1, mode="nearest")[0]

    def __str__(self) -> str:
        return "a tabulated coordinate"


def coordinate_of(escape: Escape, choice: str | Coordinate) -> tuple[Coordinate | None, str]:
    """The coordinate chosen, None for the region's own level, and what it is called.

    Raises:
        InvalidArgument: when it is neither a known name nor a function.
    """
    if choice == "level":
        return None, "the region's level"
    if choice == "quasipotential":
        # With a memory, that of small steps; it decides the cost only.
        small = escape.dynamics.continuous or isinstance(escape.dynamics, AbstractOptimiser)
        covariance = neighbourhood(escape).stationary_covariance(
            None if small else escape.dynamics.learning_rate
        )
        found = LocalQuasipotential(escape.minimum, np.linalg.inv(covariance))
        return found, str(found)
    if callable(choice):
        theta = jax.ShapeDtypeStruct((escape.landscape.dim,), jnp.float32)
        try:
            shape = jax.eval_shape(choice, theta).shape
        except Exception as error:
            raise InvalidArgument(
                f"coordinate cannot be traced by JAX on {escape.landscape.dim} parameters "
                f"({error}); write it with jax.numpy and return one number"
            ) from error
        if shape != ():
            raise InvalidArgument(
                f"coordinate returns an array of shape {shape}; it must return one number"
            )
        named = type(choice).__str__ is not object.__str__ and isinstance(choice, eqx.Module)
        return choice, str(choice) if named else "a coordinate given"
    raise InvalidArgument(
        f"coordinate is {choice!r}; choose 'level', 'quasipotential' or a function of theta"
    )
