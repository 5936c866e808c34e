"""The compiled inner loop: many replicas side by side, each frozen at its exit."""

from functools import cache
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

from escapade.dynamics._base import halves
from escapade.dynamics.streams import Stream
from escapade.escape import Escape
from escapade.precision import AnyArray

BOUNDARY_SHIFT = 0.5825971579390108
"""``-zeta(1/2) / sqrt(2 pi)``: mean overshoot of a Gaussian walk in units of its step."""


class Lanes(eqx.Module, Generic[AnyArray]):
    """State of the lanes; the lane is the last axis, which is the axis processors vectorise."""

    theta: Float[AnyArray, "dim lanes"]
    ticks: UInt32[AnyArray, " lanes"]
    replica: UInt32[AnyArray, " lanes"]


def inside(escape: Escape, theta: Float[Array, " dim"]) -> Bool[Array, ""]:
    """Whether a replica at theta is still running; false for NaN."""
    if not escape.dynamics.continuous:
        return escape.region._level(theta) < 0
    level, slope = jax.value_and_grad(escape.region._level)(theta)
    spread = escape.dynamics.tick_spread(escape.landscape, theta, slope)
    return level + BOUNDARY_SHIFT * spread < 0


def _advance(
    escape: Escape,
    lanes: Lanes[Array],
    seed: UInt32[Array, " 2"],
    last_tick: UInt32[Array, ""],
    blocks: UInt32[Array, ""],
    pairs: int,
) -> tuple[Lanes[Array], Bool[Array, " lanes"]]:
    """Advance every lane by up to ``2 * pairs * blocks`` ticks; also tell which are still inside.

    The randomness of a block is drawn first, as one array. A loop over its ticks then reads it:
    were the draws made inside the loop, XLA would recompute them for each output of the loop body.
    """
    landscape, dynamics = escape.landscape, escape.dynamics
    first_pair = lanes.ticks // 2

    def tick(theta: Array, draw: Any) -> Array:
        return dynamics.tick(landscape, theta, draw)

    def running(theta: Array, ticks: Array) -> Array:
        in_region = jax.vmap(lambda point: inside(escape, point), in_axes=-1)(theta)
        return in_region & (ticks < last_tick)

    def one_tick(state: tuple[Array, Array], draws: Any) -> tuple[Array, Array]:
        theta, ticks = state
        alive = running(theta, ticks)
        moved = jax.vmap(tick, in_axes=-1, out_axes=-1)(theta, draws)
        return jnp.where(alive, moved, theta), ticks + alive

    def pair_of_ticks(state: tuple[Array, Array], draws: Any) -> tuple[tuple[Array, Array], None]:
        even, odd = halves(draws)
        return one_tick(one_tick(state, even), odd), None

    def block(carry: tuple[Array, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
        done, state = carry
        ahead = done * pairs + jnp.arange(pairs, dtype=jnp.uint32)
        stream = Stream(seed, lanes.replica)
        draws = dynamics.draw_pairs(landscape, stream, first_pair + ahead[:, None])
        state, _ = jax.lax.scan(pair_of_ticks, state, draws)
        return done + 1, state

    def unfinished(carry: tuple[Array, tuple[Array, Array]]) -> Array:
        done, state = carry
        return (done < blocks) & jnp.any(running(*state))

    start = (jnp.uint32(0), (lanes.theta, lanes.ticks))
    _, (theta, ticks) = jax.lax.while_loop(unfinished, block, start)
    still = jax.vmap(lambda point: inside(escape, point), in_axes=-1)(theta)
    return Lanes(theta, ticks, lanes.replica), still


@cache
def advance_on(backend: str) -> Any:
    """The compiled `_advance` for one backend."""
    # 512-bit vectors halve the time of these loops on processors that have them.
    options = {"xla_cpu_prefer_vector_width": 512} if backend == "cpu" else None
    # Equinox passes these options on to jax.jit, but its annotations do not say so.
    return eqx.filter_jit(_advance, compiler_options=options)  # type: ignore[call-overload]
