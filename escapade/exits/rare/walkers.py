"""The compiled loops of rare exits: walkers side by side, run between two levels or for a time.

A walker's future is a function of its state, its tick and the noise it follows, so that any piece
of a path can be run again from its first state: nothing in between is stored.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from escapade.dynamics._base import AbstractDynamics, State, halves, position
from escapade.dynamics.gaussian import AbstractGaussianDynamics
from escapade.dynamics.streams import Stream, threefry
from escapade.escape import Escape
from escapade.exits.lanes import compiled_on, inside, select, side_by_side
from escapade.landscape import AbstractLandscape
from escapade.precision import AnyArray

Coordinate = Callable[[Float[Array, " dim"]], Float[Array, ""]]

RESERVOIR = 3
"""Purpose of the words that choose which crossing of a lane is kept; dynamics use 0 to 2."""


RUNS = 1 << 16
"""Second word of the counter that gives a run its seed."""


class Walkers(eqx.Module, Generic[AnyArray]):
    """States of walkers and the noise that each follows; the walker is the last axis.

    Noise that is drawn for many ticks at once (the order of an epoch) belongs to the state: a
    branch follows its `parent` until tick `switch`, and its own replica from then on.
    """

    state: State
    tick: UInt32[AnyArray, " walkers"]
    seed: UInt32[AnyArray, "2 walkers"]
    replica: UInt32[AnyArray, " walkers"]
    parent: UInt32[AnyArray, " walkers"]
    switch: UInt32[AnyArray, " walkers"]

    @property
    def theta(self) -> Float[AnyArray, "dim walkers"]:
        """Where the walkers are."""
        return position(self.state)

    def __len__(self) -> int:
        return self.tick.shape[-1]

    def __getitem__(self, which: Any) -> "Walkers[AnyArray]":
        return jax.tree.map(lambda leaf: leaf[..., which], self)


class Problem(eqx.Module):
    """An escape, the coordinate that measures progress, and how the noise is tilted, if it is.

    The coordinate None is the region's level. A tilt gives the momentum at theta: the mean of the
    normals moves by ``sqrt(B / ticks) sigma^T p``, and the weight pays for it.
    """

    escape: Escape
    coordinate: Coordinate | None
    tilt: Callable[[Float[Array, " dim"]], Float[Array, " dim"]] | None = None

    @property
    def origin(self) -> Float[Any, " dim"]:
        """Where a recurrent process goes on after an exit: the minimum, if the region holds it.

        From there it settles before it leaves, which it may not do from the start.
        """
        escape = self.escape
        within = bool(escape.region.level(np.asarray(escape.minimum)) < 0)
        return escape.minimum if within else escape.start

    def state_at(self, theta: Float[np.ndarray, " dim"]) -> State:
        """State of a run that begins at theta, on the host in the current precision."""
        return to_host(
            self.escape.dynamics.initial_state(self.escape.landscape, jnp.asarray(theta))
        )

    @property
    def ticks_drawn_together(self) -> int:
        """Ticks whose noise is known as soon as that of the first is."""
        return self.escape.dynamics.ticks_drawn_together(self.escape.landscape)

    def progress(self, theta: Float[Array, " dim"]) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """The coordinate, infinite outside the region, and whether theta is inside."""
        within = inside(self.escape, theta)
        coordinate = self.coordinate or self.escape.region._level
        # NaN stays NaN: it is neither progress nor an exit.
        value = coordinate(theta)
        return jnp.where(within | jnp.isnan(theta).any(), value, jnp.inf), within

    def tick(self, state: State, draw: Any) -> tuple[State, Float[Array, ""]]:
        """One transition, and the logarithm of its likelihood ratio to the untilted one."""
        landscape, dynamics = self.escape.landscape, self.escape.dynamics
        if self.tilt is None:
            return dynamics.tick(landscape, state, draw), jnp.zeros((), position(state).dtype)
        assert isinstance(dynamics, AbstractGaussianDynamics)
        theta = position(state)
        normals = draw.astype(theta.dtype)

        def sample(each: Array) -> Array:
            return dynamics.gradient_noise.sample(landscape, theta, each)

        (along,) = jax.vjp(sample, jnp.zeros_like(normals))[1](self.tilt(theta))
        shift = jnp.sqrt(dynamics.batch_size / dynamics.ticks_per_step) * along
        moved = dynamics.tick(landscape, theta, normals + shift)
        return moved, -(shift @ normals) - 0.5 * shift @ shift


def walkers_at(
    state: State,
    seed: UInt32[np.ndarray, " 2"],
    names: Int[np.ndarray, " runs"],
    each: int,
    first_replica: int = 0,
) -> Walkers[np.ndarray]:
    """Walkers in one state at tick 0, `each` of every run."""
    count = len(names) * each
    replica = np.tile(np.arange(first_replica, first_replica + each, dtype=np.uint32), len(names))
    none = np.zeros(count, np.uint32)
    seeds = np.stack([_seed_of_run(seed, int(name)) for name in names], axis=1)
    return Walkers(
        side_by_side(state, count),
        none,
        np.repeat(seeds, each, axis=1),
        replica,
        replica,
        none,
    )


def _seed_of_run(seed: UInt32[np.ndarray, " 2"], name: int) -> UInt32[np.ndarray, " 2"]:
    """Seed of the noise of one run: the same whoever computes it, and with whom."""
    words = threefry(*(jnp.uint32(word) for word in (*seed, name, RUNS)))
    return np.array([int(word) for word in words], dtype=np.uint32)


def noise_ahead(
    dynamics: AbstractDynamics, landscape: AbstractLandscape, walkers: Walkers[Array], pair: Array
) -> Any:
    """Randomness of pairs of ticks, the parent's until the switch."""
    own = dynamics.draw_pairs(landscape, Stream(walkers.seed, walkers.replica), pair)
    if dynamics.ticks_drawn_together(landscape) == 1:
        return own
    followed = dynamics.draw_pairs(landscape, Stream(walkers.seed, walkers.parent), pair)

    tick = 2 * pair[:, None, :] + jnp.arange(2, dtype=jnp.uint32)[:, None]
    early = tick < walkers.switch

    def follow(until: Array, mine: Array, theirs: Array) -> Array:
        kept = until.shape[:-1] + (1,) * (mine.ndim - until.ndim) + until.shape[-1:]
        return jnp.where(until.reshape(kept), theirs, mine)

    def chosen(mine: Array, theirs: Array) -> Array:
        if not jnp.iscomplexobj(mine):
            return follow(early, mine, theirs)
        even = follow(early[:, 0], mine.real, theirs.real)
        return jax.lax.complex(even, follow(early[:, 1], mine.imag, theirs.imag))

    return jax.tree.map(chosen, own, followed)


