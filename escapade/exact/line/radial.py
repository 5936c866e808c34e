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
from escapade.exact.exit import AbstractLaw
from escapade.exact.line.diffusion import DiffusionLaw, solve_diffusion
from escapade.exact.line.process import Line
from escapade.exact.line.reduction import Radial

CENTER = 1e-8
"""Radius, in units of the ball's, that stands for the centre in logarithmic coordinates."""


def log_mean(radial: Radial) -> float:
    """Logarithm of the mean exit time in steps."""
    dim, radius, start = radial.dim, radial.radius, radial.start
    argument = radial.pull * radius**2 / radial.variance
    largest = max(0.0, argument - dim / 2)
    terms = int(largest + 12 * np.sqrt(largest + argument + 1) + 100)
    k = np.arange(terms)
    ratios = np.log(argument / (dim / 2 + k[1:])) if argument > 0 else np.full(terms - 1, -np.inf)
    coefficients = np.append(0.0, np.cumsum(ratios)) - np.log(k + 1)
    if start > 0:
        coefficients = coefficients + np.log(-np.expm1(2 * (k + 1) * np.log(start / radius)))
    return float(logsumexp(coefficients) + np.log(radius**2 / (dim * radial.variance)))


def log_radius_line(radial: Radial) -> Line:
    """The diffusion of the logarithm of the radius, which has the same exit time."""
    radius = radial.radius

    def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        spread = radial.variance * np.exp(-2 * x)
        return (radial.dim - 2) / 2 * spread - radial.pull, spread

    start = float(np.log(max(radial.start, CENTER * radius)))
    return Line(moments, start, -np.inf, float(np.log(radius)))


class RadialLaw(AbstractLaw):
    """The rate, through the diffusion of the logarithm of the radius."""

    radial: Radial

    @cached_property
    def diffusion(self) -> DiffusionLaw:
        """The law of the logarithm of the radius.

        Raises:
            Unsupported: when the dimension is so high that its potential is too steep.
        """
        return solve_diffusion(log_radius_line(self.radial))[0]

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

    def hazard(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Not available."""
        raise self._unsupported("hazard")

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(
            f"{what} is not computed in dimension {self.radial.dim}, only mean and rate are; after "
            "the relaxation time the survival is exp(-rate t), before it use simulate"
        )
