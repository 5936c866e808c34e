"""The verb `minimum_steepness`: the easiest way out, and its cost."""

import equinox as eqx
import numpy as np
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.errors import DegenerateNoise, InvalidArgument, NotInRegion, Unsupported
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.landscape._base import as_points
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.minimum.lyapunov import horizon_covariance
from escapade.noise import Constant, Isotropic
from escapade.steepness.local import minimum_over_boundary, quasipotential

Matrix = Float[np.ndarray, "dim dim"]
Vector = Float[np.ndarray, " dim"]

POINTS = 201
NEARLY_QUADRATIC = 0.1
"""Deviation of the gradient from linear at the exit up to which the closed form is given."""


class Instanton(eqx.Module):
    """The path of least steepness from the start to the boundary, or to a point.

    Attributes:
        value: minimum steepness V0, in units in which log E[nu] ~ (B / eta) V0.
        error: relative error of the value: rounding where the problem is linear, else the
            deviation of the gradient from linear at the exit.
        path: parameters along the path, from the start to the exit, shape (n, dim).
        exit_point: where it ends.
        exit_points: every minimising end found, shape (k, dim).
        momentum: conjugate momentum S^-1 (x - m) at the end, the gradient of V there.
        horizon: number of steps the path may take; infinite for the quasipotential.
        converged: whether the value holds to its stated error.
        method: how it was found.
    """

    value: float
    error: float
    path: Float[np.ndarray, "n dim"]
    exit_point: Float[np.ndarray, " dim"]
    exit_points: Float[np.ndarray, "k dim"]
    momentum: Float[np.ndarray, " dim"]
    horizon: float
    converged: bool
    method: str

    def __str__(self) -> str:
        within = "" if np.isinf(self.horizon) else f" within {self.horizon:g} steps"
        return (
            f"minimum steepness {self.value:.8g}{within} (relative error {self.error:.1e}, "
            f"{self.method}); exit at distance {np.linalg.norm(self.path[-1] - self.path[0]):.4g}"
        )


def minimum_steepness(
    escape: Escape,
    horizon: float | None = None,
    to: ArrayLike | None = None,
    *,
    neighbourhood: Neighbourhood | None = None,
) -> Instanton:
    """Least steepness of any path from the start to the boundary of the region.

    Closed form for dynamics that are linear with constant noise up to the exit: continuous SGD
    by the Freidlin-Wentzell action, discrete SGD by its own finite-step action.

    Args:
        escape: the problem.
        horizon: largest number of steps; unlimited (from the minimum) unless given. With a
            horizon the path starts at the escape's start.
        to: end point, shape (dim,), instead of the boundary of the region.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Raises:
        Unsupported: when the region has no closed form, or the landscape is not quadratic up to
            the exit (the gradient there deviates from linear by more than 10 %).
        InvalidArgument: when the horizon is not positive, or not a whole number of steps for a
            discrete chain.
        DegenerateNoise: when no noise leads to the end.
        NotInRegion: when the noiseless path from the start leaves the region by itself.
        Unstable: when the chain is unstable at this learning rate.
    """
    around = measure_neighbourhood(escape) if neighbourhood is None else neighbourhood
    rate = None if escape.dynamics.continuous else escape.dynamics.learning_rate
    mean: Vector | None = None
    if horizon is None:
        spread = around.stationary_covariance(rate)
    else:
        time = _checked_horizon(horizon, escape)
        spread = horizon_covariance(around.drift_matrix, around.covariance, time, rate)
        mean = _propagator(around.drift_matrix, time, rate) @ (escape.start - escape.minimum)
    if to is None:
        form = escape.region.local_form(escape.minimum, around.drift_matrix)
        if form is None:
            raise Unsupported(
                f"minimum_steepness has no closed form for this region ({escape.region}); use a "
                "ball, sublevel set, half-space or slab around the minimum, or give to=..."
            )
        if mean is not None and not form.distance_along(mean[None])[0] > 1:
            raise NotInRegion(
                f"after {horizon:g} steps without noise the start is outside the region; no "
                "fluctuation is needed, so the steepness is zero"
            )
        found = minimum_over_boundary(spread, form, mean)
        value, ends = found.value, found.points
    else:
        ends = as_points(to, escape.landscape.dim, "to") - escape.minimum
        value = quasipotential(spread, ends[0], mean)
        if not np.isfinite(value):
            raise DegenerateNoise("the noise covariance is singular and does not lead to `to`")
    offset = ends[0] if mean is None else ends[0] - mean
    momentum = np.linalg.lstsq(spread, offset)[0]
    if horizon is None:
        path = _infinite_path(around, spread, ends[0], momentum, rate)
    else:
        start = escape.start - escape.minimum
        path = _finite_path(around, start, momentum, time, rate)
    return Instanton(
        value=float(value),
        error=_error(escape, around, ends),
        path=escape.minimum + path,
        exit_point=escape.minimum + ends[0],
        exit_points=escape.minimum + ends,
        momentum=momentum,
        horizon=float("inf") if horizon is None else float(horizon),
        converged=True,
        method="closed form, linear-Gaussian" + (" chain" if rate else " diffusion"),
    )


