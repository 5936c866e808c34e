"""Exit of a two-dimensional chain with Gaussian steps, by its integral equation.

A region that every ray from the minimum leaves once is mapped to the unit disc (Gauss-Legendre in
radius, trapezoid rule in angle); slabs and half-spaces get a strip (Gauss-Legendre across,
trapezoid along). All rules converge exponentially for smooth boundaries. One-step exit
probabilities are integrals over the outside, never one minus those of staying.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import solve_discrete_lyapunov

from escapade.errors import DegenerateNoise, Unsupported
from escapade.escape import Escape
from escapade.exact.chain.disc import Disc, disc_of
from escapade.exact.chain.law import ChainLaw, chain_law, relative_error
from escapade.exact.chain.strip import Strip, strip_of
from escapade.exact.chunks import in_chunks
from escapade.exact.line.process import noise_of
from escapade.landscape import AbstractLandscape
from escapade.landscape.descent import jacobian
from escapade.noise import AbstractNoise
from escapade.region import HalfSpace, Slab

SPACINGS = (1.25, 1.05)
"""Distance of the nodes of the coarser and the finer solution, in standard deviations of a step."""

EDGE_DENSITY = 1e-13
"""A strip is cut where the density of visits is below this part of its peak."""

Moments = Callable[[Float[np.ndarray, "points 2"]], tuple[np.ndarray, np.ndarray]]


def solve_plane(escape: Escape, start: Float[np.ndarray, " 2"]) -> tuple[ChainLaw, float]:
    """The law of a chain's exit in the plane, and the relative error of its mean.

    Raises:
        Unsupported: when the region is too wide in steps, has no end and is no slab or half-space,
            is met more than once by a ray from the minimum, does not hold the chain, or when the
            mean exceeds 1e280.
        DegenerateNoise: when the noise does not reach every direction.
    """
    moments = _moments(escape)
    if isinstance(escape.region, HalfSpace | Slab):
        strip = _cut(escape, moments, start)
        laws = [_discretise(strip(spacing), moments, start) for spacing in SPACINGS]
    else:
        disc = disc_of(escape, moments)
        laws = [_discretise(disc(spacing), moments, start) for spacing in SPACINGS]
    return laws[1], relative_error(*laws)


def _discretise(rule: Disc | Strip, moments: Moments, start: Float[np.ndarray, " 2"]) -> ChainLaw:
    means, covariances = moments(np.concatenate([rule.nodes, start[None]]))
    precisions = np.linalg.inv(covariances)
    x, y = (rule.nodes[:, k] - means[:, k, None] for k in (0, 1))
    exponent = precisions[:, 0, 0, None] * x**2 + precisions[:, 1, 1, None] * y**2
    exponent += 2 * precisions[:, 0, 1, None] * x * y
    density = np.exp(-0.5 * exponent)
    density *= np.sqrt(np.linalg.det(precisions))[:, None] / (2 * np.pi) * rule.weights
    # A step whose mean is outside leaves as a rule: there staying is the small probability.
    staying = density.sum(axis=1)
    exits = np.where(staying < 0.3, 1 - staying, rule.exits(means, covariances))
    return chain_law(rule.nodes, rule.weights, density, exits)


def _cut(
    escape: Escape, moments: Moments, start: Float[np.ndarray, " 2"]
) -> Callable[[float], Strip]:
    """The strip whose open sides are cut where hardly any mass lies beyond."""
    stationary = _stationary_covariance(escape, moments)
    for growth in 1.25 ** np.arange(6):
        strip = strip_of(escape, moments, start, growth**2 * stationary)
        rule = strip(SPACINGS[0])
        law = _discretise(rule, moments, start)
        # Visits on the way from the start to the exit, in all.
        density = law.elimination.solve_transposed(law.start_transitions) / law.weights
        if density[rule.at_cut].max() < EDGE_DENSITY * density.max():
            return strip
    raise Unsupported(
        f"the open sides of the region ({escape.region}) do not hold the chain well enough to be "
        "cut; bound it with a Ball or Sublevel, or simulate"
    )


def _stationary_covariance(escape: Escape, moments: Moments) -> Float[np.ndarray, "2 2"]:
    """Of the linearised chain at the minimum; a hundred steps' where that has none."""
    _, covariance = moments(escape.minimum[None])
    pull = escape.dynamics.learning_rate * jacobian(escape.landscape, escape.minimum)
    multiplier = np.eye(2) - pull
    if np.abs(np.linalg.eigvals(multiplier)).max() > 1 - 1e-3:
        return 100 * covariance[0]
    return solve_discrete_lyapunov(multiplier, covariance[0])


def _moments(escape: Escape) -> Moments:
    """Mean and covariance of the next state."""
    dynamics, landscape = escape.dynamics, escape.landscape
    noise, rate = noise_of(dynamics), dynamics.learning_rate

    def moments(points: Float[np.ndarray, "points 2"]) -> tuple[np.ndarray, np.ndarray]:
        found = in_chunks(_gradient_and_covariance, landscape, noise, points=points)
        if not np.isfinite(found).all():
            raise Unsupported(
                "the gradient or the noise is NaN or infinite inside the region, so there is no "
                "exact solution; leave a smaller region, or simulate"
            )
        covariances = rate**2 / dynamics.batch_size * found[:, 1:]
        values = np.linalg.eigvalsh(covariances)
        if not (values[:, 0] > 1e-12 * values[:, 1].max()).all():
            where = points[np.argmin(values[:, 0])]
            raise DegenerateNoise(
                f"the noise does not reach every direction at theta = {where}, so the chain has no "
                "density to solve for; use noise that is positive definite everywhere, or simulate"
            )
        return points - rate * found[:, 0], covariances

    return moments


def _gradient_and_covariance(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, "points 2"]
) -> Float[Array, "points 3 2"]:
    def one(theta: Float[Array, " 2"]) -> Float[Array, "3 2"]:
        gradient = landscape._gradient(theta)[None]
        return jnp.concatenate([gradient, noise._covariance(landscape, theta)])

    return jax.vmap(one)(points)
