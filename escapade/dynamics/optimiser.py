"""SGD with a memory: steps that depend on earlier gradients too."""

import abc
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics._base import AbstractDynamics, State, require_noise
from escapade.dynamics.gradients import (
    AbstractGradients,
    GaussianGradients,
    Minibatches,
    require_examples,
    require_sampling,
)
from escapade.dynamics.sampled import AbstractSampledDynamics
from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_numbers, positive_number
from escapade.noise import AbstractNoise


class AbstractOptimiser(AbstractSampledDynamics):
    """A rule from a state (theta, memory...) and a gradient estimate to the next state.

    The gradient is that of a minibatch, drawn as in `MinibatchSGD`; or, where a `noise` is given,
    the full one with Gaussian noise of that covariance over the batch size, on any landscape.
    """

    noise: eqx.AbstractVar[AbstractNoise | None]
    sampling: eqx.AbstractVar[str]

    @abc.abstractmethod
    def update(
        self, landscape: AbstractLandscape, state: State, gradient: Float[Array, " dim"]
    ) -> State:
        """The state after one gradient."""

    @property
    @abc.abstractmethod
    def effective_learning_rate(self) -> float | None:
        """Learning rate of plain SGD with the same limit of small steps; None where none has it."""

    @property
    def gradients(self) -> AbstractGradients:
        """Minibatches, or full gradients with the noise given."""
        if self.noise is None:
            return Minibatches(int(self.batch_size), self.sampling)
        return GaussianGradients(self.batch_size, self.noise)

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> Self:
        """With the noise prepared for the landscape, or on one with enough examples."""
        if self.noise is not None:
            return replace(self, noise=self.noise.prepared(landscape))
        minibatches = Minibatches(int(self.batch_size), self.sampling)
        require_examples(landscape, minibatches, type(self).__name__, "give it a noise=")
        return self

    def tick(self, landscape: AbstractLandscape, state: State, draw: Any) -> State:
        """One step."""
        gradient = self.gradients.estimate(landscape, state[0], draw)
        return self.update(landscape, state, gradient)

    @property
    def _source(self) -> str:
        """The gradients in a few words."""
        return "Gaussian noise" if self.noise is not None else self.sampling.replace("_", " ")


def require_gradients(batch_size: float, noise: AbstractNoise | None, sampling: str) -> float:
    """The batch size, fit for the gradients asked for: whole, unless there is a noise.

    Raises:
        InvalidArgument: when an argument is not what it must be.
    """
    if noise is None:
        return require_sampling(batch_size, sampling)
    require_noise(noise)
    return positive_number(batch_size, "batch_size")


def require_number(value: float, argument: str, least: float, most: float) -> float:
    """Check one number that may be zero.

    Raises:
        InvalidArgument: when it is not one number between `least` and `most`, infinity excluded.
    """
    number = np.nan if isinstance(value, bool) else as_numbers(value, argument)
    if np.ndim(number) != 0 or not (least <= number <= most and number < np.inf):
        raise InvalidArgument(
            f"{argument} is {value!r}; give a number between {least:g} and {most:g}"
        )
    return float(number)


def require_no_memory(dynamics: AbstractDynamics, asked: str) -> None:
    """Refuse steps that depend on earlier gradients where theta alone must decide the next one.

    Raises:
        Unsupported: for an optimiser; the message says what is `asked`, and what can be done.
    """
    if not isinstance(dynamics, AbstractOptimiser):
        return
    rate, limit = dynamics.effective_learning_rate, ""
    if rate is not None:
        limit = f", or ask of plain SGD with learning rate {rate:.6g}, its limit of small steps"
    raise Unsupported(
        f"{asked} is not known for {dynamics}, whose steps depend on earlier gradients too; "
        f"simulate or split{limit}"
    )
