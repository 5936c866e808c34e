"""Minimum steepness of linear-Gaussian dynamics, in closed form.

Displacements x from the minimum follow ``x' = -A x`` plus noise; whatever the horizon, their law is
Gaussian with a mean m (zero at infinite horizon) and covariance ``epsilon^2 S``, and the steepness
to a point is ``V(x) = 1/2 (x - m)^T S^-1 (x - m)`` (Freidlin and Wentzell, chapter 4.3), in units
in which ``log E[nu] ~ (B / eta) V``.
"""

import equinox as eqx
import numpy as np
import scipy.optimize
from jaxtyping import Float

from escapade.errors import DegenerateNoise
from escapade.region.forms import LinearForm, QuadraticForm

Matrix = Float[np.ndarray, "dim dim"]
Vector = Float[np.ndarray, " dim"]

REACHABLE = 1e-9
"""A displacement outside the range of S by more than this fraction of its length has V infinite."""


class LocalExit(eqx.Module):
    """Where a linear-Gaussian process leaves most easily.

    Attributes:
        value: minimum steepness V0.
        points: minimising exit points, in displacements from the minimum; opposite pairs both.
        degeneracy: dimension of the set of minimisers plus one: 1 for isolated points, k where
            a k-dimensional eigenspace of directions is equally easy.
    """

    value: float
    points: Float[np.ndarray, "points dim"]
    degeneracy: int


def quasipotential(stationary: Matrix, displacement: Vector, mean: Vector | None = None) -> float:
    """Steepness to a point; infinite outside the range of a singular S."""
    offset = displacement if mean is None else displacement - mean
    momentum = _solve(stationary, offset)
    if momentum is None:
        return float("inf")
    return float(0.5 * offset @ momentum)


def minimum_over_boundary(
    stationary: Matrix, form: LinearForm | QuadraticForm, mean: Vector | None = None
) -> LocalExit:
    """Minimum steepness to the boundary of a region.

    Args:
        stationary: covariance S in units of epsilon^2.
        form: the region.
        mean: mean m of the law, inside the region; zero unless given.

    Raises:
        DegenerateNoise: when no noise reaches the boundary.
    """
    if isinstance(form, LinearForm):
        return _through_plane(stationary, form, mean)
    if mean is None or not np.any(mean):
        return _through_ellipsoid(stationary, form)
    return _through_ellipsoid_from(stationary, form, mean)


def _through_plane(stationary: Matrix, form: LinearForm, mean: Vector | None) -> LocalExit:
    spread = stationary @ form.normal
    variance = float(form.normal @ spread)
    if not variance > 0:
        raise DegenerateNoise("no noise acts along the region's normal, so it is never left there")
    centre = np.zeros(len(spread)) if mean is None else mean
    sides = np.array([1.0, -1.0]) if form.two_sided else np.array([1.0])
    distances = sides * form.offset - form.normal @ centre
    values = 0.5 * distances**2 / variance
    best = np.flatnonzero(values <= values.min() * (1 + 1e-12))
    points = centre + np.outer(distances[best], spread / variance)
    return LocalExit(float(values.min()), points, 1)


def _through_ellipsoid(stationary: Matrix, form: QuadraticForm) -> LocalExit:
    root = _root(stationary)
    weights, directions = np.linalg.eigh(root.T @ form.matrix @ root)
    if not weights[-1] > 0:
        raise DegenerateNoise("no noise reaches the region's boundary, so it is never left")
    top = int((weights >= weights[-1] * (1 - 1e-9)).sum())
    points = (root @ directions[:, -top:]).T[::-1] * form.radius / np.sqrt(weights[-1])
    value = 0.5 * form.radius**2 / weights[-1]
    return LocalExit(float(value), np.concatenate([points, -points]), top)


def _through_ellipsoid_from(stationary: Matrix, form: QuadraticForm, mean: Vector) -> LocalExit:
    """Secular equation of ``min |y|^2 / 2`` over ``(root y + m)^T M (root y + m) = radius^2``.

    Stationary points obey ``(1 - mu K) y = mu g`` with ``K = root^T M root``, ``g = root^T M m``;
    the global minimum has mu between 0 and 1 / lambda_max(K).
    """
    root = _root(stationary)
    weights, directions = np.linalg.eigh(root.T @ form.matrix @ root)
    if not weights[-1] > 0:
        raise DegenerateNoise("no noise reaches the region's boundary, so it is never left")
    pull = directions.T @ (root.T @ form.matrix @ mean)
    at_mean = float(mean @ form.matrix @ mean) - form.radius**2
    shares = weights / weights[-1]

    def coordinates(gap: float) -> Vector:
        """Stationary point at ``mu = (1 - gap) / lambda_max``."""
        return (1 - gap) * pull / weights[-1] / ((1 - shares) + gap * shares)

    def excess(gap: float) -> float:
        y = coordinates(gap)
        return float(at_mean + 2 * pull @ y + weights @ y**2)

    # The gap is searched in its logarithm: a mean that hardly pulls along the easiest direction,
    # as rounding makes it, has a root as close to 0 as its pull.
    smallest = 1e-60
    if excess(smallest) > 0:
        found = scipy.optimize.brentq(
            lambda u: excess(np.exp(u)), np.log(smallest), 0.0, rtol=1e-15
        )
        solutions = coordinates(np.exp(found))[None]
    else:
        # The hard case: the mean does not pull along the easiest direction at all, so that either
        # sense of it completes the step to the boundary.
        y = np.where(shares < 1 - 1e-9, coordinates(smallest), 0.0)
        missing = -(at_mean + 2 * pull @ y + weights @ y**2)
        step = np.sqrt(max(missing, 0.0) / weights[-1]) * np.eye(len(y))[-1]
        solutions = np.array([y + step, y - step])
    points = mean + solutions @ directions.T @ root.T
    return LocalExit(float(0.5 * solutions[0] @ solutions[0]), points, 1)


def _root(stationary: Matrix) -> Matrix:
    eigenvalues, vectors = np.linalg.eigh(stationary)
    return vectors * np.sqrt(np.clip(eigenvalues, 0, None))


def _solve(stationary: Matrix, vector: Vector) -> Vector | None:
    """``S^-1 vector`` on the range of S; None outside it."""
    eigenvalues, vectors = np.linalg.eigh(stationary)
    kept = eigenvalues > len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]
    components = vectors.T @ vector
    if np.linalg.norm(components[~kept]) > REACHABLE * np.linalg.norm(vector):
        return None
    return vectors[:, kept] @ (components[kept] / eigenvalues[kept])
