"""The exact answer to one escape: mean exit time, rates and survival."""

import abc
from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float, Real

from escapade.errors import InvalidArgument
from escapade.exact.field import ExitField

Times = int | float | Real[np.ndarray, "..."]


class AbstractLaw(eqx.Module):
    """The law of the exit time, computed when it is asked for."""

    @property
    @abc.abstractmethod
    def rate(self) -> float:
        """Exit probability (a diffusion's: intensity) per step from the quasi-stationary law."""

    @property
    @abc.abstractmethod
    def second_rate(self) -> float:
        """Decay per step of the next slowest mode; it forgets the start at the difference."""

    @abc.abstractmethod
    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """P(exit time > t) at times in steps."""

    @abc.abstractmethod
    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """P(exit time <= t) at times in steps."""

    @abc.abstractmethod
    def hazard(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Probability (a diffusion's: intensity) per step of leaving at times, if still inside."""


class ExactExit(eqx.Module):
    """Exact mean exit time of one escape, in SGD steps.

    Attributes:
        log_mean: natural logarithm of the mean exit time in steps; finite where `mean` overflows.
        error: relative error of the mean, from the difference to a coarser solution.
        method: how it was computed.
        law: where rates and survival come from.
        field: the exit seen from every point of the region, where a lattice was used.
    """

    log_mean: float
    error: float
    method: str
    law: AbstractLaw
    field: ExitField | None = None

    @property
    def mean(self) -> float:
        """Mean exit time in steps; infinite where it exceeds the largest float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_mean))

    @property
    def rate(self) -> float:
        """Exit rate per step from the quasi-stationary law; ``1 / rate`` is its mean exit time.

        For a chain ``1 - rho_1`` with the killed kernel's top eigenvalue, computed without that
        subtraction; for a diffusion the lowest eigenvalue of its generator, per step.
        """
        return self.law.rate

    @property
    def second_rate(self) -> float:
        """Second decay rate per step: ``1 - abs(rho_2)`` of a chain, second eigenvalue otherwise.

        The quasi-stationary law is reached at the rate ``second_rate - rate``.
        """
        return self.law.second_rate

    def survival(self, t: Times) -> float | Float[np.ndarray, "..."]:
        """P(exit time > t), ``t`` in steps; accurate relatively, however small, for a chain.

        Raises:
            InvalidArgument: when a time is negative or not finite.
        """
        return _shaped(self.law.survival, t)

    def exit_probability(self, t: Times) -> float | Float[np.ndarray, "..."]:
        """P(exit time <= t), ``t`` in steps; accurate relatively, however small, for a chain.

        Raises:
            InvalidArgument: when a time is negative or not finite.
        """
        return _shaped(self.law.exit_probability, t)

    def hazard(self, t: Times) -> float | Float[np.ndarray, "..."]:
        """Exit probability per step at time ``t``, given still inside; it settles at `rate`.

        Of a chain that of step ``t``, of a diffusion the intensity.

        Raises:
            InvalidArgument: when a time is negative or not finite.
        """
        return _shaped(self.law.hazard, t)

    def __str__(self) -> str:
        if abs(self.log_mean) < np.log(1e6):
            steps = f"{self.mean:.10g}"
        else:
            decades = self.log_mean / np.log(10)
            steps = f"{10 ** (decades % 1):.8g}e{int(np.floor(decades))}"
        return f"mean exit time {steps} steps (relative error {self.error:.0e})\n  {self.method}"


def _shaped(
    function: Callable[[np.ndarray], np.ndarray], t: Times
) -> float | Float[np.ndarray, "..."]:
    times = np.asarray(t, dtype=np.float64)
    if not (np.isfinite(times) & (times >= 0)).all():
        raise InvalidArgument(f"t is {t!r}; give times in steps that are finite and not negative")
    values = function(times.ravel()).reshape(times.shape)
    return float(values) if values.ndim == 0 else values
