"""Losses of one example by name; the last axis of the outputs is that of the classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from escapade.errors import InvalidArgument
from escapade.landscape.networks import LOSSES


def cross_entropy(outputs: Float[Array, "*positions classes"], label: Num[Array, "..."]) -> Array:
    """``-log softmax(outputs)[label]``, averaged over the positions of a sequence or image."""
    taken = jnp.take_along_axis(outputs, jnp.expand_dims(label, -1), axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(outputs, axis=-1) - taken)


def square(outputs: Float[Array, "..."], target: Num[Array, "..."]) -> Array:
    """Half the squared distance to the target; an integer target is a label, made one-hot."""
    if jnp.issubdtype(jnp.result_type(target), jnp.integer):
        target = jax.nn.one_hot(target, outputs.shape[-1], dtype=outputs.dtype)
    return 0.5 * jnp.sum((outputs - target) ** 2)


NAMED: dict[str, Callable[[Array, Array], Array]] = dict(
    zip(LOSSES, (cross_entropy, square), strict=True)
)


def loss_named(loss: str) -> Callable[[Array, Array], Array]:
    """The loss of a name.

    Raises:
        InvalidArgument: when it is unknown.
    """
    if loss not in NAMED:
        raise InvalidArgument(
            f"loss is {loss!r}; choose one of {', '.join(NAMED)}, or give a function "
            "(outputs, target) -> loss of one example"
        )
    return NAMED[loss]
