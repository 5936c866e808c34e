"""Adaptive multilevel splitting of Markov chains, several independent runs side by side.

The algorithm of Brehier, Gazeau, Goudenege, Lelievre and Rousset (Annals of Applied Probability 26
(2016) 3559), whose estimator is unbiased for chains in discrete time: the walkers at or below the
k-th smallest of the highest levels reached die together, ties included; each is replaced by a copy
of a survivor up to its first state strictly above that level, which goes on with fresh noise. With
K_q dead at iteration q and n walkers outside at the end, P = prod_q (1 - K_q / N) n / N.

No path is stored: the copy is made by running the survivor's last piece again, from its first
state, which by construction is at or below no later level than the one sought.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from escapade.exits.lanes import put
from escapade.exits.rare.runner import Runner
from escapade.exits.rare.walkers import Walkers

FIRST_PIECE = 1 << 16
"""Replica numbers below are those of the recurrent lanes."""


@dataclass
class Pieces:
    """Where each piece of path began, to put reactive paths together again."""

    run: list[np.ndarray] = field(default_factory=list)
    ancestor: list[np.ndarray] = field(default_factory=list)
    start: list[Walkers[np.ndarray]] = field(default_factory=list)

    def add(
        self,
        run: Int[np.ndarray, " walkers"],
        ancestor: Int[np.ndarray, " walkers"],
        start: Walkers[np.ndarray],
    ) -> None:
        """Note new pieces; an ancestor of -1 is none."""
        self.run.append(run)
        self.ancestor.append(ancestor)
        self.start.append(start)


@dataclass
class Generation:
    """State of several runs between two iterations.

    Attributes:
        start: where the last piece of each walker's path begins; walkers of a run are contiguous.
        end: where it stopped, and `end_tick` when.
        peak: highest level reached, infinite outside; shape (runs, walkers).
        log_share: logarithm of the product of surviving shares, of each run.
        next_replica: number of the next piece of each run.
        iteration: iterations done.
    """

    start: Walkers[np.ndarray]
    end: Float[np.ndarray, "dim walkers"]
    end_tick: UInt32[np.ndarray, " walkers"]
    peak: Float[np.ndarray, "runs walkers"]
    log_share: Float[np.ndarray, " runs"]
    next_replica: Int[np.ndarray, " runs"]
    iteration: int

    @property
    def exited(self) -> Bool[np.ndarray, "runs walkers"]:
        """Walkers that have left the region."""
        return np.isposinf(self.peak)

    @property
    def probabilities(self) -> Float[np.ndarray, " runs"]:
        """Estimate of each run, once no run is left to iterate."""
        return np.exp(self.log_share) * self.exited.mean(axis=1)


def first_generation(
    runner: Runner, start: Walkers[np.ndarray], runs: int, low: float, last_tick: int | None
) -> Generation:
    """Run the walkers of every run once."""
    stopped, peak, _ = runner.until(start, low, np.inf, last_tick)
    return Generation(
        start,
        stopped.theta,
        stopped.tick,
        peak.reshape(runs, -1),
        np.zeros(runs),
        np.full(runs, FIRST_PIECE + len(start) // runs),
        0,
    )


def iterate(
    runner: Runner,
    now: Generation,
    names: Int[np.ndarray, " runs"],
    seed: int,
    kill: float,
    low: float,
    last_tick: int | None,
    pieces: Pieces | None,
    after_each: Callable[[Generation], None],
) -> Generation:
    """Kill and branch until too few walkers are left inside, in every run.

    `names` are the numbers of the runs, which with `seed` decide who is copied.
    """
    size = now.peak.shape[1]
    together = runner.problem.ticks_drawn_together
    least = max(1, int(kill * size))
    while True:
        level = np.partition(now.peak, least - 1, axis=1)[:, least - 1]
        active = np.isfinite(level) & np.isfinite(now.log_share)
        if not active.any():
            return now
        dead = (now.peak <= level[:, None]) & active[:, None]
        with np.errstate(divide="ignore"):
            log_share = now.log_share + np.log1p(-dead.mean(axis=1))
        # A run whose walkers are all at one level has died out: its estimate is zero.
        dead &= np.isfinite(log_share)[:, None]
        child = np.flatnonzero(dead)
        parent = _parents(dead, names, seed, now.iteration)
        start, peak = now.start, now.peak.copy()
        end, end_tick = now.end.copy(), now.end_tick.copy()
        next_replica = now.next_replica
        if child.size:
            run = child // size
            source = start[parent]
            # To the parent's own end at most: other lanes may round in another way, and miss a
            # level that was barely reached. Such a child is back already, and dies next.
            branch, _, _ = runner.until(source, -np.inf, level[run], now.end_tick[parent])
            order = np.concatenate([np.arange(count) for count in dead.sum(axis=1)])
            replica = (next_replica[run] + order).astype(np.uint32)
            fresh = branches(branch, source, replica, together)
            stopped, reached, _ = runner.until(fresh, low, np.inf, last_tick)
            if pieces is not None:
                pieces.add(run, source.replica.astype(np.int64), fresh)
            start = _replaced(start, child, fresh)
            end[:, child], end_tick[child] = stopped.theta, stopped.tick
            peak.ravel()[child] = reached
            next_replica = next_replica + dead.sum(axis=1)
        now = Generation(start, end, end_tick, peak, log_share, next_replica, now.iteration + 1)
        after_each(now)


def branches(
    at: Walkers[np.ndarray],
    followed: Walkers[np.ndarray],
    replica: Int[np.ndarray, " walkers"],
    together: int,
) -> Walkers[np.ndarray]:
    """Walkers with fresh noise from states `at`, reached with the noise that others followed.

    Noise already drawn, for `together` ticks at once, is followed to its end.
    """
    epoch_end = (-(-at.tick.astype(np.int64) // together) * together).astype(np.uint32)
    inherited = np.where(at.tick < followed.switch, followed.parent, followed.replica)
    return Walkers(at.state, at.tick, at.seed, replica.astype(np.uint32), inherited, epoch_end)


def _parents(
    dead: Bool[np.ndarray, "runs walkers"], names: np.ndarray, seed: int, iteration: int
) -> Int[np.ndarray, " children"]:
    """A surviving walker of the same run for each dead one, uniformly with replacement."""
    size = dead.shape[1]
    chosen = []
    for row, name in enumerate(names):
        count = int(dead[row].sum())
        if count:
            random = np.random.default_rng([seed, int(name), iteration])
            alive = np.flatnonzero(~dead[row])
            chosen.append(row * size + random.choice(alive, count))
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def _replaced(
    walkers: Walkers[np.ndarray], where: Int[np.ndarray, " some"], by: Walkers[np.ndarray]
) -> Walkers[np.ndarray]:
    """Walkers with some of them exchanged."""
    exchanged = jax.tree.map(np.copy, walkers)
    put(exchanged, where, by)
    return exchanged
