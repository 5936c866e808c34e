"""SGD with heavy-tailed noise: Student's t, whose jumps leave a minimum without climbing."""

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


class HeavyTailedSGD(AbstractDynamics):
    """``theta' = theta - eta gradient(theta) + scale t``, t independent Student-t per coordinate.

    `scale` is that of the whole step, in parameter units: no learning rate and no batch size
    multiplies it, and `batch_size` is one. With k degrees of freedom ``P(|t| > x) ~ x^-k``, so one
    jump leaves a minimum with a probability that is a power of the scale, however high the barrier.
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
    def ticks_per_step(self) -> int:
        """One."""
        return 1

    @property
    def continuous(self) -> bool:
        """False: the state between steps does not exist."""
        return False

    def prepared(self, landscape: AbstractLandscape) -> "HeavyTailedSGD":
        """Itself."""
        return self

    def noise_covariance(
        self, landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance C: one step's noise has covariance ``learning_rate^2 C``.

        Raises:
            Unsupported: with two degrees of freedom or fewer, where it is infinite.
        """
        freedom = self.degrees_of_freedom
        if freedom <= 2:
            raise Unsupported(
                f"Student-t noise with {freedom:g} degrees of freedom has no covariance; simulate, "
                "or solve in one dimension (both work), or take more than 2 degrees of freedom"
            )
        variance = (self.scale / self.learning_rate) ** 2 * freedom / (freedom - 2)
        return variance * np.eye(landscape.dim)

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
        """One step; t by the polar identity of Bailey (Mathematics of Computation 62, 1994, 779).

        With normals z, w and ``r^2 = z^2 + w^2``, ``t = sqrt(k (exp(r^2 / k) - 1)) z / r`` is
        Student-t with k degrees of freedom.
        """
        first, second = jnp.split(draw.astype(theta.dtype), 2)
        square = first**2 + second**2
        freedom = self.degrees_of_freedom
        part = square / freedom
        # exp(part / 2) sqrt(1 - exp(-part)) is the same root without an overflow at half its size.
        radius = jnp.exp(part / 2) * jnp.sqrt(-freedom * jnp.expm1(-part))
        t = radius * first / jnp.sqrt(jnp.where(square > 0, square, 1.0))
        return theta - self.learning_rate * landscape._gradient(theta) + self.scale * t

    def __str__(self) -> str:
        return f"heavy-tailed SGD (Student-t, {self.degrees_of_freedom:g} degrees of freedom)"
