"""Least steepness over curves, whatever time they take: the geometric action.

With no limit on time the action of a curve depends on its shape alone (Heymann and Vanden-Eijnden,
CPAM 61, 2008): for Gaussian noise of covariance C and drift b,

    ``S[x] = integral |b|_C |x'|_C - <b, x'>_C ds``  with  ``<u, v>_C = u^T C^-1 v``.

A curve is a polygon of points equally spaced in length; each edge is charged at its midpoint, which
is second order. The action is minimised by Newton steps normal to the curve, damped as Levenberg
and Marquardt do, on a block tridiagonal Hessian: some tens of steps whatever the spread of rates,
where gradient descent needs thousands. The result is good to a few digits, the first guess of
`boundary_value`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.interpolate
import scipy.linalg
from jaxtyping import Array, Float

from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.hamiltonian import AbstractHamiltonian

Path = Float[np.ndarray, "n dim"]

NEWTON_STEPS = 60
SETTLED = 1e-7
ROUGHLY = 1e-4
"""Relative decrease of the action in one step below which a polygon is at rest."""
MOST_UNEVEN = 2.0
"""Ratio of the longest to the shortest edge above which the points are spread anew."""
LONGEST_MOVE = 0.2
"""Most that a point moves in one step, in lengths of the curve."""
MOST_DAMPING = 1e8
SLIGHT_DAMPING = 1e-2
"""A small decrease under more damping than this is no sign of rest."""
TOUCHING = 1e-2
"""A curve this close to the boundary, in edges, has arrived."""
CURVED = 1e-6
"""Share of the typical curvature of the action by which a minimum may seem to curve downwards."""


class Curve(eqx.Module):
    """A polygon of least geometric action for the Gaussian part of the noise.

    Attributes:
        path: points, equally spaced, shape (n, dim).
        momenta: conjugate momenta, shape (n, dim).
        durations: time spent on each edge, shape (n - 1,); long where the drift vanishes.
        value: geometric action.
        settled: whether the minimisation came to rest.
    """

    path: Path
    momenta: Path
    durations: Float[np.ndarray, " edges"]
    value: float
    settled: bool


def least_action_curve(
    hamiltonian: AbstractHamiltonian,
    guess: Path,
    *,
    region: AbstractRegion | None = None,
    floor: float = 0.0,
    rest: float = SETTLED,
    steps: int = NEWTON_STEPS,
) -> Curve:
    """Minimise the geometric action from a guess, between fixed ends or to a boundary.

    Args:
        hamiltonian: only its drift and covariance are used.
        guess: polygon, shape (n, dim); its first point is kept.
        region: when given the last point may slide along the boundary of the region, whose level
            must be smooth; else it is kept too.
        floor: variance added in every direction, for noise that does not reach all of them.
        rest: relative decrease of the action in one step at which to stop.
        steps: most Newton steps.
    """
    path = resample(np.asarray(guess, dtype=np.float64), len(guess))
    if region is not None:
        path[-1] = onto_boundary(region, path[-1])
    dim, charge = path.shape[1], _Charge(hamiltonian, floor)
    damping, settled = 1e-3, dim == 1
    value, system, pushed = np.inf, None, 0
    for _ in range(0 if settled else steps):
        actions, slopes, curvatures = at_each(_derivatives, charge, _edges(path))
        value = float(actions.sum())
        system = _NormalSystem(path, slopes, curvatures, region)
        trial: Path | None = None
        while True:
            move = system.solve(damping)
            trial = None if move is None else _moved(path, move, region)
            if trial is not None:
                lower = float(at_each(_action, charge, _edges(trial)).sum())
                if lower < value:
                    break
            damping *= 8
            if damping > MOST_DAMPING:
                break
        if trial is not None and damping <= MOST_DAMPING:
            path = trial
            damping = max(damping / 8, 1e-12)
            lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
            if region is not None:
                kept = _inside(region, path, float(lengths.mean()))
                if kept < len(path):
                    path = resample(path[:kept], len(path))
                    path[-1] = onto_boundary(region, path[-1])
                    continue
            if lengths.max() > MOST_UNEVEN * lengths.min():
                path = resample(path, len(path))
            if value - lower > rest * max(abs(value), 1e-300) or damping > SLIGHT_DAMPING:
                continue
        # At rest, or no direction is downhill beyond rounding.
        if pushed == 2 or system.solve(CURVED) is not None:
            settled = True
            break
        # A saddle of the action, as a symmetric guess leads to: push it off.
        pushed += 1
        path, damping = _pushed(path, region, pushed), 1e-3
    tangents = np.concatenate([path[1:2] - path[:1], path[2:] - path[:-2], path[-1:] - path[-2:-1]])
    middles, edges = 0.5 * (path[1:] + path[:-1]), path[1:] - path[:-1]
    momenta = at_each(_momentum, charge, path, tangents)[0]
    durations = at_each(_momentum, charge, middles, edges)[1]
    value = float(at_each(_action, charge, _edges(path)).sum())
    return Curve(path, momenta, durations, value, settled)


def path_action(hamiltonian: AbstractHamiltonian, path: Path, floor: float = 0.0) -> float:
    """Geometric action of a polygon."""
    return float(at_each(_action, _Charge(hamiltonian, floor), _edges(path)).sum())


def resample(path: Path, count: int) -> Path:
    """Points equally spaced in length along a curve, by monotone cubic interpolation."""
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    path = path[np.concatenate([[True], lengths > 0])]
    if len(path) < 3:
        return path[0] + np.linspace(0, 1, count)[:, None] * (path[-1] - path[0])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    curve = scipy.interpolate.Akima1DInterpolator(along, path, method="makima")
    even = curve(np.linspace(0, along[-1], count))
    even[[0, -1]] = path[[0, -1]]
    return even


def onto_boundary(
    region: AbstractRegion, point: Float[np.ndarray, " dim"], iterations: int = 30
) -> Float[np.ndarray, " dim"]:
    """Nearby point of the boundary of a region with a smooth level, by Newton steps."""
    for _ in range(iterations):
        level, normal, _ = level_derivatives(region, point)
        square = float(normal @ normal)
        if level == 0 or square == 0:
            break
        step = level * normal / square
        point = point - step
        if np.linalg.norm(step) <= 1e-15 * (1 + np.linalg.norm(point)):
            break
    return point


def level_derivatives(
    region: AbstractRegion, point: Float[np.ndarray, " dim"]
) -> tuple[float, Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"]]:
    """Level of a region, its gradient and its Hessian."""
    return in_float64(_level, region, point)


class _NormalSystem:
    """Newton's equations for moves normal to the curve (along the boundary, for a free end)."""

    def __init__(
        self,
        path: Path,
        slopes: Float[np.ndarray, "edges two_dim"],
        curvatures: Float[np.ndarray, "edges two_dim two_dim"],
        region: AbstractRegion | None,
    ):
        dim = path.shape[1]
        free = len(path) - 2 + (region is not None)
        first, second = slopes[:, :dim], slopes[:, dim:]
        gradient = second.copy()
        gradient[:-1] += first[1:]
        diagonal = curvatures[:, dim:, dim:].copy()
        diagonal[:-1] += curvatures[1:, :dim, :dim]
        beside = curvatures[1:, :dim, dim:]
        fixed = path[2:] - path[:-2]
        if region is not None:
            _, normal, bend = level_derivatives(region, path[-1])
            multiplier = float(normal @ gradient[-1]) / float(normal @ normal)
            diagonal[-1] -= multiplier * bend
            fixed = np.concatenate([fixed, normal[None]])
        fixed = fixed / np.linalg.norm(fixed, axis=1, keepdims=True)
        self.gradient = _normal(gradient[:free], fixed)
        along = fixed[:, :, None] * fixed[:, None, :]
        keep = np.eye(dim) - along
        diagonal = keep @ diagonal[:free] @ keep
        self.scale = float(np.mean(np.trace(np.abs(diagonal), axis1=1, axis2=2))) / dim
        self.diagonal = diagonal + self.scale * along
        self.beside = keep[:-1] @ beside[: free - 1] @ keep[1:]
        self.fixed = fixed

    def solve(self, damping: float) -> Path | None:
        """Move of the free points; None where the damped Hessian is not positive."""
        count, dim = self.gradient.shape
        width = 2 * dim - 1
        band = np.zeros((width + 1, count * dim))
        blocks = self.diagonal + damping * self.scale * np.eye(dim)
        rows, columns = np.triu_indices(dim)
        for block in range(dim):  # one diagonal of the blocks at a time
            inner = np.flatnonzero(columns - rows == block)
            for k in inner:
                band[width - block, columns[k] :: dim] = blocks[:, rows[k], columns[k]]
        for row in range(dim):
            for column in range(dim):
                offset = dim + column - row
                band[width - offset, dim + column :: dim] = self.beside[:, row, column]
        try:
            move = scipy.linalg.solveh_banded(band, -self.gradient.ravel(), check_finite=False)
        except np.linalg.LinAlgError:
            return None
        move = move.reshape(count, dim)
        return _normal(move, self.fixed) if np.isfinite(move).all() else None


