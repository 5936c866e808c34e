"""Where the gradient of a step comes from: a minibatch, or the full gradient and Gaussian noise."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, PyTree, UInt32

from escapade.dynamics.streams import Stream
from escapade.errors import InvalidArgument
from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.landscape.examples import over_examples
from escapade.noise import AbstractNoise
from escapade.noise import Empirical as EmpiricalNoise

SAMPLINGS = ("with_replacement", "without_replacement", "shuffled_epochs")


class AbstractGradients(eqx.Module):
    """Random estimates of the gradient: drawn first, then evaluated at theta."""

    @abc.abstractmethod
    def covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance C: an estimate has covariance ``C / batch_size`` (float64, on the host)."""

    @abc.abstractmethod
    def examples_per_draw(self, landscape: AbstractLandscape) -> int:
        """Examples one estimate reads; 0 where the landscape is not made of examples."""

    @abc.abstractmethod
    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """Largest number of pairs worth drawing together."""

    @abc.abstractmethod
    def drawn_together(self, landscape: AbstractLandscape) -> int:
        """Estimates whose randomness is one draw."""

    @abc.abstractmethod
    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> PyTree[Array]:
        """Randomness of two estimates per pair, as in `AbstractDynamics.draw_pairs`."""

    @abc.abstractmethod
    def estimate(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"], draw: Any
    ) -> Float[Array, " dim"]:
        """One estimate of the gradient at theta."""


class GaussianGradients(AbstractGradients):
    """Full gradient minus ``xi / sqrt(B)`` with ``xi ~ N(0, C(theta))``.

    The sign is that of `GaussianSGD`, which adds its noise to theta.
    """

    batch_size: float
    noise: AbstractNoise

    def covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance of the noise at theta."""
        return self.noise.covariance(landscape, theta)

    def examples_per_draw(self, landscape: AbstractLandscape) -> int:
        """All of them: the gradient is the full one."""
        return landscape.examples if isinstance(landscape, AbstractEmpirical) else 0

    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """A few: normals are cheap one by one."""
        return 16

    def drawn_together(self, landscape: AbstractLandscape) -> int:
        """One."""
        return 1

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> Complex[Array, "pairs normals lanes"]:
        """Standard normals of two estimates per pair."""
        return stream.normals(pair, self.noise.normals(landscape))

    def estimate(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """Full gradient and noise."""
        noise = self.noise.sample(landscape, theta, draw.astype(theta.dtype))
        return landscape._gradient(theta) - noise / jnp.sqrt(self.batch_size)


class Minibatches(AbstractGradients):
    """Mean gradients of random minibatches; see `MinibatchSGD` for the samplings."""

    batch_size: int
    sampling: str

    def covariance(
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

    def examples_per_draw(self, landscape: AbstractLandscape) -> int:
        """One minibatch."""
        return self.batch_size

    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """A few; an epoch when shuffling, since its order is sorted once."""
        if self.sampling != "shuffled_epochs":
            return 16
        return max(16, _over_examples(landscape).examples // self.batch_size // 2)

    def drawn_together(self, landscape: AbstractLandscape) -> int:
        """One; an epoch when shuffling."""
        if self.sampling != "shuffled_epochs":
            return 1
        return _over_examples(landscape).examples // self.batch_size

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> Int[Array, "pairs 2 batch lanes"]:
        """Indices of two minibatches per pair."""
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

    def estimate(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Int[Array, " batch"],
    ) -> Float[Array, " dim"]:
        """Mean gradient over the minibatch."""
        return _over_examples(landscape).batch_gradient(theta, draw)


def require_sampling(batch_size: float, sampling: str) -> int:
    """The batch size as a whole number, of a known sampling.

    Raises:
        InvalidArgument: when the number is not whole and positive, or the sampling is unknown.
    """
    if int(positive_number(batch_size, "batch_size")) != batch_size:
        raise InvalidArgument(
            f"batch_size is {batch_size}; a minibatch holds a whole number of examples "
            "(Gaussian noise, as in GaussianSGD, takes any positive number)"
        )
    if sampling not in SAMPLINGS:
        raise InvalidArgument(f"sampling is {sampling!r}; choose one of {', '.join(SAMPLINGS)}")
    return int(batch_size)


def require_examples(
    landscape: AbstractLandscape, minibatches: Minibatches, asker: str, otherwise: str
) -> None:
    """Check that a landscape has the examples that minibatches need.

    Raises:
        Unsupported: when it is not made of examples; `otherwise` says what to use instead.
        InvalidArgument: when a minibatch of distinct examples needs more than there are.
    """
    examples = over_examples(landscape, asker, otherwise).examples
    if minibatches.sampling != "with_replacement" and minibatches.batch_size > examples:
        raise InvalidArgument(
            f"batch_size is {minibatches.batch_size} but there are {examples} examples; "
            "sample with replacement or take a smaller batch"
        )


def _over_examples(landscape: AbstractLandscape) -> AbstractEmpirical:
    return over_examples(landscape, "a minibatch", "Gaussian noise, as in GaussianSGD")
