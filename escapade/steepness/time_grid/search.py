"""All local minimisers of the action on one grid of times: to a point, or out of a region.

Every search starts from the noiseless path, which costs nothing and solves Hamilton's equations
exactly. Its end is pulled to a point of the boundary in as few stages as Newton's method allows
(the first one is the linear-Gaussian path); then it is let go along the boundary, held back by a
proximal cost that fades, so that it runs down to a minimum and not to a saddle.
"""

from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise, InvalidArgument, NoBoundary, NotConverged, Unsupported
from escapade.precision import in_float64
from escapade.region import AbstractRegion, Basin, Where
from escapade.region.boundary import distance_to_boundary
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.local import minimum_over_boundary, quasipotential
from escapade.steepness.time_grid.path_problem import (
    BoundaryEnd,
    End,
    Grid,
    Path,
    PathProblem,
    PointEnd,
    StationaryPath,
)

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

SMALLEST_STAGE = 1e-3
"""Stage of the way to a target, as a fraction of it, below which the search gives up."""
COMPLIANCE = 1e-3
"""How soft the pull to a first point of the boundary is, relative to the largest variance."""
FREE = 1e-6
"""Proximal cost, relative to the curvature of the action, at which an end counts as free."""
LARGE = 2000
"""Numbers in a path beyond which fewer starts are tried."""
MOST_ORBITS = 16
"""Minimisers kept where a whole family is equally cheap."""


@dataclass(frozen=True)
class Setting:
    """Everything about a search but the end.

    Attributes:
        hamiltonian: of the noise.
        grid: of times.
        mean: where paths start.
        spread: covariance of the start (zero for a given point).
        noiseless: the path without noise at the grid's times, shape (n, dim).
        drift: derivative A of the gradient at the minimum.
        reach: covariance of the end in the linear-Gaussian approximation at the minimum.
        minimum: the minimum.
    """

    hamiltonian: AbstractHamiltonian
    grid: Grid
    mean: Vector
    spread: Matrix
    noiseless: Float[np.ndarray, "n dim"]
    drift: Matrix
    reach: Matrix
    minimum: Vector

    @property
    def arrival(self) -> Vector:
        """Where the noiseless path ends."""
        return self.noiseless[-1]

    def rest(self) -> Path:
        """The noiseless path, without momentum."""
        dim, grid = len(self.mean), self.grid
        momenta = np.zeros((grid.panels, grid.stages, dim))
        return Path(self.noiseless, momenta, np.zeros(dim), np.zeros(dim))

    def problem(self, end: End, displacement: Vector) -> PathProblem:
        """The path problem to an end about a displacement away from where the noiseless path ends.

        The displacement sets the units of the unknowns.
        """
        soft = self.reach + COMPLIANCE * np.linalg.norm(self.reach, 2) * np.eye(len(self.mean))
        momentum = np.linalg.solve(soft, displacement)
        units = float(np.linalg.norm(displacement)), float(np.linalg.norm(momentum))
        return PathProblem(self.hamiltonian, self.grid, self.mean, self.spread, end, units)


def to_points(
    setting: Setting, target: Vector, points: Float[np.ndarray, "k dim"], what: str
) -> list[StationaryPath]:
    """Local minimisers of the action to a point, cheapest first.

    Args:
        setting: start, grid and noise.
        target: where they end.
        points: extra points to lead the end around by.
        what: the horizon in words, for the error.

    Raises:
        DegenerateNoise: when no noise leads to the point.
        InvalidArgument: when the noiseless path ends there.
        NotConverged: when no path was found.
    """
    dim, way = len(target), target - setting.arrival
    if not np.linalg.norm(way) > 1e-12 * np.linalg.norm(setting.noiseless - target, axis=1).max():
        raise InvalidArgument(
            "to is where the path ends without noise, so the steepness is zero; give another point"
        )
    spins = np.random.default_rng(1).standard_normal((0 if dim == 1 else 3, dim))
    spins *= 0.5 * np.linalg.norm(way) / np.linalg.norm(spins, axis=1, keepdims=True)
    bends = np.concatenate([np.zeros((1, dim)), points - setting.arrival - way / 2, spins, -spins])
    minimisers: list[StationaryPath] = []
    for bend in bends:
        found = to_point(setting, target, bend=bend)
        if found is not None:
            add_distinct(minimisers, found)
        if minimisers and setting.noiseless.size > LARGE:
            break
    if minimisers:
        return sorted(minimisers, key=lambda found: found.value)
    mean = setting.arrival - setting.minimum
    if not np.isfinite(quasipotential(setting.reach, target - setting.minimum, mean)):
        raise DegenerateNoise(
            "the noise covariance is singular and does not lead to `to`; give noise in every "
            "direction, a longer horizon, or a point that the noise reaches"
        )
    raise NotConverged(
        f"no path of least steepness to `to` was found {what}; give a point closer to the "
        "minimum, a longer horizon, or a smaller learning rate"
    )


