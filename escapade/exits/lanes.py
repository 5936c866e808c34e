"""The compiled inner loop: many replicas side by side, each frozen at its exit."""

from collections.abc import Callable
from functools import cache
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from escapade.dynamics._base import State, halves, position
from escapade.dynamics.gaussian import ContinuousSGD
from escapade.dynamics.streams import Stream
from escapade.escape import Escape
from escapade.landscape import AbstractEmpirical
from escapade.precision import AnyArray

BOUNDARY_SHIFT = 0.5825971579390108
"""``-zeta(1/2) / sqrt(2 pi)``: mean overshoot of a Gaussian walk in units of its step."""


class Lanes(eqx.Module, Generic[AnyArray]):
    """The lanes; the lane is the last axis of everything, the one that processors vectorise."""

    state: State
    ticks: UInt32[AnyArray, " lanes"]
    replica: UInt32[AnyArray, " lanes"]

    @property
    def theta(self) -> Float[AnyArray, "dim lanes"]:
        """Where the lanes are."""
        return position(self.state)


def side_by_side(state: State, count: int) -> State:
    """Copies of one state on the host, the copy along the last axis."""
    return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[..., None], count, axis=-1), state)


def select(condition: Bool[Array, "*lanes"], new: State, old: State, axis: int = -1) -> State:
    """The new state where the condition holds, else the old one; `axis` is that of the lanes."""

    def chosen(one: Array, other: Array) -> Array:
        rest = range(1, one.ndim) if axis == 0 else ()
        return jnp.where(jnp.expand_dims(condition, tuple(rest)), one, other)

    return jax.tree.map(chosen, new, old)


def put(state: State, where: Any, new: State) -> None:
    """Write new states into some lanes, on the host."""
    for leaf, part in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        leaf[..., where] = part


def inside(escape: Escape, theta: Float[Array, " dim"]) -> Bool[Array, ""]:
    """Whether a replica at theta is still running; false for NaN."""
    if not escape.dynamics.continuous:
        return escape.region._level(theta) < 0
    assert isinstance(escape.dynamics, ContinuousSGD)
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
    Parameters of networks go into products of matrices, which want each replica's in one row: there
    the lane is the first axis inside the loop.
    """
    landscape, dynamics = escape.landscape, escape.dynamics
    first_pair = lanes.ticks // 2
    axis = 0 if isinstance(landscape, AbstractEmpirical) else -1

    def tick(state: State, draw: Any) -> State:
        return dynamics.tick(landscape, state, draw)

    def contained(state: State) -> Array:
        return jax.vmap(lambda point: inside(escape, point), in_axes=axis)(position(state))

    def running(state: State, ticks: Array) -> Array:
        return contained(state) & (ticks < last_tick)

    def one_tick(now: tuple[State, Array], draws: Any) -> tuple[State, Array]:
        state, ticks = now
        alive = running(state, ticks)
        moved = jax.vmap(tick, in_axes=(axis, -1), out_axes=axis)(state, draws)
        return select(alive, moved, state, axis), ticks + alive

    def pair_of_ticks(now: tuple[State, Array], draws: Any) -> tuple[tuple[State, Array], None]:
        even, odd = halves(draws)
        return one_tick(one_tick(now, even), odd), None

    def block(carry: tuple[Array, tuple[State, Array]]) -> tuple[Array, tuple[State, Array]]:
        done, now = carry
        ahead = done * pairs + jnp.arange(pairs, dtype=jnp.uint32)
        stream = Stream(seed, lanes.replica)
        draws = dynamics.draw_pairs(landscape, stream, first_pair + ahead[:, None])
        now, _ = jax.lax.scan(pair_of_ticks, now, draws)
        return done + 1, now

    def unfinished(carry: tuple[Array, tuple[State, Array]]) -> Array:
        done, now = carry
        return (done < blocks) & jnp.any(running(*now))

    turned = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, axis), lanes.state)
    start = (jnp.uint32(0), (turned, lanes.ticks))
    _, (state, ticks) = jax.lax.while_loop(unfinished, block, start)
    back = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, -1), state)
    return Lanes(back, ticks, lanes.replica), contained(state)


def compiled_on(backend: str, function: Callable[..., Any]) -> Any:
    """The function compiled for loops over many replicas on one backend.

    On processors 512-bit vectors halve the time where they exist. The compiler's pass that folds
    transpositions into products is left out: it has fast code for small products of plain matrices
    only, and without the pass the step of a small network takes up to a third less time.
    """
    options = {"xla_cpu_prefer_vector_width": 512, "xla_disable_hlo_passes": "transpose-folding"}
    # Equinox passes these options on to jax.jit, but its annotations do not say so.
    return eqx.filter_jit(  # type: ignore[call-overload]
        function, compiler_options=options if backend == "cpu" else None
    )


@cache
def advance_on(backend: str) -> Any:
    """The compiled `_advance` for one backend."""
    return compiled_on(backend, _advance)
