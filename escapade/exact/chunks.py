"""JAX functions of many points, evaluated in float64 on the host in few compiled shapes."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from escapade.precision import in_float64
from escapade.region import AbstractRegion

CHUNK, MANY = 1024, 2**15
"""Points per compiled evaluation, of few and of many."""


def in_chunks(
    function: Callable[..., Any], *context: Any, points: Float[np.ndarray, "points ..."]
) -> Float[np.ndarray, "points ..."]:
    """``function(*context, points)`` of a module-level function; points are its first axis."""
    size = CHUNK if len(points) < MANY else MANY
    padding = [(0, -len(points) % size)] + [(0, 0)] * (points.ndim - 1)
    chunks = np.pad(points, padding, mode="edge").reshape(-1, size, *points.shape[1:])
    found = [in_float64(function, *context, chunk) for chunk in chunks]
    return np.concatenate(found)[: len(points)]


def inside(
    region: AbstractRegion, points: Float[np.ndarray, "points dim"]
) -> Bool[np.ndarray, " points"]:
    """Which points lie inside a region."""
    return in_chunks(_inside, region, points=points)


def _inside(region: AbstractRegion, points: Float[Array, "points dim"]) -> Bool[Array, " points"]:
    return jax.vmap(lambda theta: region._level(theta) < 0)(points)