def to_point(
    setting: Setting, target: Vector, compliance: float = 0.0, bend: Vector | None = None
) -> StationaryPath | None:
    """The path to a point, followed from the noiseless path; None when it is lost on the way.

    On its way there the end is led straight, or around by a bend.
    """
    displacement = target - setting.arrival
    done, stage = 0.0, 1.0 if bend is None or not bend.any() else 0.25
    before = here = setting.rest()
    last = 0.0
    while True:
        share = min(1.0, done + stage)
        at = setting.arrival + share * displacement
        if bend is not None:
            at = at + 4 * share * (1 - share) * bend
        end = PointEnd(at, compliance)
        problem = setting.problem(end, displacement)
        guess = here if done == 0 else _beyond(before, here, (share - done) / (done - last))
        found = problem.solve(guess)
        if found is not None and found.is_minimum():
            if share == 1.0:
                return found
            before, here, last, done = here, found.path, done, share
            stage *= 2
        else:
            stage /= 4
            if stage < SMALLEST_STAGE:
                return None


def _beyond(before: Path, here: Path, ratio: float) -> Path:
    return Path(
        here.points + ratio * (here.points - before.points),
        here.momenta + ratio * (here.momenta - before.momenta),
        here.initial + ratio * (here.initial - before.initial),
        here.multiplier + ratio * (here.multiplier - before.multiplier),
    )


def out_of(
    setting: Setting,
    region: AbstractRegion,
    points: Float[np.ndarray, "k dim"],
    thorough: bool = True,
) -> list[StationaryPath]:
    """Local minimisers of the action to the boundary, cheapest first.

    Args:
        setting: start, grid and noise.
        region: what is left.
        points: extra points; the search also starts where the ray to each of them leaves.
        thorough: start in principal and random directions too.

    Raises:
        NoBoundary: when no ray leaves the region.
        DegenerateNoise: when no noise leads to the boundary.
    """
    require_smooth(region)
    minimisers: list[StationaryPath] = []
    in_vain = 0
    for target in first_points(setting, region, points, thorough):
        found = _downhill(setting, region, target)
        known = len(minimisers)
        if found is not None:
            add_distinct(minimisers, found)
        in_vain = 0 if len(minimisers) > known else in_vain + 1
        enough = minimisers and in_vain >= 4 and setting.noiseless.size > LARGE
        if enough or len(minimisers) == MOST_ORBITS:
            break
    return sorted(minimisers, key=lambda found: found.value)


def require_smooth(region: AbstractRegion) -> None:
    """Refuse regions whose level has no derivative.

    Raises:
        Unsupported: for a Basin or a Where.
    """
    if isinstance(region, Basin | Where):
        raise Unsupported(
            f"region is a {region}, whose boundary has no normal to find the cheapest exit with; "
            "use Ball, Sublevel, HalfSpace or Slab, or give the saddle or exit point as to=..."
        )


def add_distinct(known: list[StationaryPath], found: StationaryPath) -> None:
    """Add a minimiser, unless it is known."""
    length = found.problem.units[0]
    for other in known:
        same_end = np.linalg.norm(other.end - found.end) < 1e-4 * length
        if same_end and abs(other.value - found.value) < 1e-6 * abs(found.value):
            return
    known.append(found)


