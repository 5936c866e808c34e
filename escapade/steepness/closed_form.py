"""Instantons of linear-Gaussian SGD, in closed form: quadratic losses with constant noise."""

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

from escapade.errors import DegenerateNoise, NotInRegion
from escapade.minimum import Neighbourhood
from escapade.minimum.lyapunov import horizon_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.local import LocalExit, minimum_over_boundary, quasipotential
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
    duration = 0.0
    if time is None:
        spread = around.stationary_covariance(rate)
    else:
        duration = time if rate is None else np.rint(time / rate)
        if isinstance(end, LinearForm | QuadraticForm) and np.any(start != minimum):
            duration = _best_duration(around, start - minimum, end, duration, rate)
        spread, mean = _law(around, start - minimum, duration, rate)
    if isinstance(end, LinearForm | QuadraticForm):
        found = _out_of(end, spread, mean)
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


def _law(
    around: Neighbourhood, start: Vector, duration: float, rate: float | None
) -> tuple[Matrix, Vector]:
    """Covariance (per epsilon^2) and mean after a time, or a number of steps."""
    spread = horizon_covariance(around.drift_matrix, around.covariance, duration, rate)
    return spread, _propagator(around.drift_matrix, duration, rate) @ start


def _out_of(form: LinearForm | QuadraticForm, spread: Matrix, mean: Vector | None) -> LocalExit:
    if mean is not None and not form.distance_along(mean[None])[0] > 1:
        raise NotInRegion(
            "the path from the start without noise leaves the region by itself within the "
            "horizon; no fluctuation is needed, so the steepness is zero"
        )
    return minimum_over_boundary(spread, form, mean)


def _best_duration(
    around: Neighbourhood,
    start: Vector,
    form: LinearForm | QuadraticForm,
    longest: float,
    rate: float | None,
) -> float:
    """Time of the cheapest exit: away from the minimum an early one may be the best."""

    def value(duration: float) -> float:
        return _out_of(form, *_law(around, start, duration, rate)).value

    rates = around.relaxation_rates
    first = 1.0 if rate is not None else min(1e-3 / rates.max(), longest / 2)
    durations = np.geomspace(first, longest, 100)
    if rate is not None:
        durations = np.unique(np.rint(durations))
    values = [value(duration) for duration in durations]
    best = int(np.argmin(values))
    low, high = durations[max(best - 1, 0)], durations[min(best + 1, len(durations) - 1)]
    if rate is not None:
        return float(min(np.arange(low, high + 1), key=value))
    if best == len(durations) - 1:
        return longest
    return float(scipy.optimize.minimize_scalar(value, bounds=(low, high), method="bounded").x)


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
        if around.symmetric:
            modes = around.eigenvectors
            decays = np.exp(-np.outer(before, around.eigenvalues))
            momenta = decays * (modes.T @ momentum) @ modes.T
        else:
            momenta = np.array([scipy.linalg.expm(-drift.T * t) @ momentum for t in before])
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
