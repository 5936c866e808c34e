"""Mean exit time of linear-Gaussian SGD from its minimum, with prefactor, at any learning rate.

The displacement x moves as ``dx = -A x dt + eps C^{1/2} dW``, or step by step, and leaves a linear
or quadratic form. Four parts, each derived here and checked against exact solutions in the tests:

1. *Level.* The level r (``normal . x``, or ``sqrt(x^T M x)``) is followed as a diffusion with the
   stationary density of the Gaussian and the diffusivity averaged over the boundary of that level
   (`level_exit`). This is exact for slabs and half-spaces along an eigenvector of ``A^T`` and for
   balls with isotropic drift and noise, has the exact leading prefactor otherwise, and is a lower
   bound for reversible dynamics (its solution is a trial function of the Dirichlet form).
2. *Flux.* To the next order in eps^2 the flux through the boundary is ``int pi [n.Ax + eps^2 n.Cn
   tr(C Hess Psi) / (4 n.Ax)] dS`` with the boundary layer ``1 - K exp(-Psi / eps^2)`` of the
   backward equation: ``grad Psi.C grad Psi / 2 + A x.grad Psi = 0``, ``Psi = K - 1 = 0`` on the
   boundary. The difference to the same expansion of part 1 is added, as long as the transverse
   motion is slow on the time scale of the layer; beyond, the average of part 1 is the better one.
3. *Slow modes* that have not reached their stationary spread when the exit comes are given the
   spread of that time: the hazard follows ``1 - exp(-2 a_i t)`` (relative to the modes that carry
   the exit), which is exact for well separated rates. Between that and part 1 the mean is
   interpolated in the log, by the share of slow modes in the noise-induced growth of the level.
4. *Steps.* SGD of learning rate eta has the stationary law of the diffusion with drift matrix
   ``F A`` and noise ``F C F^T``, ``F = (I - eta A / 2)^{-1}``, which replace A and C above. Being
   seen once a step it leaves later: near the boundary the level is a Gaussian walk of drift s in
   standard deviations of a step, ``2 s`` being the slope of ``log E[tau]`` per standard deviation,
   which delays the exit by ``2 s^2 / theta(s)`` (`extremal_index`). As s changes with the level it
   is taken outside the boundary by a quarter of the derivative of the log delay: to second order
   this is the boundary shift of 0.58 standard deviations for small s, and ``1 / P(outside)`` for
   large s. Rates are averaged over the boundary.

What to expect: 0.3 % in one dimension from a barrier of 2.5 on, 1 % for sublevel sets with C
proportional to H, a few per cent for balls whose rates are within a factor of 10, a factor of up to
3 for balls with C proportional to H and rates spread over decades (the exact mean is the larger).
The relative error is an estimate fitted to exact solutions and simulations in 2 to 60 dimensions
with rates apart by up to 10^4 and ``eta lambda`` up to 1.3: see `_log_error`.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.stats
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline, PchipInterpolator

from escapade.errors import DegenerateNoise, InvalidArgument
from escapade.minimum.lyapunov import equivalent_diffusion, stationary_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.extremal_index import BOUNDARY_SHIFT, log_delay, log_delay_slope
from escapade.theory.level_exit import AbstractLevel, GaussianLevel, RadialLevel

Matrix = Float[np.ndarray, "dim dim"]
Points = Float[np.ndarray, "points dim"]
PerPoint = Float[np.ndarray, " points"]

_REPLICATES = 8


class MeanExitTime(eqx.Module):
    """A predicted mean exit time from the minimum and how far it can be trusted."""

    log_mean: float
    """Natural logarithm of the mean exit time, in the unit of the function that made it."""
    relative_error: float
    """Estimated relative error of the mean, the statistical one included."""
    sampling_error: float
    """Relative standard error of the averages over the boundary; 0 below three dimensions."""
    barrier: float
    """``V0 / eps^2``, dimensionless."""
    signal_to_noise: float
    """s at the boundary, drift in standard deviations of a step; 0 in continuous time."""

    @property
    def mean(self) -> float:
        """The mean itself; infinite when it is beyond double precision."""
        return float(np.exp(self.log_mean)) if self.log_mean < 709 else np.inf


def uniform_mean_exit_time(
    drift_matrix: Matrix,
    covariance: Matrix,
    form: LinearForm | QuadraticForm,
    learning_rate: float,
    batch_size: float,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> MeanExitTime:
    """Mean number of steps until Gaussian SGD, started at the minimum, leaves the form.

    Args:
        drift_matrix: Hessian at the minimum, or minus the Jacobian of another drift.
        covariance: covariance of one example's gradient.
        form: the region in displacements from the minimum.
        learning_rate: eta.
        batch_size: B, any positive real.
        samples: points of the average over the boundary in three and more dimensions, a power of
            two of at least 64; chosen by the dimension unless given.
        seed: of the scrambled Sobol points of that average.

    Raises:
        InvalidArgument: when shapes do not match or a number is not positive.
        DegenerateNoise: when the noise is no covariance or does not reach the boundary.
        Unstable: when the learning rate is unstable at the minimum.
    """
    eps2 = _positive(learning_rate / batch_size, "learning_rate / batch_size")
    drift, noise = equivalent_diffusion(drift_matrix, covariance, learning_rate)
    return _mean_exit_time(drift, noise, form, eps2, learning_rate, samples, seed)


def continuous_mean_exit_time(
    drift_matrix: Matrix,
    covariance: Matrix,
    form: LinearForm | QuadraticForm,
    noise_scale: float,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> MeanExitTime:
    """Mean time until continuous SGD, started at the minimum, leaves the form.

    Times are ``t = steps * eta``.

    Args:
        drift_matrix: Hessian at the minimum, or minus the Jacobian of another drift.
        covariance: covariance of one example's gradient.
        form: the region in displacements from the minimum.
        noise_scale: ``eps^2 = eta / B``.
        samples: as in `uniform_mean_exit_time`.
        seed: as in `uniform_mean_exit_time`.

    Raises:
        InvalidArgument: when shapes do not match or the noise scale is not positive.
        DegenerateNoise: when the noise is no covariance or does not reach the boundary.
        Unstable: when the drift matrix is not stable.
    """
    eps2 = _positive(noise_scale, "noise_scale")
    drift = np.asarray(drift_matrix, dtype=np.float64)
    noise = np.asarray(covariance, dtype=np.float64)
    return _mean_exit_time(drift, noise, form, eps2, 0.0, samples, seed)


class _Estimate(NamedTuple):
    """What both kinds of form hand back."""

    log_mean: float
    log_error: float
    sampling_error: float
    barrier: float
    drift_per_step: float


def _mean_exit_time(
    drift: Matrix,
    noise: Matrix,
    form: LinearForm | QuadraticForm,
    eps2: float,
    learning_rate: float,
    samples: int | None,
    seed: int,
) -> MeanExitTime:
    if form.dim != len(drift):
        raise InvalidArgument(
            f"form has {form.dim} parameters but drift_matrix has {len(drift)}; give both in the "
            "same coordinates"
        )
    # Whitened coordinates x = eps root z: the stationary law of z is the standard normal.
    spectrum, basis = np.linalg.eigh(stationary_covariance(drift, noise))
    kept = spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[-1]
    root = basis[:, kept] * np.sqrt(spectrum[kept])
    inverse = basis[:, kept] / np.sqrt(spectrum[kept])
    if isinstance(form, LinearForm):
        estimate = _linear(form, root, inverse.T @ drift @ root, eps2, learning_rate)
    else:
        weights, rotation = np.linalg.eigh(root.T @ form.matrix @ root)
        weights, rotation = weights[::-1], rotation[:, ::-1]
        root, inverse = root @ rotation, inverse @ rotation
        whitened = inverse.T @ drift @ root
        level2 = form.radius**2 / eps2
        estimate = _quadratic(weights, whitened, level2, learning_rate, samples, seed)
    unit = np.log(learning_rate) if learning_rate else 0.0
    return MeanExitTime(
        log_mean=float(estimate.log_mean - unit),
        relative_error=float(np.expm1(min(estimate.log_error, 50.0))),
        sampling_error=float(estimate.sampling_error),
        barrier=float(estimate.barrier),
        signal_to_noise=float(estimate.drift_per_step),
    )


def _linear(
    form: LinearForm, root: Matrix, drift: Matrix, eps2: float, learning_rate: float
) -> _Estimate:
    along = root.T @ form.normal
    width = np.linalg.norm(along)
    if width <= 1e-12 * np.linalg.norm(form.normal) * np.linalg.norm(root):
        raise DegenerateNoise(_UNREACHED)
    normal, level = along / width, form.offset / (np.sqrt(eps2) * width)
    rate = normal @ drift @ normal
    process = GaussianLevel(float(rate), form.two_sided)
    step = np.sqrt(2 * learning_rate * rate)
    log_mean, slope, drift_per_step, delay = _delayed(process, level, np.array([step]))
    # Part 2 in closed form: psi is linear on the plane and the plane has no curvature.
    transverse = drift.T @ normal - rate * normal
    correction = -(drift @ normal) @ transverse / (rate * level) ** 2
    variation = transverse @ transverse / (rate * level) ** 2
    memory = variation * (level / slope) ** 2
    speed = transverse @ drift @ transverse
    speed = speed / (transverse @ transverse) if variation > 1e-24 else 0.0
    correction = _damped(correction, speed, slope**2 * rate)
    slow = _slow_projection(drift, normal, process, level, learning_rate)
    return _Estimate(
        log_mean + delay[0] + slow.share * slow.late - correction * np.exp(-slow.late),
        # Without a gradient structure the correction may cancel though the level is not Markov.
        _log_error(max(abs(correction), variation), variation, memory, slow, step / level),
        0.0,
        level**2 / 2,
        drift_per_step[0],
    )


def _quadratic(
    weights: Float[np.ndarray, " dim"],
    drift: Matrix,
    level2: float,
    learning_rate: float,
    samples: int | None,
    seed: int,
) -> _Estimate:
    """Exit of ``sum_i weights_i z_i^2`` beyond `level2` in whitened coordinates."""
    modes = int(np.sum(weights > len(weights) * np.finfo(np.float64).eps * max(weights[0], 0.0)))
    noise = np.maximum(np.diag(drift)[:modes], 0.0)
    if modes == 0 or not np.any(noise * weights[:modes] > 0):
        raise DegenerateNoise(_UNREACHED)
    weights = np.where(np.arange(len(weights)) < modes, weights, 0.0)
    level = np.sqrt(level2)
    stationary = RadialLevel(weights[:modes], noise, np.ones(modes))
    boundary = _boundary(weights, stationary, level2, samples, seed)
    flux = _flux(boundary, weights, drift, level)
    steps = np.sqrt(2 * learning_rate * flux.diffusivity)
    log_mean, slope, drift_per_step, delays = _delayed(stationary, level, steps)
    delay, sampling_error = _mean_factor(boundary, flux.diffusivity, np.exp(-delays))
    diffusivity = _average(boundary, flux.diffusivity)
    correction = _damped(
        _average(boundary, flux.excess) / _average(boundary, flux.level_flux),
        _transverse_rate(weights, np.diag(drift), stationary.law.saddle(level2)),
        slope**2 * diffusivity,
    )
    slow = _slow_modes(stationary, level, learning_rate)
    step = np.sqrt(2 * learning_rate * diffusivity) / level
    mean_flux = _average(boundary, flux.flux)
    variation = _average(boundary, (flux.flux / mean_flux - 1) ** 2)
    unexplained = flux.flux - flux.diffusivity * mean_flux / diffusivity
    memory = _average(boundary, unexplained**2) / (slope * diffusivity) ** 2
    return _Estimate(
        log_mean - np.log(delay) + slow.share * slow.late - correction * np.exp(-slow.late),
        _log_error(abs(correction), variation, memory, slow, step) + sampling_error,
        sampling_error,
        level2 / (2 * weights[0]),
        _average(boundary, flux.diffusivity * drift_per_step) / diffusivity,
    )


def _delayed(
    process: AbstractLevel, level: float, steps: PerPoint
) -> tuple[float, float, PerPoint, PerPoint]:
    """Part 4 for steps of these standard deviations: log mean, its slope, s and the log delays."""
    largest = np.max(steps)
    if largest == 0:
        log_means, slopes = process.log_mean_exit(np.array([level]))
        return log_means[0], slopes[0], np.zeros_like(steps), np.zeros_like(steps)
    levels = level + np.linspace(0, BOUNDARY_SHIFT / 2, 9) * largest
    log_means, slopes = process.log_mean_exit(levels)
    slope_at = CubicSpline(levels, slopes)
    drift_per_step = steps * slopes[0] / 2
    # The slope hardly changes within a step: three rounds are exact to 1e-6.
    for _ in range(3):
        drift_per_step = steps / 2 * slope_at(level + steps / 4 * log_delay_slope(drift_per_step))
    return log_means[0], slopes[0], drift_per_step, log_delay(drift_per_step)


class _Boundary(NamedTuple):
    """Points on the boundary with weights proportional to the stationary density there."""

    points: Points
    density: PerPoint
    stretch: PerPoint
    """``sum_i w_i^2 / weights_i`` of the direction w of ``sqrt(weights) z``."""
    replicate: Int[np.ndarray, " points"]


def _boundary(
    weights: Float[np.ndarray, " dim"],
    process: RadialLevel,
    level2: float,
    samples: int | None,
    seed: int,
) -> _Boundary:
    """Directions from the Gaussian tilted onto the boundary, weighted to its conditional law.

    The conditional law of the direction is a Bingham distribution and the tilted Gaussian its
    angular central Gaussian envelope (Kent, Ganeiou and Mardia, 2018). In two dimensions the
    directions are equidistant angles of the tilted Gaussian, which resolve any peak.
    """
    modes, dim = len(process.weights), len(weights)
    tilt = process.law.saddle(level2)
    if dim == modes <= 2:
        angles = np.pi * (np.arange(512) + 0.5) / 512
        normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :modes]
        normals = normals if modes == 2 else np.ones((1, 1))
        replicate = np.zeros(len(normals), dtype=int)
    else:
        count = samples or int(2 ** np.clip(np.log2(4e6 / dim) // 1, 10, 14))
        if count < 64 or count & (count - 1):
            raise InvalidArgument(f"samples is {count}; give a power of two of at least 64")
        part = count // _REPLICATES
        normals = np.concatenate(
            [
                scipy.stats.norm.ppf(scipy.stats.qmc.Sobol(dim, rng=generator).random(part))
                for generator in np.random.default_rng(seed).spawn(_REPLICATES)
            ]
        )
        replicate = np.repeat(np.arange(_REPLICATES), part)
    tilted = normals[:, :modes] * np.sqrt(process.weights / (1 - 2 * tilt * process.weights))
    direction = tilted / np.linalg.norm(tilted, axis=1, keepdims=True)
    stretch = np.sum(direction**2 / process.weights, axis=1)
    log_density = -level2 / 2 * stretch + modes / 2 * np.log(stretch - 2 * tilt)
    points = np.concatenate(
        [np.sqrt(level2 / process.weights) * direction, normals[:, modes:]], axis=1
    )
    return _Boundary(points, np.exp(log_density - np.max(log_density)), stretch, replicate)


def _average(boundary: _Boundary, values: PerPoint) -> float:
    return float(np.sum(boundary.density * values) / np.sum(boundary.density))


def _mean_factor(boundary: _Boundary, weights: PerPoint, factors: PerPoint) -> tuple[float, float]:
    """Weighted mean of factors over the boundary, and its relative standard error."""
    weighted = boundary.density * weights
    mean = np.sum(weighted * factors) / np.sum(weighted)
    count = np.max(boundary.replicate) + 1
    if count == 1:
        return float(mean), 0.0
    tops = np.bincount(boundary.replicate, weighted * factors)
    means = tops / np.bincount(boundary.replicate, weighted)
    return float(mean), float(np.std(means, ddof=1) / np.sqrt(count) / mean)


class _Flux(NamedTuple):
    """Per boundary point, relative to the stationary density of the level (part 2)."""

    diffusivity: PerPoint
    flux: PerPoint
    level_flux: PerPoint
    excess: PerPoint


def _flux(
    boundary: _Boundary,
    weights: Float[np.ndarray, " dim"],
    drift: Matrix,
    level: float,
) -> _Flux:
    """Flux through the boundary to second order, and what part 1 makes of it.

    In whitened coordinates the noise is ``Q = A + A^T`` and the gradient of the form
    ``g = weights z``, normal n. On the boundary ``grad Psi = -psi n`` with
    ``psi = 2 n.Az / n.Qn``; differentiating the eikonal equation once along the surface and once
    across it gives ``tr(Q Hess Psi)``.
    """
    z = boundary.points
    gradient = z * weights
    size = np.linalg.norm(gradient, axis=1)
    normal = gradient / size[:, None]
    pulled, normal_pulled, normal_pushed = z @ drift.T, normal @ drift.T, normal @ drift
    normal_noise = normal_pulled + normal_pushed
    noise = _dot(normal, normal_noise)
    inward = _dot(normal, pulled)
    bend = normal * weights
    diffusivity = size**2 * noise / (2 * level**2)
    flux = size * inward / level
    level_flux = diffusivity * level * boundary.stretch
    # Where noise or drift across the boundary vanish there is no boundary layer.
    layered = (inward > 0) & (noise > 0)
    inward, noise = np.where(layered, inward, 1.0), np.where(layered, noise, 1.0)
    psi = 2 * inward / noise
    psi_gradient = 2 * (
        (pulled * weights / size[:, None] + normal_pushed) / noise[:, None]
        - normal_noise * weights * (2 * inward / (noise**2 * size))[:, None]
        + bend * (inward / (noise * size))[:, None]
    )
    tangential = psi_gradient - normal * _dot(psi_gradient, normal)[:, None]
    wind = pulled - psi[:, None] * normal_noise
    curvature = (
        np.sum((np.diag(drift) * 2) * weights)
        - 2 * _dot(normal_noise, bend)
        + noise * _dot(normal, bend)
    ) / size
    trace = (
        -noise * (_dot(wind, tangential) + psi * _dot(normal, normal_pulled)) / inward
        - 2 * _dot(normal_noise, tangential)
        - psi * curvature
    )
    modes = np.sum(weights > 0)
    second = size * noise * trace / (4 * inward * level) + diffusivity * modes / level
    second = np.where(layered, np.clip(second, -level_flux, level_flux), 0.0)
    return _Flux(diffusivity, flux, level_flux, flux - level_flux + second)


def _dot(left: Points, right: Points) -> PerPoint:
    return np.einsum("pi,pi->p", left, right)


def _damped(correction: float, transverse_rate: float, layer_rate: float) -> float:
    """Part 2, switched off where the boundary layer sees the transverse motion averaged."""
    return float(np.clip(correction, -0.3, 0.3) / (1 + (transverse_rate / layer_rate) ** 4))


def _transverse_rate(
    weights: Float[np.ndarray, " dim"], rates: Float[np.ndarray, " dim"], tilt: float
) -> float:
    """Relaxation rate of the fluctuations of the inward drift along the boundary."""
    variance = 1 / (1 - 2 * tilt * weights)
    mean_rate = np.sum(weights * rates * variance) / np.sum(weights * variance)
    share = (weights * (rates - mean_rate) * variance) ** 2
    total = np.sum(share)
    return float(np.sum(share * rates) / total) if total > 0 else 0.0


class _Slow(NamedTuple):
    """Slow modes: log of the delay they cause if well separated, the share of it to apply."""

    late: float
    share: float
    quenched: float
    """Variance of the log hazard over modes too slow to be averaged before the exit."""


def _slow_modes(stationary: RadialLevel, level: float, learning_rate: float) -> _Slow:
    """Part 3 for a quadratic form."""
    weights, rates = stationary.weights, stationary.rates

    def log_mean(spread: Float[np.ndarray, " modes"]) -> float:
        process = RadialLevel(weights, rates, spread)
        return _log_mean(process, level, process.diffusivity(level), learning_rate)

    settled = log_mean(np.ones_like(weights))
    tilt = stationary.law.saddle(level**2)
    carried = weights**2 * rates / (1 - 2 * tilt * weights)
    carrier = np.average(rates, weights=carried)
    averaged = 1 + np.exp(np.minimum((settled + np.log(np.maximum(rates, 1e-300))) / 2, 300.0))
    slower = np.maximum(1 - rates / carrier, 0.0)
    quenched = float(np.sum(2 * (max(tilt, 0.0) * weights * slower) ** 2 / averaged))
    if settled + np.log(max(np.min(rates), 1e-300)) > np.log(50.0):
        return _Slow(0.0, 1.0, quenched)

    def hazard(time: float) -> tuple[float, bool]:
        relaxed = -np.expm1(-2 * rates * time)
        spread = np.minimum(1.0, relaxed / np.average(relaxed, weights=carried))
        return -log_mean(spread), bool(np.min(spread) > 0.999)

    growth = weights * rates
    moments = (np.sum(growth), np.sum(growth * rates), np.sum(growth * rates**2))
    return _Slow(_lateness(settled, hazard), _separation(*moments), quenched)


def _slow_projection(
    drift: Matrix,
    normal: Float[np.ndarray, " dim"],
    process: GaussianLevel,
    level: float,
    learning_rate: float,
) -> _Slow:
    """Part 3 for a linear form, whose level is a sum of modes, found by Krylov's method."""
    projected = _krylov(drift.T, normal)

    def log_mean(spread: float) -> float:
        narrowed = GaussianLevel(process.rate / spread, process.two_sided)
        return _log_mean(narrowed, level / np.sqrt(spread), narrowed.rate, learning_rate)

    settled = log_mean(1.0)
    if settled + np.log(process.rate) > np.log(1e6):
        return _Slow(0.0, 1.0, 0.0)

    def hazard(time: float) -> tuple[float, bool]:
        remembered = np.sum(scipy.linalg.expm(-time * projected)[:, 0] ** 2)
        spread = min(1.0, (1 - remembered) / -np.expm1(-2 * process.rate * time))
        return -log_mean(spread), bool(spread > 0.999)

    pushed = projected[:, 0]
    moments = (process.rate, pushed @ pushed, pushed @ projected @ pushed)
    return _Slow(_lateness(settled, hazard), _separation(*moments), 0.0)


