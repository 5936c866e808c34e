"""Mean exit time of a level that moves as a one-dimensional diffusion, to any barrier, in logs.

For a diffusion of stationary density p and diffusivity D started at level 0,
``E[tau] = int_0^R P(r) / (p(r) D(r)) dr`` with P the distribution function (the scale-speed
integral; Gardiner, Handbook of Stochastic Methods, 5.2.7). Two kinds of level: the coordinate along
a normal, which is Gaussian, and the radius ``sqrt(sum_i mu_i z_i^2)`` of a quadratic form.
"""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.special import erf, log_ndtr

from escapade.theory.quadratic_law import QuadraticLaw

Levels = Float[np.ndarray, " levels"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# Below exp(-44) of its value at the boundary the integrand no longer counts.
_DEPTH = 44.0


class AbstractLevel(eqx.Module):
    """A level r >= 0 that starts at 0."""

    @abc.abstractmethod
    def log_integrand(self, levels: Levels) -> Levels:
        """Log of ``P / (p D)``."""

    @abc.abstractmethod
    def growth(self, level: float) -> float:
        """Roughly the logarithmic derivative of the integrand; 0 where it is flat."""

    def log_mean_exit(self, levels: Levels) -> tuple[Levels, Levels]:
        """Log mean exit times beyond ascending levels, and their derivatives in the level."""
        first, growth = levels[0], self.growth(levels[0])
        start = max(0.0, first - _DEPTH / growth) if growth > 0 else 0.0
        panels = max(2, int(np.ceil((first - start) * growth / 4)))
        edges = np.linspace(start, first, panels + 1)
        if start == 0:
            # Many time scales make many length scales near 0.
            edges = np.concatenate([[0.0], edges[1] * 0.5 ** np.arange(6, 0, -1), edges[1:]])
        edges = np.concatenate([edges, levels[1:]])
        half = np.diff(edges)[:, None] / 2
        nodes = edges[:-1, None] + half * (1 + _NODES)
        logs = self.log_integrand(np.concatenate([nodes.ravel(), levels]))
        inside, at_levels = logs[: nodes.size].reshape(nodes.shape), logs[nodes.size :]
        # Panel by panel: beyond a high barrier neighbouring levels are apart by more than exp(700).
        top = np.max(inside, axis=1)
        with np.errstate(divide="ignore"):  # a panel of no width
            log_panels = top + np.log(
                np.sum(np.exp(inside - top[:, None]) * _WEIGHTS * half, axis=1)
            )
        log_means = np.logaddexp.accumulate(log_panels)[-len(levels) :]
        return log_means, np.exp(at_levels - log_means)


class GaussianLevel(AbstractLevel):
    """Standard normal coordinate of relaxation rate `rate`, left upwards or on both sides."""

    rate: float
    two_sided: bool = eqx.field(static=True)

    def log_integrand(self, levels: Levels) -> Levels:
        """The diffusivity is the rate; on both sides the mass below the level is halved."""
        mass = np.log(erf(levels / np.sqrt(2)) / 2) if self.two_sided else log_ndtr(levels)
        return mass + levels**2 / 2 + np.log(2 * np.pi) / 2 - np.log(self.rate)

    def growth(self, level: float) -> float:
        """That of ``exp(r^2 / 2)``."""
        return level


class RadialLevel(AbstractLevel):
    """Radius ``sqrt(Y)``, ``Y = sum_i weights_i z_i^2`` over normal modes of variance `spread`.

    Mode i relaxes at `rates_i`, so its noise is ``2 rates_i`` per unit of time.
    """

    weights: Float[np.ndarray, " modes"]
    rates: Float[np.ndarray, " modes"]
    spread: Float[np.ndarray, " modes"]
    law: QuadraticLaw
    """Law of Y."""

    def __init__(
        self,
        weights: Float[np.ndarray, " modes"],
        rates: Float[np.ndarray, " modes"],
        spread: Float[np.ndarray, " modes"],
    ):
        self.weights, self.rates, self.spread = weights, rates, spread
        self.law = QuadraticLaw(weights * spread)

    def log_integrand(self, levels: Levels) -> Levels:
        """``P / (p D) = 2 r P(Y < h) / (2 k)`` with k the density of ``sum_i m_i z_i^2`` at Y = h.

        Here ``h = r^2`` and ``m_i = 2 weights_i^2 rates_i`` is the noise of the mode.
        """
        squares = levels**2
        noise = 2 * self.weights**2 * self.rates * self.spread
        below = self.law.log_probability_below(squares)
        return np.log(levels) + below - self.law.log_moment_density(squares, noise)

    def diffusivity(self, level: float) -> float:
        """Diffusivity of the level, averaged over the boundary of one level."""
        square = np.array([level**2])
        noise = 2 * self.weights**2 * self.rates * self.spread
        noisy = self.law.log_moment_density(square, noise)
        plain = self.law.log_moment_density(square, self.weights * self.spread)
        return float(np.exp(noisy - plain)[0] / 2)

    def growth(self, level: float) -> float:
        """That of the tilted density."""
        return 2 * level * max(self.law.saddle(level**2), 0.0)
