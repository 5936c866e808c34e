"""What a landscape is: a loss surface, or a drift that is not the gradient of one."""

import abc

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.precision import AnyArray, host_or_traced


class AbstractLandscape(eqx.Module):
    """A vector field ``-gradient(theta)`` on flat parameter vectors.

    JAX arrays in give JAX arrays out, differentiable and in their own precision; NumPy arrays and
    lists are evaluated in float64 and give NumPy.
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of parameters."""

    @property
    @abc.abstractmethod
    def minima(self) -> Float[np.ndarray, "minima dim"]:
        """Known minima (attractors, for a drift); empty where none is known."""

    @abc.abstractmethod
    def _gradient(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Minus the noiseless drift at a JAX vector."""

    def gradient(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, " dim"]:
        """Gradient of the loss (minus the drift, where there is no loss) at one point.

        Raises:
            InvalidArgument: when theta has not `dim` numbers.
        """
        return host_or_traced(_gradient_of, _fitting(theta, self.dim), self)


class AbstractLoss(AbstractLandscape):
    """A landscape that has a loss; its gradient is the loss's own."""

    @abc.abstractmethod
    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Loss at a JAX vector."""

    def loss(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, ""]:
        """Loss at one point.

        Raises:
            InvalidArgument: when theta has not `dim` numbers.
        """
        return host_or_traced(_loss_of, _fitting(theta, self.dim), self)

    def _gradient(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return jax.grad(self._loss)(theta)


def _fitting(theta: AnyArray, dim: int) -> AnyArray:
    if np.shape(theta) != (dim,):
        raise InvalidArgument(
            f"theta has shape {np.shape(theta)} but the landscape has {dim} parameters"
        )
    return theta


def _gradient_of(landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
    return landscape._gradient(theta)


def _loss_of(landscape: AbstractLoss, theta: Float[Array, " dim"]) -> Float[Array, ""]:
    return landscape._loss(theta)


def as_points(points: ArrayLike | None, dim: int, argument: str) -> Float[np.ndarray, "points dim"]:
    """Check a list of points, or one point, of the right dimension; None gives no points.

    Raises:
        InvalidArgument: when the shape does not fit or a value is not finite.
    """
    if points is None:
        return np.zeros((0, dim))
    array = as_numbers(points, argument)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidArgument(
            f"{argument} has shape {np.shape(points)}; give points of {dim} numbers, "
            f"shape ({dim},) or (count, {dim})"
        )
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{argument} holds NaN or infinity; give finite numbers")
    return array


def as_numbers(values: ArrayLike, argument: str) -> Float[np.ndarray, "..."]:
    """Host array in float64 of numbers given by the user.

    Raises:
        InvalidArgument: when they are not real numbers, or lists of different lengths.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidArgument(f"{argument} is not a regular array ({error})") from error
    if array.dtype.kind not in "biuf":
        raise InvalidArgument(f"{argument} is {values!r}; give real numbers")
    return array.astype(np.float64)


def positive_number(value: float, argument: str) -> float:
    """Check one positive number given by the user.

    Raises:
        InvalidArgument: when it is not one finite positive number.
    """
    number = np.nan if isinstance(value, bool) else as_numbers(value, argument)
    if np.ndim(number) != 0 or not 0 < number < np.inf:
        raise InvalidArgument(f"{argument} is {value!r}; give a positive number")
    return float(number)


def positive_dimension(dim: int) -> int:
    """Check a dimension given by the user.

    Raises:
        InvalidArgument: when it is not a whole number of at least 1.
    """
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise InvalidArgument(f"dim is {dim!r}; give a whole number of at least 1")
    return dim
