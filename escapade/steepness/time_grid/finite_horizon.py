"""Paths of least steepness of continuous SGD within a finite horizon.

Hamilton's equations as a two-point boundary value problem, by the collocation of Gauss on panels
that are halved where the momentum is not resolved. The value is the action of the collocated path,
of sixth order in the panels' width.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.integrate
from jaxtyping import Bool, Float

from escapade.errors import InvalidArgument, NotConverged, NotInRegion
from escapade.minimum.lyapunov import horizon_covariance
from escapade.precision import float64, in_float64, place
from escapade.region import AbstractRegion
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.orbit import Orbit
from escapade.steepness.time_grid.path_problem import (
    Grid,
    Path,
    StationaryPath,
    derivatives,
    gauss_grid,
    interpolation,
)
from escapade.steepness.time_grid.search import (
    Setting,
    add_distinct,
    anchored,
    drift_matrix,
    first_outside,
    free_end,
    noise_covariance,
    out_of,
    resting_places,
    to_points,
    waiting,
)

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

MOST_PANELS = 20_000
RELAXATIONS = 4.0
"""Horizon of the first search, in units of the slowest relaxation time."""
SHORTEST = 0.05
"""Shortest horizon at which the search starts anew, in units of the fastest relaxation time."""


def finite_horizon_orbits(
    hamiltonian: AbstractHamiltonian,
    start: Vector,
    minimum: Vector,
    time: float,
    *,
    region: AbstractRegion | None = None,
    to: Vector | None = None,
    tolerance: float = 1e-8,
    guesses: Sequence[Vector] = (),
) -> list[Orbit]:
    """Local minimisers of the action of continuous SGD over a finite time, cheapest first.

    Args:
        hamiltonian: in continuous time (its `time_step` is None).
        start: starting point, shape (dim,).
        minimum: the minimum, shape (dim,): rules the mesh and the first guesses.
        time: horizon T, learning rate times steps. A path to a point takes exactly T; one out of
            a region at most T.
        region: the region that is left, anchored, with a smooth level; or
        to: the end point, shape (dim,).
        tolerance: relative error of the values that is aimed at.
        guesses: points; the search also starts where the rays to them leave the region.

    Returns:
        Distinct orbits, sorted by their values; the first one is the global minimiser found. Their
        error is the change of the value when every panel was halved last.

    Raises:
        DegenerateNoise: when no noise leads to the end.
        InvalidArgument: when neither or both of `region` and `to` are given, the time is not
            positive, or the Hamiltonian is that of a chain.
        NotConverged: when no orbit was found.
        NotInRegion: when the noiseless path from the start leaves the region by itself.
        Unsupported: when the region's level has no derivative.
    """
    if hamiltonian.time_step is not None:
        raise InvalidArgument("hamiltonian is that of a chain; give one in continuous time")
    if (region is None) == (to is None):
        raise InvalidArgument("give either the region that is left or the end point to=...")
    if not 0 < time < np.inf:
        raise InvalidArgument(f"time is {time}; give a positive time, learning rate times steps")
    with float64():
        hamiltonian = place(hamiltonian)
    points = np.asarray(guesses, dtype=np.float64).reshape(-1, len(minimum))
    horizons = _Horizons(hamiltonian, start, minimum, float(time))
    what = f"within a time of {time:.4g}"
    if to is not None:
        setting = horizons.within(horizons.mesh(min(time, horizons.relaxation)))
        shorter = to_points(setting, to, points, what)
        longer = [_lengthened(horizons, None, each, tolerance) for each in shorter]
        found = [each for each in longer if each is not None]
    elif region is not None:
        found = _leaving(horizons, region, points, tolerance)
    if not found:
        raise NotConverged(
            f"no path of least steepness out of the region ({region}) was found {what}; take a "
            "smaller region or a longer horizon"
        )
    orbits = [_refined(horizons, region, each, tolerance) for each in found]
    return sorted(orbits, key=lambda orbit: orbit.value)


class _Horizons:
    """Settings of all horizons up to the longest.

    Attributes:
        longest: the horizon asked for.
        fastest: largest rate of relaxation.
        relaxation: horizon of the first search, a few of the slowest relaxation times.
        noiseless: points of the noiseless path at given times.
    """

    def __init__(
        self, hamiltonian: AbstractHamiltonian, start: Vector, minimum: Vector, longest: float
    ):
        """Follow the noiseless path from the start over the longest horizon."""
        self.hamiltonian, self.start, self.minimum = hamiltonian, start, minimum
        self.longest = longest
        self.drift = drift_matrix(hamiltonian, minimum)
        self.covariance = noise_covariance(hamiltonian, minimum)
        self.fastest = float(np.linalg.norm(self.drift, 2))
        self.relaxation = RELAXATIONS / float(np.linalg.eigvals(self.drift).real.min())
        self.noiseless = _fall(hamiltonian, start, minimum, longest)

    def mesh(self, time: float) -> Float[np.ndarray, " edges"]:
        """Panels fine at both ends, where paths bend on the fastest time scale."""
        width, half = min(0.25 / self.fastest, time / 8), [0.0]
        while 2 * sum(half) < time:
            half.append(min(width * 1.3 ** (len(half) - 1), time / 8))
        inner = np.cumsum([*half, *half[:0:-1]])
        return np.append(time * inner[:-1] / inner[-1], time)

    def within(self, edges: Float[np.ndarray, " edges"]) -> Setting:
        """The setting on a mesh."""
        grid = gauss_grid(edges)
        return Setting(
            hamiltonian=self.hamiltonian,
            grid=grid,
            mean=self.start,
            spread=np.zeros_like(self.drift),
            noiseless=self.noiseless(grid.times),
            drift=self.drift,
            reach=horizon_covariance(self.drift, self.covariance, edges[-1]),
            minimum=self.minimum,
        )


def _fall(
    hamiltonian: AbstractHamiltonian, start: Vector, minimum: Vector, longest: float
) -> Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, "n dim"]]:
    """The noiseless path as a function of time."""
    if np.array_equal(start, minimum):
        return lambda times: np.tile(start, (len(times), 1))
    run = scipy.integrate.solve_ivp(
        lambda _, x: in_float64(hamiltonian.drift, x),
        (0.0, longest),
        start,
        method="LSODA",
        rtol=1e-9,
        atol=1e-12 * np.linalg.norm(start - minimum),
        dense_output=True,
    )
    return lambda times: run.sol(times).T


def _leaving(
    horizons: _Horizons,
    region: AbstractRegion,
    points: Float[np.ndarray, "k dim"],
    tolerance: float,
) -> list[StationaryPath]:
    """Minimisers over paths that leave at the horizon or before."""
    longest = horizons.longest
    fall = horizons.noiseless(horizons.within(horizons.mesh(longest)).grid.times)
    if first_outside(region, fall, horizons.minimum) is not None:
        raise NotInRegion(
            f"within a time of {longest:g} (learning rate times steps) without noise the start is "
            "outside the region; no fluctuation is needed, so the steepness is zero"
        )
    moderate = min(longest, horizons.relaxation)
    setting = horizons.within(horizons.mesh(moderate))
    candidates = out_of(setting, region, points)
    away = np.linalg.norm(horizons.start - horizons.minimum)
    if away > 1e-9 * np.sqrt(np.trace(setting.reach)):
        # The closer the start to the boundary, the earlier the cheapest exit may be.
        points = np.concatenate([points, *(each.end[None] for each in candidates)])
        shorter = moderate / 3
        while shorter * horizons.fastest > SHORTEST:
            setting = horizons.within(horizons.mesh(shorter))
            candidates += out_of(setting, region, points, thorough=False)
            shorter /= 3
    minimisers: list[StationaryPath] = []
    for each in candidates:
        if _energy(each) < 0:
            best = _shortened(horizons, region, each)
        else:
            best = _lengthened(horizons, region, each, tolerance)
        if best is not None:
            add_distinct(minimisers, best)
    return minimisers


def _energy(found: StationaryPath) -> float:
    """H along the path: minus the derivative of the value by the horizon."""
    at_end = found.end[None, None], found.edge_momenta()[-1:][None]
    return float(derivatives(found.problem.hamiltonian, *at_end)[0].item())


def _lengthened(
    horizons: _Horizons, region: AbstractRegion | None, found: StationaryPath, tolerance: float
) -> StationaryPath | None:
    """The minimiser at the longest horizon, or where a longer one gains nothing any more.

    A path out of a region whose energy changes sign on the way is cheapest there.
    """
    if found.problem.grid.edges[-1] < horizons.longest:
        found = _resolved(horizons, found, tolerance)
    while found.problem.grid.edges[-1] < horizons.longest:
        edges, energy = found.problem.grid.edges, _energy(found)
        left = horizons.longest - edges[-1]
        if 0 <= energy * left <= 0.01 * tolerance * found.value:
            break
        again = None
        share = 0.5
        while again is None and share > 0.01:
            again = _waited(horizons, found, min(share * edges[-1], left))
            share /= 4
        if again is None:
            break
        if region is not None and _energy(again) < 0:
            return _between(horizons, region, found, again)
        if again.value > found.value and region is not None:
            break
        gained, found = found.value - again.value, again
        if 0 <= gained <= 0.01 * tolerance * found.value:
            break
    return found


def _waited(horizons: _Horizons, found: StationaryPath, extra: float) -> StationaryPath | None:
    """The minimiser at a horizon that is longer by some time."""
    edges, places = found.problem.grid.edges, resting_places(found) or [0]
    inner = horizons.mesh(extra / len(places))
    guess = waiting(found, places, len(inner) - 1)
    widths = np.insert(
        np.diff(edges), np.repeat(places, len(inner) - 1), np.tile(np.diff(inner), len(places))
    )
    longer = np.concatenate([[0.0], np.cumsum(widths)])
    longer[-1] = min(longer[-1], horizons.longest)
    if abs(longer[-1] - horizons.longest) < 1e-9 * horizons.longest:
        longer[-1] = horizons.longest
    again = _on_mesh(horizons, found, longer, guess)
    return again if again is not None and again.is_minimum() else None


def _shortened(
    horizons: _Horizons, region: AbstractRegion, found: StationaryPath
) -> StationaryPath | None:
    """The minimiser at a shorter horizon, where its energy vanishes; None when there is none."""
    while True:
        time = found.problem.grid.edges[-1] / 1.25
        if time * horizons.fastest < SHORTEST / 10:
            return None
        again = _within_time(horizons, region, found, time)
        if again is None:
            return None
        if _energy(again) >= 0:
            return _between(horizons, region, again, found)
        found = again


def _between(
    horizons: _Horizons, region: AbstractRegion, shorter: StationaryPath, longer: StationaryPath
) -> StationaryPath | None:
    """The minimiser at the horizon between two at which its energy vanishes."""
    for iteration in range(60):
        energies = _energy(shorter), _energy(longer)
        ends = shorter.problem.grid.edges[-1], longer.problem.grid.edges[-1]
        # The energy is the value's derivative: what is left to gain is their product at most.
        best = shorter if abs(energies[0]) < abs(energies[1]) else longer
        if min(np.abs(energies)) * (ends[1] - ends[0]) < 1e-11 * abs(best.value):
            return best
        share = 0.5 if iteration % 3 == 2 else energies[0] / (energies[0] - energies[1])
        time = ends[0] + np.clip(share, 1e-3, 1 - 1e-3) * (ends[1] - ends[0])
        again = _within_time(horizons, region, best, time)
        if again is None:
            return None
        shorter, longer = (again, longer) if _energy(again) >= 0 else (shorter, again)
    return best


def _within_time(
    horizons: _Horizons, region: AbstractRegion, found: StationaryPath, time: float
) -> StationaryPath | None:
    """The same minimiser at another horizon."""
    edges = found.problem.grid.edges
    setting = horizons.within(np.append(edges[:-1] * (time / edges[-1]), time))
    freed = free_end(setting, region, found)
    if freed is None or first_outside(region, freed.path.points[:-1], setting.minimum) is not None:
        return None
    return freed


def _refined(
    horizons: _Horizons, region: AbstractRegion | None, found: StationaryPath, tolerance: float
) -> Orbit:
    """Halve panels until the value has settled."""
    error, goal = np.inf, tolerance
    while found.problem.grid.panels < MOST_PANELS:
        found = _resolved(horizons, found, goal)
        edges = found.problem.grid.edges
        again = _on_mesh(horizons, found, _halved(edges, np.full(len(edges) - 1, True)))
        if again is None:
            # Too flat for another mesh: rests so long that the passage may shift in time.
            error = min(error, _unresolved(found).sum() / abs(found.value))
            break
        error = abs(again.value - found.value) / abs(again.value)
        found = again
        if error <= tolerance / 2:
            break
        goal /= 10
    edges, stages = found.problem.grid.edges, found.problem.grid.stages
    path, momenta, actions = found.path.points[::stages], found.edge_momenta(), found.actions()
    left = horizons.longest - edges[-1]
    # What a longer horizon gains decays within a relaxation time.
    error += max(_energy(found), 0.0) * min(left, horizons.relaxation) / abs(found.value)
    if region is None and left > 0:
        # A horizon so long that the path rests on its way, at no cost.
        at = (resting_places(found) or [0])[0]
        edges = np.concatenate([edges[: at + 1], edges[at:] + left])
        path, momenta, actions = (
            np.concatenate([part[: at + 1], part[at:]]) for part in (path, momenta, actions)
        )
    return Orbit(
        times=edges,
        path=path,
        momenta=momenta,
        actions=actions,
        value=found.value,
        error=float(error + 1e-13),
        converged=bool(error <= tolerance),
        method="Gauss collocation of Hamilton's equations",
    )


def _resolved(horizons: _Horizons, found: StationaryPath, goal: float) -> StationaryPath:
    """Halve the panels on which the momentum is not resolved, until none is left."""
    while found.problem.grid.panels < MOST_PANELS:
        costs = _unresolved(found)
        coarse = costs > 0.1 * goal * abs(found.value) / len(costs)
        if not coarse.any():
            break
        again = _on_mesh(horizons, found, _halved(found.problem.grid.edges, coarse))
        if again is None:
            break
        found = again
    return found


def _halved(
    edges: Float[np.ndarray, " edges"], coarse: Bool[np.ndarray, " panels"]
) -> Float[np.ndarray, " more"]:
    middles = (edges[:-1] + edges[1:])[coarse] / 2
    return np.sort(np.concatenate([edges, middles]))


def _unresolved(found: StationaryPath) -> Float[np.ndarray, " panels"]:
    """Estimated error of the action on each panel.

    The momentum of a panel, extrapolated to its ends, misses the exact one there by the error of
    its polynomial; the action, stationary, is wrong by about the square.
    """
    grid, momenta = found.problem.grid, found.edge_momenta()
    to_ends = interpolation(grid.nodes, np.array([0.0, 1.0]))
    ends = np.einsum("ej,kjd->ked", to_ends, found.path.momenta)
    missed = ends - np.stack([momenta[:-1], momenta[1:]], axis=1)
    noise = found.noise()
    return grid.widths * np.einsum("ked,kdf,kef->k", missed, noise, missed)


def _on_mesh(
    horizons: _Horizons,
    found: StationaryPath,
    edges: Float[np.ndarray, " edges"],
    guess: Path | None = None,
) -> StationaryPath | None:
    """The same minimiser on another mesh: of the same duration, or near a guess."""
    setting = horizons.within(edges)
    if guess is None:
        guess = _resampled(found.path, found.problem.grid, setting.grid)
    end = anchored(found)
    return setting.problem(end, found.end - setting.arrival).solve_held(guess)


def _resampled(path: Path, old: Grid, new: Grid) -> Path:
    """The same polynomials on another mesh of the same duration."""

    def at(times: Float[np.ndarray, "..."], points: bool) -> Float[np.ndarray, "... dim"]:
        panel = np.clip(np.searchsorted(old.edges, times) - 1, 0, old.panels - 1)
        local = (times - old.edges[panel]) / old.widths[panel]
        known = old.positions if points else old.nodes
        weights = interpolation(known, local.ravel()).reshape(*times.shape, len(known))
        values = (
            path.points[old.stages * panel[..., None] + np.arange(old.stages + 1)]
            if points
            else path.momenta[panel]
        )
        return np.einsum("...j,...jd->...d", weights, values)

    node_times = new.edges[:-1, None] + new.widths[:, None] * new.nodes
    return Path(at(new.times, True), at(node_times, False), path.initial, path.multiplier)
