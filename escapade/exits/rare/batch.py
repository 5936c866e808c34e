"""A few independent runs computed together: flux, splitting, and what they leave on disk."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int, UInt32

from escapade.errors import NotConverged
from escapade.exits.rare import checkpoint
from escapade.exits.rare.branching import (
    FIRST_PIECE,
    Generation,
    Pieces,
    branches,
    first_generation,
    iterate,
)
from escapade.exits.rare.paths import reactive_paths
from escapade.exits.rare.runner import Runner
from escapade.exits.rare.walkers import Problem, Walkers, walkers_at

LANES = 32
"""Recurrent lanes of each run."""

CROSSINGS = 8
"""Crossings seen for each walker before the flux is taken, at least."""

STRETCHES = 16
"""Stretches of the recurrent run, from each of which every lane gives one crossing."""

MOST_STRETCHES = 4096

SAVE_SECONDS = 10.0
"""Time between two savings of a batch that goes on."""


class Plan(eqx.Module):
    """What every run does, in ticks.

    Attributes:
        walkers: walkers of a run.
        kill: share of them replaced at each iteration.
        paths: reactive paths wanted, from all runs.
        max_ticks: longest excursion.
        coordinate: its name.
        threshold: where walkers have come back; minus infinity when there is a last tick.
        burn_in: ticks before anything is counted.
        last_tick: tick at which every walker stops; None when they stop by coming back.
    """

    walkers: int
    kill: float
    paths: int
    max_ticks: int
    coordinate: str
    threshold: float = -np.inf
    burn_in: int = 0
    last_tick: int | None = None

    def recurrent(self, threshold: float, burn_in: int) -> "Plan":
        """Excursions above a threshold."""
        return replace(self, threshold=threshold, burn_in=burn_in)

    def until(self, last_tick: int) -> "Plan":
        """Paths of a given length from the start."""
        return replace(self, last_tick=last_tick)


class Batch(eqx.Module):
    """Some runs by their numbers, the seed of all, and where they are kept."""

    names: Int[np.ndarray, " runs"]
    seed: UInt32[np.ndarray, " 2"]
    folder: str | Path | None = None
    stop: threading.Event = eqx.field(default_factory=threading.Event)

    @property
    def number(self) -> int:
        """The seed as one integer."""
        return int(self.seed[0]) << 32 | int(self.seed[1])


class Finished(eqx.Module):
    """What a batch has found; fluxes per tick."""

    fluxes: Float[np.ndarray, " runs"]
    probabilities: Float[np.ndarray, " runs"]
    shares: Float[np.ndarray, " runs"]
    exit_run: Int[np.ndarray, " exits"]
    exit_points: Float[np.ndarray, "exits dim"]
    paths: tuple[Float[np.ndarray, "ticks dim"], ...]
    ticks: int


def run_batch(problem: Problem, plan: Plan, batch: Batch) -> Finished:
    """Find flux and probability of every run of a batch.

    Raises:
        Diverged: when a walker becomes NaN or infinite.
        NotConverged: when an excursion does not end.
        KeyboardInterrupt: when the batch is told to stop.
        InvalidArgument: when the folder holds another calculation.
    """
    runner = Runner(problem, len(batch.names) * plan.walkers, plan.max_ticks)
    store = checkpoint.Store(batch.folder, problem, plan, batch.names, batch.number)
    pieces = Pieces() if plan.paths else None
    saved = store.load()
    if saved is not None:
        fluxes, now, runner.ticks, pieces = saved
    else:
        if plan.last_tick is None:
            fluxes, start = crossings(runner, plan, batch)
        else:
            fluxes = np.ones(len(batch.names))
            first = problem.state_at(problem.escape.start)
            start = walkers_at(first, batch.seed, batch.names, plan.walkers, FIRST_PIECE)
        if pieces is not None:
            run = np.repeat(np.arange(len(batch.names)), plan.walkers)
            pieces.add(run, np.full(run.size, -1), start)
        now = first_generation(runner, start, len(batch.names), plan.threshold, plan.last_tick)
    last_saved = time.monotonic()

    def after_each(now: Generation) -> None:
        nonlocal last_saved
        stopping = batch.stop.is_set()
        if stopping or time.monotonic() - last_saved > SAVE_SECONDS:
            store.save(fluxes, now, runner.ticks, pieces)
            last_saved = time.monotonic()
        if stopping:
            raise KeyboardInterrupt

    try:
        now = iterate(
            runner,
            now,
            batch.names,
            batch.number,
            plan.kill,
            plan.threshold,
            plan.last_tick,
            pieces,
            after_each,
        )
    except KeyboardInterrupt:
        batch.stop.set()
        raise
    store.save(fluxes, now, runner.ticks, pieces)
    leavers = np.flatnonzero(now.exited.ravel())
    paths: tuple[np.ndarray, ...] = ()
    if pieces is not None:
        paths = reactive_paths(runner.problem, pieces, now, batch.names, batch.number, plan.paths)
    return Finished(
        fluxes=fluxes,
        probabilities=now.probabilities,
        shares=np.exp(now.log_share) / plan.walkers,
        exit_run=leavers // plan.walkers,
        exit_points=now.end[:, leavers].T.astype(np.float64),
        paths=paths,
        ticks=runner.ticks,
    )


def crossings(
    runner: Runner, plan: Plan, batch: Batch
) -> tuple[Float[np.ndarray, " runs"], Walkers[np.ndarray]]:
    """Upward crossings of the threshold per tick, and walkers that start at such crossings."""
    runs = len(batch.names)
    lanes = walkers_at(runner.origin, batch.seed, batch.names, LANES)
    if plan.burn_in:
        lanes, _ = runner.recur(lanes, plan.threshold, plan.burn_in)
    stretch = max(64, plan.burn_in // STRETCHES)
    counts: list[np.ndarray] = []
    states: list[Walkers[np.ndarray]] = []
    ticks = np.zeros(runs)
    total = np.zeros(runs)
    while len(counts) < STRETCHES or (
        total.min() < CROSSINGS * plan.walkers and len(counts) < MOST_STRETCHES
    ):
        lanes, seen = runner.recur(lanes, plan.threshold, stretch)
        ticks += seen.ticks.reshape(runs, LANES).sum(axis=1)
        counts.append(seen.count.reshape(runs, LANES))
        states.append(seen.state)
        total += counts[-1].sum(axis=1)
        if batch.stop.is_set():
            raise KeyboardInterrupt
        if len(counts) >= STRETCHES and not total.any():
            break
    if not total.all():
        raise NotConverged(
            f"a run never crossed the threshold {plan.threshold:.4g} of the coordinate, which "
            "jumps where the process dwells; give a coordinate that grows steadily"
        )
    fluxes = total / ticks
    chosen = []
    for row, name in enumerate(batch.names):
        weight = np.concatenate([count[row] for count in counts]).astype(float)
        random = np.random.default_rng([batch.number, int(name), 2**32 - 2])
        chosen.append(_systematic(weight, plan.walkers, random))
    which = np.concatenate(chosen)
    lane = np.repeat(np.arange(runs), plan.walkers) * LANES + which % LANES
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves, axis=-2), *states)
    followed = jax.tree.map(lambda leaf: leaf[..., which // LANES, lane], stacked)
    replica = np.tile(np.arange(plan.walkers) + FIRST_PIECE, runs)
    return fluxes, branches(followed, followed, replica, runner.problem.ticks_drawn_together)


def _systematic(
    weight: Float[np.ndarray, " candidates"], count: int, random: np.random.Generator
) -> Int[np.ndarray, " count"]:
    """Indices drawn in proportion to the weights, with one random number for all."""
    edges = np.cumsum(weight)
    places = (np.arange(count) + random.random()) / count * edges[-1]
    return np.minimum(np.searchsorted(edges, places, side="right"), len(weight) - 1)
