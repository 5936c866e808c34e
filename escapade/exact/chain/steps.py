"""Laws of one step's noise in units of its scale: normal, and Student's t."""

import abc

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.special import gammaln, ndtr, ndtri, stdtr, stdtrit


class AbstractStep(eqx.Module):
    """A symmetric law on the line."""

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
    """The standard normal law."""

    def density(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Density at z."""
        return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)

    def below(self, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of less than z."""
        return ndtr(z)

    def reach(self, probability: float) -> float:
        """Quantile."""
        return float(-ndtri(probability))


class StudentStep(AbstractStep):
    """Student's t."""

    degrees_of_freedom: float

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
