"""Dynamics whose randomness is that of a gradient estimate."""

import abc

import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32

from escapade.dynamics._base import AbstractDynamics
from escapade.dynamics.gradients import AbstractGradients
from escapade.dynamics.streams import Stream
from escapade.landscape import AbstractLandscape


class AbstractSampledDynamics(AbstractDynamics):
    """A tick draws one estimate of the gradient, and nothing else."""

    @property
    @abc.abstractmethod
    def gradients(self) -> AbstractGradients:
        """Where the estimates come from."""

    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance C of an estimate, times the batch size."""
        return self.gradients.covariance(landscape, theta)

    def examples_per_tick(self, landscape: AbstractLandscape) -> int:
        """Examples of one estimate."""
        return self.gradients.examples_per_draw(landscape)

    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """Largest number of pairs worth drawing together."""
        return self.gradients.pairs_per_draw(landscape)

    def ticks_drawn_together(self, landscape: AbstractLandscape) -> int:
        """Estimates whose randomness is one draw."""
        return self.gradients.drawn_together(landscape)

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> PyTree[Array]:
        """Randomness of two estimates per pair."""
        return self.gradients.draw_pairs(landscape, stream, pair)
