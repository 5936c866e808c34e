"""SGD with heavy-tailed noise, whose jumps leave a minimum without climbing."""

import abc
from typing import Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, UInt32

from escapade.dynamics._base import AbstractDynamics
from escapade.dynamics.streams import Stream
from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.landscape._base import positive_number

FEWEST_DEGREES = 0.5
"""Below, the largest jumps drawn overflow float32."""

LEAST_STABILITY = 0.5
"""Likewise of stable noise."""


class AbstractHeavyTailedSGD(AbstractDynamics):
    """``theta' = theta - eta gradient(theta) + scale z``, z independent per coordinate.

    `scale` is that of the whole step, in parameter units: no learning rate and no batch size
    multiplies it, and `batch_size` is one. ``P(|z| > x)`` falls as a power of x, so one jump leaves
    a minimum with a probability that is a power of the scale, however high the barrier.
    """

    scale: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def variance(self) -> float:
        """Variance of z; infinite where it has none."""

    @abc.abstractmethod
    def standard_noise(
        self, first: Float[Array, " dim"], second: Float[Array, " dim"]
    ) -> Float[Array, " dim"]:
        """The noise z from two independent standard normals per coordinate."""

    @abc.abstractmethod
    def scale_along(self, vector: Float[np.ndarray, " dim"]) -> float | None:
        """Scale of ``vector . noise`` in one step; None where its law is not that of z."""

    @property
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> Self:
        """Itself."""
        return self

    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance C: one step's noise has covariance ``learning_rate^2 C``.

        Raises:
            Unsupported: where it is infinite.
        """
        if not np.isfinite(self.variance):
            raise Unsupported(
                f"the noise of {self} has no covariance; simulate, or solve in one dimension (both "
                "work), or take lighter tails"
            )
        return (self.scale / self.learning_rate) ** 2 * self.variance * np.eye(landscape.dim)

    def examples_per_tick(self, landscape: AbstractLandscape) -> int:
        """All of them: the gradient is the full one."""
        return landscape.examples if isinstance(landscape, AbstractEmpirical) else 0

    def pairs_per_draw(self, landscape: AbstractLandscape) -> int:
        """A few: normals are cheap one by one."""
        return 16

    def draw_pairs(
        self, landscape: AbstractLandscape, stream: Stream, pair: UInt32[Array, "pairs lanes"]
    ) -> Complex[Array, "pairs normals lanes"]:
        """Two standard normals per parameter for each of two ticks per pair."""
        return stream.normals(pair, 2 * landscape.dim)

    def tick(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        draw: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """One step."""
        noise = self.standard_noise(*jnp.split(draw.astype(theta.dtype), 2))
        return theta - self.learning_rate * landscape._gradient(theta) + self.scale * noise


class HeavyTailedSGD(AbstractHeavyTailedSGD):
    """Heavy-tailed SGD whose noise is Student's t.

    With k degrees of freedom ``P(|z| > x) ~ x^-k``; the law has a variance above two.
    """

    learning_rate: float
    degrees_of_freedom: float
    scale: float
    batch_size: float

    def __init__(self, learning_rate: float, degrees_of_freedom: float, scale: float):
        """Set learning rate, degrees of freedom and the scale of one step's noise.

        Raises:
            InvalidArgument: when a number is not positive, or there are fewer than
                `FEWEST_DEGREES` degrees of freedom.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.degrees_of_freedom = positive_number(degrees_of_freedom, "degrees_of_freedom")
        if self.degrees_of_freedom < FEWEST_DEGREES:
            raise InvalidArgument(
                f"degrees_of_freedom is {degrees_of_freedom}; give at least {FEWEST_DEGREES}: the "
                "largest jumps of heavier tails overflow"
            )
        self.scale = positive_number(scale, "scale")
        self.batch_size = 1.0

    @property
    def variance(self) -> float:
        """``k / (k - 2)``."""
        freedom = self.degrees_of_freedom
        return freedom / (freedom - 2) if freedom > 2 else np.inf

    def standard_noise(
        self, first: Float[Array, " dim"], second: Float[Array, " dim"]
    ) -> Float[Array, " dim"]:
        """The polar identity of Bailey (Mathematics of Computation 62, 1994, 779).

        With normals z, w and ``r^2 = z^2 + w^2``, ``t = sqrt(k (exp(r^2 / k) - 1)) z / r`` is
        Student-t with k degrees of freedom.
        """
        square = first**2 + second**2
        freedom = self.degrees_of_freedom
        part = square / freedom
        # exp(part / 2) sqrt(1 - exp(-part)) is the same root without an overflow at half its size.
        radius = jnp.exp(part / 2) * jnp.sqrt(-freedom * jnp.expm1(-part))
        return radius * first / jnp.sqrt(jnp.where(square > 0, square, 1.0))

    def scale_along(self, vector: Float[np.ndarray, " dim"]) -> float | None:
        """Along an axis only: a sum of independent Student-t variables is not Student-t."""
        along_axis = np.count_nonzero(vector) == 1
        return self.scale * float(np.abs(vector).max()) if along_axis else None

    def __str__(self) -> str:
        return f"heavy-tailed SGD (Student-t, {self.degrees_of_freedom:g} degrees of freedom)"


