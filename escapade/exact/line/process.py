"""A process on a line: its drift and variance per step, its start, and the interval it leaves."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics import (
    AbstractDynamics,
    AbstractHeavyTailedSGD,
    AlphaStableSGD,
    HeavyTailedSGD,
)
from escapade.dynamics.gaussian import AbstractGaussianDynamics
from escapade.errors import DegenerateNoise, NoBoundary, Unsupported
from escapade.escape import Escape
from escapade.exact.chain.steps import AbstractStep, GaussianStep, StableStep, StudentStep
from escapade.exact.chunks import in_chunks
from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise, Isotropic
from escapade.region import Basin
from escapade.region.boundary import SEARCH_RADIUS, distance_to_boundary

Moments = Callable[[Float[np.ndarray, " points"]], tuple[np.ndarray, np.ndarray]]

NEAREST, FARTHEST, RADII = 1e-15, 1e9, 2801
"""Distances at which the ends of the line are sought, 2 % apart."""


class Line(eqx.Module):
    """Drift and variance per step on the open interval (low, high) that contains the start.

    The same two functions are those of the diffusion ``dX = drift dt + sqrt(variance) dW``, with
    time in steps, and of the chain ``x' = x + drift + sqrt(variance) Z`` with Z from `step`. An
    infinite end cannot be left through.
    """

    moments: Moments
    start: float
    low: float
    high: float
    step: AbstractStep = GaussianStep()

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


def line_of(escape: Escape, start: Float[np.ndarray, " 1"], weight: float = 0.0) -> Line:
    """The line of an escape in one dimension, from a start inside its region.

    Args:
        escape: the problem.
        start: where to start.
        weight: part of a step after which the noise of a diffusion is evaluated (Ito's is 0).

    Raises:
        NoBoundary: when the region cannot be left on either side.
    """
    region, dynamics = escape.region, escape.dynamics
    # A line can be searched far and finely, but for basins, where each point is a descent.
    basin = isinstance(region, Basin)
    left, right = distance_to_boundary(
        region,
        start,
        np.array([[-1.0], [1.0]]),
        search_radius=SEARCH_RADIUS if basin else FARTHEST,
        radii=121 if basin else RADII,
        least_radius=None if basin else NEAREST,
    )
    if np.isinf(left) and np.isinf(right):
        raise NoBoundary(f"region ({region}) has no boundary on either side of the start")
    noise = noise_of(dynamics)
    evaluate = _moments if weight == 0 else _moments_and_slope

    def moments(points: Float[np.ndarray, " points"]) -> tuple[np.ndarray, np.ndarray]:
        found = in_chunks(evaluate, escape.landscape, noise, points=points)
        gradient, covariance, *slope = found.T
        rate = dynamics.learning_rate
        # Half the slope of the variance is what evaluating the noise later adds to Ito's drift.
        extra = weight / 2 * rate**2 / dynamics.batch_size * slope[0] if slope else 0.0
        return extra - rate * gradient, rate**2 / dynamics.batch_size * covariance

    low, high = float(start[0] - left), float(start[0] + right)
    return Line(moments, float(start[0]), low, high, step_of(dynamics))


def noise_of(dynamics: AbstractDynamics) -> AbstractNoise:
    """Noise whose covariance, times ``learning_rate^2 / batch_size``, is a step's squared scale."""
    if isinstance(dynamics, AbstractHeavyTailedSGD):
        return Isotropic((dynamics.scale / dynamics.learning_rate) ** 2)
    assert isinstance(dynamics, AbstractGaussianDynamics)
    return dynamics.gradient_noise


def step_of(dynamics: AbstractDynamics) -> AbstractStep:
    """Law of one coordinate of a step's noise."""
    if isinstance(dynamics, HeavyTailedSGD):
        return StudentStep(dynamics.degrees_of_freedom)
    if isinstance(dynamics, AlphaStableSGD):
        gaussian = dynamics.stability == 2
        return GaussianStep(np.sqrt(2)) if gaussian else StableStep(dynamics.stability)
    return GaussianStep()


def _moments(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, " points"]
) -> Float[Array, "points 2"]:
    """Gradient and covariance."""

    def one(x: Float[Array, ""]) -> Float[Array, " 2"]:
        theta = x[None]
        return jnp.stack([landscape._gradient(theta)[0], noise._covariance(landscape, theta)[0, 0]])

    return jax.vmap(one)(points)


def _moments_and_slope(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, " points"]
) -> Float[Array, "points 3"]:
    """Gradient, covariance and the derivative of the covariance."""

    def one(x: Float[Array, ""]) -> Float[Array, " 3"]:
        def covariance(x: Float[Array, ""]) -> Float[Array, ""]:
            return noise._covariance(landscape, x[None])[0, 0]

        value, slope = jax.value_and_grad(covariance)(x)
        return jnp.stack([landscape._gradient(x[None])[0], value, slope])

    return jax.vmap(one)(points)
