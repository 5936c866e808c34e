"""The easiest way across a boundary that has no smooth level: a basin's, or a predicate's.

The quasipotential has no local minimum on the boundary of a basin but at its saddles (Freidlin and
Wentzell, chapter 4), which are found by following the boundary itself: points on it, bisected from
rays, are moved with the flow, and bisected again as they drift off it ("edge tracking"; Skufca,
Yorke and Eckhardt, PRL 96, 2006). On any other boundary the end point is moved downhill, since the
momentum of an orbit at its end is the gradient of the quasipotential there.
"""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.landscape.descent import roll
from escapade.precision import in_float64
from escapade.region import AbstractRegion, Basin
from escapade.steepness.continuous import multistart
from escapade.steepness.continuous.geometric import Curve, least_action_curve, resample
from escapade.steepness.continuous.stationary import StationaryPoint, stationary_point
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.orbit import Orbit

if TYPE_CHECKING:
    from escapade.steepness.continuous.orbits import Search

Vector = Float[np.ndarray, " dim"]

TRACKING_ROUNDS = 40
BISECTIONS = 50
MOST_ENDS = 4
"""Boundary points moved downhill."""


def orbits_across(search: "Search", region: AbstractRegion) -> list[Orbit]:
    """Local minimisers of the action to the boundary of a basin or of a predicate.

    Raises:
        NotConverged: when no saddle or no minimising end point is found.
    """
    ends = multistart.boundary_points(region, search.origin, search.spread(), search.seed)
    if not len(ends):
        raise NotConverged("no ray from the start leaves the region; choose a smaller one")
    if isinstance(region, Basin):
        return _through_saddles(search, region, ends)
    curves = []
    for end in ends:
        line = search.origin + np.linspace(0, 1, 33)[:, None] * (end - search.origin)
        curves.append(least_action_curve(search.hamiltonian, line, floor=search.floor([line])))
    orbits, failures = [], []
    for index in np.argsort([curve.value for curve in curves])[:MOST_ENDS]:
        try:
            orbits.append(descend_along_boundary(search, region, curves[index]))
        except NotConverged as failure:
            failures.append(failure)
    if not orbits:
        raise failures[0]
    return multistart.distinct_orbits(orbits)


def _through_saddles(
    search: "Search", region: Basin, ends: Float[np.ndarray, "points dim"]
) -> list[Orbit]:
    saddles: list[StationaryPoint] = []
    for end in ends:
        saddle = track_edge(search.hamiltonian, region, search.origin, end)
        if saddle is not None and all(
            np.linalg.norm(saddle.point - other.point)
            > 1e-6 * np.linalg.norm(saddle.point - search.origin)
            for other in saddles
        ):
            saddles.append(saddle)
    orbits, failures = [], []
    for saddle in saddles:
        try:
            orbits += search.to_point(saddle.point)
        except NotConverged as failure:
            failures.append(failure)
    if not orbits:
        raise NotConverged(
            f"no saddle was reached on the boundary of the basin ({len(saddles)} found"
            + (f"; {failures[0]}" if failures else "")
            + "); if the basin ends at a cycle, or the drift has kinks, use a Ball or give to=..."
        )
    return multistart.distinct_orbits(orbits)


def track_edge(
    hamiltonian: AbstractHamiltonian, region: Basin, inside: Vector, boundary: Vector
) -> StationaryPoint | None:
    """The saddle that the flow along the boundary of a basin leads to; None when none is reached.

    The basin's own descent steps are the flow, so that its boundary is invariant.
    """
    low, high = inside, boundary
    size = float(np.linalg.norm(boundary - inside))
    for _ in range(TRACKING_ROUNDS):
        low, high = in_float64(_bisected, region, low, high)
        # Follow both until they part; the slowest point on the way is closest to the saddle.
        lows, highs, speeds = in_float64(_followed, region, low, high)
        gaps = np.linalg.norm(lows - highs, axis=1)
        together = gaps < 1e-3 * size
        if not together.any() or not np.isfinite(speeds).all():
            return None
        last = int(np.flatnonzero(together)[-1])
        slowest = int(np.argmin(np.where(together, speeds, np.inf)))
        saddle = stationary_point(hamiltonian, lows[slowest], 0.1 * size)
        if (
            saddle is not None
            and saddle.index == 1
            and saddle.hyperbolic
            and np.linalg.norm(saddle.point - lows[slowest]) < 1e-2 * size
        ):
            return saddle
        low, high = lows[last], highs[last]
        if not (float(region.level(low)) < 0 <= float(region.level(high))):
            return None
    return None


