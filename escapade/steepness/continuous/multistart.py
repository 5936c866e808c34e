"""First guesses of paths, many and unlike, and what tells two results apart.

The action has several local minimisers: one per saddle, per face of the region, per side of a
ridge. Guesses are straight or bowed curves, to end points spread over the boundary by how far the
noise reaches in each direction.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from escapade.region import AbstractRegion
from escapade.region.boundary import distance_to_boundary
from escapade.steepness.orbit import Orbit

Path = Float[np.ndarray, "n dim"]
Vector = Float[np.ndarray, " dim"]

MOST_AXES = 12
"""Principal directions of the noise tried, in both senses."""
RANDOM_RAYS = 16
SAME_PLACE = 0.02
"""Two curves that stay closer than this, in lengths of the shorter, are one."""


def boundary_points(
    region: AbstractRegion,
    origin: Vector,
    spread: Float[np.ndarray, "dim dim"],
    seed: int = 0,
) -> Float[np.ndarray, "points dim"]:
    """Points where rays from an inner point first leave a region.

    Rays follow the principal directions of the spread in both senses, then random directions drawn
    with that spread and, half of them, with none.
    """
    dim = origin.size
    if dim == 1:
        rays = np.array([[1.0], [-1.0]])
    else:
        eigenvalues, vectors = np.linalg.eigh(spread)
        root = vectors * np.sqrt(np.clip(eigenvalues, 0, None))
        axes = vectors[:, ::-1].T[:MOST_AXES]
        random = np.random.default_rng(seed).standard_normal((RANDOM_RAYS + 2 * dim, dim))
        half = len(random) // 2
        random[:half] = random[:half] @ root.T
        rays = np.concatenate([axes, -axes, random])
    sizes = np.linalg.norm(rays, axis=1, keepdims=True)
    rays = rays[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]
    distances = distance_to_boundary(region, origin, rays)
    hit = np.isfinite(distances)
    return origin + rays[hit] * distances[hit, None]


def bowed_curves(start: Vector, end: Vector, points: int, seed: int = 0) -> list[Path]:
    """The straight line, slightly bent so that no symmetry holds it, and lines bowed aside."""
    dim = start.size
    s = np.linspace(0.0, 1.0, points)[:, None]
    straight = start + s * (end - start)
    if dim == 1:
        return [straight]
    length = float(np.linalg.norm(end - start))
    directions = np.random.default_rng(seed).standard_normal((dim - 1 if dim < 4 else 3, dim))
    tangent = (end - start) / max(length, 1e-300)
    directions -= np.outer(directions @ tangent, tangent)
    directions = np.linalg.qr(directions.T)[0].T
    arch = np.sin(np.pi * s) * length
    slight = straight + arch * (0.01 * directions.sum(axis=0))
    sides = [
        straight + arch * (size * sense * direction)
        for size in (0.3,)
        for direction in directions
        for sense in (1, -1)
    ]
    return [slight, *sides]


def distance_between(first: Path, second: Path) -> float:
    """Largest distance from a point of one polygon to the nearest of the other, both ways."""
    apart = np.linalg.norm(first[:, None] - second[None], axis=2)
    return float(max(apart.min(axis=0).max(), apart.min(axis=1).max()))


def distinct(paths: Sequence[Path], values: Sequence[float], same_value: float = 0.02) -> list[int]:
    """Indices of paths that differ in value or in place, by increasing value."""
    kept: list[int] = []
    for index in np.argsort(values):
        for other in kept:
            alike = abs(values[index] - values[other]) <= same_value * abs(values[other])
            length = np.linalg.norm(np.diff(paths[other], axis=0), axis=1).sum()
            if alike and distance_between(paths[index], paths[other]) <= SAME_PLACE * length:
                break
        else:
            kept.append(int(index))
    return kept


def distinct_orbits(orbits: Sequence[Orbit]) -> list[Orbit]:
    """Orbits that differ, by increasing value."""
    if not orbits:
        return []
    kept = distinct([orbit.path for orbit in orbits], [orbit.value for orbit in orbits], 1e-3)
    return [orbits[index] for index in kept]
