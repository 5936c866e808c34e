"""Reactive paths, put together by running the pieces of a walker's line once more."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from escapade.dynamics._base import State, halves, position
from escapade.exits.lanes import select
from escapade.exits.rare.branching import Generation, Pieces
from escapade.exits.rare.walkers import Problem, Walkers, noise_ahead, to_host

PAIRS = 16
"""Pairs of ticks recorded by one call."""


def reactive_paths(
    problem: Problem,
    pieces: Pieces,
    now: Generation,
    names: Int[np.ndarray, " runs"],
    seed: int,
    count: int,
) -> tuple[Float[np.ndarray, "ticks dim"], ...]:
    """Paths of some walkers that left the region, from the first state of their line to the last.

    `count` of them are drawn, from all runs, with the weight each has in the estimate.
    """
    start = jax.tree.map(lambda *parts: np.concatenate(parts, axis=-1), *pieces.start)
    run, ancestor = np.concatenate(pieces.run), np.concatenate(pieces.ancestor)
    where = {
        (int(r), int(replica)): place
        for place, (r, replica) in enumerate(zip(run, start.replica, strict=True))
    }
    leavers = np.flatnonzero(now.exited.ravel())
    if not leavers.size:
        return ()
    row = leavers // now.peak.shape[1]
    weight = np.exp(now.log_share)[row]
    random = np.random.default_rng([seed, int(names[0]), 2**32 - 1])
    chosen = random.choice(leavers, count, p=weight / weight.sum())
    found = []
    for walker in chosen:
        line = [where[int(walker) // now.peak.shape[1], int(now.start.replica[walker])]]
        while ancestor[line[-1]] >= 0:
            line.append(where[int(run[line[-1]]), int(ancestor[line[-1]])])
        line.reverse()
        states = [start.theta[:, line[0]][None]]
        for piece, following in zip(line, [*line[1:], None], strict=True):
            last = int(now.end_tick[walker] if following is None else start.tick[following])
            states.append(_record(problem, start[piece : piece + 1], last))
        found.append(np.concatenate(states).astype(np.float64))
    return tuple(found)


def _record(
    problem: Problem, walker: Walkers[np.ndarray], last_tick: int
) -> Float[np.ndarray, "ticks dim"]:
    """States after each tick of one walker, up to a tick."""
    parts, tick = [walker.theta.T[:0]], int(walker.tick[0])
    first = tick - tick % 2
    while tick < last_tick:
        state, points = _points(problem, walker, np.uint32(first // 2))
        parts.append(np.asarray(points)[tick - first : last_tick - first])
        tick = first = first + 2 * PAIRS
        walker = Walkers(
            to_host(state), np.full(1, tick, np.uint32), walker.seed, walker.replica,
            walker.parent, walker.switch,
        )  # fmt: skip
    return np.concatenate(parts)


@eqx.filter_jit
def _points(
    problem: Problem, walker: Walkers[Any], first_pair: UInt32[Any, ""]
) -> tuple[State, Float[Array, "ticks dim"]]:
    """State of the walker after `PAIRS` pairs of ticks, and every theta on the way."""
    landscape, dynamics = problem.escape.landscape, problem.escape.dynamics
    ahead = first_pair + jnp.arange(PAIRS, dtype=jnp.uint32)[:, None]

    def pair_of_ticks(state: State, step: Any) -> tuple[State, Array]:
        pair, draw = step
        seen = []
        for tick, half in enumerate(halves(draw)):
            due = 2 * pair[0] + tick >= walker.tick[0]
            alone = jax.tree.map(lambda leaf: leaf[..., 0], half)
            moved = dynamics.tick(landscape, state, alone)
            state = select(due, moved, state)
            seen.append(position(state))
        return state, jnp.stack(seen)

    together = noise_ahead(dynamics, landscape, walker, ahead)
    state = jax.tree.map(lambda leaf: leaf[..., 0], walker.state)
    state, points = jax.lax.scan(pair_of_ticks, state, (ahead, together))
    points = points.reshape(-1, points.shape[-1])
    return jax.tree.map(lambda leaf: leaf[..., None], state), points
