"""Paths of least steepness of a chain at its finite learning rate, by its exact discrete action.

The action ``sum_k eta L(x_k, (x_{k+1} - x_k) / eta)`` has as stationary points the orbits of the
symplectic map ``x' = x + eta H_p(x, p')``, ``p = p' + eta H_x(x, p')``. It is the rate function of
the chain as the batch size grows at a fixed learning rate (Kifer 1990; Freidlin and Wentzell,
chapter 5).
"""

import contextlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument, NotConverged
from escapade.minimum.lyapunov import stationary_covariance_discrete
from escapade.precision import float64, place
from escapade.region import AbstractRegion
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.local import quasipotential
from escapade.steepness.orbit import Orbit
from escapade.steepness.time_grid.chain_horizon import StepsFromStart, leaving, lengthened, reaching
from escapade.steepness.time_grid.path_problem import (
    Path,
    PathProblem,
    StationaryPath,
    chain_grid,
)
from escapade.steepness.time_grid.search import (
    Setting,
    anchored,
    drift_matrix,
    noise_covariance,
    out_of,
    resting_places,
    to_points,
)

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

LONGEST_REST = 20_000
"""Most steps of a path that passes a saddle."""
NEAR = 0.1
"""Distance of the first point of a search from the minimum, as a fraction of the path's."""
NEAREST = 1e-3
"""The same of the path handed back."""
SEARCH_STEPS = 500
MOST_STEPS = 200_000


def chain_orbits(
    hamiltonian: AbstractHamiltonian,
    start: Vector,
    minimum: Vector,
    *,
    steps: int | None = None,
    region: AbstractRegion | None = None,
    to: Vector | None = None,
    stationary: Matrix | None = None,
    tolerance: float = 1e-8,
    guesses: Sequence[Vector] = (),
) -> list[Orbit]:
    """Local minimisers of a chain's action, cheapest first.

    Args:
        hamiltonian: of a chain (its `time_step` is the learning rate).
        start: starting point; not used without `steps`, where paths start at the minimum.
        minimum: the minimum, shape (dim,).
        steps: largest number of steps; unlimited unless given. A path to a point takes exactly so
            many; one out of a region at most.
        region: the region that is left, anchored, with a smooth level; or
        to: the end point, shape (dim,).
        stationary: stationary covariance S of the chain at the minimum in units of epsilon^2, if
            already computed.
        tolerance: relative error of the values up to which an orbit counts as converged.
        guesses: points; the search also starts where the rays to them leave the region.

    Returns:
        Distinct orbits, sorted by their values; the first one is the global minimiser found.

    Raises:
        DegenerateNoise: when no noise leads to the end.
        InvalidArgument: when neither or both of `region` and `to` are given, `steps` is not a
            whole positive number or the Hamiltonian is not that of a chain.
        NotConverged: when no orbit was found.
        NotInRegion: when the noiseless path from the start leaves the region by itself.
        Unstable: when the chain is unstable at this learning rate.
        Unsupported: when the region's level has no derivative.
    """
    rate = hamiltonian.time_step
    if rate is None:
        raise InvalidArgument("hamiltonian is that of continuous time; give a chain's")
    rate = float(rate)
    if (region is None) == (to is None):
        raise InvalidArgument("give either the region that is left or the end point to=...")
    with float64():
        hamiltonian = place(hamiltonian)
    drift = drift_matrix(hamiltonian, minimum)
    points = np.asarray(guesses, dtype=np.float64).reshape(-1, len(minimum))
    what = f"in {'any number of' if steps is None else steps} steps at learning rate {rate:.4g}"
    if steps is not None:
        if steps != int(steps) or not 0 < steps <= MOST_STEPS:
            raise InvalidArgument(
                f"steps is {steps}; give a whole number from 1 to {MOST_STEPS}, or None"
            )
        within = StepsFromStart(hamiltonian, start, minimum, drift, rate, int(steps))
        found = _from_point(within, region, to, points, tolerance, what)
        exactly = None if to is None else int(steps)
        orbits = [_orbit(each, 0.0, tolerance, exactly=exactly) for each in found]
    else:
        if stationary is None:
            covariance = noise_covariance(hamiltonian, minimum)
            stationary = stationary_covariance_discrete(drift, covariance, rate)
        setting = _from_minimum(hamiltonian, minimum, drift, stationary, rate)
        orbits = _without_limit(setting, region, to, points, tolerance, what)
    if not orbits:
        raise NotConverged(
            f"no path of least steepness out of the region ({region}) was found {what}; take a "
            "smaller region or learning rate, or a longer horizon"
        )
    return sorted(orbits, key=lambda orbit: orbit.value)


def _without_limit(
    setting: Setting,
    region: AbstractRegion | None,
    to: Vector | None,
    points: Float[np.ndarray, "k dim"],
    tolerance: float,
    what: str,
) -> list[Orbit]:
    """Orbits that take any number of steps.

    Those that pass or end at a saddle rest there as long as at the minimum, so that only a path
    from the minimum itself, lengthened until nothing more is gained, tells their cost.
    """
    found: list[StationaryPath] = []
    with contextlib.suppress(NotConverged):
        if to is not None:
            found = to_points(setting, to, points, what)
        elif region is not None:
            found = out_of(setting, region, points)
    orbits = [_from_afar(setting, each, tolerance) for each in found]
    resolved = [orbit for orbit in orbits if orbit is not None]
    if resolved and len(resolved) == len(orbits):
        return resolved
    minimum, rate = setting.minimum, float(setting.grid.widths[0])
    rest = StepsFromStart(setting.hamiltonian, minimum, minimum, setting.drift, rate, LONGEST_REST)
    found = _from_point(rest, region, to, points, tolerance, what)
    known = [orbit.end for orbit in resolved]
    for each in found:
        length = np.linalg.norm(each.end - minimum)
        if all(np.linalg.norm(each.end - end) > 1e-3 * length for end in known):
            longer = lengthened(rest, each)
            gained = np.inf if longer is None else abs(1 - longer.value / each.value)
            resolved.append(_orbit(each, gained, tolerance, infinite=True))
    return resolved


