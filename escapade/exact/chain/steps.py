"""Laws of one step's noise in units of its scale: normal, Student's t and alpha-stable."""

import abc
from functools import lru_cache
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.special import gammaln, ndtr, ndtri, stdtr, stdtrit


class AbstractStep(eqx.Module):
    """A symmetric law on the line."""

    @property
    @abc.abstractmethod
    def heavy_tailed(self) -> bool:
        """Whether tails fall as a power, so that no cut makes what lies beyond negligible."""

    @abc.abstractmethod
    def density(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Density at z."""

    @abc.abstractmethod
    def below(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of less than z, accurate relatively however small."""

    @abc.abstractmethod
    def reach(self, probability: float) -> float:
        """Distance beyond which lies a probability on either side."""


class GaussianStep(AbstractStep):
    """The normal law."""

    deviation: float = 1.0

    @property
    def heavy_tailed(self) -> bool:
        """False."""
        return False

    def density(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Density at z."""
        norm = np.sqrt(2 * np.pi) * self.deviation
        return np.exp(-0.5 * (z / self.deviation) ** 2) / norm

    def below(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of less than z."""
        return ndtr(z / self.deviation)

    def reach(self, probability: float) -> float:
        """Quantile."""
        return float(-self.deviation * ndtri(probability))


class StudentStep(AbstractStep):
    """Student's t."""

    degrees_of_freedom: float

    @property
    def heavy_tailed(self) -> bool:
        """True."""
        return True

    def density(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Density at z."""
        k = self.degrees_of_freedom
        log_norm = gammaln((k + 1) / 2) - gammaln(k / 2) - np.log(np.pi * k) / 2
        return np.exp(log_norm - (k + 1) / 2 * np.log1p(z**2 / k))

    def below(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of less than z."""
        return stdtr(self.degrees_of_freedom, z)

    def reach(self, probability: float) -> float:
        """Quantile."""
        return float(-stdtrit(self.degrees_of_freedom, probability))


class StableStep(AbstractStep):
    """Symmetric alpha-stable, of characteristic function ``exp(-|k|^alpha)`` with alpha below 2.

    Interpolated in logarithms from integrals of 13 digits, to a relative error of 1e-8.
    """

    stability: float

    @property
    def heavy_tailed(self) -> bool:
        """True."""
        return True

    def density(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Density at z."""
        table = _stable_table(self.stability)
        return _interpolated(table.log_density, 1 + self.stability, np.abs(z) / table.width)

    def below(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of less than z."""
        table = _stable_table(self.stability)
        tail = _interpolated(table.log_tail, self.stability, np.abs(z) / table.width)
        return np.where(z < 0, tail, 1 - tail)

    def reach(self, probability: float) -> float:
        """Quantile of the power law, which the tail follows to all digits where it is this rare."""
        alpha = self.stability
        log_amplitude = np.log(np.sin(np.pi * alpha / 2) / np.pi) + gammaln(alpha)
        return float(np.exp((log_amplitude - np.log(probability)) / alpha))


LAST_TABULATED = 45.0
"""Inverse hyperbolic sine of the largest noise tabulated; beyond, the law is a power."""


class _StableTable(NamedTuple):
    """Logarithms of density and tail, as functions of ``arcsinh(z / width)``."""

    width: float
    log_density: CubicSpline
    log_tail: CubicSpline


@lru_cache(maxsize=8)
def _stable_table(alpha: float) -> _StableTable:
    # The width of the peak, by its curvature.
    width = float(np.exp((gammaln(1 / alpha) - gammaln(3 / alpha)) / 2))
    # Dense where the law turns from its peak to its power.
    t = np.append(np.linspace(0.0, 10.0, 4001), np.linspace(10.0, LAST_TABULATED, 701)[1:])
    log_density, log_tail = np.log(stable_density_and_tail(alpha, width * np.sinh(t)))
    even = ((1, 0.0), "not-a-knot")
    return _StableTable(width, CubicSpline(t, log_density, bc_type=even), CubicSpline(t, log_tail))


def _interpolated(
    logarithm: CubicSpline, power: float, size: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    t = np.arcsinh(size)
    beyond = np.maximum(t - LAST_TABULATED, 0.0)
    return np.exp(logarithm(t - beyond) - power * beyond)


def stable_density_and_tail(
    alpha: float, z: Float[np.ndarray, " points"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Density and tail ``P(Z > z)`` of a symmetric stable law at z >= 0.

    To about 13 digits however small, as long as alpha is not within 1e-6 of 2.

    The integrals over k of ``exp(-k^alpha + i k z) / pi``, and of the same over k, are taken along
    a ray of the complex plane where both factors decay. The integrand is smooth there, and on a
    logarithmic scale the trapezoidal rule converges geometrically. Where z is large
    ``exp(-k^alpha) - 1`` leaves out what has no real part and would cancel.
    """
    angle = np.pi / (4 * alpha)
    ray, step = np.exp(1j * angle), angle / 6
    u = np.arange(-45 / alpha, np.log(60.0) / alpha + 4, step)
    density, tail = np.empty_like(z), np.empty_like(z)
    for part in np.array_split(np.arange(len(z)), len(z) // 256 + 1):
        near, z_part = z[part] < 1, z[part, None]
        k = ray * np.exp(u) / np.maximum(z_part, 1.0)
        power, wave = -(k**alpha), 1j * k * z_part
        decay = step / np.pi * np.exp(power)
        beyond = step / np.pi * np.expm1(power) * np.exp(wave)
        density[part] = (np.where(near[:, None], decay * np.exp(wave), beyond) * k).real.sum(1)
        below = (decay * np.expm1(wave)).imag.sum(1)
        tail[part] = np.where(near, 0.5 - below, -beyond.imag.sum(1))
    return density, tail
