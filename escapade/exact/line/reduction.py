"""Problems in any dimension that one coordinate decides.

* On a quadratic whose Hessian has the normal n of a slab or half-space as an eigenvector, with
  noise that is the same everywhere, ``n . theta`` is a chain or diffusion by itself.
* On an isotropic quadratic with isotropic Gaussian noise, so is the distance from the minimum.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.dynamics import AbstractHeavyTailedSGD
from escapade.escape import Escape
from escapade.exact.line.process import Line, noise_of, step_of
from escapade.landscape import Quadratic
from escapade.noise import Constant, Isotropic
from escapade.region import Ball, HalfSpace, Slab, Sublevel

ROUNDING = 1e-13
"""Relative size of what counts as zero."""


class Radial(eqx.Module):
    """Distance from the centre of an isotropic linear process, and the radius at which it leaves.

    Attributes:
        dim: dimension of the ball.
        pull: relaxation rate per step.
        variance: variance of the noise per step and coordinate.
        radius: radius of the ball.
        start: starting radius.
    """

    dim: int
    pull: float
    variance: float
    radius: float
    start: float


def linear_coordinate(escape: Escape, point: Float[np.ndarray, " dim"]) -> Line | None:
    """The line of the coordinate along a face's normal; None where it does not decide alone."""
    dynamics, landscape, region = escape.dynamics, escape.landscape, escape.region
    if not (isinstance(landscape, Quadratic) and isinstance(region, HalfSpace | Slab)):
        return None
    noise, normal = noise_of(dynamics), region.normal
    if not isinstance(noise, Constant | Isotropic):
        return None
    force = landscape.hessian @ normal
    pull = float(normal @ force)
    if np.abs(force - pull * normal).max() > ROUNDING * np.abs(landscape.hessian).max():
        return None
    rate = dynamics.learning_rate
    if isinstance(dynamics, AbstractHeavyTailedSGD):
        scale = dynamics.scale_along(normal)
        if scale is None:
            return None
        variance = scale**2
    else:
        covariance = noise.covariance(landscape, escape.minimum)
        variance = rate**2 / dynamics.batch_size * float(normal @ covariance @ normal)
    reference = escape.minimum if region.reference is None else region.reference
    center = float(normal @ (landscape.minimum - reference))

    def moments(points: Float[np.ndarray, " points"]) -> tuple[np.ndarray, np.ndarray]:
        return -rate * pull * (points - center), np.full_like(points, variance)

    start = float(normal @ (point - reference))
    low = -np.inf if isinstance(region, HalfSpace) else -region.half_width
    high = region.offset if isinstance(region, HalfSpace) else region.half_width
    return Line(moments, start, low, high, step_of(dynamics))


def radial_coordinate(escape: Escape, point: Float[np.ndarray, " dim"]) -> Radial | None:
    """The radius around the minimum; None where it does not decide alone."""
    dynamics, landscape = escape.dynamics, escape.landscape
    if not isinstance(landscape, Quadratic) or isinstance(dynamics, AbstractHeavyTailedSGD):
        return None
    noise = noise_of(dynamics)
    if not isinstance(noise, Constant | Isotropic):
        return None
    hessian, covariance = landscape.hessian, noise.covariance(landscape, escape.minimum)
    radius = _radius(escape, landscape)
    if not (_isotropic(hessian) and _isotropic(covariance)) or radius is None:
        return None
    rate = dynamics.learning_rate
    return Radial(
        landscape.dim,
        rate * float(hessian[0, 0]),
        rate**2 / dynamics.batch_size * float(covariance[0, 0]),
        radius,
        float(np.linalg.norm(point - landscape.minimum)),
    )


def _radius(escape: Escape, landscape: Quadratic) -> float | None:
    """Radius of a region that is a ball around the minimum of an isotropic quadratic."""
    region = escape.region
    if isinstance(region, Sublevel) and landscape.hessian[0, 0] > 0:
        return float(np.sqrt(2 * region.depth / landscape.hessian[0, 0]))
    if isinstance(region, Ball) and region.center is not None:
        distance = np.linalg.norm(region.center - landscape.minimum)
        return region.radius if distance <= ROUNDING * region.radius else None
    return None


def _isotropic(matrix: Float[np.ndarray, "dim dim"]) -> bool:
    scale = np.abs(matrix).max()
    return bool(np.abs(matrix - matrix[0, 0] * np.eye(len(matrix))).max() <= ROUNDING * scale)