def _from_point(
    steps: StepsFromStart,
    region: AbstractRegion | None,
    to: Vector | None,
    points: Float[np.ndarray, "k dim"],
    tolerance: float,
    what: str,
) -> list[StationaryPath]:
    if to is not None:
        return reaching(steps, to, points, tolerance, what)
    return [] if region is None else leaving(steps, region, points, tolerance)


def _from_minimum(
    hamiltonian: AbstractHamiltonian,
    minimum: Vector,
    drift: Matrix,
    stationary: Matrix,
    rate: float,
) -> Setting:
    """Unlimited steps: the first of a few ones costs what the quadratic theory says."""
    slowest = np.abs(np.linalg.eigvals(np.eye(len(drift)) - rate * drift)).max()
    steps = int(np.clip(np.log(NEAR) / np.log(max(slowest, 1e-3)), 8, SEARCH_STEPS))
    return Setting(
        hamiltonian=hamiltonian,
        grid=chain_grid(rate, steps),
        mean=minimum,
        spread=stationary,
        noiseless=np.tile(minimum, (steps + 1, 1)),
        drift=drift,
        reach=stationary,
        minimum=minimum,
    )


def _from_afar(setting: Setting, found: StationaryPath, tolerance: float) -> Orbit | None:
    """Add steps at the start until the first point is well in the quadratic neighbourhood.

    None when it does not come closer.
    """
    rate = float(setting.grid.widths[0])
    backwards = np.eye(len(setting.minimum)) - rate * setting.drift.T
    error = _quadratic_error(setting, found)
    while True:
        size = np.linalg.norm(found.path.points - setting.minimum, axis=1)
        nearness = size[0] / size.max()
        wanted = NEAREST if error <= tolerance / 4 else nearness * (tolerance / 8 / error) ** 0.4
        steps = found.problem.grid.panels
        if error <= tolerance / 4 and nearness <= NEAREST:
            return _orbit(found, error, tolerance, infinite=True)
        if steps >= MOST_STEPS:
            return None
        # Momenta decay backwards in time as those of the linear chain.
        momentum = found.path.initial
        momenta: list[Vector] = []
        points: list[Vector] = []
        while len(momenta) < max(8, MOST_STEPS - steps):
            momenta.append(momentum)
            momentum = backwards @ momentum
            points.append(setting.minimum + setting.spread @ momentum)
            if np.linalg.norm(points[-1] - setting.minimum) <= min(wanted, NEAREST) * size.max():
                break
        path = found.path
        longer = Path(
            np.concatenate([points[::-1], path.points]),
            np.concatenate([np.array(momenta[::-1])[:, None], path.momenta]),
            momentum,
            path.multiplier,
        )
        problem = PathProblem(
            setting.hamiltonian,
            chain_grid(rate, steps + len(points)),
            setting.mean,
            setting.spread,
            anchored(found),
            found.problem.units,
        )
        again = problem.solve(longer)
        if again is None or not again.is_minimum():
            return None
        expected = np.linalg.norm(points[-1] - setting.minimum)
        reached = np.linalg.norm(again.path.points[0] - setting.minimum)
        if reached > max(3 * expected, 0.5 * size[0]):
            return None
        found, error = again, _quadratic_error(setting, again)


def _quadratic_error(setting: Setting, found: StationaryPath) -> float:
    """Relative error of the value for taking the quadratic theory's cost of the first point.

    The orbit itself gives the true cost of every later point. The deviation there, of third order
    in the distance, is scaled down to the first point.
    """
    offsets = found.path.points - setting.minimum
    first = quasipotential(setting.spread, offsets[0])
    actions = found.actions()
    for index in range(1, len(offsets)):
        later = quasipotential(setting.spread, offsets[index])
        if later > 8 * first:
            deviation = abs(later - actions[index])
            return float(deviation / ((later / first) ** 1.5 - 1) / abs(found.value))
    return 1.0


def _orbit(
    found: StationaryPath,
    error: float,
    tolerance: float,
    *,
    infinite: bool = False,
    exactly: int | None = None,
) -> Orbit:
    """The result; of exactly so many steps where the path rests the longer at no cost."""
    edges = found.problem.grid.edges
    steps = len(edges) - 1
    path, momenta, actions = found.path.points, found.edge_momenta(), found.actions()
    if exactly is not None and steps < exactly:
        at = (resting_places(found) or [0])[0]
        repeats = np.ones(steps + 1, dtype=int)
        repeats[at] += exactly - steps
        path, momenta, actions = (
            np.repeat(part, repeats, axis=0) for part in (path, momenta, actions)
        )
        steps = exactly
    error = error + 1e-15 * np.sqrt(steps) + 1e-13
    return Orbit(
        times=edges[1] * (np.arange(steps + 1.0) - (steps if infinite else 0)),
        path=path,
        momenta=momenta,
        actions=actions,
        value=float(actions[-1]),
        error=float(error),
        converged=bool(error <= tolerance),
        method="Newton's method on the chain's action",
    )
