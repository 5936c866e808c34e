"""Where rays from a point meet the boundary of a region."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from escapade.errors import NoBoundary
from escapade.precision import in_float64
from escapade.region._base import AbstractRegion

SEARCH_RADIUS = 1e3
"""Half-width of the box searched, in parameter units."""

GOLDEN = (3 - 5**0.5) / 2

RIDGE_STEPS = 40
"""Steps of golden-section search for the top of a ridge."""


def distance_to_boundary(
    region: AbstractRegion,
    origin: Float[np.ndarray, " dim"],
    directions: Float[np.ndarray, "rays dim"],
    search_radius: float = SEARCH_RADIUS,
    radii: int = 121,
    least_radius: float | None = None,
) -> Float[np.ndarray, " rays"]:
    """Distance from an inner point to the first crossing along each unit direction.

    Crossings are bracketed on a geometric grid of `radii` radii from `least_radius` (1e-9 of the
    search radius, unless given) to the search radius, then bisected to rounding; infinite where the
    ray does not leave the region. Where the level is highest between two radii without crossing,
    its maximum is sought, so that a region that ends at a thin ridge ends there.
    """
    least = 1e-9 * search_radius if least_radius is None else least_radius
    grid = np.geomspace(least, search_radius, radii)
    rays = np.atleast_2d(np.asarray(directions, dtype=np.float64))
    return np.array([in_float64(_first_crossing, region, origin, ray, grid) for ray in rays])


def require_boundary(
    region: AbstractRegion, origin: Float[np.ndarray, " dim"], count: int, radii: int
) -> None:
    """Make sure the region can be left at all.

    Raises:
        NoBoundary: when none of `count` random rays from the origin leaves it, at any of `radii`
            distances in the box searched.
    """
    rays = np.random.default_rng(0).standard_normal((count, origin.size))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    if origin.size == 1:
        rays = np.array([[1.0], [-1.0]])
    for ray in rays:
        if np.isfinite(distance_to_boundary(region, origin, ray, radii=radii)[0]):
            return
    raise NoBoundary(
        f"region ({region}) has no boundary within {SEARCH_RADIUS:g} of the start along "
        f"{len(rays)} directions, so it seems that it cannot be left; choose a smaller depth or "
        "another region"
    )


def _first_crossing(
    region: AbstractRegion,
    origin: Float[Array, " dim"],
    ray: Float[Array, " dim"],
    radii: Float[Array, " radii"],
) -> Float[Array, ""]:
    def level(radius: Float[Array, ""]) -> Array:
        return region._level(origin + radius * ray)

    def outside(radius: Float[Array, ""]) -> Array:
        return ~(level(radius) < 0)

    levels = jax.lax.map(level, radii)
    crossed = ~(levels < 0)
    radii, crossed = _with_ridge(level, radii, levels, crossed)
    first = jnp.argmax(crossed)
    low = jnp.where(first > 0, radii[first - 1], 0.0)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        beyond = outside(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    _, high = jax.lax.fori_loop(0, 60, halve, (low, radii[first]))
    return jnp.where(crossed.any(), high, jnp.inf)


def _with_ridge(
    level: Callable[[Float[Array, ""]], Float[Array, ""]],
    radii: Float[Array, " radii"],
    levels: Float[Array, " radii"],
    crossed: Bool[Array, " radii"],
) -> tuple[Float[Array, " radii+1"], Bool[Array, " radii+1"]]:
    """The grid with one more radius: the top of the highest ridge before the first crossing."""
    place = jnp.arange(levels.size)
    before = place + 1 < jnp.where(crossed.any(), jnp.argmax(crossed), levels.size)
    ridge = (levels > jnp.roll(levels, 1)) & (levels >= jnp.roll(levels, -1)) & before & (place > 0)
    top = jnp.argmax(jnp.where(ridge, levels, -jnp.inf))

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = low + GOLDEN * (high - low), high - GOLDEN * (high - low)
        lower = level(left) < level(right)
        return jnp.where(lower, left, low), jnp.where(lower, high, right)

    around = (radii[jnp.maximum(top - 1, 0)], radii[jnp.minimum(top + 1, levels.size - 1)])
    low, high = jax.lax.fori_loop(0, RIDGE_STEPS, narrow, around)
    summit = 0.5 * (low + high)
    beyond = ridge.any() & ~(level(summit) < 0)
    # Put where it keeps the order; a ridge that does not cross repeats a radius of the grid.
    extra = jnp.where(beyond, summit, radii[top])
    order = jnp.argsort(jnp.append(radii, extra), stable=True)
    return jnp.append(radii, extra)[order], jnp.append(crossed, crossed[top] | beyond)[order]
