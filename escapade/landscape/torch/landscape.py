"""The landscape of a PyTorch network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape._base import as_numbers, as_points, positive_number
from escapade.landscape.examples import AbstractEmpirical, AbstractExpansion, Indices
from escapade.landscape.torch import bridge
from escapade.landscape.torch.derivatives import Derivatives
from escapade.landscape.torch.expansion import TorchExpansion
from escapade.landscape.torch.network import Network
from escapade.precision import AnyArray, host_or_traced

CALL_OVERHEAD = 2**18
"""Products in the time of one call: some 150 microseconds for the way from compiled code and thirty
operations; beside them a network of 600 parameters does 1.6 in a nanosecond."""


class TorchEmpirical(AbstractEmpirical):
    """``L(theta) = mean_i loss_i(s theta) + weight_decay |s theta|^2 / 2`` at a `scale` s.

    Built by `torch_network`. PyTorch computes losses and derivatives, natively; the engine calls it
    from compiled code. The flat vector theta holds the parameters that move in the order of
    `parameter_names`.
    """

    derivatives: Derivatives = eqx.field(static=True)
    weight_decay: float
    scale: float
    minima_: Float[np.ndarray, "minima dim"]

    def __init__(
        self,
        network: Network,
        weight_decay: float = 0.0,
        scale: float = 1.0,
        minima: ArrayLike | None = None,
    ):
        """Landscape of a network that was checked; `torch_network` builds and checks it.

        Raises:
            InvalidArgument: when a number is out of range.
        """
        self.derivatives = Derivatives(network)
        if np.ndim(weight_decay) or not 0 <= as_numbers(weight_decay, "weight_decay") < np.inf:
            raise InvalidArgument(f"weight_decay is {weight_decay}; give zero or a positive number")
        self.weight_decay = float(weight_decay)
        self.scale = positive_number(scale, "scale")
        self.minima_ = as_points(minima, network.dim, "minima")

    @property
    def network(self) -> Network:
        """The private copy of module, examples and loss."""
        return self.derivatives.network

    @property
    def dim(self) -> int:
        """Number of parameters that move."""
        return self.network.dim

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return self.network.data.count

    @property
    def example_size(self) -> int:
        """Numbers in one example."""
        return self.network.data.numbers

    @property
    def call_overhead(self) -> int:
        """Products done in the time that the call of PyTorch takes."""
        return CALL_OVERHEAD

    @property
    def minima(self) -> Float[np.ndarray, "minima dim"]:
        """Minima recorded with `at_minimum`; empty before training."""
        return self.minima_

    @property
    def parameter_names(self) -> list[str]:
        """Name and shape of each parameter that moves, in the order of the flat vector."""
        named = zip(self.network.names, self.network.shapes, strict=True)
        return [f"{name} {shape}" for name, shape in named]

    @property
    def kinks(self) -> list[str]:
        """Names of modules whose derivative jumps (ReLU, max-pooling): no smooth minimum there."""
        return self.network.kinks

    @property
    def initial(self) -> Float[np.ndarray, " dim"]:
        """The parameters the landscape was built with, as a flat vector."""
        return self.network.initial / self.scale

    @property
    def title(self) -> str:
        """The module's class."""
        return f"PyTorch {self.network.title}"

    def subset(self, index: Int[np.ndarray, " examples"]) -> "TorchEmpirical":
        """The mean loss over some of the examples, with private copies of the module."""
        return TorchEmpirical(self.network.on(index), self.weight_decay, self.scale)

    def state(self, theta: ArrayLike) -> dict[str, torch.Tensor]:
        """The parameters that move, by name, for ``model.load_state_dict(..., strict=False)``."""
        point = as_points(theta, self.dim, "theta")[0]
        return self.network.named(torch.from_numpy(self.scale * point))

    def at_minimum(self, theta: ArrayLike) -> "TorchEmpirical":
        """The same landscape, knowing one more minimum."""
        known = np.concatenate([self.minima_, as_points(theta, self.dim, "theta")])
        return eqx.tree_at(lambda landscape: landscape.minima_, self, known)

    def example_losses(
        self, theta: Float[AnyArray, " dim"], index: Indices | None = None
    ) -> Float[AnyArray, " batch"]:
        """Loss of each example (all of them, or those of an index), weight decay included."""
        return host_or_traced(_example_losses, theta, self, index)

    def batch_gradient(
        self, theta: Float[AnyArray, " dim"], index: Indices
    ) -> Float[AnyArray, " dim"]:
        """Gradient of the mean loss over a minibatch."""
        return host_or_traced(_batch_gradient, theta, self, index)

    def example_gradients(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, "examples dim"]:
        """Gradient of every example's loss: the points whose covariance is the gradient noise."""
        return host_or_traced(_example_gradients, theta, self)

    def expand(
        self,
        theta: Float[np.ndarray, " dim"],
        *,
        precision: str = "float64",
        memory: float | None = None,
    ) -> AbstractExpansion:
        """The loss around one point, matrix-free; see `AbstractEmpirical.expand`."""
        return TorchExpansion(
            self.network,
            theta,
            precision,
            memory,
            weight_decay=self.weight_decay,
            scale=self.scale,
        )

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.mean(self.example_losses(theta))


def _example_losses(
    landscape: TorchEmpirical, index: Indices | None, theta: Float[Array, " dim"]
) -> Float[Array, " batch"]:
    point = landscape.scale * theta
    decay = 0.5 * landscape.weight_decay * jnp.vdot(point, point)
    return bridge.losses(landscape.derivatives, point, index) + decay


def _batch_gradient(
    landscape: TorchEmpirical, index: Indices, theta: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    point = landscape.scale * theta
    gradient = bridge.mean_gradient(landscape.derivatives, point, index)
    return landscape.scale * (gradient + landscape.weight_decay * point)


def _example_gradients(
    landscape: TorchEmpirical, theta: Float[Array, " dim"]
) -> Float[Array, "examples dim"]:
    each = jnp.arange(landscape.examples, dtype=jnp.int32)[:, None]
    return jax.vmap(lambda one: _batch_gradient(landscape, one, theta))(each)
