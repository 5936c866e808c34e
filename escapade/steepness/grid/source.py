"""Where the paths start: V and its gradient near an attracting point or cycle."""

import itertools
from typing import Protocol

import numpy as np
import scipy.integrate
import scipy.interpolate
import scipy.spatial
from jaxtyping import Bool, Float

from escapade.errors import NotAMinimum
from escapade.minimum.lyapunov import stationary_covariance
from escapade.steepness.grid.box import Box, Field
from escapade.steepness.grid.hermite import interpolate, strides_of
from escapade.steepness.grid.levels import Jets, Seed

DEGREE = 4
"""Degree of the polynomial in which V is expanded around an attracting point."""
REACH = 6.0
"""Extent, in cells, of the region around an attracting point in which the expansion is used."""
RESIDUAL = 1e-3
"""Relative residual of the equation up to which the expansion is used."""
TUBE = 2.2
"""Radius, in cells, of the tube around a cycle in which V is quadratic in the distance."""
Points = Float[np.ndarray, "points dim"]


class Source(Protocol):
    """Something that knows V near itself."""

    def seed(self, box: Box) -> Seed:
        """Known values at the nodes of a box."""
        ...


def as_seed(
    box: Box,
    chosen: Bool[np.ndarray, " nodes"],
    values: Float[np.ndarray, " known"],
    gradients: Float[np.ndarray, "known dim"],
) -> Seed:
    """Seed from values and gradients at some nodes."""
    jets = np.zeros((len(chosen), 1, 1 + len(box.shape)))
    jets[chosen, 0, 0] = values
    jets[chosen, 0, 1:] = gradients * box.spacing
    return Seed(chosen, jets)


class PointSource:
    """An attracting point with a regular Jacobian: V as a polynomial.

    In coordinates z in which the quadratic part, from the Lyapunov equation, is ``|z|^2 / 2``, the
    terms of degree 3 and 4 are fitted to the Hamilton-Jacobi equation ``b.p + p.C p / 2 = 0`` by
    Gauss-Newton at points of a ball.
    """

    def __init__(self, field: Field, point: Float[np.ndarray, " dim"]):
        """Linearise at the point.

        Raises:
            Unstable: when its Jacobian has an eigenvalue without negative real part.
        """
        self.field, self.point = field, point
        jacobian = field.drift(point[None])[1][0]
        self.spread = stationary_covariance(-jacobian, field.covariance(point[None])[0])
        self.root = np.linalg.cholesky(self.spread)
        dim = len(point)
        powers = itertools.product(range(DEGREE + 1), repeat=dim)
        self.powers = np.array([power for power in powers if 3 <= sum(power) <= DEGREE])
        self.ball = _ball(dim)

    def seed(self, box: Box) -> Seed:
        """The expansion within about `REACH` cells, less where it is not accurate there."""
        offsets = box.nodes - self.point
        z = np.linalg.solve(self.root, offsets.T).T
        size = np.linalg.norm(z, axis=1)
        beside = (np.abs(offsets) <= 1.01 * box.spacing).all(axis=1)
        radius = REACH / (np.sqrt(np.diag(self.spread)) / box.spacing).max()
        for _ in range(12):
            coefficients, residual = self._fit(radius)
            if residual <= RESIDUAL:
                break
            radius *= 0.75
        else:
            coefficients = np.zeros(len(self.powers))
        chosen = (size <= radius) | beside
        within = np.where(size[chosen] <= radius, 1.0, 0.0)
        values, slopes = self._terms(z[chosen] / radius)
        values = 0.5 * size[chosen] ** 2 + within * radius**2 * (values @ coefficients)
        slopes = z[chosen] + within[:, None] * radius * np.einsum("nck,c->nk", slopes, coefficients)
        return as_seed(box, chosen, values, np.linalg.solve(self.root.T, slopes.T).T)

    def _terms(self, z: Points) -> tuple[np.ndarray, np.ndarray]:
        """Monomials of degree 3 and 4 and their gradients."""
        values = np.prod(z[:, None, :] ** self.powers, axis=2)
        slopes = np.empty((*values.shape, z.shape[1]))
        for axis in range(z.shape[1]):
            lowered = self.powers.copy()
            lowered[:, axis] = np.maximum(lowered[:, axis] - 1, 0)
            slopes[:, :, axis] = self.powers[:, axis] * np.prod(z[:, None, :] ** lowered, axis=2)
        return values, slopes

    def _fit(self, radius: float) -> tuple[np.ndarray, float]:
        """Coefficients on a ball, in units of ``radius^2``, and the largest relative residual."""
        points = self.point + radius * self.ball @ self.root.T
        drift = np.linalg.solve(self.root, self.field.drift(points)[0].T).T / radius
        half = np.linalg.solve(self.root, self.field.covariance(points))
        noise = np.linalg.solve(self.root, half.transpose(0, 2, 1))
        _, slopes = self._terms(self.ball)
        weight = 1 / (self.ball**2).sum(axis=1)
        coefficients = np.zeros(len(self.powers))
        for _ in range(6):
            p = self.ball + np.einsum("nck,c->nk", slopes, coefficients)
            pulled = np.einsum("nij,nj->ni", noise, p)
            residual = weight * ((drift + 0.5 * pulled) * p).sum(axis=1)
            matrix = weight[:, None] * np.einsum("nck,nk->nc", slopes, drift + pulled)
            coefficients = coefficients - np.linalg.lstsq(matrix, residual, rcond=1e-12)[0]
        cost = 0.5 * weight * (p * pulled).sum(axis=1)
        error = np.abs(residual / cost).max()
        return coefficients, error if np.isfinite(error) else np.inf


