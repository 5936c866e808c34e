"""Dynamics driven by Gaussian noise: discrete Gaussian SGD, Langevin SGD and continuous SGD."""

import abc

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapade.dynamics._base import require_noise
from escapade.dynamics.gradients import GaussianGradients
from escapade.dynamics.sampled import AbstractSampledDynamics
from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.noise import AbstractNoise, Isotropic


class AbstractGaussianDynamics(AbstractSampledDynamics):
    """Full gradient plus Gaussian noise of covariance ``eta^2 C(theta) / (B ticks_per_step)``."""

    @property
    @abc.abstractmethod
    def gradient_noise(self) -> AbstractNoise:
        """Noise of one example's gradient."""

    @property
    def gradients(self) -> GaussianGradients:
        """Full gradients with this noise."""
        return GaussianGradients(self.batch_size, self.gradient_noise)

    def kick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """Noise of one tick."""
        noise = self.gradient_noise.sample(landscape, theta, draw.astype(theta.dtype))
        return self._scale() * noise

    def tick_spread(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """Standard deviation of one tick's noise along a vector."""
        return self._scale() * self.gradient_noise.spread(landscape, theta, direction)

    def _scale(self) -> Float[Array, ""]:
        return self.learning_rate / jnp.sqrt(self.batch_size * self.ticks_per_step)


class GaussianSGD(AbstractGaussianDynamics):
    """Discrete SGD with Gaussian noise.

    ``theta' = theta - eta gradient(theta) + eta xi / sqrt(B)`` with ``xi ~ N(0, C(theta))``: the
    noise is evaluated at the current point (Ito). `batch_size` may be any positive number.
    """

    learning_rate: float
    batch_size: float
    noise: AbstractNoise

    def __init__(self, learning_rate: float, batch_size: float, noise: AbstractNoise):
        """Set learning rate, batch size and the noise of one example.

        Raises:
            InvalidArgument: when a number is not positive or the noise is not one.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = positive_number(batch_size, "batch_size")
        require_noise(noise)
        self.noise = noise

    @property
    def gradient_noise(self) -> AbstractNoise:
        """The noise given."""
        return self.noise

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "GaussianSGD":
        """With the noise prepared for the landscape."""
        return GaussianSGD(self.learning_rate, self.batch_size, self.noise.prepared(landscape))

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """One step."""
        return _step(self, landscape, theta, draw)

    def __str__(self) -> str:
        return "discrete Gaussian SGD"


class LangevinSGD(AbstractGaussianDynamics):
    """Langevin SGD: isotropic Gaussian noise of variance ``eta^2 scale / B`` per coordinate.

    The discrete chain of the paper's SGLD; in the continuous limit its temperature is
    ``eta scale / (2 B)``.
    """

    learning_rate: float
    batch_size: float
    noise: Isotropic

    def __init__(self, learning_rate: float, batch_size: float = 1.0, scale: float = 1.0):
        """Set learning rate, batch size and the variance `scale` of one example's noise.

        Raises:
            InvalidArgument: when a number is not positive.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = positive_number(batch_size, "batch_size")
        self.noise = Isotropic(positive_number(scale, "scale"))

    @property
    def gradient_noise(self) -> AbstractNoise:
        """Isotropic noise."""
        return self.noise

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "LangevinSGD":
        """Itself."""
        return self

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " dim"],
    ) -> Float[Array, " dim"]:
        """One step."""
        return _step(self, landscape, theta, draw)

    def __str__(self) -> str:
        return "Langevin SGD"


class ContinuousSGD(AbstractGaussianDynamics):
    """Continuous SGD, the diffusion ``d theta = -gradient dt + sqrt(eta / B) C(theta)^(1/2) dW``.

    Ito convention for C(theta). Time t is counted in steps of eta: one step is simulated by
    `substeps` ticks of length ``eta / substeps``, Euler-Maruyama with the trapezoidal (Heun) drift:
    for constant noise its stationary law is of second order in the tick, where the plain scheme,
    being SGD itself at a smaller learning rate, shortens the mean exit time by about
    barrier * sharpness * tick / 2. Exits between ticks are accounted for by the boundary shift of
    Gobet and Menozzi (Stochastic Processes and their Applications 120, 2010), 0.5826 standard
    deviations of a tick's noise; `Where` and `Basin` have no slope to shift along, and keep an
    error of order one half. Exit times are whole steps, rounded up.
    """

    learning_rate: float
    batch_size: float
    noise: AbstractNoise
    substeps: int

    def __init__(
        self, learning_rate: float, batch_size: float, noise: AbstractNoise, substeps: int = 16
    ):
        """Set learning rate, batch size, the noise of one example and ticks per step.

        Raises:
            InvalidArgument: when a number is not positive or the noise is not one.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = positive_number(batch_size, "batch_size")
        require_noise(noise)
        self.noise = noise
        if not isinstance(substeps, int) or substeps < 1:
            raise InvalidArgument(f"substeps is {substeps!r}; give a whole number of at least 1")
        self.substeps = substeps

    @property
    def gradient_noise(self) -> AbstractNoise:
        """The noise given."""
        return self.noise

    @property
    def ticks_per_step(self) -> int:
        """Number of ticks in one step."""
        return self.substeps

    @property
    def continuous(self) -> bool:
        """True: the path leaves the region between ticks too."""
        return True

    def prepared(self, landscape: AbstractLandscape) -> "ContinuousSGD":
        """With the noise prepared for the landscape."""
        noise = self.noise.prepared(landscape)
        return ContinuousSGD(self.learning_rate, self.batch_size, noise, self.substeps)

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """One tick of Heun's method."""
        length = self.learning_rate / self.substeps
        kick = self.kick(landscape, theta, draw)
        slope = landscape._gradient(theta)
        ahead = landscape._gradient(theta - length * slope + kick)
        return theta - 0.5 * length * (slope + ahead) + kick

    def __str__(self) -> str:
        return f"continuous SGD ({self.substeps} ticks per step)"


def _step(
    dynamics: AbstractGaussianDynamics,
    landscape: AbstractLandscape,
    theta: Float[Array, " dim"],
    draw: Float[Array, " normals"],
) -> Float[Array, " dim"]:
    """One step of a discrete chain."""
    descended = theta - dynamics.learning_rate * landscape._gradient(theta)
    return descended + dynamics.kick(landscape, theta, draw)
