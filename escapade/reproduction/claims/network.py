"""The network on which claims about networks are tested: trained once, measured once."""

import functools
import os
import threading
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from escapade.data._avila import ENVIRONMENT
from escapade.dynamics import GaussianSGD, MinibatchSGD
from escapade.escape import Escape
from escapade.exact import ExactExit, solve
from escapade.exits import ExitSample, simulate
from escapade.landscape import AbstractEmpirical, Quadratic
from escapade.minimum import Neighbourhood, effective_dimension, neighbourhood
from escapade.noise import Constant
from escapade.region import Ball, Slab
from escapade.study import load_specification
from escapade.study.problem import build_landscape, find_study_minimum

STIFFNESS = 0.2
"""eta lambda_max of every run on the network."""


@dataclass(frozen=True)
class Network:
    """A network at a minimum.

    Attributes:
        landscape: its loss over the examples.
        theta: the minimum.
        around: Hessian and noise covariance of the examples there.
        note: which network and data these are.
    """

    landscape: AbstractEmpirical
    theta: Float[np.ndarray, " dim"]
    around: Neighbourhood
    note: str

    @property
    def learning_rate(self) -> float:
        """That of the stiffness all runs have."""
        return STIFFNESS / self.around.sharpness

    def slab(self, barrier: float, batch_size: int) -> Escape:
        """Minibatch SGD leaving a slab across the sharpest direction, of a barrier."""
        normal = self.around.sharpest_direction
        size = self.half_width(barrier, batch_size)
        dynamics = MinibatchSGD(self.learning_rate, batch_size)
        return Escape(self.landscape, dynamics, Slab(normal, size), minimum=self.theta)

    def half_width(self, barrier: float, batch_size: int) -> float:
        """Half-width of the slab that has a barrier, for a chain of this learning rate."""
        normal, rate = self.around.sharpest_direction, self.learning_rate
        stationary = self.around.stationary_covariance(rate)
        variance = rate / batch_size * normal @ stationary @ normal
        return float(np.sqrt(2 * barrier * variance))

    def groups(self, barrier: float, batch_size: int) -> str:
        """The dimensionless groups of a slab, to be noted beside what is measured."""
        normal, around = self.around.sharpest_direction, self.around
        force = around.sharpness * self.half_width(barrier, batch_size)
        signal = (batch_size / (normal @ around.covariance @ normal)) ** 0.5 * force
        dimension = effective_dimension(around.stationary_covariance(self.learning_rate))
        return (
            f"slab, B = {batch_size}: b = {barrier:g}, s = {signal:.3g}, eta lambda_max = "
            f"{STIFFNESS:g}, effective dimension {dimension:.3g}"
        )

    def surrogate(self, barrier: float, batch_size: int) -> ExactExit:
        """The exact exit of Gaussian SGD in one dimension, with this curvature and noise."""
        normal, around = self.around.sharpest_direction, self.around
        noise = Constant([[float(normal @ around.covariance @ normal)]])
        dynamics = GaussianSGD(self.learning_rate, batch_size, noise)
        region = Ball(self.half_width(barrier, batch_size))
        return solve(Escape(Quadratic([around.sharpness]), dynamics, region))


def at_hand() -> bool:
    """Whether a copy of the Avila data is named; nothing is downloaded for a claim."""
    return ENVIRONMENT in os.environ


_TRAINING = threading.Lock()


def trained_network() -> Network:
    """The network of the study avila, or of digits where no Avila data are at hand.

    Found once for all claims, which may be measured side by side.
    """
    with _TRAINING:
        return _trained_network()


@functools.cache
def _trained_network() -> Network:
    specification = load_specification("avila" if at_hand() else "digits")
    landscape = build_landscape(specification.landscape, specification.seed)
    assert isinstance(landscape, AbstractEmpirical)
    theta = find_study_minimum(specification, landscape).theta
    around = neighbourhood(Escape(landscape, MinibatchSGD(1e-3, 1), Ball(1.0), minimum=theta))
    note = (
        f"network: that of `escapade study {specification.name}`, {landscape.dim} parameters, "
        f"{landscape.examples} examples, seed {specification.seed}"
    )
    if not at_hand():
        note += f"; with {ENVIRONMENT} set to a copy of avila.zip it is that of the Avila data"
    return Network(landscape, theta, around, note)


@functools.lru_cache(maxsize=16)
def slab_exits(barrier: float, batch_size: int, replicas: int, key: int) -> ExitSample:
    """Real minibatch exits from the slab of a barrier."""
    network = trained_network()
    most = int(30 * network.surrogate(barrier, batch_size).mean)
    return simulate(network.slab(barrier, batch_size), replicas, most, key)


def lost(*samples: ExitSample) -> tuple[str, ...]:
    """The failed assumption that replicas left, where some did not."""
    count = sum(sample.replicas - sample.exits for sample in samples)
    return (f"{count} replicas are censored or diverged",) if count else ()
