"""Exit of an isotropic Ornstein-Uhlenbeck process from a centred ball, in any dimension.

In a ball of radius R, with pull lambda and variance v per step and coordinate,

    E = R^2 / (d v) 2F2(1, 1; 2, 1 + d/2; lambda R^2 / v)

from the centre; the series of 2F2 has positive terms, and from radius r the terms of the powers of
R and of r subtract one by one, so it is summed in logarithms without cancellation.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from escapade.errors import Unsupported
from escapade.exact.diffusion import DiffusionLaw, solve_diffusion
from escapade.exact.exit import AbstractLaw
from escapade.exact.line import Line

CENTER = 1e-8
"""Radius, in units of the ball's, that stands for the centre in logarithmic coordinates."""


def log_mean(dim: int, pull: float, variance: float, radius: float, start: float) -> float:
    """Logarithm of the mean exit time in steps; `start` is the starting radius."""
    argument = pull * radius**2 / variance
    largest = max(0.0, argument - dim / 2)
    terms = int(largest + 12 * np.sqrt(largest + argument + 1) + 100)
    k = np.arange(terms)
    ratios = np.log(argument / (dim / 2 + k[1:])) if argument > 0 else np.full(terms - 1, -np.inf)
    coefficients = np.append(0.0, np.cumsum(ratios)) - np.log(k + 1)
    if start > 0:
        coefficients = coefficients + np.log(-np.expm1(2 * (k + 1) * np.log(start / radius)))
    return float(logsumexp(coefficients) + np.log(radius**2 / (dim * variance)))


def log_radius_line(dim: int, pull: float, variance: float, radius: float, start: float) -> Line:
    """The diffusion of the logarithm of the radius, which has the same exit time."""

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spread = variance * np.exp(-2 * x)
        return (dim - 2) / 2 * spread - pull, spread

    return Line(moments, float(np.log(max(start, CENTER * radius))), -np.inf, float(np.log(radius)))


class RadialLaw(AbstractLaw):
    """The rate, through the diffusion of the logarithm of the radius.

    Attributes:
        dim: dimension of the ball.
        pull: relaxation rate per step.
        variance: variance of the noise per step and coordinate.
        radius: radius of the ball.
        start: starting radius.
    """

    dim: int
    pull: float
    variance: float
    radius: float
    start: float

    @cached_property
    def diffusion(self) -> DiffusionLaw:
        """The law of the logarithm of the radius.

        Raises:
            Unsupported: when the dimension is so high that its potential is too steep.
        """
        line = log_radius_line(self.dim, self.pull, self.variance, self.radius, self.start)
        return solve_diffusion(line)[0]

    @property
    def rate(self) -> float:
        """Lowest eigenvalue."""
        return self.diffusion.rate

    @property
    def second_rate(self) -> float:
        """Not available."""
        raise self._unsupported("second_rate")

    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Not available."""
        raise self._unsupported("survival")

    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Not available."""
        raise self._unsupported("exit_probability")

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(
            f"{what} is not computed in dimension {self.dim}, only mean and rate are; after the "
            "relaxation time the survival is exp(-rate t), before it use simulate"
        )