def _ball(dim: int) -> Points:
    """Points of the unit ball, denser towards its surface."""
    radii = np.sin(np.linspace(0.15, 1, 8) * np.pi / 2)
    directions = np.random.default_rng(0).standard_normal((40 * dim, dim))
    if dim == 2:
        angles = 2 * np.pi * np.arange(32) / 32
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (radii[:, None, None] * directions).reshape(-1, dim)


class CycleSource:
    """A stable limit cycle: V is quadratic in the distance, with a periodic Lyapunov matrix."""

    def __init__(self, field: Field, points: Points):
        """Refine the cycle from points near it, and solve for the spread of the noise around it.

        Raises:
            NotAMinimum: when the points do not lie on a stable cycle of the drift.
        """
        drift = field.drift(points)[0]
        gaps = np.roll(points, -1, axis=0) - points
        length = np.linalg.norm(gaps, axis=1)
        tangents = np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        speed = np.linalg.norm(drift, axis=1)
        along = (drift * tangents).sum(axis=1)
        across = np.linalg.norm(drift - along[:, None] * tangents, axis=1)
        if np.mean(across) > 0.1 * np.mean(speed):
            raise NotAMinimum(
                "source holds several points but the drift is not along them (its part across is "
                f"{np.mean(across) / np.mean(speed):.2g} of it); give points in order along a "
                "stable limit cycle, or one attracting point"
            )
        period = float((length / speed).sum())
        self.times, self.cycle = _one_period(field, points[0], period)
        self.velocity, jacobians = field.drift(self.cycle)
        noise = field.covariance(self.cycle)
        self.spread = _transverse(self.times, self.velocity, jacobians, noise)

    def seed(self, box: Box) -> Seed:
        """V within a tube of a few cells."""
        nodes = box.nodes
        tree = scipy.spatial.cKDTree(self.cycle / box.spacing)
        distance, nearest = tree.query(nodes / box.spacing, distance_upper_bound=TUBE + 1)
        chosen = distance <= TUBE
        near = nearest[chosen]
        offsets = nodes[chosen] - self.cycle[near]
        # The foot of the perpendicular lies between two of the cycle's points.
        velocity = self.velocity[near]
        shift = (offsets * velocity).sum(axis=1) / (velocity**2).sum(axis=1)
        phase = (self.times[near] + shift) % self.times[-1]
        spline = scipy.interpolate.CubicSpline(self.times, self.cycle, bc_type="periodic")
        offsets = nodes[chosen] - spline(phase)
        spread = scipy.interpolate.CubicSpline(self.times, self.spread, bc_type="periodic")(phase)
        inverse = np.linalg.pinv(spread, rcond=1e-6, hermitian=True)
        gradients = np.einsum("nij,nj->ni", inverse, offsets)
        values = 0.5 * (offsets * gradients).sum(axis=1)
        return as_seed(box, chosen, values, gradients)


