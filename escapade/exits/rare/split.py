"""The verbs: rare exits by adaptive multilevel splitting, at any depth and in any dimension."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from escapade.dynamics.streams import seed_words
from escapade.errors import InvalidArgument, NotConverged
from escapade.escape import Escape, require_escape
from escapade.exits.ensemble import MAX_TICKS, _whole
from escapade.exits.rare.batch import Batch, Finished, Plan, run_batch
from escapade.exits.rare.branching import FIRST_PIECE
from escapade.exits.rare.coordinates import Coordinate, coordinate_of
from escapade.exits.rare.rare_exit import Departure, RareExit, RareProbability
from escapade.exits.rare.runner import Runner, nan_coordinate
from escapade.exits.rare.walkers import Problem, walkers_at
from escapade.landscape._base import positive_number
from escapade.landscape.descent import jacobian
from escapade.precision import PRECISIONS, context

RUNS_TOGETHER = 8
"""Runs that share one loop: the unit of saving and of parallel work."""

FEWEST_TOGETHER = 2048
"""Walkers of all the runs that share a loop, at least, where there are as many."""

PILOT = 2**16 - 1
"""Number of the run that sets the threshold."""

PILOT_LANES = 128

RELAXATIONS = 6
"""Default burn-in, in relaxation times of the slowest direction."""

MOST_BURN_IN = 20_000
"""Longest default burn-in in steps."""

UNKNOWN_BURN_IN = 2_000
"""Default burn-in in steps where the spectrum is too large to compute."""

LARGEST_SPECTRUM = 512
"""Dimension above which the slowest relaxation time is not computed."""

EARLY = 256
"""Walkers of each run that show what the burn-in does to a start away from the minimum."""

FREQUENT = 0.9
"""Share that outlives the burn-in below which a start away from the minimum is simulated."""

RECURRENT = 0.5
"""Share of the time that the process spends below the threshold."""


def split(
    escape: Escape,
    key: Any = 0,
    *,
    runs: int = 16,
    walkers: int = 1024,
    coordinate: str | Coordinate = "level",
    burn_in: int | None = None,
    kill: float = 0.25,
    paths: int = 0,
    max_steps: int = 10**7,
    precision: str = "float32",
    workers: int = 1,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RareExit:
    """Mean exit time by adaptive multilevel splitting, however long it is.

    With the process started again at the minimum after each exit, ``E[nu] = 1 / (flux *
    probability)``: the flux of upward crossings of a threshold of the coordinate, per step, times
    the chance that a crossing is followed by an exit before the return below it. A direct run gives
    the flux and the crossings; splitting between the threshold and the boundary gives the
    probability without bias. The threshold is the median of the coordinate. From another start, the
    burn-in is simulated as well: who leaves in it counts with its own time. Everything is done
    `runs` times over, independently; their scatter is the interval.

    The coordinate decides the cost, never the expectation: "level" (the region's), "quasipotential"
    (of the quadratic theory at the minimum), or any JAX function of theta that grows on the way
    out, such as `coordinates.Tabulated` of a committor or of a quasipotential on a grid.

    Args:
        escape: the problem, with any dynamics.
        key: a non-negative integer or a `jax.random` key.
        runs: independent runs, at least 2.
        walkers: walkers of each run.
        coordinate: the reaction coordinate.
        burn_in: steps before anything is counted; unless given, six times the slowest relaxation
            time at the minimum, at most 20 000 (the result says when that is too short). Where that
            is not known (above 512 parameters, and for `OptaxSGD`), 2 000 or six times the memory
            of the optimiser, whichever is longer.
        kill: share of the walkers replaced at each iteration.
        paths: reactive paths to return.
        max_steps: longest excursion above the threshold, in steps.
        precision: "float32" or "float64", of the state.
        workers: threads; each computes runs of its own, and results do not depend on it.
        checkpoint: folder in which finished and half-finished runs are kept; the same call with
            the same folder goes on where it stopped.
        progress: called with (finished, runs) now and then.

    Raises:
        InvalidArgument: when an argument is out of range, or the checkpoint is of another call.
        Diverged: when a walker becomes NaN or infinite.
        NotConverged: when every run died out, or an excursion does not end.
    """
    began = time.perf_counter()
    plan, problem, words, pilot_ticks, burn_in, relaxation = prepared(
        escape, key, runs, walkers, coordinate, kill, paths, precision, max_steps, burn_in
    )
    per_step = escape.dynamics.ticks_per_step
    done = _run_all(problem, plan, words, runs, precision, workers, checkpoint, progress)
    probabilities, points, weights, kept, ticks = _together(done, plan, paths)
    departure, early_ticks = depart(problem, words, runs, plan.burn_in, precision)
    fluxes = np.concatenate([part.fluxes for part in done]) * per_step
    return RareExit(
        rates=fluxes * probabilities,
        fluxes=fluxes,
        probabilities=probabilities,
        threshold=plan.threshold,
        exit_points=points,
        exit_weights=weights,
        paths=kept,
        steps_used=(ticks + pilot_ticks + early_ticks) // per_step,
        burn_in=burn_in,
        departure=departure,
        relaxation_time=relaxation,
        method=f"splitting along {plan.coordinate}",
        seconds=time.perf_counter() - began,
    )


def exit_probability(
    escape: Escape,
    steps: int,
    key: Any = 0,
    *,
    runs: int = 16,
    walkers: int = 1024,
    coordinate: str | Coordinate = "level",
    kill: float = 0.25,
    paths: int = 0,
    precision: str = "float32",
    workers: int = 1,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RareProbability:
    """P(exit time <= steps) from the start, by splitting paths of that length.

    The escape before stationarity: however improbable, from the very point where the run starts.
    Trajectory-adaptive multilevel splitting (Lestang, Ragone, Brehier, Herbert and Bouchet,
    Journal of Statistical Mechanics (2018) 043213), unbiased.

    Args:
        escape: the problem, with any dynamics.
        steps: number of SGD steps within which the exit must happen.
        key: a non-negative integer or a `jax.random` key.
        runs: independent runs, at least 2.
        walkers: walkers of each run.
        coordinate: the reaction coordinate, as in `split`.
        kill: share of the walkers replaced at each iteration.
        paths: reactive paths to return.
        precision: "float32" or "float64", of the state.
        workers: threads, as in `split`.
        checkpoint: folder for what is finished, as in `split`.
        progress: called with (finished, runs) now and then.

    Raises:
        InvalidArgument: when an argument is out of range, or the checkpoint is of another call.
        Diverged: when a walker becomes NaN or infinite.
        NotConverged: when every run died out.
    """
    began = time.perf_counter()
    plan, problem, words = _plan(escape, key, runs, walkers, coordinate, kill, paths, precision, 1)
    per_step = escape.dynamics.ticks_per_step
    steps = _whole(steps, "steps", 1, MAX_TICKS // per_step)
    plan = plan.until(steps * per_step)
    done = _run_all(problem, plan, words, runs, precision, workers, checkpoint, progress)
    probabilities, points, weights, kept, ticks = _together(done, plan, paths)
    return RareProbability(
        probabilities=probabilities,
        steps=steps,
        exit_points=points,
        exit_weights=weights,
        paths=kept,
        steps_used=ticks // per_step,
        method=f"splitting along {plan.coordinate}",
        seconds=time.perf_counter() - began,
    )


def _plan(
    escape: Escape,
    key: Any,
    runs: int,
    walkers: int,
    coordinate: str | Coordinate,
    kill: float,
    paths: int,
    precision: str,
    max_steps: int,
) -> tuple[Plan, Problem, np.ndarray]:
    """Check what both verbs are given."""
    require_escape(escape)
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if not 0 < positive_number(kill, "kill") <= 0.9:
        raise InvalidArgument(f"kill is {kill}; give a share of the walkers between 0 and 0.9")
    _whole(runs, "runs", 2, PILOT)
    function, name = coordinate_of(escape, coordinate)
    per_step = escape.dynamics.ticks_per_step
    plan = Plan(
        walkers=_whole(walkers, "walkers", 2, 2**20),
        kill=float(kill),
        paths=_whole(paths, "paths", 0, 2**20),
        max_ticks=_whole(max_steps, "max_steps", 1, MAX_TICKS // (2 * per_step)) * per_step,
        coordinate=name,
    )
    return plan, Problem(escape, function), seed_words(key)


def prepared(
    escape: Escape,
    key: Any,
    runs: int,
    walkers: int,
    coordinate: str | Coordinate,
    kill: float,
    paths: int,
    precision: str,
    max_steps: int,
    burn_in: int | None,
) -> tuple[Plan, Problem, np.ndarray, int, int, float | None]:
    """Plan, problem, seed, ticks of the pilot, burn-in and slowest relaxation in steps."""
    plan, problem, words = _plan(
        escape, key, runs, walkers, coordinate, kill, paths, precision, max_steps
    )
    per_step = escape.dynamics.ticks_per_step
    relaxation = slowest_relaxation(escape)
    if burn_in is None and relaxation is not None:
        burn_in = int(min(np.ceil(RELAXATIONS * relaxation), MOST_BURN_IN))
    elif burn_in is None:
        memory = escape.dynamics.memory(escape.landscape)
        burn_in = int(np.clip(np.ceil(RELAXATIONS * memory), UNKNOWN_BURN_IN, MOST_BURN_IN))
    burn_in = _whole(burn_in, "burn_in", 0, MAX_TICKS // (4 * per_step))
    threshold, ticks = _threshold(problem, words, burn_in * per_step, precision)
    plan = plan.recurrent(threshold, burn_in * per_step)
    return plan, problem, words, ticks, burn_in, relaxation


def slowest_relaxation(escape: Escape) -> float | None:
    """Relaxation time in steps of the slowest direction at the minimum; None where unknown."""
    if escape.landscape.dim > LARGEST_SPECTRUM:
        return None
    drift = jacobian(escape.landscape, escape.minimum)
    slowest = escape.dynamics.learning_rate * float(np.linalg.eigvals(drift).real.min())
    if slowest <= 0:
        return None
    if escape.dynamics.continuous:
        return 1 / slowest
    factor = escape.dynamics.contraction(escape.landscape, escape.minimum, drift)
    return float(-1 / np.log(factor)) if factor is not None and 0 < factor < 1 else None


def _threshold(
    problem: Problem, words: np.ndarray, burn_in: int, precision: str
) -> tuple[float, int]:
    """Median of the coordinate where the process dwells, above that of the origin."""
    with context(precision):
        runner = Runner(problem, PILOT_LANES)
        lanes = walkers_at(runner.origin, words, np.array([PILOT]), PILOT_LANES)
        lowest = runner.recur(lanes, np.inf, 0)[1].last[0]
        seen = []
        for _ in range(4):
            lanes, crossings = runner.recur(lanes, np.inf, max(burn_in // 2, 64))
            seen.append(crossings.last)
        values = np.concatenate(seen[2:])
        if np.isnan(values).any():
            raise nan_coordinate()
        above = values[values > lowest]
        if not above.size:
            raise NotConverged(
                "the coordinate is nowhere larger than at the minimum after the burn-in: it is "
                "constant where the process dwells, or there is no noise; give a coordinate that "
                "grows at once"
            )
        return max(float(np.quantile(values, RECURRENT)), float(above.min())), runner.ticks


def depart(
    problem: Problem, words: np.ndarray, runs: int, burn_in: int, precision: str
) -> tuple[Departure | None, int]:
    """What happens in the burn-in from the start and from the origin, and the ticks it takes.

    None where the two are one point.
    """
    start, origin = problem.escape.start, problem.origin
    if np.array_equal(start, origin) or burn_in == 0:
        return None, 0
    per_step = problem.escape.dynamics.ticks_per_step
    with context(precision):
        runner = Runner(problem, runs * EARLY)

        def early(
            point: np.ndarray, first_replica: int, last_tick: int | None
        ) -> tuple[np.ndarray, np.ndarray]:
            state = problem.state_at(point)
            walkers = walkers_at(state, words, np.arange(runs), EARLY, first_replica)
            stopped, peak, _ = runner.until(walkers, -np.inf, np.inf, last_tick)
            steps = stopped.tick.reshape(runs, EARLY) / per_step
            return steps.mean(axis=1), np.isfinite(peak).reshape(runs, EARLY).mean(axis=1)

        from_origin = early(origin, FIRST_PIECE // 4, burn_in)
        # Where exits are frequent, nobody is worth splitting: each walker runs to its own.
        frequent = from_origin[1].mean() < FREQUENT
        from_start = early(start, FIRST_PIECE // 2, None if frequent else burn_in)
    return Departure(*from_start, *from_origin), runner.ticks


def _run_all(
    problem: Problem,
    plan: Plan,
    words: np.ndarray,
    runs: int,
    precision: str,
    workers: int,
    checkpoint: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> list[Finished]:
    """All batches of runs, in order."""
    workers = _whole(workers, "workers", 1, 4096)
    stop = threading.Event()
    # Few walkers would leave the loop idle.
    together = int(np.clip(FEWEST_TOGETHER // plan.walkers, RUNS_TOGETHER, 32 * RUNS_TOGETHER))
    batches = [
        Batch(np.arange(first, min(first + together, runs)), words, checkpoint, stop)
        for first in range(0, runs, together)
    ]

    def one(batch: Batch) -> Finished:
        # Each thread has a JAX context of its own.
        with context(precision):
            return run_batch(problem, plan, batch)

    done: list[Finished] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for result in pool.map(one, batches):
                done.append(result)
                if progress is not None:
                    progress(sum(len(part.fluxes) for part in done), runs)
        except BaseException:
            # Every other thread saves where it stands and ends.
            stop.set()
            raise
    return done


def _together(
    done: list[Finished], plan: Plan, paths: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...], int]:
    """Probabilities of all runs, exit points with weights, paths, and ticks used.

    Raises:
        NotConverged: when no run has found an exit.
    """
    probabilities = np.concatenate([part.probabilities for part in done])
    if not probabilities.any():
        raise NotConverged(
            f"every one of {len(probabilities)} runs died out: all walkers came to one level and "
            f"none left along {plan.coordinate}; raise walkers, or give a coordinate that grows "
            "all the way to the exit"
        )
    points = np.concatenate([part.exit_points for part in done])
    weights = np.concatenate([part.shares[part.exit_run] for part in done])
    kept = [path for part in done for path in part.paths]
    chosen = np.random.default_rng(0).permutation(len(kept))[:paths]
    return (
        probabilities,
        points,
        weights / weights.sum(),
        tuple(kept[number] for number in chosen),
        sum(part.ticks for part in done),
    )
