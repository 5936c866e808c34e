"""Convolutions in a function: what decides how the gradients of single examples are computed.

XLA has no fast float64 convolution in groups on CPU, and that is what the gradients of many
examples at once become: 27 to 280 times slower than in float32, where one example after the other
costs twice as much.
"""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def each_example(function: Callable[[PyTree], Array], examples: PyTree, dtype: Any) -> Array:
    """A function of every example, computed in precision `dtype`: together, or one by one."""
    if dtype == jnp.float64 and jax.default_backend() == "cpu" and convolves(function, examples):
        return jax.lax.map(function, examples)
    return jax.vmap(function)(examples)


def convolves(function: Callable[[PyTree], Array], examples: PyTree) -> bool:
    """Whether there is a convolution in a function of one example."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), examples)
    closed = eqx.filter_make_jaxpr(function)(one)[0]
    return "conv_general_dilated" in _primitives(closed.jaxpr)


def _primitives(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _primitives(getattr(inner, "jaxpr", inner))


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