class AlphaStableSGD(AbstractHeavyTailedSGD):
    """Heavy-tailed SGD whose noise is symmetric alpha-stable.

    The noise of one coordinate has the characteristic function ``exp(-|scale k|^alpha)``, alpha
    being the `stability`: at two it is Gaussian, of variance ``2 scale^2``, at one Cauchy; below
    two ``P(|z| > x) ~ x^-alpha``. It is the noise of Simsekli, Sagun and Gurbuzbalaban (ICML 2019)
    and Nguyen et al. (NeurIPS 2019), whose Levy-driven equation with noise amplitude sigma, seen
    every eta, has the scale ``eta^(1 / alpha) sigma``.
    """

    learning_rate: float
    stability: float
    scale: float
    batch_size: float

    def __init__(self, learning_rate: float, stability: float, scale: float):
        """Set learning rate, stability alpha and the scale of one step's noise.

        Raises:
            InvalidArgument: when a number is not positive, or the stability does not lie between
                `LEAST_STABILITY` and 2.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.stability = positive_number(stability, "stability")
        if not LEAST_STABILITY <= self.stability <= 2:
            raise InvalidArgument(
                f"stability is {stability}; give a number between {LEAST_STABILITY} and 2: no law "
                "is stable above, and the largest jumps overflow below"
            )
        self.scale = positive_number(scale, "scale")
        self.batch_size = 1.0

    @property
    def variance(self) -> float:
        """Two where the noise is Gaussian."""
        return 2.0 if self.stability == 2 else np.inf

    def standard_noise(
        self, first: Float[Array, " dim"], second: Float[Array, " dim"]
    ) -> Float[Array, " dim"]:
        """Chambers, Mallows and Stuck (Journal of the American Statistical Association 71, 1976).

        With U uniform between ``-pi / 2`` and ``pi / 2`` and W exponential, ``sin(alpha U) cos(U)^
        (-1 / alpha) (cos((1 - alpha) U) / W)^((1 - alpha) / alpha)``. Half the angle of a pair of
        normals is such a U, half their squared radius such a W.
        """
        alpha = self.stability
        # V = pi / 2 - |U|, to all digits where it is small and the noise large. The least values
        # have a probability of 1e-10, and keep the noise below 1e33.
        complement = jnp.maximum(jnp.arctan2(jnp.abs(second), -first) / 2, 1e-10)
        exponential = jnp.maximum((first**2 + second**2) / 2, 1e-12)
        # sin(alpha pi / 2) and cos(alpha pi / 2), zero to all digits where they vanish.
        sine, cosine = jnp.sin((2 - alpha) * jnp.pi / 2), jnp.sin((1 - alpha) * jnp.pi / 2)

        def turned(factor: float) -> Float[Array, " dim"]:
            return sine * jnp.cos(factor * complement) - cosine * jnp.sin(factor * complement)

        power = (1 - alpha) / alpha * jnp.log(turned(alpha - 1) / exponential)
        size = turned(alpha) * jnp.exp(power - jnp.log(jnp.sin(complement)) / alpha)
        return jnp.sign(second) * size

    def scale_along(self, vector: Float[np.ndarray, " dim"]) -> float | None:
        """``scale (sum_i |v_i|^alpha)^(1 / alpha)``: sums of stable variables are stable."""
        return self.scale * float(np.sum(np.abs(vector) ** self.stability) ** (1 / self.stability))

    def __str__(self) -> str:
        return f"heavy-tailed SGD (alpha-stable, stability {self.stability:g})"
