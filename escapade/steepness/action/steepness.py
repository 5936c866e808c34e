"""The verb `steepness`: what a given path costs."""

import jax
import numpy as np
import scipy.interpolate
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.landscape import AbstractLoss
from escapade.landscape._base import as_numbers, as_points
from escapade.precision import in_float64
from escapade.steepness.action.lagrangian import in_chunks, lagrangian, points_at_once
from escapade.steepness.action.speed import least_rate
from escapade.steepness.hamiltonian import AbstractHamiltonian, hamiltonian

Path = Float[np.ndarray, "n dim"]

NODES = 4
"""Gauss-Legendre nodes on each interval between points, and at least `LEAST_NODES` in all."""
LEAST_NODES = 64


def steepness(
    escape: Escape,
    path: ArrayLike,
    horizon: float | None = None,
    *,
    times: ArrayLike | None = None,
    continuous_limit: bool = False,
    tolerance: float | None = None,
) -> float:
    """Steepness S of a path, which noise takes with a probability of order ``exp(-(B / eta) S)``.

    Of a chain (`GaussianSGD`, `LangevinSGD`, `MinibatchSGD`) the path is its iterates and ``S =
    sum_k eta L(x_k, (x_{k+1} - x_k) / eta)``, exactly. In continuous time the cubic spline
    through the points is integrated by Gauss-Legendre quadrature, with an error of order six in
    their spacing: the Freidlin-Wentzell action if the points have times, else the geometric
    action, least over all ways of travelling the curve in time.

    Args:
        escape: the problem; its region plays no part.
        path: points, shape (n, dim), at least two.
        horizon: number of steps the path takes. Of a chain it can only be n - 1; in continuous
            time the points are then equally spaced in time.
        times: when the path is at each point, in steps, shape (n,), increasing; only in
            continuous time, instead of a horizon.
        continuous_limit: take the limit of a vanishing learning rate of a chain.
        tolerance: a step that the noise cannot make costs infinitely much, unless it misses what
            noise can make by less than this, relative to ``|v| + |drift|``, beside the rounding
            of the points. Unless given, the root of the machine epsilon of the path's dtype:
            1.5e-8 for float64, 3.5e-4 for float32.

    Returns:
        The steepness; infinite when noise cannot make the path: off the range of a singular
        covariance, or off the convex hull of the gradients of minibatches.

    Raises:
        InvalidArgument: when the path or its times have the wrong shape or order, or the loss is
            not finite along the path.
        Unsupported: for shuffled epochs.
        NotConverged: when the Lagrangian cannot be computed.
    """
    law = hamiltonian(escape, continuous_limit)
    points = _checked_path(path, escape)
    _require_domain(law, escape, points)
    reach, epsilon = reach_of(path, tolerance)
    if law.time_step is not None:
        if times is not None:
            raise InvalidArgument(
                "times is given but a chain moves once per step; leave it out, or say "
                "continuous_limit=True"
            )
        if horizon is not None and horizon != len(points) - 1:
            raise InvalidArgument(
                f"horizon is {horizon} but the path has {len(points) - 1} steps; of a chain they "
                "are the same: leave the horizon out, or say continuous_limit=True"
            )
        values = increments(law, points, reach, epsilon)
    else:
        clock = _clock(len(points), horizon, times)
        if clock is None:
            values = _geometric(law, points, reach)
        else:
            values = _timed(law, points, escape.dynamics.learning_rate * clock, reach)
    if np.isnan(values).any():
        raise InvalidArgument(
            "path leaves the domain of the landscape: the gradient or the noise is not finite "
            "along it; change the path, or give more points so that its spline stays inside"
        )
    return float(values.sum())


def reach_of(path: ArrayLike, tolerance: float | None) -> tuple[float, float]:
    """Tolerance of the reach of the noise, and machine epsilon, of points in their precision.

    Raises:
        InvalidArgument: when the tolerance is negative or not a number.
    """
    dtype = np.asarray(path).dtype
    single = dtype.kind == "f" and dtype.itemsize <= 4
    epsilon = float(np.finfo(np.float32 if single else np.float64).eps)
    if tolerance is None:
        return float(np.sqrt(epsilon)), epsilon
    if np.ndim(tolerance) or not 0 <= as_numbers(tolerance, "tolerance") < np.inf:
        raise InvalidArgument(f"tolerance is {tolerance!r}; give zero or a positive number")
    return float(tolerance), epsilon


