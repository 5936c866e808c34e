"""Orbits of least steepness to many digits: Hamilton's equations as a boundary value problem.

    ``x' = dH/dp(x, p)``, ``p' = -dH/dx(x, p)``

in time, with adaptive collocation of fourth order (`scipy.integrate.solve_bvp`; Kierzenka and
Shampine, ACM TOMS 27, 2001). An orbit that leaves or approaches a stationary point takes forever;
it is cut at a small distance, where it must lie in the linear unstable or stable subspace (Beyn,
IMA J. Numer. Anal. 10, 1990). A free end on a boundary has its momentum along the normal.

The value is ``integral p . x' - H dt`` over the collocation polynomial and over the linear motion
beyond the cuts. Hamilton's principle makes it stationary in x and p at the orbit, so its error is
the square of theirs.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.linalg
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.continuous.geometric import level_derivatives
from escapade.steepness.continuous.stationary import StationaryPoint
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.orbit import Orbit

Path = Float[np.ndarray, "n dim"]
Vector = Float[np.ndarray, " dim"]
Departure = StationaryPoint | Vector
Arrival = StationaryPoint | Vector | AbstractRegion

REFINEMENTS = ((1e-3, 1e-2), (1e-4, 2e-3), (1e-6, 5e-4), (1e-8, 1e-4))
"""Tolerance of the collocation, and distance of the cuts in lengths of the path."""
MOST_NODES = 4000
"""Of the first, coarsest solution; ten times as many later."""
TAIL_POINTS = 40
GAUSS_POINTS, GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(5)


class Trajectory(eqx.Module):
    """Times, points and momenta: a guess, or a solution on its mesh."""

    times: Float[np.ndarray, " n"]
    path: Path
    momenta: Path


def polish(
    hamiltonian: AbstractHamiltonian,
    guess: Trajectory,
    departure: Departure,
    arrival: Arrival,
    tolerance: float = 1e-8,
) -> Orbit:
    """Solve Hamilton's equations from a guess, until the value settles.

    Args:
        hamiltonian: the dynamics, in continuous time.
        guess: trajectory from the departure to the arrival.
        departure: stationary point left along its unstable subspace, or a point.
        arrival: stationary point approached, point, or region whose boundary is reached.
        tolerance: relative error of the value asked for.

    Raises:
        NotConverged: when the solver fails or the value does not settle.
    """
    problem = _Problem(hamiltonian, guess, departure, arrival)
    value, trajectory = np.inf, guess
    reasons = "the value still changes"
    for accuracy, cut in REFINEMENTS:
        try:
            trajectory, orbit = problem.solve(trajectory, accuracy, cut)
        except _Failed as failure:
            if accuracy == REFINEMENTS[0][0]:
                raise NotConverged(_advice(str(failure))) from None
            reasons = str(failure)
            break
        # Beside a true value of zero, the scale of momentum times length.
        scale = max(abs(orbit.value), 1e-6 * problem.action_scale)
        error = max(abs(orbit.value - value) / scale, 1e-15)
        value = orbit.value
        if error <= tolerance:
            return eqx.tree_at(lambda o: (o.error, o.converged), orbit, (float(error), True))
    raise NotConverged(_advice(reasons))


def solve_roughly(
    hamiltonian: AbstractHamiltonian, guess: Trajectory, departure: Departure, arrival: Arrival
) -> Trajectory:
    """Solve once, to the coarsest accuracy.

    Raises:
        NotConverged: when the solver fails.
    """
    try:
        return _Problem(hamiltonian, guess, departure, arrival).solve(guess, *REFINEMENTS[0])[0]
    except _Failed as failure:
        raise NotConverged(_advice(str(failure))) from None


def linear_departure(departure: StationaryPoint, displacement: Vector) -> Trajectory:
    """The end, close to an attractor, of the linear motion to a displacement from it."""
    basis, _ = departure.unstable()
    dim = departure.point.size
    along = np.linalg.lstsq(basis[:dim], displacement)[0]
    momentum = basis[dim:] @ along
    return Trajectory(np.zeros(1), (departure.point + displacement)[None], momentum[None])


def _advice(reason: str) -> str:
    return (
        f"the orbit of least steepness was not found to the tolerance ({reason}); ask for a larger "
        "tolerance, move the end, or check that the landscape is smooth and that the noise leads "
        "there (gradients that all point inwards never do)"
    )


class _Failed(Exception):
    """The collocation did not converge."""


class _Problem:
    """One boundary value problem, in units of length, momentum and duration of its guess."""

    def __init__(
        self,
        hamiltonian: AbstractHamiltonian,
        guess: Trajectory,
        departure: Departure,
        arrival: Arrival,
    ):
        self.hamiltonian, self.departure, self.arrival = hamiltonian, departure, arrival
        self.dim = guess.path.shape[1]
        # Of a path that winds, the extent and not the length.
        start = _place(departure)
        self.length = float(np.linalg.norm(guess.path - start, axis=1).max())
        self.momentum = _momentum_scale(hamiltonian, guess)
        self.action_scale = self.length * self.momentum
        self.origin = start
        self.units = np.repeat([self.length, self.momentum], self.dim)
        self.leaves = isinstance(departure, StationaryPoint)
        self.approaches = isinstance(arrival, StationaryPoint)
        # Between two stationary points time is free and energy is conserved: one condition too
        # many, one unknown too few. A fictitious friction, which must vanish, and a fixed distance
        # at the start make up for it. From a point, the duration is unknown.
        if self.leaves and self.approaches:
            self.unknown = "friction"
        elif self.leaves or self.approaches:
            self.unknown = "none"
        else:
            self.unknown = "duration"

    def solve(self, guess: Trajectory, accuracy: float, cut: float) -> tuple[Trajectory, Orbit]:
        if isinstance(self.departure, StationaryPoint):
            guess = extended(guess, self.departure, cut * self.length, self.units, at_start=True)
        if isinstance(self.arrival, StationaryPoint):
            guess = extended(guess, self.arrival, cut * self.length, self.units, at_start=False)
        start, self.duration = guess.times[0], float(guess.times[-1] - guess.times[0])
        mesh = (guess.times - start) / self.duration
        states = np.concatenate([guess.path - self.origin, guess.momenta], axis=1) / self.units
        conditions, condition_slopes = self._conditions(states)
        first = {"none": None, "friction": [0.0], "duration": [1.0]}[self.unknown]
        with np.errstate(all="ignore"):
            solution = scipy.integrate.solve_bvp(
                self._flow,
                conditions,
                mesh,
                states.T,
                p=first,
                fun_jac=self._flow_slopes,
                bc_jac=condition_slopes,
                tol=accuracy,
                bc_tol=min(1e-7, accuracy * 1e-3),
                max_nodes=MOST_NODES if accuracy == REFINEMENTS[0][0] else 10 * MOST_NODES,
            )
        if not solution.success or not np.isfinite(solution.y).all():
            raise _Failed(solution.message.strip().rstrip(".").lower())
        if self.unknown == "duration":
            self.duration *= float(solution.p[0])
        times = solution.x * self.duration
        path = solution.y[: self.dim].T * self.length + self.origin
        momenta = solution.y[self.dim :].T * self.momentum
        trajectory = Trajectory(times, path, momenta)
        return trajectory, self._orbit(trajectory, solution)

    def _orbit(self, trajectory: Trajectory, solution: Any) -> Orbit:
        widths = np.diff(solution.x)
        nodes = (solution.x[:-1, None] + widths[:, None] * (GAUSS_POINTS + 1) / 2).ravel()
        states = solution.sol(nodes)
        rates = solution.sol(nodes, 1)[: self.dim] * self.length
        x, p = self._physical(states)
        energy = at_each(_energy, self.hamiltonian, x, p)
        work = np.einsum("ni,in->n", p, rates) - energy * self.duration
        increments = (work.reshape(-1, 5) @ GAUSS_WEIGHTS) / 2 * widths
        before = after = 0.0
        if isinstance(self.departure, StationaryPoint):
            offset = trajectory.path[0] - self.departure.point
            before = 0.5 * float(trajectory.momenta[0] @ offset) - self._beyond(
                trajectory, self.departure, at_start=True
            )
        actions = before + np.concatenate([[0.0], np.cumsum(increments)])
        times, path, momenta = trajectory.times, trajectory.path, trajectory.momenta
        if isinstance(self.arrival, StationaryPoint):
            offset = trajectory.path[-1] - self.arrival.point
            after = -0.5 * float(trajectory.momenta[-1] @ offset) - self._beyond(
                trajectory, self.arrival, at_start=False
            )
            tail = extended(trajectory, self.arrival, 1e-9 * self.length, self.units, False)
            kept = len(times)
            rest = -0.5 * np.einsum(
                "ni,ni->n", tail.momenta[kept:], tail.path[kept:] - self.arrival.point
            )
            actions = np.concatenate([actions, actions[-1] + after - rest, [actions[-1] + after]])
            last = tail.times[-1] + 1 / self.arrival.slowest
            times = np.append(tail.times, last)
            path = np.concatenate([tail.path, self.arrival.point[None]])
            momenta = np.concatenate([tail.momenta, np.zeros((1, self.dim))])
        return Orbit(
            times=times - times[-1],
            path=path,
            momenta=momenta,
            actions=actions,
            value=float(actions[-1]),
            error=np.inf,
            converged=False,
            method="collocation of Hamilton's equations",
        )

    def _beyond(self, trajectory: Trajectory, end: StationaryPoint, at_start: bool) -> float:
        """Energy integrated over the linear motion beyond a cut: its first nonlinear correction."""
        index = 0 if at_start else -1
        basis, motion = end.unstable() if at_start else end.stable()
        state = np.concatenate([trajectory.path[index] - end.point, trajectory.momenta[index]])
        along = _coordinates(basis, state, self.units)
        # With s = exp(-slowest |t|) the integrand is about s^2: a polynomial.
        nodes, weights = np.polynomial.legendre.leggauss(24)
        s, sign = (nodes + 1) / 2, 1.0 if at_start else -1.0
        times = sign * np.log(s) / end.slowest
        states = np.array([basis @ (scipy.linalg.expm(motion * t) @ along) for t in times])
        energy = at_each(
            _energy, self.hamiltonian, end.point + states[:, : self.dim], states[:, self.dim :]
        )
        return float(weights / 2 @ (energy / (end.slowest * s)))

    def _physical(self, states: Float[np.ndarray, "two_dim n"]) -> tuple[Path, Path]:
        x = states[: self.dim].T * self.length + self.origin
        return x, states[self.dim :].T * self.momentum

    def _flow(self, mesh: np.ndarray, states: np.ndarray, *unknown: np.ndarray) -> np.ndarray:
        flow = at_each(_flow, self.hamiltonian, *self._physical(states)).T
        flow = flow * (self.duration / self.units)[:, None]
        if self.unknown == "friction":
            flow[self.dim :] += unknown[0][0] * states[self.dim :]
        elif self.unknown == "duration":
            flow *= unknown[0][0]
        return _finite(flow)

    def _flow_slopes(self, mesh: np.ndarray, states: np.ndarray, *unknown: np.ndarray) -> Any:
        slopes = at_each(_flow_slopes, self.hamiltonian, *self._physical(states))
        scale = self.duration * self.units[None, :] / self.units[:, None]
        slopes = _finite(np.moveaxis(slopes * scale, 0, -1))
        if self.unknown == "none":
            return slopes
        extra = np.zeros((2 * self.dim, 1, states.shape[1]))
        if self.unknown == "friction":
            rows = np.arange(self.dim, 2 * self.dim)
            slopes[rows, rows] += unknown[0][0]
            extra[self.dim :, 0] = states[self.dim :]
        else:
            extra[:, 0] = self._flow(mesh, states, np.ones(1))
            slopes = slopes * unknown[0][0]
        return slopes, extra

    def _conditions(self, states: np.ndarray) -> tuple[Callable, Callable]:
        """Boundary conditions and their derivatives, as `solve_bvp` wants them."""
        size, count = 2 * self.dim, 2 * self.dim + (self.unknown != "none")
        left, left_value = self._start_conditions()
        right: np.ndarray | None = None
        right_value = np.zeros(self.dim)
        if isinstance(self.arrival, StationaryPoint):
            right = self._complement(self.arrival.stable()[0])
            right_value = right[:, : self.dim] @ self._scaled(self.arrival.point)
        elif not isinstance(self.arrival, AbstractRegion):
            right = np.eye(self.dim, size)
            right_value = self._scaled(self.arrival)
        tangents = self._tangents(states[-1])
        outward = np.concatenate([states[0, : self.dim] - self._start_point(), np.zeros(self.dim)])
        if self.unknown == "friction":
            outward /= outward @ outward

        def conditions(start: np.ndarray, end: np.ndarray, *unknown: np.ndarray) -> np.ndarray:
            values = [left @ start - left_value]
            if right is not None:
                values.append(right @ end - right_value)
            else:
                values.append(self._at_boundary(end, tangents)[0])
            if self.unknown == "friction":
                offset = start[: self.dim] - self._start_point()
                values.append([outward[: self.dim] @ offset - 1])
            elif self.unknown == "duration":
                values.append([self._energy(start)[0]])
            return _finite(np.concatenate(values))

        def slopes(start: np.ndarray, end: np.ndarray, *unknown: np.ndarray) -> tuple:
            at_start, at_end = np.zeros((count, size)), np.zeros((count, size))
            at_start[: self.dim] = left
            at_end[self.dim : size] = (
                right if right is not None else self._at_boundary(end, tangents)[1]
            )
            if self.unknown == "none":
                return at_start, at_end
            at_start[size] = outward if self.unknown == "friction" else self._energy(start)[1]
            return at_start, at_end, np.zeros((count, 1))

        return conditions, slopes

    def _start_point(self) -> Vector:
        return self._scaled(_place(self.departure))

    def _scaled(self, point: Vector) -> Vector:
        return (point - self.origin) / self.length

    def _start_conditions(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.departure, StationaryPoint):
            left = self._complement(self.departure.unstable()[0])
        else:
            left = np.eye(self.dim, 2 * self.dim)
        return left, left[:, : self.dim] @ self._start_point()

    def _complement(self, basis: np.ndarray) -> np.ndarray:
        """Rows that vanish on a subspace, in scaled states."""
        vectors = np.linalg.qr(basis / self.units[:, None], mode="complete")[0]
        return vectors[:, self.dim :].T

    def _tangents(self, end: np.ndarray) -> np.ndarray:
        if not isinstance(self.arrival, AbstractRegion):
            return np.zeros((0, self.dim))
        normal = level_derivatives(self.arrival, self._physical(end[:, None])[0][0])[1]
        return np.linalg.qr(normal[:, None], mode="complete")[0][:, 1:].T

    def _at_boundary(self, end: np.ndarray, tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, p = self._physical(end[:, None])
        values, slopes = in_float64(_leaving, self.arrival, tangents, x[0], p[0])
        scale = np.concatenate([[self.length], np.full(self.dim - 1, self.momentum)])
        return values / scale, slopes * self.units / scale[:, None]

    def _energy(self, start: np.ndarray) -> tuple[float, np.ndarray]:
        x, p = self._physical(start[:, None])
        energy, flow = (
            at_each(_energy, self.hamiltonian, x, p)[0],
            at_each(_flow, self.hamiltonian, x, p)[0],
        )
        slope = np.concatenate([-flow[self.dim :], flow[: self.dim]]) * self.units
        scale = self.action_scale / self.duration
        return float(energy / scale), slope / scale


def extended(
    guess: Trajectory,
    end: StationaryPoint,
    distance: float,
    units: Float[np.ndarray, " two_dim"],
    at_start: bool,
) -> Trajectory:
    """A trajectory prolonged by linear motion until it is close to a stationary point.

    What is already closer than five times the distance is replaced.
    """
    dim = end.point.size
    basis, motion = end.unstable() if at_start else end.stable()
    apart = np.linalg.norm(guess.path - end.point, axis=1)
    far = np.flatnonzero(apart > 5 * distance)
    if at_start:
        first, last = (far[0] if len(far) else 0), len(apart)
    else:
        first, last = 0, (far[-1] + 1 if len(far) else len(apart))
    times, path, momenta = (a[first:last] for a in (guess.times, guess.path, guess.momenta))
    index = 0 if at_start else -1
    state = np.concatenate([path[index] - end.point, momenta[index]])
    along = _coordinates(basis, state, units)
    sign = -1.0 if at_start else 1.0
    length = 1.0 / end.fastest
    while np.linalg.norm((basis @ scipy.linalg.expm(sign * motion * length) @ along)[:dim]) > (
        distance
    ):
        length *= 1.1
        if length * end.slowest > 1e3:
            break
    # Graded between the fastest and the slowest rate, and fine enough for the fastest turns.
    turning = float(np.abs(end.rates.imag).max())
    shortest = min(0.3 / end.fastest, length / TAIL_POINTS)
    longest = min(max(length / 15, shortest), 0.5 / max(turning, 1e-300))
    grid = np.cumsum(np.geomspace(shortest, max(longest, shortest), TAIL_POINTS))
    if grid[-1] < length:
        more = int(np.ceil((length - grid[-1]) / longest))
        grid = np.append(grid, grid[-1] + longest * np.arange(1, more + 1))
    grid *= length / grid[-1]
    states = np.array([basis @ (scipy.linalg.expm(sign * motion * t) @ along) for t in grid])
    points, pushes = end.point + states[:, :dim], states[:, dim:]
    if at_start:
        return Trajectory(
            np.concatenate([times[0] - grid[::-1], times]),
            np.concatenate([points[::-1], path]),
            np.concatenate([pushes[::-1], momenta]),
        )
    return Trajectory(
        np.concatenate([times, times[-1] + grid]),
        np.concatenate([path, points]),
        np.concatenate([momenta, pushes]),
    )


def _place(end: Departure) -> Vector:
    return end.point if isinstance(end, StationaryPoint) else end


def _coordinates(basis: np.ndarray, state: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Coordinates of the point of a subspace closest to a state, in scaled units."""
    return np.linalg.lstsq(basis / units[:, None], state / units)[0]


