"""A mean exit time with its prefactor, at any noise scale."""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline, CubicSpline, PchipInterpolator
from scipy.special import erf, gammaincc, logsumexp

from escapade.steepness.prefactor.extremal_index import BOUNDARY_SHIFT, log_delay, log_delay_slope

Distances = Float[np.ndarray, " distances"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class Profile(eqx.Module):
    """How the exit rate would change if the boundary stood earlier on the orbit.

    With a plane across the orbit at height V the rate is ``exp(-V / eps^2) j``; a level that moves
    as a diffusion has the mean exit time ``int exp(V / eps^2) / j dV / eps^2`` (exactly, in one
    dimension), of which the leading order stems from the orbit's end.

    Attributes:
        value: V at the end.
        outside: share of the mass on the far side of a level at the minimum itself: a half for
            one exit, one for opposite exits or a whole boundary.
        shape: half the dimension in which the level confines, one half for planes: the mass
            outside is ``outside Q(shape, V / eps^2)``, Q the incomplete gamma function.
        times: along the orbit, shape (n,).
        depths: V at the end minus V, shape (n,).
        speeds: dV/dt, shape (n,).
        log_weights: ln of ``(dV/dt) / j`` up to a constant, shape (n,).
        momenta: length ``dV/dy`` of the momentum, y along it, shape (n,).
        saddle_rate: expansion rate of the saddle at the end; 0 at a boundary.
        saddle_depth: by how much V at the end falls short of the saddle's, free of cancellation.
    """

    value: float
    outside: float
    shape: float
    times: Float[np.ndarray, " n"]
    depths: Float[np.ndarray, " n"]
    speeds: Float[np.ndarray, " n"]
    log_weights: Float[np.ndarray, " n"]
    momenta: Float[np.ndarray, " n"]
    saddle_rate: float
    saddle_depth: float

    @property
    def slope(self) -> float:
        """Derivative of ln j in V at a boundary: the correction per eps^2 in `log_delay`."""
        logs = np.log(self.speeds) - self.log_weights
        curve = CubicSpline(self.times[-8:], logs[-8:])
        return float(curve(self.times[-1], 1) / self.speeds[-1])

    def log_delay(self, noise_scale: float) -> float:
        """Log of the integral relative to its leading order."""
        half = np.diff(self.times)[:, None] / 2
        times = self.times[:-1, None] + half * (1 + _NODES)
        depths = CubicHermiteSpline(self.times, self.depths, -self.speeds)(times)
        heights = self.value - depths
        logs = PchipInterpolator(self.times, self.log_weights)(times) - depths / noise_scale
        beyond = self.outside * gammaincc(self.shape, np.maximum(heights, 0.0) / noise_scale)
        integral = logsumexp(logs, b=_WEIGHTS * half * (1 - beyond)) - np.log(noise_scale)
        if self.saddle_rate == 0:
            return float(integral - self.log_weights[-1] + np.log(self.speeds[-1]))
        # At the saddle the weight decays like exp(-rate t) and the depth like its square.
        at_saddle = self.log_weights[-1] - np.log(self.saddle_rate)
        width = np.log(np.pi / (4 * self.saddle_depth * noise_scale)) / 2
        tail = at_saddle - np.log(noise_scale)
        return float(np.logaddexp(integral, tail) - at_saddle - width)

    def log_slope_beyond(self, noise_scale: float, distances: Distances) -> Distances:
        """Log of the derivative of ``log E[tau]`` in the place of the boundary.

        Args:
            noise_scale: ``eps^2``.
            distances: by how much the boundary is shifted outwards, small.
        """
        last = slice(-8, None)
        forward = CubicSpline(self.times[last], (self.speeds / self.momenta)[last])
        places = forward.antiderivative()(self.times[last])
        places -= places[-1]
        logs = (self.log_weights - np.log(self.speeds / self.momenta))[last]
        curve = CubicSpline(places, logs)
        steepening = CubicSpline(places, self.momenta[last])(0.0, 1)
        first = self.momenta[-1] / noise_scale + curve(0.0, 1)
        second = steepening / noise_scale + curve(0.0, 2)

        def log_integrand(y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
            return first * y + second * y**2 / 2

        log_start = self.log_delay(noise_scale) - np.log(self.momenta[-1] / noise_scale)
        half = distances[:, None] / 2
        beyond = np.sum(np.exp(log_integrand(half * (1 + _NODES))) * _WEIGHTS * half, axis=1)
        return log_integrand(distances) - np.log(np.exp(log_start) + beyond)


class Passage(eqx.Module):
    """Exit at one point: rate ``exp(-V / eps^2 + a) eps^-m (1 + eps^2 c)`` in units of 1 / t.

    Attributes:
        point: where it leads out, shape (dim,).
        value: V there.
        log_coefficient: a.
        correction: c without the part of the profile; NaN where it is not known.
        profile: resums the variation along the orbit.
        noise_across: ``n.C n`` of the normal n of the boundary.
        soft: smallest curvature of V along the boundary relative to that along the tangent plane;
            near 0 the exit is not isolated and the expansion fails.
    """

    point: Float[np.ndarray, " dim"]
    value: float
    log_coefficient: float
    correction: float
    profile: Profile
    noise_across: float
    soft: float

    def log_rate(self, noise_scale: float) -> float:
        """Log of the rate without its power of eps."""
        delay = self.profile.log_delay(noise_scale)
        known = 0.0 if np.isnan(self.correction) else noise_scale * self.correction
        return -self.value / noise_scale + self.log_coefficient + log_resummed(known) - delay

    def log_step_delay(self, noise_scale: float, learning_rate: float) -> float:
        """Log of a chain's mean exit time over that of its equivalent diffusion.

        At a boundary ``2 s^2 / theta(s)`` (`extremal_index`), where ``2 s`` is the slope of
        ``log E[tau]`` per standard deviation of a step, outside the boundary by a quarter of the
        derivative of the log delay: to second order this shifts the boundary by 0.58 standard
        deviations. At a saddle of expansion rate lambda, where the mean time grows with the
        distance y beyond it like ``1 + erf(y sqrt(lambda / n.Cn) / eps)``, that shift itself.
        """
        if self.profile.saddle_rate:
            return float(
                np.log1p(erf(BOUNDARY_SHIFT * np.sqrt(learning_rate * self.profile.saddle_rate)))
            )
        step = np.sqrt(learning_rate * noise_scale * self.noise_across)
        drift = 0.0
        # The slope hardly changes within a step: a few rounds are exact to 1e-6.
        for _ in range(5):
            shift = np.array([step / 4 * float(log_delay_slope(drift))])
            drift = step / 2 * np.exp(self.profile.log_slope_beyond(noise_scale, shift)[0])
        return float(log_delay(drift))


class Prefactor(eqx.Module):
    """Mean exit time of a diffusion with its prefactor; the rates of different exits add.

    Attributes:
        passages: one per exit.
        bulk_correction: relative correction of the mass of the basin per eps^2; NaN if not known.
        power: the number m of `Passage`.
        description: the formula in a few words.
    """

    passages: tuple[Passage, ...]
    bulk_correction: float
    power: int
    description: str

    @property
    def value(self) -> float:
        """Least V of the exits."""
        return min(passage.value for passage in self.passages)

    @property
    def soft(self) -> float:
        """Smallest of the exits."""
        return min(passage.soft for passage in self.passages)

    def log_mean_exit_time(self, noise_scale: float) -> float:
        """Log E[tau], tau in units of t = learning rate * steps, at ``noise_scale = eps^2``."""
        return self._log_mean(noise_scale, [p.log_rate(noise_scale) for p in self.passages])

    def log_mean_exit_steps(
        self,
        noise_scale: float,
        learning_rate: float,
        values: Float[np.ndarray, " exits"] | None = None,
    ) -> float:
        """Log E[nu] of a chain, in steps; the prefactor must be that of an `EquivalentDiffusion`.

        Args:
            noise_scale: ``eps^2 = learning_rate / batch_size``.
            learning_rate: eta.
            values: exponents V of the chain itself at the exits; those of the equivalent
                diffusion, which are right to first order in eta, unless given.
        """
        rates = [
            p.log_rate(noise_scale) - p.log_step_delay(noise_scale, learning_rate)
            for p in self.passages
        ]
        if values is not None:
            own = np.array([p.value for p in self.passages])
            rates = rates + (own - values) / noise_scale
        return self._log_mean(noise_scale, rates) - float(np.log(learning_rate))

    def _log_mean(self, noise_scale: float, log_rates: ArrayLike) -> float:
        known = 0.0 if np.isnan(self.bulk_correction) else noise_scale * self.bulk_correction
        return float(
            self.power / 2 * np.log(noise_scale) + log_resummed(known) - logsumexp(log_rates)
        )

    def log_prefactor(self, noise_scale: float) -> float:
        """``log E[tau] - V0 / eps^2``."""
        return self.log_mean_exit_time(noise_scale) - self.value / noise_scale

    def leading_log_mean_exit_time(self, noise_scale: float) -> float:
        """The same to leading order alone."""
        rates = [p.log_coefficient - p.value / noise_scale for p in self.passages]
        return float(self.power / 2 * np.log(noise_scale) - logsumexp(rates))

    def relative_error(self, noise_scale: float) -> float:
        """Estimated relative error of the mean: the size of the terms beyond those included."""
        corrections = np.array([p.correction for p in self.passages])
        terms = noise_scale * np.abs([*corrections, self.bulk_correction])
        unknown = noise_scale / (2 * self.value)
        return float(np.max(np.where(np.isnan(terms), unknown, 2 * terms**2)))


def log_resummed(term: float) -> float:
    """Log of ``1 + term``, bounded for terms of order one of either sign."""
    return float(np.sign(term) * np.log1p(abs(term)))