def first_points(
    setting: Setting,
    region: AbstractRegion,
    points: Float[np.ndarray, "k dim"],
    thorough: bool,
) -> Float[np.ndarray, "targets dim"]:
    """Boundary points to start from: the quadratic theory's, principal and random directions."""
    variances, axes = np.linalg.eigh(setting.reach)
    directions = [points - setting.arrival]
    if thorough:
        root = axes * np.sqrt(np.clip(variances, 0, None))
        dim = len(variances)
        heavy = axes[:, ::-1][:, : min(dim, 3)].T
        heavy = heavy[variances[::-1][: len(heavy)] > 1e-12 * variances[-1]]
        count = 0 if dim == 1 else min(2 * dim + 2, 10)
        spins = np.random.default_rng(0).standard_normal((count, dim))
        directions += [heavy, -heavy, spins @ root.T]
    form = region.local_form(setting.minimum, setting.drift)
    if form is not None:
        try:
            local = minimum_over_boundary(setting.reach, form, setting.arrival - setting.minimum)
            directions.insert(0, setting.minimum + local.points - setting.arrival)
        except DegenerateNoise:
            pass
    rays = np.concatenate(directions)
    lengths = np.linalg.norm(rays, axis=1)
    rays = rays[lengths > 0] / lengths[lengths > 0, None]
    distances = distance_to_boundary(region, setting.arrival, rays)
    reached = np.isfinite(distances)
    if not reached.any():
        if variances[0] <= 1e-12 * variances[-1]:
            raise DegenerateNoise(
                f"the noise covariance is singular and leads nowhere out of the region ({region}); "
                "give noise in every direction, or another region"
            )
        raise NoBoundary(
            f"region ({region}) has no boundary along {len(rays)} rays; choose a smaller one"
        )
    return setting.arrival + distances[reached, None] * rays[reached]


def _downhill(setting: Setting, region: AbstractRegion, target: Vector) -> StationaryPath | None:
    """The minimiser below a boundary point; None when lost, or when no path stays inside."""
    soft = COMPLIANCE * float(np.linalg.norm(setting.reach, 2))
    for _ in range(3):
        pulled = to_point(setting, target, soft)
        if pulled is None:
            return None
        found = free_end(setting, region, pulled)
        if found is None:
            return None
        outside = first_outside(region, found.path.points[:-1], setting.minimum)
        if outside is None:
            return found
        target = found.path.points[outside]
    return None


def free_end(
    setting: Setting, region: AbstractRegion, near: StationaryPath
) -> StationaryPath | None:
    """Let the end go along the boundary until it rests at a minimum of the action."""
    variance = np.linalg.norm(setting.reach, 2)
    metric = np.linalg.inv(setting.reach + COMPLIANCE * variance * np.eye(len(setting.reach)))
    displacement = near.end - setting.arrival
    guess, value = near.path, near.value
    if isinstance(near.problem.end, PointEnd):
        level, slope, *_ = BoundaryEnd(region, near.end, metric).constraint(near.end, np.zeros(1))
        push = near.edge_momenta()[-1] @ slope[0] / (slope[0] @ slope[0])
        guess = replace(guess, multiplier=np.array([push]))
        raised = _raised(setting, region, guess, metric, float(level[0]))
        if raised is None:
            return None
        guess, value = raised.path, raised.value
        displacement = raised.end - setting.arrival
    # At another horizon, the value to start from is another one too.
    allowed, hold = value + 0.5 * abs(value), FREE
    for _ in range(60):
        anchor = guess.points[-1]
        end = BoundaryEnd(region, anchor, hold * metric)
        found = setting.problem(end, displacement).solve(guess)
        down = (
            found is not None
            and found.value <= allowed
            and found.path.multiplier[0] >= 0
            and found.is_minimum()
        )
        if found is not None and down:
            moved = np.linalg.norm(found.end - anchor)
            if hold == FREE and moved < 1e-7 * np.linalg.norm(displacement):
                return found
            guess, allowed = found.path, found.value * (1 + 1e-12)
            hold = max(FREE, hold / 30)
        else:
            if hold > 1e4:
                return None
            hold = 0.1 if hold == FREE else 30 * hold
    return None


