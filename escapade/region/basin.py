"""The basin of attraction of a minimum under noiseless descent."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.landscape.descent import jacobian, roll
from escapade.region._base import AbstractRegion

MOST_STEPS = 10_000
"""Descent steps per test above which the user must ask for them."""


class Basin(AbstractRegion):
    """Points from which gradient descent returns to the minimum.

    A point belongs to the basin when `steps` descent steps of size `step` (half the inverse
    sharpness unless given) bring it within `capture_radius` of the minimum (0.05 times one plus
    the minimum's norm, unless given). Unless given, `steps` is ten times the slowest relaxation
    time at the minimum, and at least 200. Each test costs `steps` gradients.
    """

    steps: int | None
    step: float | None
    capture_radius: float | None
    landscape: AbstractLandscape | None
    minimum: Float[np.ndarray, " dim"] | None

    def __init__(
        self,
        steps: int | None = None,
        step: float | None = None,
        capture_radius: float | None = None,
        landscape: AbstractLandscape | None = None,
        minimum: Float[np.ndarray, " dim"] | None = None,
    ):
        """Basin found by descent.

        Raises:
            InvalidArgument: when a number is not positive.
        """
        self.steps = None if steps is None else int(positive_number(steps, "steps"))
        self.step = None if step is None else positive_number(step, "step")
        self.capture_radius = (
            None if capture_radius is None else positive_number(capture_radius, "capture_radius")
        )
        self.landscape = landscape
        self.minimum = minimum

    def anchored(self, landscape: AbstractLandscape, minimum: Float[np.ndarray, " dim"]) -> "Basin":
        """The basin of the minimum.

        Raises:
            InvalidArgument: when descent to the minimum is so slow that `steps` must be given.
        """
        rates = np.linalg.eigvals(jacobian(landscape, minimum))
        step = self.step or 0.5 / float(np.abs(rates).max())
        capture = self.capture_radius or 0.05 * (1 + float(np.linalg.norm(minimum)))
        steps = self.steps
        if steps is None:
            needed = 10 / (step * max(float(rates.real.min()), 1e-300))
            if needed > MOST_STEPS:
                raise InvalidArgument(
                    f"steps of the Basin is not given and descent needs about {needed:.2g} of "
                    "them per test, since the slowest direction is that flat; give steps=..., or "
                    "leave a Ball or Sublevel instead"
                )
            steps = max(200, int(np.ceil(needed)))
        return Basin(steps, step, capture, landscape, minimum)

    def local_form(
        self, minimum: Float[np.ndarray, " dim"], hessian: Float[np.ndarray, "dim dim"]
    ) -> None:
        """A basin ends at saddles, which the quadratic approximation does not have."""
        return None

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        if (
            self.landscape is None
            or self.minimum is None
            or self.steps is None
            or self.step is None
            or self.capture_radius is None
        ):
            raise Unsupported(
                "a Basin has no level before it belongs to an Escape; use escape.region.level"
            )
        # The longest step keeps a point far up a steep wall from being thrown across the basin.
        displacement = theta - self.minimum
        distance = jnp.sqrt(jnp.sum(displacement * displacement) + 1e-30)
        longest = jnp.maximum(self.capture_radius, 0.05 * distance)
        end = roll(self.landscape, theta, self.step, self.steps, longest)
        displacement = end - self.minimum
        return jnp.sqrt(jnp.sum(displacement * displacement) + 1e-30) - self.capture_radius

    def __str__(self) -> str:
        return "basin of attraction"