def increments(
    law: AbstractHamiltonian, points: Path, tolerance: float, epsilon: float
) -> Float[np.ndarray, " steps"]:
    """Steepness of each step of a chain; NaN off the domain."""
    if law.time_step is None:
        raise ValueError("a chain has a time step")
    velocities = np.diff(points, axis=0) / law.time_step
    sizes = np.linalg.norm(points, axis=1)
    rounding = 4 * epsilon * (sizes[1:] + sizes[:-1]) / law.time_step
    return law.time_step * lagrangian(law, points[:-1], velocities, tolerance, rounding).values


def _timed(
    law: AbstractHamiltonian, points: Path, times: Float[np.ndarray, " n"], tolerance: float
) -> Float[np.ndarray, " nodes"]:
    """Contributions of the quadrature nodes to the Freidlin-Wentzell action."""
    spline = scipy.interpolate.CubicSpline(times, points)
    nodes, weights = _quadrature(times)
    return weights * lagrangian(law, spline(nodes), spline(nodes, 1), tolerance).values


def _geometric(
    law: AbstractHamiltonian, points: Path, tolerance: float
) -> Float[np.ndarray, " nodes"]:
    """Contributions of the quadrature nodes to the geometric action."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    moved = np.concatenate([[True], lengths > 1e-14 * lengths.sum()])
    points = points[moved]
    if len(points) < 2:
        return np.zeros(1)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    parameter = np.concatenate([[0.0], np.cumsum(lengths)])
    spline = scipy.interpolate.CubicSpline(parameter, points)
    nodes, weights = _quadrature(parameter)
    return weights * least_rate(law, spline(nodes), spline(nodes, 1), tolerance)


def _quadrature(
    knots: Float[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Gauss-Legendre nodes and weights on the intervals between knots."""
    intervals = len(knots) - 1
    abscissae, weights = np.polynomial.legendre.leggauss(max(NODES, -(-LEAST_NODES // intervals)))
    halves = 0.5 * np.diff(knots)[:, None]
    middles = 0.5 * (knots[1:] + knots[:-1])[:, None]
    return (middles + halves * abscissae).ravel(), (halves * weights).ravel()


def _checked_path(path: ArrayLike, escape: Escape) -> Path:
    points = as_points(path, escape.landscape.dim, "path")
    if len(points) < 2:
        raise InvalidArgument(
            f"path has shape {np.shape(path)}: one point has no steepness; give at least two, "
            f"shape (n, {escape.landscape.dim})"
        )
    return points


def _clock(
    count: int, horizon: float | None, times: ArrayLike | None
) -> Float[np.ndarray, " n"] | None:
    """Steps at which a continuous path is at its points; None if it may take any time."""
    if times is None:
        if horizon is None:
            return None
        if np.ndim(horizon) or not 0 < as_numbers(horizon, "horizon") < np.inf:
            raise InvalidArgument(f"horizon is {horizon!r}; give a positive number of steps")
        return np.linspace(0.0, float(horizon), count)
    if horizon is not None:
        raise InvalidArgument("times and horizon are both given; give one of them")
    clock = as_numbers(times, "times")
    if clock.shape != (count,) or not np.isfinite(clock).all() or not (np.diff(clock) > 0).all():
        raise InvalidArgument(
            f"times has shape {clock.shape}; give {count} finite, increasing numbers of steps, "
            "one for each point of the path"
        )
    return clock


def _require_domain(law: AbstractHamiltonian, escape: Escape, points: Path) -> None:
    if not isinstance(escape.landscape, AbstractLoss):
        return
    losses = in_chunks(
        lambda chunk: (in_float64(_losses, escape.landscape, chunk),),
        points_at_once(law, points.shape[1]),
        points,
    )[0]
    if not np.isfinite(losses).all():
        first = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise InvalidArgument(
            f"path leaves the domain of the landscape: its loss at point {first} is "
            f"{losses[first]}; end the path before"
        )


def _losses(landscape: AbstractLoss, points: Float[Array, "n dim"]) -> Float[Array, " n"]:
    return jax.vmap(landscape._loss)(points)
