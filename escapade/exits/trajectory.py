"""One run of SGD, iterate by iterate: replica 0 of `simulate`, as it goes."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from escapade.dynamics._base import State, halves, position
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.exits.ensemble import MAX_TICKS, _whole
from escapade.precision import PRECISIONS, context, place

BLOCK_NUMBERS = 2**20
"""Numbers, of draws and of iterates, held at once."""


def iterates(
    escape: Escape, steps: int, key: Any = 0, *, precision: str = "float32"
) -> Iterator[Float[np.ndarray, " dim"]]:
    """Parameters after 0, 1, ..., `steps` steps of one run from the escape's start.

    The run has the noise of replica 0 of ``simulate(escape, key=key)``, and so its states up to
    the exit, to rounding; it goes on after the exit. Only a block of iterates is held at a time.

    Args:
        escape: the problem; its region must contain the start, and plays no other part.
        steps: how many.
        key: a non-negative integer or a `jax.random` key.
        precision: "float32" or "float64", of the state.

    Raises:
        InvalidArgument: when an argument is out of range.
    """
    per_step = escape.dynamics.ticks_per_step
    steps = _whole(steps, "steps", 1, MAX_TICKS // per_step)
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return _generate(escape, steps, seed_words(key), precision)


def _generate(
    escape: Escape, steps: int, seed: UInt32[np.ndarray, " 2"], precision: str
) -> Iterator[Float[np.ndarray, " dim"]]:
    per_step = escape.dynamics.ticks_per_step
    last = steps * per_step
    with context(precision):
        on_device = place(escape)
        theta = jnp.asarray(escape.start)
        state = escape.dynamics.initial_state(escape.landscape, theta)
        pairs = min(_pairs_per_block(on_device), (last + 1) // 2)
    yield np.asarray(theta)
    for first in range(0, last, 2 * pairs):
        # Left before each yield: the context would leak into the caller.
        with context(precision):
            state, found = _run(on_device, state, seed, np.uint32(first // 2), pairs)
            path = np.asarray(found)
        ticks = np.arange(first + 1, first + 1 + len(path))
        yield from path[(ticks % per_step == 0) & (ticks <= last)]


@eqx.filter_jit
def _run(
    escape: Escape,
    state: State,
    seed: UInt32[np.ndarray, " 2"],
    first_pair: np.uint32,
    pairs: int,
) -> tuple[State, Float[Array, "ticks dim"]]:
    """State after the next ``2 * pairs`` ticks, and theta after each of them."""
    landscape, dynamics = escape.landscape, escape.dynamics
    stream = Stream(jnp.asarray(seed), jnp.zeros(1, jnp.uint32))
    ahead = first_pair + jnp.arange(pairs, dtype=jnp.uint32)[:, None]
    draws = dynamics.draw_pairs(landscape, stream, ahead)

    def two_ticks(state: State, draw: Any) -> tuple[State, Array]:
        path = []
        for half in halves(draw):
            alone = jax.tree.map(lambda leaf: leaf[..., 0], half)
            state = dynamics.tick(landscape, state, alone)
            path.append(position(state))
        return state, jnp.stack(path)

    state, path = jax.lax.scan(two_ticks, state, draws)
    return state, path.reshape(2 * pairs, -1)


def _pairs_per_block(escape: Escape) -> int:
    """Pairs of ticks that fit the memory, and that are worth drawing together."""

    def draw(seed: Array, words: Array) -> Any:
        return escape.dynamics.draw_pairs(escape.landscape, Stream(seed, words), words[None])

    one = jax.ShapeDtypeStruct((1,), jnp.uint32)
    draws = jax.eval_shape(draw, jax.ShapeDtypeStruct((2,), jnp.uint32), one)
    numbers = 2 * escape.landscape.dim + sum(leaf.size for leaf in jax.tree.leaves(draws))
    return int(np.clip(BLOCK_NUMBERS // numbers, 1, 4096))
