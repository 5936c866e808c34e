"""Direct simulation: an ensemble of independent replicas run until exit or a cap."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument
from escapade.escape import Escape, require_escape
from escapade.exits.lanes import Lanes, advance_on, put, side_by_side
from escapade.exits.sample import ExitSample
from escapade.landscape import AbstractEmpirical
from escapade.landscape._base import as_numbers
from escapade.precision import PRECISIONS, context, place

MAX_TICKS = 2**32 - 2**12
"""Longest run in ticks: tick counters have 32 bits."""

_DRAW_BYTES = 2**20
_LANE_NUMBERS = 2**15


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `simulate`; `sample` holds what finished, the rest censored where it stood."""

    def __init__(self, sample: ExitSample):
        super().__init__(f"interrupted after {sample.replicas} replicas had started")
        self.sample = sample


def simulate(
    escape: Escape,
    replicas: int = 1024,
    max_steps: int = 10**6,
    key: Any = 0,
    *,
    precision: str = "float32",
    lanes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExitSample:
    """Run independent replicas from the start until each leaves the region.

    The noise of every replica is a function of `key` and its own number alone: more replicas,
    other lanes or chunks give the same exits, up to the rounding of the drift. All replicas are
    started and each is run to its exit or to `max_steps`, so short exits are not preferred. The
    exit step is exact: the first step whose state has level >= 0 (for continuous dynamics, whose
    state is within the boundary shift of one tick of it).

    Args:
        escape: the problem.
        replicas: how many.
        max_steps: cap in SGD steps; replicas still inside are right-censored there.
        key: a non-negative integer or a `jax.random` key.
        precision: "float32" or "float64", of the state; the noise carries 32 random bits.
        lanes: replicas that run side by side; chosen from the dimension unless given.
        progress: called with (finished, replicas) now and then.

    Returns:
        Exit steps and points, with statistics.

    Raises:
        InvalidArgument: when an argument is out of range, or a tick of continuous dynamics so
            long that it reaches the boundary.
        Interrupted: on Ctrl-C, with the partial sample.
    """
    require_escape(escape)
    replicas = _whole(replicas, "replicas", 1, 2**31)
    per_step = escape.dynamics.ticks_per_step
    max_steps = _whole(max_steps, "max_steps", 1, MAX_TICKS // per_step)
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    width = _width(escape, replicas) if lanes is None else _whole(lanes, "lanes", 1, 2**24)
    began = time.perf_counter()
    with context(precision):
        run = _Run(escape, replicas, max_steps * per_step, seed_words(key), width)
        try:
            running = True
            while running:
                running = run.advance()
                if progress is not None:
                    progress(run.finished, replicas)
        except KeyboardInterrupt as interrupt:
            sample = run.sample(max_steps, precision, time.perf_counter() - began)
            if sample is None:
                raise
            raise Interrupted(sample) from interrupt
        sample = run.sample(max_steps, precision, time.perf_counter() - began)
    if sample is None:
        raise InvalidArgument(
            f"substeps is {per_step}: the boundary shift of one tick reaches the start, so every "
            "replica leaves at once; raise substeps, or start further inside"
        )
    return sample


class _Run:
    """Book-keeping on the host: which replica runs on which lane, and what came of it."""

    def __init__(self, escape: Escape, replicas: int, last_tick: int, seed: np.ndarray, width: int):
        self.escape = escape
        self.on_device = place(escape)
        self.key = int(seed[0]) << 32 | int(seed[1])
        self.seed = jnp.asarray(seed)
        self.last_tick = last_tick
        self.ticks = np.zeros(replicas, np.int64)
        start = jnp.asarray(escape.start)
        self.initial = side_by_side(escape.dynamics.initial_state(escape.landscape, start), 1)
        self.points = np.tile(np.asarray(start), (replicas, 1))
        self.censored = np.zeros(replicas, bool)
        self.started = min(width, replicas)
        self.finished = 0
        self.owner = np.arange(width)
        self.owner[self.started :] = -1
        self.width = width
        # An idle lane is one whose tick counter already stands at the cap.
        ticks = np.where(self.owner >= 0, 0, last_tick).astype(np.uint32)
        state = jax.tree.map(lambda leaf: np.repeat(leaf, width, axis=-1), self.initial)
        self.lanes = Lanes(state, ticks, self.owner.astype(np.uint32))
        self.pairs = _pairs_per_block(self.on_device, width)
        self.blocks = 4
        self.seconds_per_tick = 0.0
        self.finished_ticks = 0
        self.compiled = False
        self.advance_lanes = advance_on(jax.default_backend())

    def advance(self) -> bool:
        """Run one chunk and collect what finished; false when nothing is left to run."""
        began = time.perf_counter()
        lanes, still = self.advance_lanes(
            self.on_device,
            self.lanes,
            self.seed,
            np.uint32(self.last_tick),
            np.uint32(self.blocks),
            self.pairs,
        )
        state, ticks = jax.tree.map(np.asarray, (lanes.state, lanes.ticks))
        self.lanes = Lanes(state, ticks, self.lanes.replica)
        still = np.asarray(still)
        if self.compiled:
            self.seconds_per_tick = (time.perf_counter() - began) / (2 * self.pairs * self.blocks)
        self.compiled = True
        capped = self.lanes.ticks >= self.last_tick
        done = np.flatnonzero((self.owner >= 0) & (~still | capped))
        if done.size:
            self._collect(done, still)
            self._refill(done)
        self._adapt()
        return bool((self.owner >= 0).any())

    def _collect(self, done: np.ndarray, still: np.ndarray) -> None:
        who = self.owner[done]
        self.ticks[who] = self.lanes.ticks[done]
        self.points[who] = self.lanes.theta[:, done].T
        self.censored[who] = still[done]
        self.finished += done.size
        self.finished_ticks += int(self.ticks[who].sum())
        self.owner[done] = -1

    def _refill(self, done: np.ndarray) -> None:
        fresh = min(done.size, len(self.ticks) - self.started)
        state, ticks = jax.tree.map(np.copy, (self.lanes.state, self.lanes.ticks))
        refilled, emptied = done[:fresh], done[fresh:]
        self.owner[refilled] = np.arange(self.started, self.started + fresh)
        self.started += fresh
        put(state, done, self.initial)
        ticks[refilled] = 0
        ticks[emptied] = self.last_tick
        live = np.flatnonzero(self.owner >= 0)
        width = len(self.owner)
        if live.size <= width // 4 and width > 16 and self._remaining_seconds(live.size) > 2.0:
            keep = np.concatenate([live, np.flatnonzero(self.owner < 0)])[: max(width // 4, 16)]
            state = jax.tree.map(lambda leaf: leaf[..., keep], state)
            ticks, self.owner = ticks[keep], self.owner[keep]
            self.compiled = False
        self.lanes = Lanes(state, ticks, self.owner.astype(np.uint32))

    def _typical_ticks(self) -> float:
        """Life of a replica, judged from those finished and those running."""
        running = self.lanes.ticks[self.owner >= 0].sum(dtype=np.int64)
        return float(self.finished_ticks + running) / max(self.finished, 1)

    def _remaining_seconds(self, live: int) -> float:
        """Time until the last of the live lanes ends.

        Dead lanes are worth dropping, at the price of compiling a narrower loop, if it is long.
        """
        last = np.log(live + 1) * self._typical_ticks()
        return self.seconds_per_tick * min(last, self.last_tick)

    def _adapt(self) -> None:
        """Longer chunks while replicas live long, within a tenth of a second.

        A chunk of a twelfth of a life wastes four per cent of it on lanes that have left.
        """
        chunk = 2 * self.pairs
        wanted = self._typical_ticks() / 12 / chunk
        limit = 0.1 / max(self.seconds_per_tick * chunk, 1e-6)
        self.blocks = int(np.clip(min(wanted, limit), 1, 4 * self.blocks))

    def sample(self, max_steps: int, precision: str, seconds: float) -> ExitSample | None:
        """What happened so far; replicas still running are censored where they stand.

        None when no replica has completed a step.
        """
        running = self.owner >= 0
        who = self.owner[running]
        self.ticks[who] = self.lanes.ticks[running]
        self.points[who] = self.lanes.theta[:, running].T
        self.censored[who] = True
        per_step = self.escape.dynamics.ticks_per_step
        # An exit between two steps belongs to the later one; a replica still inside has only
        # completed the earlier one, and says nothing if it has completed none.
        times = np.where(self.censored, self.ticks // per_step, -(-self.ticks // per_step))
        known = np.flatnonzero(times > 0)
        if not known.size:
            return None
        points = self.points[known].astype(np.float64)
        diverged = np.any(~np.isfinite(points), axis=1)
        return ExitSample(
            times=times[known],
            censored=self.censored[known] & ~diverged,
            diverged=diverged,
            exit_points=points,
            start=np.asarray(self.escape.start),
            max_steps=max_steps,
            seconds=seconds,
            precision=precision,
            engine=f"jax {jax.default_backend()}, {self.width} lanes",
            key=str(self.key),
        )


def _whole(value: int, argument: str, least: int, most: int) -> int:
    number = np.nan if isinstance(value, bool) else as_numbers(value, argument)
    if np.ndim(number) != 0 or number != np.floor(number) or not least <= number <= most:
        raise InvalidArgument(
            f"{argument} is {value!r}; give a whole number between {least} and {most}"
        )
    return int(value)


def _width(escape: Escape, replicas: int) -> int:
    """Lanes so that what one tick touches fits the fast cache, but few enough to be refilled.

    Where each tick calls another framework, enough lanes that the call costs a sixteenth of their
    work: for small networks that counts for more than the cache.
    """
    landscape = escape.landscape
    theta = jax.ShapeDtypeStruct((landscape.dim,), jnp.float32)
    state = jax.eval_shape(lambda at: escape.dynamics.initial_state(landscape, at), theta)
    touched = sum(leaf.size for leaf in jax.tree.leaves(state))
    amortised = 1
    if isinstance(landscape, AbstractEmpirical):
        examples = escape.dynamics.examples_per_tick(landscape)
        touched += examples * landscape.example_size
        amortised = 16 * landscape.call_overhead // (landscape.dim * max(examples, 1))
    fitting = _power_of_two(max(_LANE_NUMBERS // touched, 8, amortised))
    # With N replicas on W lanes the last exits cost about W (log W) / N of the whole.
    refilled = max(_power_of_two(replicas // 8), 64)
    return min(fitting, refilled, 4096, 2 * _power_of_two(replicas))


def _power_of_two(value: int) -> int:
    """Largest power of two that is not above a number; at least one."""
    return 1 << max(value, 1).bit_length() - 1


def _pairs_per_block(escape: Escape, width: int) -> int:
    """Pairs of ticks whose draws fit the fast cache."""

    def draw(seed: jax.Array, words: jax.Array) -> Any:
        stream = Stream(seed, words)
        return escape.dynamics.draw_pairs(escape.landscape, stream, words[None])

    seed = jax.ShapeDtypeStruct((2,), jnp.uint32)
    draws = jax.eval_shape(draw, seed, jax.ShapeDtypeStruct((width,), jnp.uint32))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(draws))
    most = escape.dynamics.pairs_per_draw(escape.landscape)
    return int(np.clip(_DRAW_BYTES // size, 1, most))