def _momentum_scale(hamiltonian: AbstractHamiltonian, guess: Trajectory) -> float:
    """Largest momentum; where the motion is free, the one that would hold against the drift."""
    largest = float(np.linalg.norm(guess.momenta, axis=1).max())
    drifts, covariances = at_each(_local_scales, hamiltonian, guess.path)
    typical = float(np.median(drifts) / max(float(np.max(covariances)), 1e-300))
    return max(largest, 1e-3 * typical, 1e-300)


def _finite(values: np.ndarray) -> np.ndarray:
    """Newton steps may go where the Hamiltonian overflows; there they must only look bad."""
    return np.nan_to_num(values, nan=1e100, posinf=1e100, neginf=-1e100)


def _local_scales(hamiltonian: AbstractHamiltonian, x: Array) -> tuple[Array, Array]:
    return jnp.linalg.norm(hamiltonian.drift(x)), jnp.max(jnp.abs(hamiltonian.covariance(x)))


def _flow(hamiltonian: AbstractHamiltonian, x: Array, p: Array) -> Array:
    return jnp.concatenate([hamiltonian.velocity(x, p), hamiltonian.force(x, p)])


def _flow_slopes(hamiltonian: AbstractHamiltonian, x: Array, p: Array) -> Array:
    return jnp.concatenate(jax.jacfwd(_flow, argnums=(1, 2))(hamiltonian, x, p), axis=1)


def _energy(hamiltonian: AbstractHamiltonian, x: Array, p: Array) -> Array:
    return hamiltonian(x, p)


def _leaving(
    region: AbstractRegion, tangents: Array, x: Array, p: Array
) -> tuple[Float[Array, " dim"], Float[Array, "dim two_dim"]]:
    """Level, and components of the momentum off the normal, with their derivatives."""

    def conditions(x: Array, p: Array) -> Array:
        level, slope = jax.value_and_grad(region._level)(x)
        square = jnp.vdot(slope, slope)
        off = p - slope * jnp.vdot(slope, p) / square
        return jnp.concatenate([(level / jnp.sqrt(square))[None], tangents @ off])

    slopes = jax.jacfwd(conditions, argnums=(0, 1))(x, p)
    return conditions(x, p), jnp.concatenate(slopes, axis=1)