def _advance(
    problem: Problem,
    walkers: Walkers[Array],
    peak: Float[Array, " walkers"],
    log_weight: Float[Array, " walkers"],
    low: Float[Array, " walkers"],
    high: Float[Array, " walkers"],
    last_tick: UInt32[Array, " walkers"],
    blocks: UInt32[Array, ""],
    pairs: int,
) -> tuple[
    Walkers[Array], Float[Array, " walkers"], Float[Array, " walkers"], Bool[Array, " walkers"]
]:
    """Run each walker until it is below `low`, above `high`, outside, or at its last tick.

    Returns the walkers, the largest coordinate met (infinite after an exit, NaN after a NaN), the
    logarithm of the likelihood ratio of the path so far, and which of them are still running after
    `blocks` blocks.
    """
    landscape, dynamics = problem.escape.landscape, problem.escape.dynamics
    measure = jax.vmap(problem.progress, in_axes=-1)

    def running(tick: Array, value: Array) -> Array:
        # Infinite outside; comparisons with NaN are false.
        return (value >= low) & (value <= high) & (value < jnp.inf) & (tick < last_tick)

    def move(state: Any, now: Array, draw: Any) -> Any:
        chain, tick, value, peak, log_weight = state
        alive = running(tick, value) & (tick == now)
        ahead, log_ratio = jax.vmap(problem.tick, in_axes=-1, out_axes=-1)(chain, draw)
        moved, _ = measure(position(ahead))
        value = jnp.where(alive, moved, value)
        log_weight = jnp.where(alive, log_weight + log_ratio, log_weight)
        chain = select(alive, ahead, chain)
        return chain, tick + alive, value, jnp.maximum(peak, value), log_weight

    def pair_of_ticks(state: Any, step: Any) -> tuple[Any, None]:
        pair, draws = step
        even, odd = halves(draws)
        return move(move(state, 2 * pair, even), 2 * pair + 1, odd), None

    first_pair = walkers.tick // 2

    def block(carry: Any) -> Any:
        done, state = carry
        ahead = first_pair + (done * pairs + jnp.arange(pairs, dtype=jnp.uint32))[:, None]
        draws = noise_ahead(dynamics, landscape, walkers, ahead)
        state, _ = jax.lax.scan(pair_of_ticks, state, (ahead, draws))
        return done + 1, state

    def unfinished(carry: Any) -> Array:
        done, (_, tick, value, *_) = carry
        return (done < blocks) & jnp.any(running(tick, value))

    value, _ = measure(walkers.theta)
    start = (walkers.state, walkers.tick, value, jnp.maximum(peak, value), log_weight)
    _, (chain, tick, value, peak, log_weight) = jax.lax.while_loop(
        unfinished, block, (jnp.uint32(0), start)
    )
    after = Walkers(chain, tick, walkers.seed, walkers.replica, walkers.parent, walkers.switch)
    return after, peak, log_weight, running(tick, value)


