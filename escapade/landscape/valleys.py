"""One sharp and one flat minimum whose depths and curvatures are set independently."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument
from escapade.landscape._base import AbstractLoss, positive_dimension, positive_number


class AsymmetricValleys(AbstractLoss):
    """Two minima on the first axis, a saddle at the origin, parabolas across.

    Along the first axis the loss is a twice continuously differentiable quintic spline: at the
    sharp minimum (negative side) it has value ``-sharp_depth`` and curvature ``sharp_curvature``,
    at the saddle value 0 and curvature ``-saddle_curvature``, at the flat minimum (positive side)
    value ``-flat_depth`` and curvature ``flat_curvature``; beyond the minima it is parabolic. So
    the barriers out of the two valleys are exactly their depths. The distance of each minimum
    from the saddle follows as ``sqrt(8 depth / curvature)``. Every other axis carries
    ``transverse_curvature x^2 / 2``.
    """

    sharp_curvature: float
    flat_curvature: float
    sharp_depth: float
    flat_depth: float
    saddle_curvature: float
    transverse_curvature: float
    dim_: int

    def __init__(
        self,
        sharp_curvature: float = 10.0,
        flat_curvature: float = 1.0,
        sharp_depth: float = 1.0,
        flat_depth: float = 1.0,
        saddle_curvature: float | None = None,
        transverse_curvature: float = 1.0,
        dim: int = 1,
    ):
        """Set the valleys; the saddle curvature is the smaller of the two unless given.

        Raises:
            InvalidArgument: when a number is not positive, or the saddle is too curved for the
                spline to descend monotonically to both minima.
        """
        self.sharp_curvature = positive_number(sharp_curvature, "sharp_curvature")
        self.flat_curvature = positive_number(flat_curvature, "flat_curvature")
        self.sharp_depth = positive_number(sharp_depth, "sharp_depth")
        self.flat_depth = positive_number(flat_depth, "flat_depth")
        self.saddle_curvature = (
            min(self.sharp_curvature, self.flat_curvature)
            if saddle_curvature is None
            else positive_number(saddle_curvature, "saddle_curvature")
        )
        self.transverse_curvature = positive_number(transverse_curvature, "transverse_curvature")
        self.dim_ = positive_dimension(dim)
        for curvature in (self.sharp_curvature, self.flat_curvature):
            coefficients = _slope_coefficients(8.0, 8.0 * self.saddle_curvature / curvature)
            if np.polyval(coefficients, np.linspace(0, 1, 101)).min() <= 0:
                raise InvalidArgument(
                    f"saddle_curvature is {saddle_curvature}, too large beside the curvature "
                    f"{curvature} of a minimum; give at most {3 * curvature:.3g}"
                )

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.dim_

    @property
    def minima(self) -> Float[np.ndarray, "2 dim"]:
        """The sharp minimum, then the flat one."""
        points = np.zeros((2, self.dim))
        points[0, 0] = -np.sqrt(8 * self.sharp_depth / self.sharp_curvature)
        points[1, 0] = np.sqrt(8 * self.flat_depth / self.flat_curvature)
        return points

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        x = theta[0]
        sharp = self._valley(-x, self.sharp_depth, self.sharp_curvature)
        flat = self._valley(x, self.flat_depth, self.flat_curvature)
        across = 0.5 * self.transverse_curvature * jnp.sum(theta[1:] ** 2)
        return jnp.where(x < 0, sharp, flat) + across

    def _valley(
        self, distance: Float[Array, ""], depth: float, curvature: float
    ) -> Float[Array, ""]:
        """Loss at a distance from the saddle towards one minimum."""
        width = jnp.sqrt(8 * depth / curvature)
        # Outside [0, width] the spline is not used, so it is evaluated at a harmless point there:
        # this keeps the derivatives of the unused branch finite. (clip would halve the derivatives
        # at the saddle itself, where t is exactly 1.)
        on_spline = (distance >= 0) & (distance < width)
        t = jnp.where(on_spline, 1 - distance / width, 0.0)
        quadratic, linear, constant = _slope_coefficients(
            8.0, 8.0 * self.saddle_curvature / curvature
        )
        # Integral of t (1 - t) (quadratic t^2 + linear t + constant).
        rise = (
            constant * t**2 / 2
            + (linear - constant) * t**3 / 3
            + (quadratic - linear) * t**4 / 4
            - quadratic * t**5 / 5
        )
        beyond = 0.5 * curvature * (distance - width) ** 2
        return -depth + jnp.where(distance < width, depth * rise, beyond)


def _slope_coefficients(at_minimum: float, at_saddle: float) -> tuple[float, float, float]:
    """Coefficients of q in the spline's slope t (1 - t) q(t), highest first.

    q(0) and q(1) are the scaled curvatures at the minimum and the saddle, and the slope
    integrates to one: q(t) = a (1 - t) + b t + c t (1 - t) with c = 30 - 5 (a + b) / 2.
    """
    bulge = 30.0 - 2.5 * (at_minimum + at_saddle)
    return -bulge, at_saddle - at_minimum + bulge, at_minimum
