"""Every locally easiest way to a point or out of a region, in continuous time, without time limit.

Curves of least geometric action from many guesses (`geometric`) are cut where they pass a
stationary point, and each leg is solved to many digits as an orbit of Hamilton's equations
(`boundary_value`). Where the drift is minus a gradient and the noise isotropic, the answer is known
(`reversible`). Regions without a smooth level are the business of `separatrix`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import DegenerateNoise, InvalidArgument, NotAMinimum, NotConverged
from escapade.landscape._base import as_points
from escapade.region import AbstractRegion, Basin, Where
from escapade.steepness.continuous import multistart
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.continuous.boundary_value import (
    Arrival,
    Departure,
    Trajectory,
    linear_departure,
    polish,
    solve_roughly,
)
from escapade.steepness.continuous.geometric import (
    ROUGHLY,
    Curve,
    least_action_curve,
    level_derivatives,
    path_action,
    resample,
)
from escapade.steepness.continuous.noiseless import drift, free_passage, relaxation
from escapade.steepness.continuous.reversible import boundary_orbits, descent_orbit
from escapade.steepness.continuous.separatrix import descend_along_boundary, orbits_across
from escapade.steepness.continuous.smoothness import require_smooth
from escapade.steepness.continuous.stationary import StationaryPoint, stationary_point
from escapade.steepness.hamiltonian import AbstractHamiltonian, GaussianHamiltonian
from escapade.steepness.orbit import Orbit

Path = Float[np.ndarray, "n dim"]
Vector = Float[np.ndarray, " dim"]

COARSE, FINE = 33, 129
"""Points of the polygons that compare guesses, and that start the collocation."""
MOST_STARTED = 16
MOST_POLISHED = 8
CLOSE = 2.5
"""A curve that comes this many spacings close to a stationary point passes through it."""
DEGENERATE = 1e-6
"""Ratio of the eigenvalues of the noise covariance below which it does not reach everywhere."""
FLOOR = 1e-2
"""Share of the largest variance then added in every direction, for the first guess only."""
FIRST_GROWTH = 0.03
SHORTEST_GROWTH = 1e-3
"""Shares of the distance to the end by which an orbit is grown, at first and at least."""
MISSED = 0.02
"""Relative difference by which a polygon that was not polished may seem easier than the orbits."""
ON_BOUNDARY = 1e-7
"""A stationary point this close to the boundary, in lengths of the path, is on it."""


def continuous_orbits(
    hamiltonian: AbstractHamiltonian,
    start: ArrayLike,
    *,
    to: ArrayLike | None = None,
    region: AbstractRegion | None = None,
    tolerance: float = 1e-8,
    shortcut: bool = True,
    seed: int = 0,
) -> list[Orbit]:
    """Local minimisers of the action over paths of any duration, the global one first.

    Args:
        hamiltonian: the dynamics, in continuous time.
        start: attractor, or any point, shape (dim,).
        to: end, shape (dim,): any point, a saddle included, in this basin or another.
        region: anchored region whose boundary is the end, instead of `to`.
        tolerance: relative error of the values asked for.
        shortcut: use ``V = 2 (L - L_minimum) / c`` where it holds.
        seed: of the random guesses.

    Returns:
        Distinct orbits by increasing value; of several equally easy ones (mirror images, say) each.

    Raises:
        InvalidArgument: when not exactly one of `to` and `region` is given.
        NotConverged: when no path is found to the tolerance; the message says what to change.
        DegenerateNoise: when none is found and the noise does not reach every direction.
        Unsupported: when none is found because the landscape has a kink on the way.
        NotAMinimum: when the start is a saddle.
    """
    dim = np.size(start)
    origin = as_points(start, dim, "start")[0]
    if (to is None) == (region is None):
        raise InvalidArgument("give either to=... or region=..., the end of the path")
    if hamiltonian.time_step is not None:
        raise InvalidArgument(
            "hamiltonian belongs to a chain; use hamiltonian(escape, continuous_limit=True)"
        )
    search = Search(hamiltonian, origin, tolerance, shortcut, seed)
    if region is None:
        return search.to_point(as_points(to, dim, "to")[0])
    if isinstance(region, Basin | Where):
        return orbits_across(search, region)
    return search.to_boundary(region)


class Search:
    """Paths of least action that leave one point, by one dynamics."""

    def __init__(
        self,
        hamiltonian: AbstractHamiltonian,
        start: Vector,
        tolerance: float,
        shortcut: bool,
        seed: int,
    ):
        self.hamiltonian, self.start = hamiltonian, start
        self.tolerance, self.shortcut, self.seed = tolerance, shortcut, seed
        size = 1 + float(np.linalg.norm(start))
        rest = stationary_point(hamiltonian, start, 1e-4 * size)
        if rest is not None and rest.index > 0:
            if np.linalg.norm(rest.point - start) < 1e-9 * size:
                raise NotAMinimum(f"start {start} is a saddle; start at an attractor")
            rest = None
        self.departure: Departure = start if rest is None else rest

    @property
    def origin(self) -> Vector:
        """Where the paths start."""
        return _place(self.departure)

    def to_point(self, end: Vector) -> list[Orbit]:
        """Paths to a point, stationary or not."""
        near = 1e-5 * float(np.linalg.norm(end - self.origin))
        rest = stationary_point(self.hamiltonian, end, near)
        arrival = end if rest is None else rest
        if np.array_equal(_place(arrival), self.origin):
            raise InvalidArgument("`to` is the start itself; give another point")
        if self.shortcut:
            known = descent_orbit(self.hamiltonian, self.departure, arrival)
            if known is not None:
                return [known]
        free = self._free_orbit(arrival)
        if free is not None:
            return [free]
        guesses = multistart.bowed_curves(self.origin, _place(arrival), COARSE, self.seed)
        return self.from_guesses(guesses, arrival)

    def to_boundary(self, region: AbstractRegion) -> list[Orbit]:
        """Paths to the boundary of a region with a smooth level."""
        ends = multistart.boundary_points(region, self.origin, self.spread(), self.seed)
        if not len(ends):
            raise NotConverged("no ray from the start leaves the region; choose a smaller one")
        known: list[Orbit] = []
        if self.shortcut:
            known, ends = boundary_orbits(self.hamiltonian, self.departure, region, ends)
            if known and not len(ends):
                return multistart.distinct_orbits(known)
        guesses = [
            self.origin + np.linspace(0, 1, COARSE)[:, None] * (e - self.origin) for e in ends
        ]
        try:
            found = self.from_guesses(guesses, region)
        except NotConverged:
            if not known:
                raise
            found = []
        return multistart.distinct_orbits([*known, *found])

    def from_guesses(
        self, guesses: Sequence[Path], arrival: StationaryPoint | Vector | AbstractRegion
    ) -> list[Orbit]:
        """Minimise from each guess, and polish what differs.

        Raises:
            NotConverged: when no guess leads to an orbit.
        """
        region = arrival if isinstance(arrival, AbstractRegion) else None
        floor = self.floor(guesses)
        # Long guesses of steep action rarely end anywhere new.
        costs = [path_action(self.hamiltonian, guess, floor) for guess in guesses]
        curves = []
        for guess in (guesses[index] for index in np.argsort(costs)[:MOST_STARTED]):
            curve = least_action_curve(
                self.hamiltonian, guess, region=region, floor=floor, rest=ROUGHLY
            )
            if np.isfinite(curve.value):
                curves.append(curve)
        if not curves:
            raise NotConverged("the action of every guess is infinite or NaN; check the landscape")
        best = multistart.distinct([c.path for c in curves], [c.value for c in curves])
        orbits: list[Orbit] = []
        failures: list[NotConverged] = []
        lowest = np.inf
        for index in best[:MOST_POLISHED]:
            try:
                fine = least_action_curve(
                    self.hamiltonian,
                    resample(curves[index].path, FINE),
                    region=region,
                    floor=floor,
                )
                lowest = min(lowest, fine.value)
                orbits.append(self.polished(fine, arrival))
            except NotConverged as failure:
                failures.append(failure)
        if not orbits:
            self._require_noise()
            raise failures[0]
        found = multistart.distinct_orbits(orbits)
        comparable = floor == 0 and isinstance(self.hamiltonian, GaussianHamiltonian)
        if failures and comparable and found[0].value > (1 + MISSED) * lowest:
            # Better no answer than one that is not the least.
            raise failures[0]
        return found

    def _require_noise(self) -> None:
        spread = np.linalg.eigvalsh(self.spread())
        if not spread[0] > 1e-12 * spread[-1]:
            raise DegenerateNoise(
                "no path was found, and the noise at the start, carried by the drift, does not "
                f"reach every direction (ratio of spreads {spread[0] / max(spread[-1], 1e-300):.1e}"
                "); give a noise that does, or an end that it reaches"
            )

    def polished(self, curve: Curve, arrival: Arrival) -> Orbit:
        """One orbit, leg by leg between the stationary points that the curve passes."""
        passed, arrival = self._passed(curve, arrival)
        try:
            return self._legs(curve, arrival, passed)
        except NotConverged:
            if passed:
                return self._legs(curve, arrival, [])
            if not isinstance(arrival, AbstractRegion):
                raise
            # Ends that are all equally easy leave none isolated: fix it, and slide it where needed.
            return descend_along_boundary(self, arrival, curve)

    def _legs(
        self,
        curve: Curve,
        arrival: Arrival,
        passed: list[tuple[int, StationaryPoint]],
    ) -> Orbit:
        legs: list[Orbit] = []
        left: Departure = self.departure
        begin = 0
        stops: list[tuple[int, Arrival]] = [*passed, (len(curve.path) - 1, arrival)]
        times = np.concatenate([[0.0], np.cumsum(curve.durations)])
        for end, right in stops:
            piece = slice(begin, end + 1)
            guess = Trajectory(times[piece], curve.path[piece], curve.momenta[piece])
            if end > begin or isinstance(right, AbstractRegion):
                legs.append(self._leg(guess, left, right))
            if isinstance(right, StationaryPoint):
                left, begin = right, end
        return joined(legs)

    def _leg(self, guess: Trajectory, left: Departure, right: Arrival) -> Orbit:
        if isinstance(left, StationaryPoint) and left.index == 1:
            relaxed = relaxation(self.hamiltonian, left, guess.path, right)
            if relaxed is not None:
                return relaxed
        if len(guess.path) < 3:
            raise NotConverged("the path has a leg too short to resolve; move the end")
        try:
            return polish(self.hamiltonian, guess, left, right, self.tolerance)
        except NotConverged:
            require_smooth(self.hamiltonian, guess.path)
            grown = self._grown(left, right, guess.path[-1])
        return polish(self.hamiltonian, grown, left, right, self.tolerance)

    def _grown(self, left: Departure, right: Arrival, end: Vector) -> Trajectory:
        """A guess grown out of the linear neighbourhood of an attractor, the end moved outwards.

        This finds the orbits that wind around the attractor many times, which no short curve
        resembles.
        """
        if not isinstance(left, StationaryPoint) or left.index > 0:
            raise NotConverged("the orbit was not found from its curve of least action")
        displacement = end - left.point
        growth, step = FIRST_GROWTH, FIRST_GROWTH
        trajectory = linear_departure(left, growth * displacement)
        # A stationary end takes forever to reach: stop before it.
        last = 1 - FIRST_GROWTH if isinstance(right, StationaryPoint) else 1.0
        while True:
            try:
                point = left.point + growth * displacement
                trajectory = solve_roughly(self.hamiltonian, trajectory, left, point)
                reached = growth
                if growth >= last:
                    return trajectory
                step *= 1.5
            except NotConverged:
                step /= 3
                if step < SHORTEST_GROWTH or growth == FIRST_GROWTH:
                    raise
            growth = min(reached + step, last)

    def _passed(
        self, curve: Curve, arrival: Arrival
    ) -> tuple[list[tuple[int, StationaryPoint]], Arrival]:
        """Stationary points that a curve passes through, and where; and the end, if it is one."""
        speeds = np.linalg.norm(at_each(drift, self.hamiltonian, curve.path), axis=1)
        lengths = np.linalg.norm(np.diff(curve.path, axis=0), axis=1)
        spacing = float(lengths.mean())
        found: list[tuple[int, StationaryPoint]] = []
        known = [end.point for end in (self.departure, arrival) if isinstance(end, StationaryPoint)]
        slow = speeds < 0.2 * speeds.max()
        lowest = (speeds[1:] <= speeds[:-1]) & (np.append(speeds[2:], np.inf) >= speeds[1:])
        for index in np.flatnonzero(slow[1:] & lowest) + 1:
            rest = stationary_point(self.hamiltonian, curve.path[index], 4 * CLOSE * spacing)
            if rest is None or not rest.hyperbolic:
                continue
            apart = np.linalg.norm(curve.path - rest.point, axis=1)
            if apart.min() > CLOSE * spacing:
                continue
            if any(np.linalg.norm(rest.point - other) < spacing / 2 for other in known):
                continue
            known.append(rest.point)
            if isinstance(arrival, AbstractRegion):
                level, normal, _ = level_derivatives(arrival, rest.point)
                outside = level / max(float(np.linalg.norm(normal)), 1e-300)
                if abs(outside) < ON_BOUNDARY * lengths.sum():
                    arrival = rest
                    continue
                if outside > 0:
                    continue
            elif index == len(speeds) - 1:
                continue
            found.append((int(np.argmin(apart)), rest))
        return sorted(found, key=lambda pair: pair[0]), arrival

    def _free_orbit(self, arrival: StationaryPoint | Vector) -> Orbit | None:
        """The noiseless motion, where it passes through the end all by itself."""
        if isinstance(self.departure, StationaryPoint):
            return None
        if isinstance(arrival, StationaryPoint) and arrival.index > 0:
            return None
        return free_passage(self.hamiltonian, self.departure, _place(arrival))

    def spread(self) -> Float[np.ndarray, "dim dim"]:
        """Stationary covariance at the start."""
        if not isinstance(self.departure, StationaryPoint):
            return np.eye(self.start.size)
        basis = self.departure.unstable()[0]
        dim = self.start.size
        spread = basis[:dim] @ np.linalg.pinv(basis[dim:])
        return 0.5 * (spread + spread.T)

    def floor(self, guesses: Sequence[Path]) -> float:
        """Variance to add for the first guess, where the noise does not reach everywhere."""
        points = np.concatenate([[self.origin], *[guess[:: COARSE // 4] for guess in guesses[:4]]])
        covariances = at_each(_covariance, self.hamiltonian, points)
        eigenvalues = np.linalg.eigvalsh(covariances)
        largest = float(eigenvalues.max())
        return 0.0 if (eigenvalues[:, 0] > DEGENERATE * largest).all() else FLOOR * largest


def joined(legs: Sequence[Orbit]) -> Orbit:
    """One orbit of several legs; the time spent at the stationary points between is left out."""
    if len(legs) == 1:
        return legs[0]
    total = float(sum(leg.value for leg in legs))
    error = sum(leg.error * abs(leg.value) for leg in legs) / max(total, 1e-300)
    times: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    end = cost = 0.0
    for leg in legs:
        gap = 0.0 if not times else leg.times[1] - leg.times[0]
        times.append(end + gap + leg.times - leg.times[0])
        actions.append(cost + leg.actions)
        end, cost = times[-1][-1], cost + leg.value
    return Orbit(
        times=np.concatenate(times) - end,
        path=np.concatenate([leg.path for leg in legs]),
        momenta=np.concatenate([leg.momenta for leg in legs]),
        actions=np.concatenate(actions),
        value=total,
        error=float(error),
        converged=all(leg.converged for leg in legs),
        method=legs[0].method,
    )


def _place(end: StationaryPoint | Vector) -> Vector:
    return end.point if isinstance(end, StationaryPoint) else end


def _covariance(hamiltonian: AbstractHamiltonian, x: Array) -> Array:
    return hamiltonian.covariance(x)