def _normal(vectors: Path, directions: Path) -> Path:
    return vectors - directions * np.einsum("ni,ni->n", vectors, directions)[:, None]


def _moved(path: Path, move: Path, region: AbstractRegion | None) -> Path:
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    largest = np.linalg.norm(move, axis=1).max()
    trial = path.copy()
    trial[1 : 1 + len(move)] += move * min(1.0, LONGEST_MOVE * length / max(largest, 1e-300))
    if region is not None:
        trial[-1] = onto_boundary(region, trial[-1])
    return trial


class _Charge(eqx.Module):
    """What an edge costs: a Hamiltonian, and a variance added in every direction."""

    hamiltonian: AbstractHamiltonian
    floor: float

    def metric(self, x: Float[Array, " dim"]) -> Callable[[Array], Array]:
        """Multiplication by the inverse of the covariance."""
        covariance = self.hamiltonian.covariance(x) + self.floor * jnp.eye(x.size, dtype=x.dtype)
        factor = jnp.linalg.cholesky(covariance)
        return lambda vector: jax.scipy.linalg.cho_solve((factor, True), vector)

    def action(self, ends: Float[Array, " two_dim"]) -> Float[Array, ""]:
        """Geometric action of an edge."""
        start, end = jnp.split(ends, 2)
        middle, edge = 0.5 * (start + end), end - start
        drift = self.hamiltonian.drift(middle)
        inverse = self.metric(middle)
        weighed = inverse(edge)
        speed = jnp.vdot(drift, inverse(drift))
        # The last term keeps the square root smooth at a stationary point.
        tiny = 1e-24 * jnp.vdot(edge, edge)
        return jnp.sqrt((speed + tiny) * jnp.vdot(edge, weighed)) - jnp.vdot(drift, weighed)


