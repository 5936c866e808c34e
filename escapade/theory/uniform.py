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

What to expect from a barrier of 2.5 on: 0.5 % in one dimension up to ``eta lambda = 0.5``, 1 to 5 %
for sublevel sets with C proportional to H, a few per cent for balls whose rates are within a factor
of 10, a factor of up to 3 for balls with C proportional to H and rates spread over decades (the
exact mean is the larger).
The relative error is an estimate fitted to exact solutions and simulations in 2 to 60 dimensions
with rates apart by up to 10^4 and ``eta lambda`` up to 1.3: see `_log_error`.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from escapade.errors import DegenerateNoise, InvalidArgument
from escapade.minimum.lyapunov import equivalent_diffusion, stationary_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.prefactor.extremal_index import BOUNDARY_SHIFT, log_delay, log_delay_slope
from escapade.theory.boundary_flux import (
    boundary_flux,
    damped,
    sample_boundary,
    transverse_rate,
)
from escapade.theory.level_exit import AbstractLevel, GaussianLevel, RadialLevel
from escapade.theory.slow_modes import SlowModes, relaxing_modes, slow_modes, slow_projection

Matrix = Float[np.ndarray, "dim dim"]
PerPoint = Float[np.ndarray, " points"]


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
        along = root.T @ form.normal
        width = np.linalg.norm(along)
        if width <= 1e-12 * np.linalg.norm(form.normal) * np.linalg.norm(root):
            raise DegenerateNoise(_UNREACHED)
        level = form.offset / (np.sqrt(eps2) * width)
        whitened = inverse.T @ drift @ root
        estimate = _linear(along / width, level, form.two_sided, whitened, learning_rate)
    else:
        weights, rotation = np.linalg.eigh(root.T @ form.matrix @ root)
        weights, rotation = weights[::-1], rotation[:, ::-1]
        whitened = (inverse @ rotation).T @ drift @ (root @ rotation)
        frame = basis[:, kept] @ rotation
        level2 = form.radius**2 / eps2
        estimate = _quadratic(weights, whitened, frame, level2, learning_rate, samples, seed)
    unit = np.log(learning_rate) if learning_rate else 0.0
    return MeanExitTime(
        log_mean=float(estimate.log_mean - unit),
        relative_error=float(np.expm1(min(estimate.log_error, 50.0))),
        sampling_error=float(estimate.sampling_error),
        barrier=float(estimate.barrier),
        signal_to_noise=float(estimate.drift_per_step),
    )


def _linear(
    normal: Float[np.ndarray, " dim"],
    level: float,
    two_sided: bool,
    drift: Matrix,
    learning_rate: float,
) -> _Estimate:
    """Exit of ``normal.z`` beyond `level` in whitened coordinates."""
    rate = normal @ drift @ normal
    process = GaussianLevel(float(rate), two_sided)
    step = np.sqrt(2 * learning_rate * rate)
    log_mean, slope, drift_per_step, delay = _delayed(process, level, np.array([step]))
    # Part 2 in closed form: psi is linear on the plane and the plane has no curvature.
    transverse = drift.T @ normal - rate * normal
    correction = -(drift @ normal) @ transverse / (rate * level) ** 2
    variation = transverse @ transverse / (rate * level) ** 2
    speed = transverse @ drift @ transverse / max(transverse @ transverse, 1e-300)
    correction = damped(correction, speed, slope**2 * rate)
    slow = slow_projection(drift, normal, process, level, learning_rate)
    # The correction may cancel, without a gradient structure, though the level is not Markov.
    size = max(abs(correction), variation)
    memory = variation * (level / slope) ** 2
    return _Estimate(
        log_mean + delay[0] + slow.share * slow.late - correction * np.exp(-slow.late),
        _log_error(size, variation, memory, slow, step / level),
        0.0,
        level**2 / 2,
        drift_per_step[0],
    )


def _quadratic(
    weights: Float[np.ndarray, " dim"],
    drift: Matrix,
    frame: Float[np.ndarray, "parameters dim"],
    level2: float,
    learning_rate: float,
    samples: int | None,
    seed: int,
) -> _Estimate:
    """Exit of ``sum_i weights_i z_i^2`` beyond `level2` in whitened coordinates.

    `frame` holds these coordinates' axes as orthonormal columns: see `sample_boundary`.
    """
    modes = int(np.sum(weights > len(weights) * np.finfo(np.float64).eps * max(weights[0], 0.0)))
    noise = np.maximum(np.diag(drift)[:modes], 0.0)
    if not np.any(noise > 0):
        raise DegenerateNoise(_UNREACHED)
    if modes == 1:
        normal = np.eye(len(weights))[0]
        return _linear(normal, np.sqrt(level2 / weights[0]), True, drift, learning_rate)
    weights = np.where(np.arange(len(weights)) < modes, weights, 0.0)
    level = np.sqrt(level2)
    process = RadialLevel(weights[:modes], noise, np.ones(modes))
    boundary = sample_boundary(weights, frame, process, level2, samples, seed)
    flux = boundary_flux(boundary, weights, drift, level)
    diffusivity = boundary.mean(flux.diffusivity)
    steps = np.sqrt(2 * learning_rate * flux.diffusivity)
    log_mean, slope, drift_per_step, delays = _delayed(process, level, steps)
    rate_factor = boundary.mean(np.exp(-delays), flux.diffusivity)
    excess = flux.excess / boundary.mean(flux.level_leading)
    turned, rates, coupling = relaxing_modes(weights[:modes], drift[:modes, :modes])
    correction = damped(
        boundary.mean(excess),
        transverse_rate(turned, rates, process.law.saddle(level2)),
        slope**2 * diffusivity,
    )
    slow = slow_modes(turned, rates, level, learning_rate)
    variation = boundary.mean((flux.leading / boundary.mean(flux.leading) - 1) ** 2)
    unexplained = flux.leading - flux.diffusivity * boundary.mean(flux.leading) / diffusivity
    memory = boundary.mean(unexplained**2) / (slope * diffusivity) ** 2
    barrier = level2 / (2 * weights[0])
    step = np.sqrt(2 * learning_rate * diffusivity) / level
    sampling_error = np.hypot(
        boundary.standard_error(np.exp(-delays), flux.diffusivity) / rate_factor,
        boundary.standard_error(excess) if correction else 0.0,
    )
    return _Estimate(
        log_mean - np.log(rate_factor) + slow.share * slow.late - correction * np.exp(-slow.late),
        _log_error(np.hypot(correction, 0.35 * coupling / barrier), variation, memory, slow, step)
        + sampling_error,
        sampling_error,
        barrier,
        boundary.mean(drift_per_step, flux.diffusivity),
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


def _log_error(
    correction: float, variation: float, memory: float, slow: SlowModes, step: float
) -> float:
    """Error of the log mean, fitted to cover nine in ten exact solutions, nearly all within twice.

    It grows with part 2 (`correction`), with the relative variance of the flux over the boundary,
    with the variance of what the level's own drift does not explain of it (relative to the square
    of that drift), with slow modes, and with the square of a step's standard deviation relative to
    the level. All vanish where the level is Markov in continuous time; what is left then is the
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