def _log_mean(
    process: AbstractLevel, level: float, diffusivity: float, learning_rate: float
) -> float:
    """Log mean exit time with the delay of the average step."""
    log_means, slopes = process.log_mean_exit(np.array([level]))
    step = np.sqrt(2 * learning_rate * diffusivity)
    return float(log_means[0] + log_delay(step * slopes[0] / 2))


def _lateness(settled: float, hazard: Callable[[float], tuple[float, bool]]) -> float:
    """Log mean exit time of a hazard that grows to its final value, minus that of the final value.

    `hazard` gives its logarithm at a time, and whether it has settled.
    """
    time, times, log_hazards, spent, done = 0.02 * np.exp(settled), [], [], 0.0, False
    # Doubling times, until nobody is left or every mode has settled.
    while not done and spent < 30:
        log_hazard, done = hazard(time)
        times.append(time)
        log_hazards.append(log_hazard)
        spent += np.exp(log_hazard) * time / 2
        time *= 2
    if len(times) == 1:
        return 0.0
    fine = np.linspace(np.log(times[0]), np.log(times[-1]), 64 * (len(times) - 1) + 1)
    rates, moments = np.exp(PchipInterpolator(np.log(times), log_hazards)(fine)), np.exp(fine)
    survival = np.exp(-moments[0] * rates[0] - _running_integral(rates, moments))
    mean = moments[0] + _running_integral(survival, moments)[-1] + survival[-1] / rates[-1]
    return float(max(np.log(mean) - settled, 0.0))


