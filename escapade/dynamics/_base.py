"""What a dynamics is: a transition rule of states driven by an explicit stream of noise."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32

from escapade.dynamics.streams import Stream
from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise

State = Any
"""Theta, or a tuple of theta and what else the next step depends on: any pytree of arrays."""


class AbstractDynamics(eqx.Module):
    """A Markov chain of states; `ticks_per_step` of its ticks make one SGD step.

    A state is theta itself, or a tuple that begins with theta: `position` tells it. The randomness
    of a tick is drawn first, from a counter-based stream, and the transition is a deterministic
    function of it: the same draws give the same exits in any engine.
    """

    learning_rate: eqx.AbstractVar[float]
    batch_size: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def ticks_per_step(self) -> int:
        """Ticks in one SGD step (one, but for discretised continuous dynamics)."""

    @property
    @abc.abstractmethod
    def continuous(self) -> bool:
        """Whether the ticks approximate a diffusion, so that exits between ticks count."""

    @abc.abstractmethod
    def prepared(self, landscape: AbstractLandscape) -> "AbstractDynamics":
        """The dynamics for one landscape, checked, with constants computed once.

        Raises:
            EscapadeError: when it cannot run on this landscape; the message says why.
        """

    @abc.abstractmethod
    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance C: one step's noise has covariance ``learning_rate^2 C / batch_size``.

        Computed in float64 on the host.
        """

    @abc.abstractmethod
    def examples_per_tick(self, landscape: AbstractLandscape) -> int:
        """Examples one tick reads; 0 where the landscape is not made of examples."""

    @abc.abstractmethod
    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """Largest number of pairs worth drawing together."""

    def ticks_drawn_together(self, landscape: AbstractLandscape) -> int:
        """Ticks whose randomness is one draw: their noise is known as soon as the first is."""
        return 1

    @abc.abstractmethod
    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> PyTree[Array]:
        """Randomness of the ticks ``2 pair`` and ``2 pair + 1`` of several replicas.

        `pair` holds successive pairs along its first axis, which is also the first axis of the
        result; the replica is the last. Split the two ticks of one pair with `halves`.
        """

    def initial_state(self, landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> State:
        """State of a run that begins at theta."""
        return theta

    @abc.abstractmethod
    def tick(self, landscape: AbstractLandscape, state: State, draw: Any) -> State:
        """One transition."""

    def contraction(
        self,
        landscape: AbstractLandscape,
        minimum: Float[np.ndarray, " dim"],
        drift_matrix: Float[np.ndarray, "dim dim"],
    ) -> float | None:
        """Factor by which a tick shrinks the slowest small deviation from the minimum.

        `drift_matrix` is the derivative of the gradient field there. At least one where deviations
        do not decay; None where it is not known. A guide for how long a run needs to settle.
        """
        rates = self.learning_rate / self.ticks_per_step * np.linalg.eigvals(drift_matrix)
        return float(np.max(np.abs(1 - rates)))

    def memory(self, landscape: AbstractLandscape) -> float:
        """Steps in which what a gradient left in the state, theta aside, decays by a factor e.

        Asked where `contraction` is not known. Zero without memory, or where that too is not known.
        """
        return 0.0

    @abc.abstractmethod
    def __str__(self) -> str:
        """The dynamics in a few words."""


def position(state: State) -> Any:
    """The parameters in a state."""
    return state[0] if isinstance(state, tuple) else state


def halves(draw: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
    """Randomness of the even and of the odd tick of a pair.

    Complex leaves hold one tick in each part; other leaves have a leading axis of two, once that
    of the pairs is taken away.
    """

    def part(leaf: Array, odd: bool) -> Array:
        if jnp.iscomplexobj(leaf):
            return leaf.imag if odd else leaf.real
        return leaf[int(odd)]

    even = jax.tree.map(lambda leaf: part(leaf, False), draw)
    odd = jax.tree.map(lambda leaf: part(leaf, True), draw)
    return even, odd


def require_noise(noise: object) -> None:
    """Check that a noise is one of Escapade's.

    Raises:
        InvalidArgument: when it is not.
    """
    if not isinstance(noise, AbstractNoise):
        raise InvalidArgument(
            f"noise is {noise!r}; give one of escapade.noise, for example noise.Isotropic(1.0) or "
            "noise.Constant(covariance)"
        )