def _checked_horizon(horizon: float, escape: Escape) -> float:
    """Horizon in the units of the Lyapunov solvers: time for a diffusion, steps for a chain."""
    if not (np.ndim(horizon) == 0 and np.isfinite(horizon) and horizon > 0):
        raise InvalidArgument(f"horizon is {horizon}; give a positive number of steps")
    if escape.dynamics.continuous:
        return float(horizon) * escape.dynamics.learning_rate
    if horizon != int(horizon):
        raise InvalidArgument(
            f"horizon is {horizon}; a discrete chain takes a whole number of steps"
        )
    return float(int(horizon))


def _propagator(drift: Matrix, time: float, rate: float | None) -> Matrix:
    """Noiseless motion over a time, or over a number of steps."""
    if rate is None:
        return scipy.linalg.expm(-drift * time)
    return np.linalg.matrix_power(np.eye(len(drift)) - rate * drift, int(time))


def _infinite_path(
    around: Neighbourhood, spread: Matrix, end: Vector, momentum: Vector, rate: float | None
) -> Float[np.ndarray, "n dim"]:
    """From the minimum to the end: the time reversal of the relaxation of the reversed process."""
    drift = around.drift_matrix
    origin = np.zeros((1, len(end)))
    if rate is None:
        # Momentum decays backwards in time as exp(-A^T t); times are spread over the decades
        # between the fastest and the slowest relaxation.
        rates = around.relaxation_rates
        times = np.concatenate([[0.0], np.geomspace(1e-3 / rates.max(), 25 / rates.min(), POINTS)])
        points = [spread @ scipy.linalg.expm(-drift.T * time) @ momentum for time in times]
        return np.concatenate([origin, np.array(points[::-1])])
    step = np.eye(len(end)) - rate * drift
    points = [end]
    size = np.linalg.norm(end)
    for _ in range(100_000):
        momentum = step.T @ momentum
        points.append(spread @ momentum)
        if np.linalg.norm(points[-1]) < 1e-8 * size:
            break
    return np.concatenate([origin, np.array(points[::-1])])


def _finite_path(
    around: Neighbourhood, start: Vector, momentum: Vector, time: float, rate: float | None
) -> Float[np.ndarray, "n dim"]:
    """Mean of the process conditioned on its end: ``m(t) + S_t exp(-A^T (T - t)) p``."""
    drift, noise = around.drift_matrix, around.covariance
    times = np.linspace(0, time, POINTS) if rate is None else np.arange(int(time) + 1)
    points = [start]
    for now in times[1:]:
        free = _propagator(drift, now, rate) @ start
        pull = _propagator(drift.T, time - now, rate) @ momentum
        points.append(free + horizon_covariance(drift, noise, now, rate) @ pull)
    return np.array(points)


def _error(escape: Escape, around: Neighbourhood, ends: Float[np.ndarray, "k dim"]) -> float:
    """Rounding for a linear problem; else how far the gradient at the exits is from linear."""
    exactly = isinstance(escape.landscape, Quadratic) and isinstance(
        getattr(escape.dynamics, "noise", Isotropic()), Constant | Isotropic
    )
    if exactly:
        rates = around.relaxation_rates
        return float(1e-15 * rates.max() / rates.min() * len(rates))
    deviation = 0.0
    for end in ends:
        linear = around.drift_matrix @ end
        gradient = np.asarray(escape.landscape.gradient(escape.minimum + end))
        deviation = max(
            deviation, float(np.linalg.norm(gradient - linear) / np.linalg.norm(linear))
        )
    if deviation > NEARLY_QUADRATIC:
        raise Unsupported(
            f"the landscape is not quadratic up to the exit: the gradient there differs from "
            f"linear by {100 * deviation:.2g} %; take a smaller region"
        )
    return deviation
