"""SGD as it is run: gradients of random minibatches."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from escapade.dynamics._base import AbstractDynamics
from escapade.dynamics.streams import Stream
from escapade.errors import InvalidArgument
from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.landscape.examples import over_examples
from escapade.noise import Empirical as EmpiricalNoise

SAMPLINGS = ("with_replacement", "without_replacement", "shuffled_epochs")


class MinibatchSGD(AbstractDynamics):
    """``theta' = theta - eta * (mean gradient of a minibatch)`` on a loss over examples.

    `sampling` is one of

    * ``"with_replacement"``: independent examples;
    * ``"without_replacement"``: a fresh random subset at each step;
    * ``"shuffled_epochs"``: a new random order per epoch, walked through in batches; a last
      incomplete batch is dropped.
    """

    learning_rate: float
    batch_size: int
    sampling: str

    def __init__(self, learning_rate: float, batch_size: float, sampling: str = "with_replacement"):
        """Set learning rate, batch size (a whole number) and sampling.

        Raises:
            InvalidArgument: when a number is not positive, or the sampling is unknown.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        if int(positive_number(batch_size, "batch_size")) != batch_size:
            raise InvalidArgument(
                f"batch_size is {batch_size}; a minibatch holds a whole number of examples "
                "(GaussianSGD takes any positive number)"
            )
        self.batch_size = int(batch_size)
        if sampling not in SAMPLINGS:
            raise InvalidArgument(f"sampling is {sampling!r}; choose one of {', '.join(SAMPLINGS)}")
        self.sampling = sampling

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "MinibatchSGD":
        """Itself, on a landscape with enough examples."""
        examples = _over_examples(landscape).examples
        if self.sampling != "with_replacement" and self.batch_size > examples:
            raise InvalidArgument(
                f"batch_size is {self.batch_size} but there are {examples} examples; "
                "sample with replacement or take a smaller batch"
            )
        return self

    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance of one example's gradient, times the `finite_population_factor`."""
        covariance = EmpiricalNoise().covariance(landscape, theta)
        return covariance * self.finite_population_factor(landscape)

    def finite_population_factor(self, landscape: AbstractLandscape) -> float:
        """Share of the variance left by drawing distinct examples, (N - B) / (N - 1); or one."""
        if self.sampling == "with_replacement":
            return 1.0
        examples = _over_examples(landscape).examples
        return (examples - self.batch_size) / max(examples - 1, 1)

    def examples_per_tick(self, landscape: AbstractLandscape) -> int:
        """One minibatch."""
        return self.batch_size

    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """A few; an epoch when shuffling, since its order is sorted once."""
        if self.sampling != "shuffled_epochs":
            return 16
        return max(16, _over_examples(landscape).examples // self.batch_size // 2)

    def ticks_drawn_together(self, landscape: AbstractLandscape) -> int:
        """One; an epoch when shuffling."""
        if self.sampling != "shuffled_epochs":
            return 1
        return _over_examples(landscape).examples // self.batch_size

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> Int[Array, "pairs 2 batch lanes"]:
        """Indices of the minibatches of two steps per pair."""
        tick = 2 * pair[:, None, :] + jnp.arange(2, dtype=jnp.uint32)[:, None]
        examples = _over_examples(landscape).examples
        if self.sampling == "with_replacement":
            return stream.uniform_index(tick, self.batch_size, examples)
        if self.sampling == "without_replacement":
            return stream.subset(tick, self.batch_size, examples)
        return self._walk_epochs(examples, stream, tick)

    def _walk_epochs(
        self, examples: int, stream: Stream, tick: UInt32[Array, "pairs 2 lanes"]
    ) -> Int[Array, "pairs 2 batch lanes"]:
        """Batches in the order of each epoch; an order is sorted once for all ticks it serves."""
        batches = examples // self.batch_size
        steps = 2 * tick.shape[0]
        epochs = (steps + batches - 2) // batches + 1  # the most that `steps` ticks can touch
        first_epoch = tick[0, 0] // batches
        ahead = jnp.arange(epochs, dtype=jnp.uint32)[:, None]
        orders = stream.permutation(first_epoch + ahead, examples)
        line = jnp.moveaxis(orders[..., : batches * self.batch_size], 0, 1)
        line = line.reshape(tick.shape[-1], -1)
        start = (tick - first_epoch * batches).astype(jnp.int32) * self.batch_size
        position = start[:, :, None, :] + jnp.arange(self.batch_size, dtype=jnp.int32)[:, None]
        flat = jnp.moveaxis(position, -1, 0).reshape(tick.shape[-1], -1)
        chosen = jnp.take_along_axis(line, flat, axis=1)
        return jnp.moveaxis(chosen.reshape(-1, *position.shape[:-1]), 0, -1)

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Int[Array, " batch"],
    ) -> Float[Array, " dim"]:
        """One step."""
        return theta - self.learning_rate * _over_examples(landscape).batch_gradient(theta, draw)

    def tick_spread(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """Standard deviation of one step's noise, for sampling with replacement."""
        scale = self.learning_rate / jnp.sqrt(self.batch_size)
        return scale * EmpiricalNoise().spread(landscape, theta, direction)

    def __str__(self) -> str:
        return f"minibatch SGD ({self.sampling.replace('_', ' ')})"


def _over_examples(landscape: AbstractLandscape) -> AbstractEmpirical:
    return over_examples(landscape, "MinibatchSGD", "GaussianSGD")
