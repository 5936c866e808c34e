"""What a region is: the set D that SGD leaves."""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_numbers
from escapade.precision import AnyArray, host_or_traced
from escapade.region.forms import LinearForm, QuadraticForm


class AbstractRegion(eqx.Module):
    """A set of parameters: ``level(theta) < 0`` inside, ``>= 0`` outside.

    A region is described relative to the minimum that is left (`anchored` fills it in), unless its
    own centre is given.
    """

    @abc.abstractmethod
    def anchored(
        self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]
    ) -> "AbstractRegion":
        """The same region with everything it takes from the landscape and the minimum filled in.

        Raises:
            InvalidArgument: when the region does not fit the landscape.
        """

    @abc.abstractmethod
    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Level of a JAX vector."""

    @abc.abstractmethod
    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> LinearForm | QuadraticForm | None:
        """The region near the minimum, in displacements from it; None without closed form."""

    @abc.abstractmethod
    def __str__(self) -> str:
        """The region in a few words."""

    def level(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, ""]:
        """Negative inside, zero or positive outside; NaN for NaN.

        Raises:
            Unsupported: when the region takes its level from a landscape and is not anchored.
        """
        return host_or_traced(_level_of, theta, self)


def _level_of(region: AbstractRegion, theta: Float[Array, " dim"]) -> Float[Array, ""]:
    return region._level(theta)


def direction(normal: ArrayLike) -> Float[np.ndarray, " dim"]:
    """Check a normal given by the user and scale it to unit length.

    Raises:
        InvalidArgument: when it is no vector, or a vector that is zero or not finite.
    """
    array = as_numbers(normal, "normal")
    length = np.linalg.norm(array)
    if array.ndim != 1 or not np.isfinite(length) or length == 0:
        raise InvalidArgument(
            f"normal has shape {array.shape} and length {length:.3g}; give a finite vector that "
            "is not zero"
        )
    return array / length


def fits(vector: Float[np.ndarray, " dim"], dim: int, argument: str) -> None:
    """Check that a vector of the region has the dimension of the landscape.

    Raises:
        InvalidArgument: when it has not.
    """
    if vector.shape != (dim,):
        raise InvalidArgument(
            f"{argument} has {vector.size} numbers but the landscape has {dim} parameters"
        )
