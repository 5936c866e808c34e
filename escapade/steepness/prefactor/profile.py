"""The exit rate through planes across an orbit."""

import numpy as np
import scipy.linalg
from jaxtyping import Float

from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor.expansion import Carried, Equations, phase_velocities
from escapade.steepness.prefactor.result import Profile


def profile_along(
    equations: Equations,
    orbit: Orbit,
    carried: Carried,
    outside: float,
    center: Float[np.ndarray, " dim"] | None = None,
    saddle_rate: float = 0.0,
    saddle_depth: float = 0.0,
) -> Profile:
    """From the end back as far as V is convex along the planes of constant ``p . x``.

    The rate through such a plane is ``j exp(-V / eps^2)``, with ``dV/dt = p.Cp / 2`` and, up to a
    constant, ``j = (p.Cp / 2|p|) K det(W_tan)^-1/2``.
    Given a center, the levels are whole surfaces around it instead, of area ``|x - center|^(dim -
    1)``. The other arguments are those of `Profile`.
    """
    algebra = equations.jets
    dim = orbit.path.shape[1]
    velocities = phase_velocities(equations.hamiltonian, orbit.path, orbit.momenta)[:, :dim]
    speeds = np.einsum("ni,ni->n", orbit.momenta, velocities)
    logs = np.full(len(orbit.times), np.nan)
    for i in reversed(range(len(logs))):
        momentum = orbit.momenta[i]
        size = np.linalg.norm(momentum)
        if center is not None:
            distance = np.linalg.norm(orbit.path[i] - center)
            logs[i] = np.log(size) - carried.log_factors[i, 0] - (dim - 1) * np.log(distance)
            continue
        tangent = scipy.linalg.null_space(momentum[None] / size)
        plane = tangent.T @ algebra.derivative(carried.heights[i], 2) @ tangent
        convex = plane.size == 0 or np.linalg.eigvalsh(plane)[0] > 0
        if not (convex and speeds[i] > 0):
            break
        determinant = np.linalg.slogdet(plane)[1] if plane.size else 0.0
        logs[i] = np.log(size) - carried.log_factors[i, 0] + determinant / 2
    known = np.isfinite(logs)
    return Profile(
        float(orbit.value),
        outside,
        0.5 if center is None else dim / 2,
        orbit.times[known],
        orbit.value - orbit.actions[known],
        speeds[known],
        logs[known],
        np.linalg.norm(orbit.momenta[known], axis=1),
        saddle_rate,
        saddle_depth,
    )