class Crossings(eqx.Module, Generic[AnyArray]):
    """What one stretch of a recurrent run saw on each lane.

    Attributes:
        count: crossings of the threshold, from below to above or outside.
        state: one of these crossings, each as likely as any other; see `count` for its weight.
        ticks: ticks counted: all but those spent waiting for an epoch to end.
        last: the coordinate at the end.
    """

    count: Int[AnyArray, " lanes"]
    state: Walkers[AnyArray]
    ticks: Int[AnyArray, " lanes"]
    last: Float[AnyArray, " lanes"]


def _recur(
    problem: Problem,
    lanes: Walkers[Array],
    origin: State,
    threshold: Float[Array, ""],
    blocks: UInt32[Array, ""],
    pairs: int,
) -> tuple[Walkers[Array], Crossings[Array]]:
    """Run every lane for ``2 * pairs * blocks`` ticks, back in its first state after each exit.

    An exit in the middle of an epoch says much about what is left of it, so that the next life
    begins with the next epoch.
    """
    landscape, dynamics = problem.escape.landscape, problem.escape.dynamics
    measure = jax.vmap(problem.progress, in_axes=-1)
    origin = jax.tree.map(lambda leaf: jnp.asarray(leaf)[..., None], origin)

    together = jnp.uint32(problem.ticks_drawn_together)

    own = threefry(lanes.seed[0], lanes.seed[1], lanes.replica, jnp.uint32(RESERVOIR))

    def move(state: Any, now: Array, draw: Any) -> Any:
        chain, value, kept, kept_tick, count, lived, birth = state
        alive = now >= birth
        ahead, _ = jax.vmap(problem.tick, in_axes=-1, out_axes=-1)(chain, draw)
        moved, within = measure(position(ahead))
        crossed = alive & (value < threshold) & ~(moved < threshold)
        count = count + crossed
        # The c-th crossing replaces the one kept with probability 1 / c.
        word, _ = threefry(*own, now, now)
        share = word.astype(jnp.float32) * jnp.float32(2.0**-32)
        chosen = crossed & (share * count < 1)
        kept = select(chosen, ahead, kept)
        kept_tick = jnp.where(chosen, now + 1, kept_tick)
        left = alive & ~within & ~jnp.isnan(moved)
        chain = select(left, origin, select(alive, ahead, chain))
        value = jnp.where(left, at_origin, jnp.where(alive, moved, value))
        birth = jnp.where(left, (now + together) // together * together, birth)
        return chain, value, kept, kept_tick, count, lived + alive, birth

    def pair_of_ticks(state: Any, step: Any) -> tuple[Any, None]:
        pair, draws = step
        even, odd = halves(draws)
        return move(move(state, 2 * pair, even), 2 * pair + 1, odd), None

    first_pair = lanes.tick // 2
    at_origin = measure(position(origin))[0][0]

    def block(done: Array, state: Any) -> Any:
        ahead = first_pair + (done * pairs + jnp.arange(pairs, dtype=jnp.uint32))[:, None]
        draws = noise_ahead(dynamics, landscape, lanes, ahead)
        return jax.lax.scan(pair_of_ticks, state, (ahead, draws))[0]

    value, _ = measure(lanes.theta)
    none = jnp.zeros(len(lanes), jnp.int32)
    # The switch of a recurrent lane, which has no parent, is the tick of its next birth.
    start = (lanes.state, value, lanes.state, lanes.tick, none, none, lanes.switch)
    chain, value, kept, kept_tick, count, lived, birth = jax.lax.fori_loop(
        jnp.uint32(0), blocks, block, start
    )
    ticks = lanes.tick + 2 * pairs * blocks
    after = Walkers(chain, ticks, lanes.seed, lanes.replica, lanes.parent, birth)
    state = Walkers(kept, kept_tick, lanes.seed, lanes.replica, lanes.parent, lanes.switch)
    return after, Crossings(count, state, lived, value)


@cache
def compiled(backend: str) -> tuple[Any, Any]:
    """The compiled `_advance` and `_recur` for one backend."""
    return compiled_on(backend, _advance), compiled_on(backend, _recur)


def to_host(tree: Any) -> Any:
    """The same tree in NumPy."""
    return jax.tree.map(np.asarray, tree)
