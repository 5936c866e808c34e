"""Gradient drift with isotropic noise: the quasipotential is the loss.

With C = c times the identity, ``V(x) = 2 (L(x) - L(minimum)) / c`` in the basin of the minimum, and
the path of least steepness is the descent path run backwards, with momentum ``2 grad L / c``
(Freidlin and Wentzell, theorem 4.3.1). In any dimension it costs one descent.
"""

import jax
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.landscape import AbstractLoss
from escapade.noise import Constant, Isotropic
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.continuous.geometric import level_derivatives, onto_boundary
from escapade.steepness.continuous.noiseless import solve_flow
from escapade.steepness.continuous.stationary import StationaryPoint, stationary_point
from escapade.steepness.hamiltonian import AbstractHamiltonian, GaussianHamiltonian
from escapade.steepness.orbit import Orbit

Vector = Float[np.ndarray, " dim"]


def isotropic_variance(hamiltonian: AbstractHamiltonian) -> float | None:
    """The variance c, when the drift is a gradient and C = c times the identity; else None."""
    if not isinstance(hamiltonian, GaussianHamiltonian):
        return None
    if not isinstance(hamiltonian.landscape, AbstractLoss):
        return None
    if isinstance(hamiltonian.noise, Isotropic):
        return hamiltonian.noise.scale
    if isinstance(hamiltonian.noise, Constant):
        matrix = hamiltonian.noise.matrix
        if np.array_equal(matrix, matrix[0, 0] * np.eye(len(matrix))):
            return float(matrix[0, 0])
    return None


def descent_orbit(
    hamiltonian: AbstractHamiltonian,
    departure: StationaryPoint | Vector,
    end: StationaryPoint | Vector,
) -> Orbit | None:
    """The descent from a point or an index-1 saddle to the minimum, reversed.

    None when the dynamics is not of this kind or the descent ends elsewhere.
    """
    variance = isotropic_variance(hamiltonian)
    if variance is None or not isinstance(departure, StationaryPoint):
        return None
    minimum = departure.point
    point = end.point if isinstance(end, StationaryPoint) else end
    length = float(np.linalg.norm(point - minimum))
    tops = [point]
    if isinstance(end, StationaryPoint):
        if end.index != 1:
            return None
        nudge = 1e-5 * length * end.repelling_directions()[0]
        tops = [point + nudge, point - nudge]
    for top in tops:
        path = _descent(hamiltonian, departure, top, 1e-4 * length)
        if path is not None:
            times, points = path
            if isinstance(end, StationaryPoint):
                times = np.append(times, times[-1] + 1 / end.slowest)
                points = np.concatenate([points, point[None]])
            return _orbit(hamiltonian, minimum, times, points, variance)
    return None


def boundary_orbits(
    hamiltonian: AbstractHamiltonian,
    departure: StationaryPoint | Vector,
    region: AbstractRegion,
    ends: Float[np.ndarray, "points dim"],
) -> tuple[list[Orbit], Float[np.ndarray, "points dim"]]:
    """Reversed descents from the minima of the loss over the boundary.

    Returns:
        the orbits, and the minima of which the descent ends elsewhere: not solved here.
    """
    if isotropic_variance(hamiltonian) is None or not isinstance(departure, StationaryPoint):
        return [], ends
    landscape = _landscape(hamiltonian)
    minima: list[tuple[float, Vector]] = []
    for end in ends:
        found = _boundary_minimum(landscape, region, end)
        if found is not None:
            minima.append(found)
    distinct: list[Vector] = []
    size = max(float(np.linalg.norm(end - departure.point)) for end in ends)
    for _, point in sorted(minima, key=lambda pair: pair[0]):
        if all(np.linalg.norm(point - other) > 1e-4 * size for other in distinct):
            distinct.append(point)
    orbits, elsewhere = [], []
    for point in distinct[:16]:
        rest = stationary_point(hamiltonian, point, 1e-6 * size)
        orbit = descent_orbit(hamiltonian, departure, point if rest is None else rest)
        if orbit is None:
            elsewhere.append(point)
        else:
            orbits.append(orbit)
    if not orbits and not elsewhere:
        return [], ends
    return orbits, np.array(elsewhere).reshape(-1, ends.shape[1])


def _boundary_minimum(
    landscape: AbstractLoss, region: AbstractRegion, start: Vector
) -> tuple[float, Vector] | None:
    """Local minimum of the loss over the boundary, by sequential quadratic programming."""

    def loss(x: Vector) -> tuple[float, Vector]:
        value, slope = in_float64(_value_and_gradient, landscape, x)
        return float(value), slope

    result = scipy.optimize.minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        constraints={
            "type": "eq",
            "fun": lambda x: float(level_derivatives(region, x)[0]),
            "jac": lambda x: level_derivatives(region, x)[1],
        },
        options={"ftol": 1e-15, "maxiter": 200},
    )
    point = onto_boundary(region, result.x)
    if not np.isfinite(point).all():
        return None
    return float(landscape.loss(point)), point


def _descent(
    hamiltonian: AbstractHamiltonian, minimum: StationaryPoint, top: Vector, close: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n dim"]] | None:
    """Times and points of the descent run backwards; None when it ends elsewhere."""

    def arrived(t: float, x: Vector) -> float:
        return float(np.linalg.norm(x - minimum.point)) - close

    arrived.terminal = True  # type: ignore[attr-defined]
    try:
        flow = solve_flow(hamiltonian, top, 200 / minimum.slowest, [arrived])
    except NotConverged:
        return None
    if flow.status != 1:
        return None
    return -flow.t[::-1], flow.y.T[::-1]


def _landscape(hamiltonian: AbstractHamiltonian) -> AbstractLoss:
    assert isinstance(hamiltonian, GaussianHamiltonian)
    assert isinstance(hamiltonian.landscape, AbstractLoss)
    return hamiltonian.landscape


def _orbit(
    hamiltonian: AbstractHamiltonian,
    minimum: Vector,
    times: Float[np.ndarray, " n"],
    path: Float[np.ndarray, "n dim"],
    variance: float,
) -> Orbit:
    landscape = _landscape(hamiltonian)
    losses, gradients = at_each(_value_and_gradient, landscape, path)
    floor = float(landscape.loss(minimum))
    actions = 2 * (losses - floor) / variance
    value = float(actions[-1])
    rounding = 4e-16 * max(abs(floor), abs(float(losses[-1]))) * 2 / variance
    return Orbit(
        times=times - times[-1],
        path=path,
        momenta=2 * gradients / variance,
        actions=actions,
        value=value,
        error=max(1e-13, rounding / max(abs(value), 1e-300)),
        converged=True,
        method="reversed descent",
    )


def _value_and_gradient(landscape: AbstractLoss, x: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(landscape._loss)(x)
