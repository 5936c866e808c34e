"""Motion without fluctuation, which costs nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.integrate
import scipy.optimize
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.continuous.stationary import StationaryPoint
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.orbit import Orbit

Path = Float[np.ndarray, "n dim"]
Vector = Float[np.ndarray, " dim"]

MISSED = 1e-6
"""Noiseless motion that comes this close, in lengths, arrives: its cost is of second order."""

MOST_EVALUATIONS = 20_000

FARTHEST = 30.0
"""Distance from a saddle, in lengths of the path, beyond which a motion leads elsewhere."""


def relaxation(
    hamiltonian: AbstractHamiltonian, saddle: StationaryPoint, guess: Path, arrival: object
) -> Orbit | None:
    """Noiseless motion from a saddle to an attractor or the boundary; None if it leads elsewhere.

    Of the two senses, the one of the guess is tried first.
    """
    if not isinstance(arrival, StationaryPoint | AbstractRegion):
        return None
    length = float(np.linalg.norm(np.diff(guess, axis=0), axis=1).sum())
    direction = saddle.repelling_directions()[0]
    aligned = np.sign(direction @ (guess - saddle.point).sum(axis=0)) or 1.0

    def close(t: float, x: Vector) -> float:
        if isinstance(arrival, StationaryPoint):
            return float(np.linalg.norm(x - arrival.point)) - 1e-6 * length
        return -float(arrival.level(x))

    def lost(t: float, x: Vector) -> float:
        return float(np.linalg.norm(x - saddle.point)) - FARTHEST * length

    close.terminal = lost.terminal = True  # type: ignore[attr-defined]
    for sense in (aligned, -aligned):
        near = saddle.point + 1e-6 * length * sense * direction
        try:
            flow = solve_flow(hamiltonian, near, 100 / saddle.slowest, [close, lost])
        except NotConverged:
            continue
        if flow.status == 1 and len(flow.t_events[0]):
            break
    else:
        return None
    path = np.concatenate([saddle.point[None], flow.y.T])
    times = np.concatenate([[flow.t[0] - 1 / saddle.slowest], flow.t])
    if isinstance(arrival, StationaryPoint):
        path = np.concatenate([path, arrival.point[None]])
        times = np.append(times, times[-1] + 1 / arrival.slowest)
    return free_orbit(times, path)


def free_passage(hamiltonian: AbstractHamiltonian, start: Vector, end: Vector) -> Orbit | None:
    """Noiseless motion from a point through another, if it comes there by itself."""
    length = float(np.linalg.norm(end - start))
    velocities = at_each(drift, hamiltonian, np.stack([start, end]))
    speed = float(np.linalg.norm(velocities, axis=1).max())
    if speed == 0:
        return None
    for duration in (4.0, 40.0, 400.0):
        try:
            flow = solve_flow(hamiltonian, start, duration * length / speed, ())
        except NotConverged:
            return None
        times = np.linspace(0, flow.t[-1], 20_001)
        nearest = int(np.argmin(np.linalg.norm(flow.sol(times).T - end, axis=1)))
        around = scipy.optimize.minimize_scalar(
            lambda t, flow=flow: float(np.linalg.norm(flow.sol(t) - end)),
            bounds=(times[max(nearest - 1, 0)], times[min(nearest + 1, len(times) - 1)]),
            method="bounded",
            options={"xatol": 1e-14 * flow.t[-1]},
        )
        if around.fun <= MISSED * length:
            times = np.linspace(0, around.x, 401)
            path = flow.sol(times).T
            path[-1] = end
            return free_orbit(times, path)
    return None


def free_orbit(times: Float[np.ndarray, " n"], path: Path) -> Orbit:
    """An orbit without fluctuation."""
    return Orbit(
        times=times - times[-1],
        path=path,
        momenta=np.zeros_like(path),
        actions=np.zeros(len(times)),
        value=0.0,
        error=0.0,
        converged=True,
        method="noiseless motion",
    )


def solve_flow(
    hamiltonian: AbstractHamiltonian,
    start: Vector,
    duration: float,
    events: Sequence[Callable[[float, Vector], float]],
) -> Any:
    """Noiseless motion, by a solver that bears stiffness.

    Raises:
        NotConverged: when it takes endlessly many steps, as where the drift is infinite.
    """
    evaluations = 0

    def velocity(t: float, x: Vector) -> Vector:
        nonlocal evaluations
        evaluations += 1
        if evaluations > MOST_EVALUATIONS:
            raise NotConverged(
                f"the motion without noise from {start} does not settle; check the drift there"
            )
        return in_float64(drift, hamiltonian, x)

    return scipy.integrate.solve_ivp(
        velocity,
        (0.0, duration),
        start,
        method="LSODA",
        events=events,
        dense_output=True,
        rtol=1e-10,
        atol=1e-12 * (1 + float(np.abs(start).max())),
    )


def drift(hamiltonian: AbstractHamiltonian, x: Array) -> Array:
    """Drift at a point, in JAX."""
    return hamiltonian.drift(x)
