"""Double precision where numbers are compared with theory, without touching global settings.

Constants are kept as NumPy float64 arrays; under JAX they take the precision of the context they
are used in. `float64()` is that context. Nothing in Escapade sets ``jax_enable_x64``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax._src import dtypes, literals

PRECISIONS = ("float32", "float64")

AnyArray = TypeVar("AnyArray", jax.Array, np.ndarray)
"""JAX in, JAX out; NumPy in (or a list), NumPy out: the contract of `host_or_traced`."""


def _canonical(array: np.ndarray) -> literals.TypedNdArray:
    return literals.TypedNdArray(np.asarray(array, dtypes.canonicalize_dtype(array.dtype)))


# JAX 0.10 remembers a NumPy array that a function closes over in the precision of its first use,
# and a second use in the other precision fails to compile. This handler forgets, so that a loss
# such as ``lambda theta: jnp.sum((X @ theta - y) ** 2)`` works in both.
dtypes.register_canonicalize_value_handler(np.ndarray, _canonical)


def float64() -> AbstractContextManager[Any]:
    """Context in which JAX computes in float64."""
    return jax.enable_x64(True)


def context(precision: str) -> AbstractContextManager[Any]:
    """Context for ``"float32"`` or ``"float64"``."""
    return jax.enable_x64(precision == "float64")


@eqx.filter_jit
def _compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def in_float64(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a JAX function on host arrays in float64 and return NumPy arrays.

    `function` should be a module-level function or a bound method of an `equinox.Module`: the
    compiled code is kept for the next call with arguments of the same shapes.
    """
    with float64():
        result = _compiled(*_traced((function, arguments)))
        return jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_array(leaf) else leaf, result)


def host_or_traced(function: Callable[..., Any], theta: Any, *context_arguments: Any) -> Any:
    """Evaluate ``function(*context_arguments, theta)`` in the precision of its last argument.

    JAX arrays (and tracers) are passed through, so the call can be differentiated, vectorised and
    compiled. NumPy arrays and lists are evaluated in float64 and come back as NumPy.
    """
    if isinstance(theta, jax.Array):
        return function(*context_arguments, theta)
    return in_float64(function, *context_arguments, np.asarray(theta, dtype=np.float64))


def _traced(tree: Any) -> Any:
    """Turn floats into arrays: a static float would make each value compile anew."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, float) else leaf, tree)


def place(tree: Any) -> Any:
    """Move every array and float of a pytree to the device once, in the current precision."""

    def move(leaf: Any) -> Any:
        return jnp.asarray(leaf) if eqx.is_array(leaf) or isinstance(leaf, float) else leaf

    return jax.tree.map(move, tree)
