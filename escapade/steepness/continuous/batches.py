"""A function of one state at many states, compiled once whatever their number."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from escapade.precision import in_float64

LARGEST_BATCH = 128
MOST_NUMBERS = 16_384
"""States times the square of their size in one batch: keeps derivatives in the cache."""


def at_each(function: Callable[..., Any], model: eqx.Module, *states: np.ndarray) -> Any:
    """``function(model, *state)`` at each of the states, as NumPy arrays in float64.

    Args:
        function: module-level JAX function of a model and of single states.
        model: what all evaluations share.
        states: arrays with one leading axis of states.
    """
    count, size = states[0].shape
    batch = int(np.clip(MOST_NUMBERS // size**2, 8, LARGEST_BATCH))
    results = []
    for first in range(0, count, batch):
        piece = [array[first : first + batch] for array in states]
        missing = batch - len(piece[0])
        if missing:
            piece = [np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for a in piece]
        with np.errstate(all="ignore"):
            results.append(in_float64(_mapped, function, model, *piece))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


def _mapped(function: Callable[..., Any], model: eqx.Module, *states: jax.Array) -> Any:
    return jax.vmap(lambda *state: function(model, *state))(*states)