def _raised(
    setting: Setting, region: AbstractRegion, guess: Path, metric: Matrix, level: float
) -> StationaryPath | None:
    """Bring an end from a level to the boundary, held back along it."""
    done, stage = 0.0, 1.0
    while True:
        share = min(1.0, done + stage)
        anchor = guess.points[-1]
        end = BoundaryEnd(region, anchor, metric, level=(1 - share) * level)
        found = setting.problem(end, anchor - setting.arrival).solve(guess)
        if found is not None and found.path.multiplier[0] >= 0 and found.is_minimum():
            if share == 1.0:
                return found
            guess, done = found.path, share
            stage *= 2
        else:
            stage /= 4
            if stage < SMALLEST_STAGE:
                return None


def anchored(found: StationaryPath) -> End:
    """The end of a problem, held back, if at all, at where the path ends."""
    end = found.problem.end
    return end if isinstance(end, PointEnd) else replace(end, anchor=found.end)


def resting_places(found: StationaryPath) -> list[int]:
    """Edges of the grid where the path is locally slowest: at rest, waiting costs nothing."""
    edges = found.path.points[:: found.problem.grid.stages]
    speeds = np.linalg.norm(np.diff(edges, axis=0), axis=1) / found.problem.grid.widths
    walled = np.concatenate([[np.inf], speeds, [np.inf]])
    slower = (walled[1:-1] <= walled[:-2]) & (walled[1:-1] < walled[2:])
    return [int(at) for at in np.flatnonzero(slower & (speeds < 0.2 * speeds.max()))]


def waiting(found: StationaryPath, places: list[int], panels: int) -> Path:
    """A path that waits for some more panels at each of some edges."""
    path, stages = found.path, found.problem.grid.stages
    arrivals = found.edge_momenta()
    points, momenta = [], []
    for first, last in zip([0, *places], [*places, len(path.momenta)], strict=True):
        points.append(path.points[1 + first * stages : 1 + last * stages])
        momenta.append(path.momenta[first:last])
        if last != len(path.momenta):
            here = path.points[last * stages]
            points.append(np.broadcast_to(here, (panels * stages, len(here))))
            momenta.append(np.broadcast_to(arrivals[last], (panels, *path.momenta.shape[1:])))
    return replace(
        path,
        points=np.concatenate([path.points[:1], *points]),
        momenta=np.concatenate(momenta),
    )


def first_outside(
    region: AbstractRegion, points: Float[np.ndarray, "n dim"], minimum: Vector
) -> int | None:
    """Index of the first point outside a region, by more than rounding."""
    depth = abs(levels(region, minimum[None])[0])
    outside = np.flatnonzero(~(levels(region, points) < 1e-9 * depth))
    return int(outside[0]) if len(outside) else None


def levels(region: AbstractRegion, points: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, " n"]:
    """Levels of many points."""
    chunk = 256
    padded = np.pad(points, ((0, -len(points) % chunk), (0, 0)), mode="edge")
    parts = [
        in_float64(_levels, region, padded[at : at + chunk]) for at in range(0, len(padded), chunk)
    ]
    return np.concatenate(parts)[: len(points)]


def _levels(region: AbstractRegion, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
    return jax.vmap(region._level)(points)


def drift_matrix(hamiltonian: AbstractHamiltonian, minimum: Vector) -> Matrix:
    """Derivative A of the gradient at the minimum."""
    return in_float64(_drift_jacobian, hamiltonian, minimum)


def noise_covariance(hamiltonian: AbstractHamiltonian, minimum: Vector) -> Matrix:
    """Covariance of the noise at the minimum."""
    return in_float64(_covariance, hamiltonian, minimum)


def _drift_jacobian(
    hamiltonian: AbstractHamiltonian, x: Float[Array, " dim"]
) -> Float[Array, "dim dim"]:
    return -jax.jacfwd(hamiltonian.drift)(x)


def _covariance(
    hamiltonian: AbstractHamiltonian, x: Float[Array, " dim"]
) -> Float[Array, "dim dim"]:
    return hamiltonian.covariance(x)
