"""Mean exit time along the instantons: any smooth landscape, with prefactor.

The exponent is that of the paths of least steepness out of the region, found on the landscape
itself; the prefactor is carried along them to the next order in eps^2
(`escapade.steepness.prefactor`). A chain is replaced by its equivalent diffusion, and its steps by
the extremal index at the exit.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.dynamics import MinibatchSGD
from escapade.errors import NotConverged, Unsupported
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.minimum import Neighbourhood
from escapade.noise import Constant, Isotropic
from escapade.region.boundary import distance_to_boundary
from escapade.steepness.continuous.orbits import continuous_orbits
from escapade.steepness.hamiltonian import GaussianHamiltonian, hamiltonian
from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor import (
    EquivalentDiffusion,
    Prefactor,
    boundary_prefactor,
    saddle_prefactor,
    surface_prefactor,
)

Matrix = Float[np.ndarray, "dim dim"]

Diffusion = GaussianHamiltonian | EquivalentDiffusion

MOST_DIMENSIONS = 6
"""Dimension up to which the correction of order eps^2, and so an error, is known."""

MOST_BEHIND = 8.0
"""Barrier above the lowest from which an exit no longer counts."""

SOFT = 0.2
"""Curvature of V along the boundary, relative to a plane's, below which an exit is not isolated."""

RAYS = 32
"""Directions in which the boundary is integrated over then, in two dimensions."""

AT_REST = 1e-3
"""Momentum, relative to the largest on the path, from which a path is taken to rest."""


PAST = 0.05
"""Share of the climb by which a path must go on behind the saddle to have crossed it."""


class InstantonLaw(eqx.Module):
    """A mean exit time with the paths it rests on."""

    log_mean: float
    relative_error: float
    value: float
    prefactor: Prefactor
    orbits: tuple[Orbit, ...]


def applies(escape: Escape, around: Neighbourhood) -> bool:
    """Whether the problem is small enough, Gaussian, and not linear (which has its own theory)."""
    if escape.landscape.dim > MOST_DIMENSIONS or isinstance(escape.dynamics, MinibatchSGD):
        return False
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    return form is None or not is_linear(escape, around)


def is_linear(escape: Escape, around: Neighbourhood) -> bool:
    """Whether drift and noise are linear and constant, as far as a few points show."""
    if not isinstance(getattr(escape.dynamics, "noise", None), Constant | Isotropic):
        return False
    if isinstance(escape.landscape, Quadratic):
        return True
    rays = np.random.default_rng(0).standard_normal((4, escape.landscape.dim))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    distances = distance_to_boundary(escape.region, escape.minimum, rays)
    points = rays * np.where(np.isfinite(distances), distances, 1.0)[:, None]
    linear = points @ around.drift_matrix.T
    gradients = np.array([escape.landscape.gradient(escape.minimum + point) for point in points])
    return bool(np.linalg.norm(gradients - linear) < 1e-9 * np.linalg.norm(linear))


def instanton_law(escape: Escape, around: Neighbourhood) -> InstantonLaw:
    """Mean number of steps of SGD with Gaussian noise out of any region.

    Raises:
        Unsupported: for minibatch noise, in more than six dimensions, or where V is not smooth.
        NotConverged: when no instanton is found, or one passes a caustic.
        DegenerateNoise: when the noise does not reach every direction at the minimum.
    """
    chain = not escape.dynamics.continuous
    rate, scale = escape.dynamics.learning_rate, escape.noise_scale
    own = hamiltonian(escape)
    if escape.landscape.dim > MOST_DIMENSIONS or not isinstance(own, GaussianHamiltonian):
        raise Unsupported(
            f"the law along instantons is for Gaussian noise in up to {MOST_DIMENSIONS} "
            "dimensions; use theory='quadratic', or simulate"
        )
    law = EquivalentDiffusion(own, rate) if chain else own
    stationary = around.stationary_covariance(rate if chain else None)
    found = continuous_orbits(law, escape.minimum, region=escape.region)
    orbits = [orbit for orbit in found if orbit.value < found[0].value + MOST_BEHIND * scale]
    resting = [rests(orbit) for orbit in orbits]
    orbits = [orbit for orbit, rests in zip(orbits, resting, strict=True) if rests == resting[0]]
    if resting[0]:
        climbs = [climb(orbit) for orbit in orbits]
        further = np.linalg.norm(climbs[0].end - orbits[0].end)
        beyond = bool(further > PAST * np.linalg.norm(climbs[0].end - escape.minimum))
        prefactor = saddle_prefactor(law, climbs, escape.minimum, stationary, committed=beyond)
    else:
        prefactor = _through_boundary(escape, law, orbits, stationary)
    if chain:
        log_mean = prefactor.log_mean_exit_steps(scale, rate)
    else:
        log_mean = prefactor.log_mean_exit_time(scale) - np.log(rate)
    return InstantonLaw(
        log_mean=float(log_mean),
        relative_error=prefactor.relative_error(scale) + _further_terms(escape, around, prefactor),
        value=prefactor.value,
        prefactor=prefactor,
        orbits=tuple(orbits),
    )


def _further_terms(escape: Escape, around: Neighbourhood, prefactor: Prefactor) -> float:
    """Relative size of what no expansion here contains, fitted to exact solutions.

    The next order in eps^2, about 1 / (4 b^2), and the second order in the steps, in the exponent
    too.
    """
    barrier = prefactor.value / escape.noise_scale
    error = 0.25 / barrier**2
    if not escape.dynamics.continuous:
        stiffness = escape.dynamics.learning_rate * around.sharpness
        error += 0.5 * stiffness**2 * (1 + barrier / 20)
    return float(error)


def _through_boundary(
    escape: Escape, law: Diffusion, orbits: list[Orbit], stationary: Matrix
) -> Prefactor:
    """Around the exits, or around the whole boundary where many are nearly as easy."""
    problem = (escape.minimum, stationary, escape.region)
    try:
        prefactor = boundary_prefactor(law, orbits, *problem)
        if prefactor.soft > SOFT or escape.landscape.dim != 2:
            return prefactor
    except NotConverged:
        if escape.landscape.dim != 2:
            raise
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    distances = distance_to_boundary(escape.region, escape.minimum, rays)
    highest = orbits[0].value + MOST_BEHIND * escape.noise_scale
    every: list[Orbit] = []
    for distance, ray in zip(distances, rays, strict=True):
        if np.isfinite(distance):
            every += continuous_orbits(law, escape.minimum, to=escape.minimum + distance * ray)[:1]
    every = [orbit for orbit in every if orbit.value < highest and not rests(orbit)]
    return surface_prefactor(law, every, np.full(len(every), 2 * np.pi / RAYS), *problem)


def rests(orbit: Orbit) -> bool:
    """Whether the path ends without momentum: at a saddle, or after having passed one."""
    sizes = np.linalg.norm(orbit.momenta, axis=1)
    return bool(sizes[-1] < AT_REST * sizes.max())


def climb(orbit: Orbit) -> Orbit:
    """The path up to the saddle, where its momentum vanishes."""
    sizes = np.linalg.norm(orbit.momenta, axis=1)
    top = int(np.argmax(sizes))
    last = top + int(np.argmax(sizes[top:] < AT_REST * sizes.max())) + 1
    return Orbit(
        times=orbit.times[:last] - orbit.times[last - 1],
        path=orbit.path[:last],
        momenta=orbit.momenta[:last],
        actions=orbit.actions[:last],
        value=orbit.value,
        error=orbit.error,
        converged=orbit.converged,
        method=orbit.method,
    )
