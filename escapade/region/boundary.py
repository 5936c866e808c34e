"""Where rays from a point meet the boundary of a region."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import NoBoundary
from escapade.precision import in_float64
from escapade.region._base import AbstractRegion

SEARCH_RADIUS = 1e3
"""Half-width of the box searched, in parameter units."""


def distance_to_boundary(
    region: AbstractRegion,
    origin: Float[np.ndarray, " dim"],
    directions: Float[np.ndarray, "rays dim"],
    search_radius: float = SEARCH_RADIUS,
    radii: int = 121,
) -> Float[np.ndarray, " rays"]:
    """Distance from an inner point to the first crossing along each unit direction.

    Crossings are bracketed on a geometric grid of `radii` radii between 1e-9 and 1 times the
    search radius, then bisected to rounding; infinite where the ray does not leave the region.
    """
    grid = search_radius * np.geomspace(1e-9, 1.0, radii)
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
    def outside(radius: Float[Array, ""]) -> Array:
        return ~(region._level(origin + radius * ray) < 0)

    crossed = jax.lax.map(outside, radii)
    first = jnp.argmax(crossed)
    low = jnp.where(first > 0, radii[first - 1], 0.0)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        beyond = outside(middle)
        return jnp.where(beyond, low, middle), jnp.where(beyond, middle, high)

    _, high = jax.lax.fori_loop(0, 60, halve, (low, radii[first]))
    return jnp.where(crossed.any(), high, jnp.inf)
