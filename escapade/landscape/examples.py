"""Losses that are means over examples, whatever framework computes them: the provider protocol."""

import abc

import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from escapade.errors import Unsupported
from escapade.landscape._base import AbstractLandscape, AbstractLoss
from escapade.precision import AnyArray

Indices = Int[Array | np.ndarray, " batch"]


class AbstractExpansion(abc.ABC):
    """A loss over examples around one point: to second order, each example's loss to first.

    Everything is matrix-free: a product costs about one or two gradients of the whole data set, and
    memory a few vectors of `dim` numbers beside what is kept of the examples. Vectors go in and
    come out as NumPy arrays of the expansion's precision; weight decay is part of every example's
    loss, as in the landscape.

    Attributes:
        theta: the point.
        precision: "float64" or "float32", of every number below.
        weight_decay: its share of every Hessian eigenvalue.
        example_losses: loss of each example.
        gradient: gradient of their mean.
    """

    theta: Float[np.ndarray, " dim"]
    precision: str
    weight_decay: float
    example_losses: Float[np.ndarray, " examples"]
    gradient: Float[np.ndarray, " dim"]

    @property
    def loss(self) -> float:
        """Mean of the examples' losses."""
        return float(np.mean(self.example_losses, dtype=np.float64))

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.theta.size

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return self.example_losses.size

    @abc.abstractmethod
    def hessian_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``H v``: Hessian of the mean loss times a vector."""

    @abc.abstractmethod
    def example_slopes(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " examples"]:
        """``g_i . v``: slope of each example's loss along a vector."""

    @abc.abstractmethod
    def pull(self, weights: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " dim"]:
        """``sum_i w_i g_i``: weighted sum of the examples' gradients."""

    @abc.abstractmethod
    def example_curvatures(
        self, vector: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " examples"]:
        """``v^T H_i v``: curvature of each example's loss along a vector."""

    def noise_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``C v``: centred covariance of one example's gradient times a vector."""
        slopes = self.example_slopes(vector)
        return self.pull((slopes - slopes.mean()) / slopes.size)


class AbstractEmpirical(AbstractLoss):
    """``L(theta) = mean_i loss_i(theta)``: what SGD samples.

    The flat vector theta is the network's parameters in the order of `parameter_names`.
    """

    @property
    @abc.abstractmethod
    def examples(self) -> int:
        """Number of examples N."""

    @property
    @abc.abstractmethod
    def example_size(self) -> int:
        """Numbers in one example."""

    @property
    def title(self) -> str:
        """What is trained, in a few words."""
        return type(self).__name__

    @property
    def call_overhead(self) -> int:
        """What one gradient costs beside its work, as the number of products done in that time.

        Nothing in compiled code; a call into another framework is worth many replicas' work.
        """
        return 0

    @property
    @abc.abstractmethod
    def parameter_names(self) -> list[str]:
        """Name and shape of each parameter array, in the order of the flat vector."""

    @property
    @abc.abstractmethod
    def initial(self) -> Float[np.ndarray, " dim"]:
        """The parameters the landscape was built with, as a flat vector."""

    def subset(self, index: Int[np.ndarray, " examples"]) -> "AbstractEmpirical":
        """The mean loss over some of the examples.

        Raises:
            Unsupported: when this landscape's examples cannot be taken apart.
        """
        raise Unsupported(f"examples of a {type(self).__name__} cannot be taken out; use all")

    @abc.abstractmethod
    def at_minimum(self, theta: ArrayLike) -> "AbstractEmpirical":
        """The same landscape, knowing one more minimum."""

    @abc.abstractmethod
    def example_losses(
        self, theta: Float[AnyArray, " dim"], index: Indices | None = None
    ) -> Float[AnyArray, " batch"]:
        """Loss of each example (all of them, or those of an index), weight decay included."""

    @abc.abstractmethod
    def batch_gradient(
        self, theta: Float[AnyArray, " dim"], index: Indices
    ) -> Float[AnyArray, " dim"]:
        """Gradient of the mean loss over a minibatch."""

    @abc.abstractmethod
    def example_gradients(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, "examples dim"]:
        """Gradient of every example's loss: the points whose covariance is the gradient noise."""

    @abc.abstractmethod
    def expand(
        self,
        theta: Float[np.ndarray, " dim"],
        *,
        precision: str = "float64",
        memory: float | None = None,
    ) -> AbstractExpansion:
        """The loss around one point, matrix-free.

        Args:
            theta: the point.
            precision: "float64" or "float32".
            memory: bytes that may be kept of the examples to make products faster; what does not
                fit is computed anew, in chunks. A quarter of a gigabyte unless given.

        Raises:
            InvalidArgument: when theta or an argument does not fit.
            Diverged: when the loss or gradient is NaN or infinite there.
        """


def over_examples(landscape: AbstractLandscape, asker: str, otherwise: str) -> AbstractEmpirical:
    """The landscape as a loss over examples.

    Raises:
        Unsupported: when it is none; `asker` says who needs it, `otherwise` what to use instead.
    """
    if not isinstance(landscape, AbstractEmpirical):
        raise Unsupported(
            f"{asker} needs a loss over examples but the landscape is "
            f"{type(landscape).__name__}; use landscapes.Empirical, or {otherwise}"
        )
    return landscape
