"""The boundary of a quadratic form under the stationary law, and the flux through it.

Part 2 of `escapade.theory.uniform`. Everything is in whitened coordinates z, in which the
stationary law is the standard normal, the noise is ``Q = A + A^T`` and the form is
``sum_i weights_i z_i^2``.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from escapade.errors import InvalidArgument
from escapade.theory.level_exit import RadialLevel

Matrix = Float[np.ndarray, "dim dim"]
Points = Float[np.ndarray, "points dim"]
PerPoint = Float[np.ndarray, " points"]

_REPLICATES = 8


class Boundary(NamedTuple):
    """Points on the boundary with weights proportional to the stationary density there."""

    points: Points
    density: PerPoint
    stretch: PerPoint
    """``sum_i w_i^2 / weights_i`` of the direction w of ``sqrt(weights) z``."""
    replicate: Int[np.ndarray, " points"]
    """Which of the independent random sets a point belongs to; all 0 when none is random."""

    def mean(self, values: PerPoint, weights: PerPoint | float = 1.0) -> float:
        """Weighted mean over the boundary."""
        weighted = self.density * weights
        return float(np.sum(weighted * values) / np.sum(weighted))

    def standard_error(self, values: PerPoint, weights: PerPoint | float = 1.0) -> float:
        """Standard error of that mean, from the spread of the random sets."""
        count = int(np.max(self.replicate)) + 1
        if count == 1:
            return 0.0
        weighted = self.density * weights
        tops, bottoms = (
            np.bincount(self.replicate, part) for part in (weighted * values, weighted)
        )
        means = tops / bottoms
        return float(np.std(means, ddof=1) / np.sqrt(count))


def sample_boundary(
    weights: Float[np.ndarray, " dim"],
    frame: Float[np.ndarray, "parameters dim"],
    process: RadialLevel,
    level2: float,
    samples: int | None,
    seed: int,
) -> Boundary:
    """Directions from the Gaussian tilted onto the boundary, weighted to its conditional law.

    The conditional law of the direction is a Bingham distribution and the tilted Gaussian its
    angular central Gaussian envelope (Kent, Ganeiou and Mardia, 2018). In two dimensions the
    directions are equidistant angles of the tilted Gaussian, which resolve any peak.

    The orthonormal columns of `frame` are the modes in the coordinates of the problem. Random
    vectors are drawn in the latter: the signs of the modes, and their choice where weights
    coincide, are an accident of the eigensolver, on which nothing may depend.
    """
    modes, dim = len(process.weights), len(weights)
    tilt = process.law.saddle(level2)
    if dim == modes == 2:
        angles = np.pi * (np.arange(512) + 0.5) / 512
        normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        replicate = np.zeros(len(normals), dtype=int)
    else:
        count = samples or int(2 ** np.clip(np.log2(4e6 / dim) // 1, 10, 14))
        if count < 64 or count & (count - 1):
            raise InvalidArgument(f"samples is {count}; give a power of two of at least 64")
        part = count // _REPLICATES
        cube = np.concatenate(
            [
                scipy.stats.qmc.Sobol(len(frame), rng=generator).random(part)
                for generator in np.random.default_rng(seed).spawn(_REPLICATES)
            ]
        )
        normals = scipy.stats.norm.ppf(cube) @ frame
        replicate = np.repeat(np.arange(_REPLICATES), part)
    tilted = normals[:, :modes] * np.sqrt(process.weights / (1 - 2 * tilt * process.weights))
    direction = tilted / np.linalg.norm(tilted, axis=1, keepdims=True)
    stretch = np.sum(direction**2 / process.weights, axis=1)
    log_density = -level2 / 2 * stretch + modes / 2 * np.log(stretch - 2 * tilt)
    points = np.concatenate(
        [np.sqrt(level2 / process.weights) * direction, normals[:, modes:]], axis=1
    )
    return Boundary(points, np.exp(log_density - np.max(log_density)), stretch, replicate)


class Flux(NamedTuple):
    """Per boundary point, relative to the stationary density of the level."""

    diffusivity: PerPoint
    """Of the level r."""
    leading: PerPoint
    """Drift of the level towards the minimum."""
    level_leading: PerPoint
    """The same as the level alone knows it: diffusivity times the slope of ``-log p``."""
    excess: PerPoint
    """Flux minus what the level makes of it, both to second order."""


def boundary_flux(
    boundary: Boundary,
    weights: Float[np.ndarray, " dim"],
    drift: Matrix,
    level: float,
) -> Flux:
    """Flux ``n.Az + n.Qn tr(Q Hess Psi) / (4 n.Az)`` through the boundary of ``r = level``.

    On the boundary of normal n ``grad Psi = -psi n`` with ``psi = 2 n.Az / n.Qn``; differentiating
    the eikonal equation ``grad Psi.Q grad Psi / 2 + A z.grad Psi = 0`` once along the surface and
    once across it gives the Hessian.
    """
    z = boundary.points
    gradient = z * weights
    size = np.linalg.norm(gradient, axis=1)
    normal = gradient / size[:, None]
    pulled, normal_pulled, normal_pushed = z @ drift.T, normal @ drift.T, normal @ drift
    normal_noise = normal_pulled + normal_pushed
    noise = _dot(normal, normal_noise)
    inward = _dot(normal, pulled)
    bend = normal * weights
    diffusivity = size**2 * noise / (2 * level**2)
    leading = size * inward / level
    level_leading = diffusivity * level * boundary.stretch
    # Where noise or drift across the boundary vanish there is no boundary layer.
    layered = (inward > 0) & (noise > 0)
    inward, noise = np.where(layered, inward, 1.0), np.where(layered, noise, 1.0)
    psi = 2 * inward / noise
    psi_gradient = 2 * (
        (pulled * weights / size[:, None] + normal_pushed) / noise[:, None]
        - normal_noise * weights * (2 * inward / (noise**2 * size))[:, None]
        + bend * (inward / (noise * size))[:, None]
    )
    tangential = psi_gradient - normal * _dot(psi_gradient, normal)[:, None]
    wind = pulled - psi[:, None] * normal_noise
    curvature = (
        np.sum((np.diag(drift) * 2) * weights)
        - 2 * _dot(normal_noise, bend)
        + noise * _dot(normal, bend)
    ) / size
    trace = (
        -noise * (_dot(wind, tangential) + psi * _dot(normal, normal_pulled)) / inward
        - 2 * _dot(normal_noise, tangential)
        - psi * curvature
    )
    modes = int(np.sum(weights > 0))
    second = size * noise * trace / (4 * inward * level) + diffusivity * modes / level
    second = np.where(layered, np.clip(second, -level_leading, level_leading), 0.0)
    return Flux(diffusivity, leading, level_leading, leading - level_leading + second)


def _dot(left: Points, right: Points) -> PerPoint:
    return np.einsum("pi,pi->p", left, right)


def damped(correction: float, transverse_rate: float, layer_rate: float) -> float:
    """Part 2, switched off where the boundary layer sees the transverse motion averaged."""
    return float(np.clip(correction, -0.3, 0.3) / (1 + (transverse_rate / layer_rate) ** 4))


def transverse_rate(
    weights: Float[np.ndarray, " dim"], rates: Float[np.ndarray, " dim"], tilt: float
) -> float:
    """Relaxation rate of the fluctuations of the inward drift along the boundary."""
    variance = 1 / np.maximum(1 - 2 * tilt * weights, 1e-12)
    mean_rate = np.sum(weights * rates * variance) / np.sum(weights * variance)
    share = (weights * (rates - mean_rate) * variance) ** 2
    total = np.sum(share)
    return float(np.sum(share * rates) / total) if total > 0 else 0.0
