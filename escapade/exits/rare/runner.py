"""Running many walkers to their stops: a few lane widths, refilled as walkers finish."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from escapade.errors import Diverged, InvalidArgument, NotConverged
from escapade.exits.ensemble import MAX_TICKS, _pairs_per_block, _width
from escapade.exits.lanes import put
from escapade.exits.rare.walkers import Crossings, Problem, Walkers, compiled, to_host
from escapade.precision import place

NARROWER = 16
"""Factor between the two lane widths that are compiled: for most walkers, and for the last ones."""

NARROWEST = 16

LONGEST_BLOCK = 8
"""Most pairs of ticks drawn together."""

FEWEST_BLOCKS, MOST_BLOCKS = 1, 64


class Runner:
    """A problem placed on the device, with the widths in which its loops are compiled.

    Must be used in the context of its precision.
    """

    def __init__(self, problem: Problem, walkers: int, max_ticks: int = MAX_TICKS):
        self.origin = problem.state_at(problem.origin)
        self.problem = place(problem)
        self.width = max(_width(problem.escape, 8 * walkers), NARROWEST)
        self.max_ticks = max_ticks
        self.ticks = 0
        self._pairs_of_width: dict[int, int] = {}
        self._advance, self._recur = compiled(jax.default_backend())

    def until(
        self,
        walkers: Walkers[np.ndarray],
        low: Float[np.ndarray, " walkers"] | float,
        high: Float[np.ndarray, " walkers"] | float,
        last_tick: int | UInt32[np.ndarray, " walkers"] | None = None,
    ) -> tuple[Walkers[np.ndarray], Float[np.ndarray, " walkers"], Float[np.ndarray, " walkers"]]:
        """Run each walker until it is below `low`, above `high`, outside, or at `last_tick`.

        Returns the walkers where they stopped, the largest coordinate each has met, infinite if it
        left the region, and the logarithm of the likelihood ratio of its path, zero without a tilt.

        Raises:
            Diverged: when a walker becomes NaN or infinite.
            NotConverged: without `last_tick`, when a walker has not stopped after `max_ticks`.
        """
        count = len(walkers)
        state, tick = jax.tree.map(np.copy, (walkers.state, walkers.tick))
        dtype = walkers.theta.dtype
        peak = np.full(count, -np.inf, dtype)
        log_weight = np.zeros(count, dtype)
        low, high = (np.broadcast_to(np.asarray(x, dtype), count) for x in (low, high))
        cap = last_tick
        if cap is None:
            cap = min(int(walkers.tick.max(initial=0)) + self.max_ticks, MAX_TICKS)
        cap = np.broadcast_to(np.asarray(cap, np.uint32), count)
        waiting, blocks = np.arange(count), FEWEST_BLOCKS
        while waiting.size:
            width = self._width_for(waiting.size)
            chosen = waiting[:width]
            padded = np.concatenate([chosen, np.repeat(chosen[:1], width - chosen.size)])
            # A lane of padding stops at once: it is below its lower level.
            floor = np.where(np.arange(width) < chosen.size, low[padded], np.inf)
            lanes, top, ratio, running = to_host(
                self._advance(
                    self.problem,
                    Walkers(state, tick, *walkers_noise(walkers))[padded],
                    peak[padded],
                    log_weight[padded],
                    floor.astype(dtype),
                    high[padded],
                    cap[padded],
                    np.uint32(blocks),
                    self._pairs(width),
                )
            )
            used = slice(0, chosen.size)
            self.ticks += int((lanes.tick[used].astype(np.int64) - tick[chosen]).sum())
            done = lanes[used]
            put((state, tick), chosen, (done.state, done.tick))
            peak[chosen], log_weight[chosen] = top[used], ratio[used]
            if not np.isfinite(done.theta).all():
                raise diverged()
            if np.isnan(peak[chosen]).any():
                raise nan_coordinate()
            still = running[used]
            # Longer calls while most keep running, shorter ones while many stop.
            blocks = min(2 * blocks, MOST_BLOCKS) if still.mean() > 0.7 else FEWEST_BLOCKS
            waiting = np.concatenate([chosen[still], waiting[width:]])
        if last_tick is None and (tick >= cap).any():
            raise NotConverged(
                f"a walker neither came back nor left in {self.max_ticks:g} ticks: the region "
                "seems to hold another attractor above the recurrence threshold; leave a region "
                "around one minimum, give another coordinate, or raise max_steps"
            )
        return Walkers(state, tick, *walkers_noise(walkers)), peak, log_weight

    def recur(
        self, lanes: Walkers[np.ndarray], threshold: float, ticks: int
    ) -> tuple[Walkers[np.ndarray], Crossings[np.ndarray]]:
        """Run every lane for at least `ticks` ticks, from the origin again after each exit.

        Raises:
            Diverged: when a lane becomes NaN or infinite.
        """
        pairs = self._pairs(len(lanes))
        blocks = -(-ticks // (2 * pairs))
        lanes, seen = to_host(
            self._recur(
                self.problem,
                lanes,
                self.origin,
                jnp.asarray(threshold, lanes.theta.dtype),
                np.uint32(blocks),
                pairs,
            )
        )
        if not np.isfinite(lanes.theta).all():
            raise diverged()
        self.ticks += 2 * pairs * blocks * len(lanes)
        return lanes, seen

    def _width_for(self, walkers: int) -> int:
        narrow = max(self.width // NARROWER, NARROWEST)
        return narrow if walkers <= narrow else self.width

    def _pairs(self, width: int) -> int:
        """Pairs of ticks in a block: few, as excursions are short."""
        if width not in self._pairs_of_width:
            pairs = _pairs_per_block(self.problem.escape, width)
            self._pairs_of_width[width] = min(pairs, LONGEST_BLOCK)
        return self._pairs_of_width[width]


def walkers_noise(
    walkers: Walkers[Any],
) -> tuple[UInt32[Any, "2 walkers"], Any, Any, Any]:
    """What decides the noise that walkers follow."""
    return walkers.seed, walkers.replica, walkers.parent, walkers.switch


def nan_coordinate() -> InvalidArgument:
    """The error of a coordinate that has no value somewhere."""
    return InvalidArgument(
        "coordinate is NaN at a point inside the region; give a function that has a value wherever "
        "a walker can be"
    )


def diverged() -> Diverged:
    """The error of a walker that became NaN or infinite."""
    return Diverged(
        "a walker became NaN or infinite before it left the region; lower the learning rate, leave "
        "a smaller region, or let the coordinate be finite wherever the region is"
    )
