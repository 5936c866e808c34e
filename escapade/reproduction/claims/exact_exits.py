"""Exact exits from quadratic minima, from which most claims about exponents are decided."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from escapade.dynamics import AbstractDynamics, ContinuousSGD, GaussianSGD
from escapade.escape import Escape
from escapade.exact import ExactExit, solve
from escapade.landscape import Quadratic
from escapade.noise import AbstractNoise, HessianProportional, Isotropic
from escapade.region import AbstractRegion

ALIGNED = HessianProportional()
"""C = H."""

ISOTROPIC = Isotropic()
"""C = I."""

RATE = 1e-3
"""Learning rate of continuous dynamics, which only sets how many steps a unit of time has."""


def diffusion(noise_scale: float, noise: AbstractNoise) -> ContinuousSGD:
    """Continuous SGD with a given ``epsilon^2 = eta / B``."""
    return ContinuousSGD(RATE, RATE / noise_scale, noise)


def chain(learning_rate: float, noise_scale: float, noise: AbstractNoise) -> GaussianSGD:
    """Discrete Gaussian SGD with a given ``epsilon^2 = eta / B``."""
    return GaussianSGD(learning_rate, learning_rate / noise_scale, noise)


def from_quadratic(
    eigenvalues: Sequence[float] | np.ndarray, dynamics: AbstractDynamics, region: AbstractRegion
) -> ExactExit:
    """The exact exit from the minimum of a quadratic loss."""
    return solve(Escape(Quadratic(np.asarray(eigenvalues, dtype=float)), dynamics, region))


@dataclass(frozen=True)
class Exponent:
    """V in ``log E[tau] = V / epsilon^2 + ...``: the slope between two noise scales."""

    value: float
    error: float


def exponent(noise_scales: Sequence[float], exits: Sequence[ExactExit]) -> Exponent:
    """Slope of the log mean exit time between two ``1 / epsilon^2``, with its numerical error."""
    change = 1 / noise_scales[1] - 1 / noise_scales[0]
    first, second = exits
    value = (second.log_mean - first.log_mean) / change
    return Exponent(value, (first.error + second.error) / abs(change))