def descend_along_boundary(search: "Search", region: AbstractRegion, curve: Curve) -> Orbit:
    """Move the end of an orbit along the boundary to where its action is least.

    Raises:
        NotConverged: when no orbit is found, or the boundary has a corner at the minimum.
    """
    end = curve.path[-1]
    length = float(np.linalg.norm(np.diff(curve.path, axis=0), axis=1).sum())
    chart = _Chart(region, search.origin, end, length)
    floor = search.floor([curve.path])

    def orbit_to(u: Vector) -> Orbit:
        point = chart.point(u)
        path = curve.path + np.linspace(0, 1, len(curve.path))[:, None] ** 2 * (point - end)
        fine = least_action_curve(search.hamiltonian, resample(path, 129), floor=floor)
        return search.polished(fine, point)

    def value(u: Vector) -> tuple[float, Vector]:
        orbit = orbit_to(u)
        return orbit.value, chart.pullback(u, orbit.momenta[-1]) * length

    size = max(abs(curve.value), 1e-300)
    if chart.dim == 0:
        return orbit_to(np.zeros(0))
    result = scipy.optimize.minimize(
        lambda u: tuple(part / size for part in value(u * length)),
        np.zeros(chart.dim),
        jac=True,
        method="BFGS",
        options={"gtol": max(1e-6, search.tolerance**0.5 / 10), "maxiter": 50},
    )
    best = orbit_to(result.x * length)
    left = float(0.5 * result.jac @ result.hess_inv @ result.jac) * size / max(best.value, 1e-300)
    error = best.error + abs(left)
    if error > search.tolerance:
        raise NotConverged(
            f"the end of the path slides along the boundary ({region}) without settling (relative "
            f"error of the value about {error:.1e}); the boundary may have a corner there: give "
            "to=..., or a region with a smooth boundary"
        )
    return eqx.tree_at(lambda orbit: orbit.error, best, error)


class _Chart:
    """Coordinates on a boundary near a point: a height over the plane across the path."""

    def __init__(self, region: AbstractRegion, origin: Vector, end: Vector, length: float):
        self.region, self.end, self.length = region, end, length
        self.axis = (end - origin) / np.linalg.norm(end - origin)
        frame = np.linalg.qr(self.axis[:, None], mode="complete")[0]
        self.plane = frame[:, 1:].T
        self.dim = len(self.plane)

    def point(self, u: Vector) -> Vector:
        """Boundary point over a point of the plane."""
        return self._base(u) + self._height(u) * self.axis

    def pullback(self, u: Vector, momentum: Vector) -> Vector:
        """Gradient in u of a function with a gradient in space."""
        step = 1e-4 * self.length
        slopes = [
            (self._height(u + step * unit) - self._height(u - step * unit)) / (2 * step)
            for unit in np.eye(self.dim)
        ]
        return self.plane @ momentum + float(self.axis @ momentum) * np.array(slopes)

    def _base(self, u: Vector) -> Vector:
        return self.end + u @ self.plane

    def _height(self, u: Vector) -> float:
        base = self._base(u)
        reach = 1e-3 * self.length
        while reach < self.length:
            low, high = base - reach * self.axis, base + reach * self.axis
            if float(self.region.level(low)) < 0 <= float(self.region.level(high)):
                low, high = in_float64(_bisected, self.region, low, high)
                return float((high - base) @ self.axis)
            reach *= 2
        raise NotConverged(
            f"the boundary ({self.region}) is lost sideways from its point "
            f"{np.array2string(self.end, precision=4)}; give to=..., or a smoother region"
        )


def _bisected(region: AbstractRegion, low: Array, high: Array) -> tuple[Array, Array]:
    """An inner and an outer point brought together across the boundary."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        outside = ~(region._level(middle) < 0)
        return jnp.where(outside, low, middle), jnp.where(outside, middle, high)

    return jax.lax.fori_loop(0, BISECTIONS, halve, (low, high))


def _followed(region: Basin, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Descent from two points, step by step, and the speed of the first."""
    landscape, minimum, capture = region.landscape, region.minimum, region.capture_radius
    assert landscape is not None
    assert minimum is not None
    assert capture is not None
    assert region.step is not None
    stride = region.step

    def step(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple]:
        first, second = pair
        slope = landscape._gradient(first)
        speed = jnp.sqrt(jnp.sum(slope**2))
        return (descended(first), descended(second)), (first, second, speed)

    def descended(x: Array) -> Array:
        distance = jnp.sqrt(jnp.sum((x - minimum) ** 2))
        longest = jnp.maximum(capture, 0.05 * distance)
        return roll(landscape, x, stride, 1, longest)

    _, history = jax.lax.scan(step, (low, high), None, length=region.steps)
    return history