def _one_period(
    field: Field, start: Float[np.ndarray, " dim"], period: float
) -> tuple[Float[np.ndarray, " times"], Points]:
    """Times and points of one turn of the cycle, to which the flow from `start` has settled."""

    def drift(_: float, x: np.ndarray) -> np.ndarray:
        return -field.landscape.gradient(x)

    options = {"rtol": 1e-9, "atol": 1e-11, "method": "DOP853"}
    settled = scipy.integrate.solve_ivp(drift, (0, 4 * period), start, **options).y[:, -1]
    normal = drift(0, settled)

    def returned(time: float, x: np.ndarray) -> float:
        return float((x - settled) @ normal) if time > 0.5 * period else -1.0

    returned.terminal, returned.direction = True, 1  # type: ignore[attr-defined]
    turn = scipy.integrate.solve_ivp(
        drift, (0, 2 * period), settled, events=returned, dense_output=True, **options
    )
    size = np.ptp(turn.y, axis=1).max()
    if turn.status != 1 or np.linalg.norm(turn.y[:, -1] - settled) > 0.01 * size:
        raise NotAMinimum(
            "source holds several points but the drift from the first does not return to it; give "
            "points in order along a stable limit cycle, or one attracting point"
        )
    times = np.linspace(0, turn.t[-1], 2049)
    cycle = turn.sol(times).T
    cycle[-1] = cycle[0]
    return times, cycle


def _transverse(
    times: Float[np.ndarray, " times"],
    velocity: Float[np.ndarray, "times dim"],
    jacobians: Float[np.ndarray, "times dim dim"],
    noise: Float[np.ndarray, "times dim dim"],
) -> Float[np.ndarray, "times dim dim"]:
    """Periodic covariance of the displacement normal to the cycle."""
    dim = velocity.shape[1]
    step = times[1] - times[0]
    unit = velocity / np.linalg.norm(velocity, axis=1, keepdims=True)
    projections = np.eye(dim) - unit[:, :, None] * unit[:, None, :]
    spread = np.zeros((len(times), dim, dim))
    half = 0.25 * step * (jacobians[1:] + jacobians[:-1])
    moves = np.linalg.solve(np.eye(dim) - half, np.eye(dim) + half)
    for _ in range(500):
        before = spread[-1].copy()
        spread[0] = before
        for k, move in enumerate(moves):
            carried = (
                move @ (spread[k] + 0.5 * step * noise[k]) @ move.T + 0.5 * step * noise[k + 1]
            )
            spread[k + 1] = projections[k + 1] @ carried @ projections[k + 1]
        if np.abs(spread[-1] - before).max() <= 1e-12 * np.abs(spread[-1]).max():
            spread[0] = spread[-1]
            return spread
    raise NotAMinimum("source is a cycle that does not attract; give a stable limit cycle")


class SolvedSource:
    """A degenerate attracting point, whose surroundings have been solved on a finer grid."""

    def __init__(self, box: Box, jets: Jets, ceiling: float):
        """Solution on a box, to be used below a value."""
        self.box, self.jets, self.ceiling = box, jets, ceiling

    def seed(self, box: Box) -> Seed:
        """The finer solution, interpolated."""
        dim = len(box.shape)
        results = np.empty((int(np.prod(box.shape)), 1, 1 + dim))
        inner = self.box
        interpolate(
            inner.positions(box.nodes), self.jets, inner.shape, strides_of(inner.shape), results
        )
        chosen = results[:, 0, 0] <= self.ceiling
        return as_seed(box, chosen, results[chosen, 0, 0], results[chosen, 0, 1:] / inner.spacing)


class RoughSource:
    """A degenerate attracting point as seen from very near: straight paths to the nodes around it.

    Its error is a fixed share of V there, which is tiny beside V on the grids it is not used on.
    """

    def __init__(self, field: Field, point: Float[np.ndarray, " dim"]):
        """A point of the field."""
        self.field, self.point = field, point

    def seed(self, box: Box) -> Seed:
        """Straight segments to nodes within one cell."""
        nodes = box.nodes
        chosen = (np.abs(nodes - self.point) <= 1.01 * box.spacing).all(axis=1)
        lines = nodes[chosen] - self.point
        metrics = np.linalg.inv(self.field.covariance(nodes[chosen]))
        middle = self.field.drift(self.point + 0.5 * lines)[0]
        ends = self.field.drift(nodes[chosen])[0]

        def inner(u: Points, v: Points) -> Float[np.ndarray, " points"]:
            return np.einsum("ni,nij,nj->n", u, metrics, v)

        length = np.sqrt(inner(lines, lines))
        values = length * np.sqrt(inner(middle, middle)) - inner(lines, middle)
        scale = np.sqrt(inner(ends, ends)) / np.maximum(length, 1e-300)
        gradients = np.einsum("nij,nj->ni", metrics, scale[:, None] * lines - ends)
        return as_seed(box, chosen, values, gradients)
