"""Instantons of linear-Gaussian SGD, in closed form: quadratic losses with constant noise."""

import numpy as np
import scipy.linalg
from jaxtyping import Float

from escapade.errors import DegenerateNoise, NotInRegion
from escapade.minimum import Neighbourhood
from escapade.minimum.lyapunov import horizon_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.local import minimum_over_boundary, quasipotential
from escapade.steepness.orbit import Orbit

Matrix = Float[np.ndarray, "dim dim"]
Vector = Float[np.ndarray, " dim"]

POINTS = 201


def linear_orbits(
    around: Neighbourhood,
    minimum: Vector,
    start: Vector,
    rate: float | None,
    *,
    end: LinearForm | QuadraticForm | Vector,
    time: float | None = None,
) -> list[Orbit]:
    """Every path of least steepness, one per minimising end.

    Args:
        around: drift matrix and noise at the minimum.
        minimum: the minimum, shape (dim,).
        start: where a path of finite horizon starts.
        rate: learning rate of a chain; None in continuous time.
        end: the region's form near the minimum, or a point.
        time: horizon in the unit t = learning rate times steps; none from the minimum.

    Raises:
        DegenerateNoise: when no noise leads to the end.
        NotInRegion: when the noiseless path from the start leaves the region by itself.
        Unstable: when the chain is unstable at this learning rate.
    """
    mean: Vector | None = None
    if time is None:
        spread = around.stationary_covariance(rate)
    else:
        duration = time if rate is None else np.rint(time / rate)
        spread = horizon_covariance(around.drift_matrix, around.covariance, duration, rate)
        mean = _propagator(around.drift_matrix, duration, rate) @ (start - minimum)
    if isinstance(end, LinearForm | QuadraticForm):
        if mean is not None and not end.distance_along(mean[None])[0] > 1:
            raise NotInRegion(
                "at the horizon the start is outside the region without any noise; no fluctuation "
                "is needed, so the steepness is zero"
            )
        found = minimum_over_boundary(spread, end, mean)
        value, ends = found.value, found.points
    else:
        ends = (end - minimum)[None]
        value = quasipotential(spread, ends[0], mean)
        if not np.isfinite(value):
            raise DegenerateNoise("the noise covariance is singular and does not lead to `to`")
    orbits = []
    for point in ends:
        momentum = np.linalg.lstsq(spread, point if mean is None else point - mean)[0]
        if time is None:
            times, path, momenta, actions = _from_minimum(around, spread, momentum, rate)
        else:
            times, path, momenta, actions = _from_start(
                around, start - minimum, momentum, duration, rate
            )
        path[-1] = point
        orbits.append(
            Orbit(
                times=times,
                path=minimum + path,
                momenta=momenta,
                actions=actions * (value / actions[-1]) if actions[-1] > 0 else actions,
                value=float(value),
                error=_rounding(around),
                converged=True,
                method="closed form, linear-Gaussian" + (" chain" if rate else " diffusion"),
            )
        )
    return orbits


def _rounding(around: Neighbourhood) -> float:
    rates = around.relaxation_rates
    return float(1e-15 * rates.max() / rates.min() * len(rates))


def _propagator(drift: Matrix, time: float, rate: float | None) -> Matrix:
    """Noiseless motion over a time, or over a number of steps."""
    if rate is None:
        return scipy.linalg.expm(-drift * time)
    return np.linalg.matrix_power(np.eye(len(drift)) - rate * drift, int(time))


Arrays = tuple[
    Float[np.ndarray, " n"],
    Float[np.ndarray, "n dim"],
    Float[np.ndarray, "n dim"],
    Float[np.ndarray, " n"],
]


def _from_minimum(
    around: Neighbourhood, spread: Matrix, momentum: Vector, rate: float | None
) -> Arrays:
    """The time reversal of the relaxation of the reversed process: ``p = exp(A^T t) p_end``."""
    drift = around.drift_matrix
    if rate is None:
        # Times are spread over the decades between the fastest and the slowest relaxation.
        rates = around.relaxation_rates
        before = np.append(0.0, np.geomspace(1e-3 / rates.max(), 25 / rates.min(), POINTS))
        momenta = np.array([scipy.linalg.expm(-drift.T * time) @ momentum for time in before])
        times = -before
    else:
        step = np.eye(len(momentum)) - rate * drift
        back = [momentum]
        size = momentum @ spread @ momentum
        while len(back) < 100_000 and back[-1] @ spread @ back[-1] > 1e-16 * size:
            back.append(step.T @ back[-1])
        momenta = np.array(back)
        times = -rate * np.arange(len(back))
    path = momenta @ spread
    actions = 0.5 * np.einsum("ni,ni->n", momenta, path)
    return times[::-1], path[::-1].copy(), momenta[::-1], actions[::-1]


def _from_start(
    around: Neighbourhood, start: Vector, momentum: Vector, time: float, rate: float | None
) -> Arrays:
    """Mean of the process conditioned on its end: ``m(t) + S_t exp(-A^T (T - t)) p``."""
    drift, noise = around.drift_matrix, around.covariance
    times = np.linspace(0, time, POINTS) if rate is None else np.arange(int(time) + 1.0)
    points, momenta, actions = [start], [], [0.0]
    momenta.append(_propagator(drift.T, time, rate) @ momentum)
    for now in times[1:]:
        pull = _propagator(drift.T, time - now, rate) @ momentum
        reached = horizon_covariance(drift, noise, now, rate) @ pull
        points.append(_propagator(drift, now, rate) @ start + reached)
        momenta.append(pull)
        actions.append(0.5 * float(pull @ reached))
    return times * (rate or 1.0), np.array(points), np.array(momenta), np.array(actions)
