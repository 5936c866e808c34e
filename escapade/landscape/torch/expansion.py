"""The expansion of a PyTorch network's loss around one point."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.errors import Diverged, InvalidArgument
from escapade.landscape.examples import AbstractExpansion
from escapade.landscape.torch.kept import Kept
from escapade.landscape.torch.network import Network
from escapade.precision import PRECISIONS

MEMORY = 2.0**28
"""Bytes kept unless the caller says otherwise."""


class TorchExpansion(AbstractExpansion):
    """Products by reverse passes over kept graphs (twice as fast as forward over reverse).

    What graphs do not fit the memory are built anew for each product.
    """

    def __init__(
        self,
        network: Network,
        theta: Float[np.ndarray, " dim"],
        precision: str = "float64",
        memory: float | None = None,
        *,
        weight_decay: float = 0.0,
        scale: float = 1.0,
    ):
        """Evaluate losses and gradient of ``L(scale theta)``; see `AbstractEmpirical.expand`."""
        if precision not in PRECISIONS:
            raise InvalidArgument(
                f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}"
            )
        if memory is not None and not memory >= 0:
            raise InvalidArgument(f"memory is {memory}; give a number of bytes, zero or more")
        self.precision = precision
        self.theta = np.array(theta, precision)
        if self.theta.shape != (network.dim,):
            raise InvalidArgument(
                f"theta has shape {self.theta.shape} but the landscape has {network.dim} parameters"
            )
        self.weight_decay = float(weight_decay) * float(scale) ** 2
        self._scale = float(scale)
        here = self._scale * self.theta.astype(np.float64)
        self._kept = Kept(network, here, precision, MEMORY if memory is None else float(memory))
        decay = 0.5 * self.weight_decay * float(self.theta @ self.theta)
        self.example_losses = self._kept.example_losses + self._rounded(decay)
        self.gradient = self._rounded(self._scale) * self._kept.gradient
        self.gradient += self._rounded(self.weight_decay) * self.theta
        self._check_finite()

    def hessian_product(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """``H v``."""
        vector = self._fitting(vector, self.dim, "vector")
        product = self._rounded(self._scale**2) * self._kept.hessian_product(vector)
        return product + self._rounded(self.weight_decay) * vector

    def example_slopes(self, vector: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " examples"]:
        """``g_i . v``."""
        vector = self._fitting(vector, self.dim, "vector")
        slopes = self._rounded(self._scale) * self._kept.example_slopes(vector)
        return slopes + self._rounded(self.weight_decay * float(self.theta @ vector))

    def pull(self, weights: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " dim"]:
        """``sum_i w_i g_i``."""
        weights = self._fitting(weights, self.examples, "weights")
        total = self.weight_decay * float(np.sum(weights, dtype=np.float64))
        pulled = self._rounded(self._scale) * self._kept.pull(weights)
        return pulled + self._rounded(total) * self.theta

    def example_curvatures(
        self, vector: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " examples"]:
        """``v^T H_i v``."""
        vector = self._fitting(vector, self.dim, "vector")
        curvatures = self._rounded(self._scale**2) * self._kept.example_curvatures(vector)
        return curvatures + self._rounded(self.weight_decay * float(vector @ vector))

    def _fitting(self, values: ArrayLike, size: int, argument: str) -> Float[np.ndarray, " size"]:
        array = np.asarray(values, self.precision)
        if array.shape != (size,):
            raise InvalidArgument(f"{argument} has shape {array.shape}; give {size} numbers")
        return array

    def _rounded(self, number: float) -> np.floating:
        return np.dtype(self.precision).type(number)

    def _check_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.example_losses))
        if bad.size:
            shown = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
            raise Diverged(
                f"the loss is NaN or infinite for examples {shown} ({bad.size} of "
                f"{self.examples}); check theta, and these inputs and targets"
            )
        if not np.isfinite(self.gradient).all():
            raise Diverged(
                "the gradient is NaN or infinite though the loss is finite; a norm or root in the "
                "model or loss has no derivative at zero: add a small number under it"
            )
