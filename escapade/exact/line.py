"""A process on a line: its drift and variance per step, its start, and the interval it leaves."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from escapade.dynamics import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.errors import DegenerateNoise, NoBoundary, Unsupported
from escapade.escape import Escape
from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise
from escapade.precision import in_float64
from escapade.region import AbstractRegion, Ball, Basin, HalfSpace, Slab
from escapade.region.boundary import SEARCH_RADIUS, distance_to_boundary

CHUNK = 1024
"""Points per compiled evaluation: one shape, so one compilation."""

Moments = Callable[[Float[np.ndarray, " points"]], tuple[np.ndarray, np.ndarray]]


class Line(eqx.Module):
    """Drift and variance per step on the open interval (low, high) that contains the start.

    The same two functions are those of the diffusion ``dX = drift dt + sqrt(variance) dW``, with
    time in steps, and of the chain ``x' = x + drift + sqrt(variance) N(0, 1)``. An infinite end
    cannot be left through.
    """

    moments: Moments
    start: float
    low: float
    high: float

    def __call__(self, points: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """Drift and variance per step at points, of the same shape.

        Raises:
            DegenerateNoise: when the variance is not positive at one of them.
            Unsupported: when drift or variance is not finite.
        """
        drift, variance = self.moments(np.ravel(points))
        if not (np.isfinite(drift).all() and np.isfinite(variance).all()):
            raise Unsupported(
                "the gradient or the noise is NaN or infinite inside the region, so there is no "
                "exact solution; leave a smaller region, or simulate"
            )
        if not (variance > 0).all():
            where = np.ravel(points)[variance <= 0][0]
            raise DegenerateNoise(
                f"the noise vanishes at theta = {where:.4g} inside the region, so there is no "
                "exact solution; leave a smaller region, use noise that is positive everywhere, "
                "or simulate"
            )
        return drift.reshape(np.shape(points)), variance.reshape(np.shape(points))


def line_of(escape: Escape, start: Float[np.ndarray, " 1"]) -> Line:
    """The line of an escape in one dimension, from a start inside its region.

    Raises:
        NoBoundary: when the region cannot be left on either side.
    """
    region = escape.region
    # One crossing on each side needs no fine search, only a far one.
    far = 1e6 if isinstance(region, Ball | HalfSpace | Slab) else 1.0
    left, right = distance_to_boundary(
        region,
        start,
        np.array([[-1.0], [1.0]]),
        search_radius=SEARCH_RADIUS * far,
        radii=121 if isinstance(region, Basin) else 1201,
    )
    if np.isinf(left) and np.isinf(right):
        raise NoBoundary(f"region ({region}) has no boundary on either side of the start")
    dynamics = escape.dynamics
    assert isinstance(dynamics, ContinuousSGD | GaussianSGD | LangevinSGD)

    def moments(points: Float[np.ndarray, " points"]) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(points, (0, -len(points) % CHUNK), mode="edge").reshape(-1, CHUNK)
        context = (escape.landscape, dynamics.noise)
        parts = [in_float64(_gradient_and_covariance, *context, chunk) for chunk in padded]
        gradient, covariance = np.concatenate(parts, axis=1)[:, : len(points)]
        rate = dynamics.learning_rate
        return -rate * gradient, rate**2 / dynamics.batch_size * covariance

    return Line(moments, float(start[0]), float(start[0] - left), float(start[0] + right))


def inside(
    region: AbstractRegion, points: Float[np.ndarray, " points"]
) -> Bool[np.ndarray, " points"]:
    """Which points of the line lie inside a region."""
    return in_float64(_inside, region, points)


def _gradient_and_covariance(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, " points"]
) -> Float[Array, "2 points"]:
    def one(x: Float[Array, ""]) -> Float[Array, " 2"]:
        theta = x[None]
        covariance = noise._covariance(landscape, theta)[0, 0]
        return jax.numpy.stack([landscape._gradient(theta)[0], covariance])

    return jax.vmap(one, out_axes=1)(points)


def _inside(region: AbstractRegion, points: Float[Array, " points"]) -> Bool[Array, " points"]:
    return jax.lax.map(lambda x: region._level(x[None]) < 0, points)