def _separation(first: float, second: float, third: float) -> float:
    """Share of part 3 from the growth rates of the level weighted by powers 0, 1, 2 of the rates.

    1 when one group of modes carries all growth, 0 when slow modes carry most of it. The constant
    is fitted to exact solutions.
    """
    return float(1 / (1 + 2.7 * (first * third / second**2 - 1) ** 2))


def _krylov(matrix: Matrix, start: Float[np.ndarray, " dim"]) -> Matrix:
    """Projection of a matrix on its first 40 powers on a unit vector (Arnoldi)."""
    basis = [start]
    for _ in range(min(len(matrix), 40) - 1):
        vector = matrix @ basis[-1]
        for _ in range(2):
            vector = vector - np.array(basis).T @ (np.array(basis) @ vector)
        if np.linalg.norm(vector) < 1e-10 * np.linalg.norm(matrix, 1):
            break
        basis.append(vector / np.linalg.norm(vector))
    subspace = np.array(basis)
    return subspace @ matrix @ subspace.T


def _running_integral(values: PerPoint, at: PerPoint) -> PerPoint:
    return np.concatenate([[0.0], np.cumsum(np.diff(at) * (values[1:] + values[:-1]) / 2)])


def _log_error(
    correction: float, variation: float, memory: float, slow: _Slow, step: float
) -> float:
    """Error of the log mean, fitted to cover nine in ten exact solutions, and all within about twice.

    It grows with part 2, with the relative variance of the flux over the boundary, with the
    variance of what the level's own drift does not explain of it (relative to the square of that
    drift), with slow modes, and with the square of a step's standard deviation relative to the
    level. All vanish where the level is Markov in continuous time; what is left then is the
    precision of the numbers.
    """
    parts = (
        correction,
        0.3 * variation,
        0.12 * np.sqrt(min(memory, 1.0)),
        0.5 * slow.late,
        0.9 * slow.quenched,
        0.15 * step**2,
    )
    return 1e-6 + float(np.linalg.norm(parts))


def _positive(value: float, argument: str) -> float:
    if not 0 < value < np.inf:
        raise InvalidArgument(f"{argument} is {value}; give positive finite numbers")
    return float(value)


_UNREACHED = (
    "the covariance gives no noise in the directions the form depends on, so SGD never leaves it; "
    "choose another region or add noise"
)
