"""Paths of least steepness of a chain that starts at a point, within a number of steps."""

import jax
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import NotInRegion
from escapade.minimum.lyapunov import horizon_covariance
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.time_grid.path_problem import (
    Path,
    StationaryPath,
    chain_grid,
)
from escapade.steepness.time_grid.search import (
    Setting,
    add_distinct,
    anchored,
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

RELAXATIONS = 4.0
"""Horizon of the first search, in units of the slowest relaxation time."""


class StepsFromStart:
    """Settings of every number of steps up to a horizon.

    Attributes:
        longest: the horizon, in steps.
        moderate: steps of the first search.
    """

    def __init__(
        self,
        hamiltonian: AbstractHamiltonian,
        start: Vector,
        minimum: Vector,
        drift: Matrix,
        rate: float,
        longest: int,
    ):
        """Follow the noiseless path from the start, over a horizon in steps."""
        self.hamiltonian, self.start, self.minimum = hamiltonian, start, minimum
        self.drift, self.rate, self.longest = drift, rate, longest
        self.covariance = noise_covariance(hamiltonian, minimum)
        slowest = self.rate * np.linalg.eigvals(drift).real.min()
        self.moderate = int(min(longest, max(8, np.ceil(RELAXATIONS / slowest))))
        if np.array_equal(start, minimum):
            falls = np.tile(start, (longest, 1))
        else:
            falls = in_float64(_fall, hamiltonian, rate, start, np.arange(-(-longest // 256) * 256))
        self.noiseless = np.concatenate([start[None], falls])[: longest + 1]

    def within(self, steps: int) -> Setting:
        """The setting of exactly so many steps."""
        return Setting(
            hamiltonian=self.hamiltonian,
            grid=chain_grid(self.rate, steps),
            mean=self.start,
            spread=np.zeros_like(self.drift),
            noiseless=self.noiseless[: steps + 1],
            drift=self.drift,
            reach=horizon_covariance(self.drift, self.covariance, steps, self.rate),
            minimum=self.minimum,
        )


def _fall(
    hamiltonian: AbstractHamiltonian, rate: float, start: Float[Array, " dim"], counter: Array
) -> Float[Array, "n dim"]:
    """Noiseless steps."""

    def step(x: Array, _: Array) -> tuple[Array, Array]:
        x = x + rate * hamiltonian.drift(x)
        return x, x

    return jax.lax.scan(step, start, counter)[1]


def reaching(
    steps: StepsFromStart,
    to: Vector,
    points: Float[np.ndarray, "k dim"],
    tolerance: float,
    what: str,
) -> list[StationaryPath]:
    """Minimisers that end at a point; of fewer steps where a longer rest would gain nothing."""
    shorter = to_points(steps.within(steps.moderate), to, points, what)
    return [_settled(steps, None, each, tolerance) for each in shorter]


def leaving(
    steps: StepsFromStart,
    region: AbstractRegion,
    points: Float[np.ndarray, "k dim"],
    tolerance: float,
) -> list[StationaryPath]:
    """Minimisers over paths that leave a region within the horizon.

    Raises:
        NotInRegion: when the noiseless path leaves it by itself.
    """
    if first_outside(region, steps.noiseless, steps.minimum) is not None:
        raise NotInRegion(
            f"within {steps.longest} steps without noise the start is outside the region; no "
            "fluctuation is needed, so the steepness is zero"
        )
    setting = steps.within(steps.moderate)
    candidates = out_of(setting, region, points)
    away = np.linalg.norm(steps.start - steps.minimum) > 1e-9 * np.sqrt(np.trace(setting.reach))
    if away:
        # The closer the start to the boundary, the earlier the cheapest exit may be.
        points = np.concatenate([points, *(each.end[None] for each in candidates)])
        shorter = steps.moderate // 2
        while shorter:
            candidates += out_of(steps.within(shorter), region, points, thorough=False)
            shorter //= 2
    minimisers: list[StationaryPath] = []
    for each in candidates:
        best = _best_number_of_steps(steps, region, each) if away else each
        if best.problem.grid.panels >= steps.moderate:
            best = _settled(steps, region, best, tolerance)
        add_distinct(minimisers, best)
    return minimisers


def _settled(
    steps: StepsFromStart,
    region: AbstractRegion | None,
    found: StationaryPath,
    tolerance: float,
) -> StationaryPath:
    """The minimiser at the longest horizon, or where a longer one gains nothing any more."""
    while found.problem.grid.panels < steps.longest:
        again = lengthened(steps, found)
        if again is None or (region is not None and again.value > found.value):
            break
        gained, found = found.value - again.value, again
        if 0 <= gained <= 0.01 * tolerance * found.value:
            break
    return found


def lengthened(steps: StepsFromStart, found: StationaryPath) -> StationaryPath | None:
    """The same minimiser with half as many steps more, or fewer where that is too much at once."""
    panels, share = found.problem.grid.panels, 0.5
    left = steps.longest - panels
    while left > 0 and share > 0.01:
        places = (resting_places(found) or [0])[-left:]
        each = max(1, min(int(share * panels), left) // len(places))
        setting = steps.within(panels + each * len(places))
        problem = setting.problem(anchored(found), found.end - setting.arrival)
        again = problem.solve_held(waiting(found, places, each))
        if again is not None and again.is_minimum():
            return again
        share /= 4
    return None


def _best_number_of_steps(
    steps: StepsFromStart, region: AbstractRegion, found: StationaryPath
) -> StationaryPath:
    """Follow a minimiser to the number of steps at which it is cheapest."""
    stride = max(1, found.problem.grid.panels // 8)
    while stride:
        here = found.problem.grid.panels
        better = None
        for count in (here - stride, here + stride):
            if 0 < count <= steps.moderate:
                other = _with_steps(steps, region, found, count)
                if other is not None and other.value < found.value * (1 - 1e-12):
                    better = other
                    break
        if better is None:
            stride //= 2
        else:
            found = better
    return found


def _with_steps(
    steps: StepsFromStart, region: AbstractRegion, found: StationaryPath, count: int
) -> StationaryPath | None:
    """The same minimiser with another number of steps."""
    setting = steps.within(count)
    old = np.linspace(0, 1, found.problem.grid.panels + 1)
    new = np.linspace(0, 1, count + 1)

    def stretched(values: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        return np.stack([np.interp(new, old, column) for column in values.T], axis=1)

    momenta = stretched(found.edge_momenta())
    points = stretched(found.path.points)
    guess = Path(points, momenta[1:, None], momenta[0], found.path.multiplier)
    problem = setting.problem(found.problem.end, found.end - setting.arrival)
    again = problem.solve(guess)
    if again is None or not again.is_minimum():
        return None
    freed = free_end(setting, region, again)
    if freed is None or first_outside(region, freed.path.points[:-1], setting.minimum) is not None:
        return None
    return freed