def _action(charge: _Charge, ends: Float[Array, " two_dim"]) -> Float[Array, ""]:
    return charge.action(ends)


def _derivatives(
    charge: _Charge, ends: Float[Array, " two_dim"]
) -> tuple[Float[Array, ""], Float[Array, " two_dim"], Float[Array, "two_dim two_dim"]]:
    def slope(ends: Array) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(charge.action)(ends)
        return slope, (value, slope)

    curvature, (value, first) = jax.jacfwd(slope, has_aux=True)(ends)
    return value, first, curvature


def _momentum(
    charge: _Charge, x: Float[Array, " dim"], direction: Float[Array, " dim"]
) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """Momentum of motion in a direction, and the time it takes to go that far."""
    drift, inverse = charge.hamiltonian.drift(x), charge.metric(x)
    stretch = jnp.vdot(direction, inverse(direction))
    rate = jnp.sqrt(jnp.vdot(drift, inverse(drift)) / (stretch + 1e-300))
    return inverse(rate * direction - drift), 1 / (rate + 1e-300)


def _inside(region: AbstractRegion, path: Path, edge: float) -> int:
    """How many points there are up to the first that touches the boundary."""
    levels, slopes = at_each(_level_and_slope, region, path[1:])
    distances = levels / np.maximum(np.linalg.norm(slopes, axis=1), 1e-300)
    touching = np.flatnonzero(~(distances < -TOUCHING * edge))
    return max(int(touching[0]) + 2, 3) if len(touching) else len(path)


def _pushed(path: Path, region: AbstractRegion | None, seed: int) -> Path:
    direction = np.random.default_rng(seed).standard_normal(path.shape[1])
    length = float(np.linalg.norm(path[-1] - path[0]))
    arch = np.sin(np.linspace(0, np.pi * (0.5 if region is not None else 1.0), len(path)))
    trial = path + 0.02 * length * arch[:, None] * direction / np.linalg.norm(direction)
    if region is not None:
        trial[-1] = onto_boundary(region, trial[-1])
    else:
        trial[-1] = path[-1]
    return trial


def _edges(path: Path) -> Float[np.ndarray, "edges two_dim"]:
    return np.concatenate([path[:-1], path[1:]], axis=1)


def _level_and_slope(
    region: AbstractRegion, point: Float[Array, " dim"]
) -> tuple[Float[Array, ""], Float[Array, " dim"]]:
    return jax.value_and_grad(region._level)(point)


def _level(
    region: AbstractRegion, point: Float[Array, " dim"]
) -> tuple[Float[Array, ""], Float[Array, " dim"], Float[Array, "dim dim"]]:
    value, normal = jax.value_and_grad(region._level)(point)
    return value, normal, jax.hessian(region._level)(point)
