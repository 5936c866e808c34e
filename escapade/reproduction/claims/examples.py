"""Losses over few examples: eight skewed ones in one dimension, and least squares."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics import ContinuousSGD, MinibatchSGD
from escapade.escape import Escape
from escapade.landscape import Empirical
from escapade.noise import Empirical as EmpiricalNoise
from escapade.region import Ball
from escapade.steepness import minimum_steepness

CURVATURES = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2, 0.7, 1.3])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6, 2.2, -0.4])
MINIMUM = float(CURVATURES @ CENTRES / CURVATURES.sum())


@functools.cache
def skewed() -> Empirical:
    """``mean_i h_i (x - c_i)^2 / 2``."""

    def loss(theta: Array, example: tuple[Array, Array]) -> Array:
        curvature, centre = example
        return 0.5 * curvature * (theta[0] - centre) ** 2

    return Empirical(loss, jnp.zeros(1), (CURVATURES, CENTRES), minima=[MINIMUM])


def evenly_curved() -> Empirical:
    """The eight centres with one curvature: noise that is the same everywhere."""

    def loss(theta: Array, centre: Array) -> Array:
        return 0.5 * (theta[0] - centre) ** 2

    return Empirical(loss, jnp.zeros(1), CENTRES, minima=[float(CENTRES.mean())])


def least_squares(
    features: Float[np.ndarray, "rows dim"], labels: Float[np.ndarray, " rows"]
) -> tuple[Empirical, Float[np.ndarray, " dim"]]:
    """Half the mean squared residual, and its minimum."""

    def loss(theta: Array, example: tuple[Array, Array]) -> Array:
        return 0.5 * (example[0] @ theta - example[1]) ** 2

    landscape = Empirical(loss, jnp.zeros(features.shape[1]), (features, labels))
    return landscape, np.linalg.solve(features.T @ features, features.T @ labels)


def exponent_to(
    displacement: float, sampling: str | None = "with_replacement", batch_size: int = 3
) -> tuple[float, float]:
    """Least steepness to a displacement from the minimum in the limit of a small learning rate.

    Of minibatches by their sampling, or of Gaussian noise of the same covariance (None); with
    its absolute error.
    """
    gaussian = sampling is None
    dynamics = (
        ContinuousSGD(0.01, batch_size, EmpiricalNoise())
        if gaussian
        else MinibatchSGD(0.01, batch_size, sampling or "")
    )
    escape = Escape(skewed(), dynamics, Ball(2.0))
    found = minimum_steepness(escape, to=[MINIMUM + displacement], continuous_limit=not gaussian)
    return found.value, found.value * found.error
