"""Training a network to a minimum: minibatch SGD first, then the full-batch polish."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from escapade.dynamics import MinibatchSGD
from escapade.dynamics._base import halves
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import Diverged
from escapade.landscape import AbstractEmpirical
from escapade.minimum.find import Minimum, find_minimum
from escapade.precision import place


def train(
    landscape: AbstractEmpirical,
    *,
    learning_rate: float = 0.1,
    batch_size: int = 32,
    steps: int = 4000,
    key: object = 0,
) -> Minimum:
    """Train from the landscape's initial parameters until the point is a minimum.

    Args:
        landscape: a loss over examples.
        learning_rate: of the minibatch phase.
        batch_size: of the minibatch phase.
        steps: number of minibatch steps before the polish.
        key: a non-negative integer or a `jax.random` key.

    Raises:
        Diverged: when the minibatch phase produces NaN or infinity.
        NotAMinimum: when the polish does not end at a minimum.
    """
    dynamics = MinibatchSGD(learning_rate, batch_size).prepared(landscape)
    start = jnp.asarray(landscape.initial, jnp.float32)
    pairs = jnp.uint32((steps + 1) // 2)
    theta = _run(place(dynamics), place(landscape), start, jnp.asarray(seed_words(key)), pairs)
    if not np.isfinite(np.asarray(theta)).all():
        raise Diverged(f"training diverged at learning_rate {learning_rate}; lower it")
    return find_minimum(landscape, np.asarray(theta, np.float64))


@eqx.filter_jit
def _run(
    dynamics: MinibatchSGD,
    landscape: AbstractEmpirical,
    theta: Float[Array, " dim"],
    seed: UInt32[Array, " 2"],
    pairs: UInt32[Array, ""],
) -> Float[Array, " dim"]:
    # A replica number no ensemble reaches, so that training and simulation share no noise.
    stream = Stream(seed, jnp.full(1, 2**32 - 1, jnp.uint32))

    def two_steps(pair: Array, theta: Array) -> Array:
        draws = dynamics.draw_pairs(landscape, stream, pair[None, None])
        for draw in halves(jax.tree.map(lambda leaf: leaf[0], draws)):
            theta = dynamics.tick(landscape, theta, draw[..., 0])
        return theta

    return jax.lax.fori_loop(jnp.uint32(0), pairs, two_steps, theta)
