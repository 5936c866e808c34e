"""Mean exit time at a network's minimum, from matrix-free measurements.

Near its minimum SGD is linear-Gaussian. In the basis of a `LocalModel` the uniform mean exit time
applies as it stands. The directions outside the basis, many and each of little weight, fluctuate
around a mean that grows with time: after K steps they fill the share

    m(K) = epsilon^2 sum_i C_ii g_i (1 - (1 - eta lambda_i)^(2 K)) / (2 lambda_i - eta lambda_i^2)

of the squared size of the region, g = 1 / R^2 for a ball and lambda_i / (2 depth) for a sublevel
set, and leave ``1 - m`` of it to the basis. The mean exit time is the K that equals the mean exit
time from what is left at K; where m reaches one first, the spread itself is the exit.

For a slab or half-space along a Hessian eigenvector nothing is left out: the displacement along
it is a scalar chain whatever the dimension, and the noise that minibatches really have is taken
whole (`minibatch_level`).
"""

from functools import cache
from typing import NamedTuple

import equinox as eqx
import numpy as np
import scipy.optimize
from jaxtyping import Float

from escapade.errors import DegenerateNoise, Unstable
from escapade.minimum.local_model import LocalModel
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.minibatch_level import minibatch_level
from escapade.theory.prediction import Groups
from escapade.theory.uniform import MeanExitTime, uniform_mean_exit_time

LONGEST = 1e300
"""Steps beyond which nothing is followed."""

FULL = 0.999
"""Share of a region from which it counts as filled."""

ALONE = 0.999
"""Share of a normal along one eigenvector from which its noise is that eigenvector's."""

QUIET = 1e-6
"""Standard deviation, as a share of the way to the boundary, below which there is no noise."""

SEARCH = 256
"""Boundary points while the mean exit time is searched for."""


class NetworkExit(NamedTuple):
    """A mean exit time and what it rests on.

    Attributes:
        log_mean: logarithm of the mean exit time in steps.
        relative_error: stated error of the mean.
        exponent: minimum steepness V0; infinite where the rest leaves nothing to climb.
        groups: dimensionless groups; the shell ratio is that of the spread reached by the exit.
        direction: displacement of the most likely exit, in the basis.
        momentum: ``S^-1`` times it.
        carried: share of the region's squared size filled by the directions outside the basis.
        noise_effect: change of the log mean by skewness and tails of the minibatch noise, if it is
            included; None where the noise is Gaussian.
        least_barrier: the barrier if all that is outside the basis lay in one direction; the true
            barrier is between this and that of the groups.
    """

    log_mean: float
    relative_error: float
    exponent: float
    groups: Groups
    direction: Float[np.ndarray, " basis"]
    momentum: Float[np.ndarray, " basis"]
    carried: float
    least_barrier: float
    noise_effect: float | None = None


def linear_exit(
    model: LocalModel,
    normal: Float[np.ndarray, " basis"],
    offset: float,
    two_sided: bool,
    learning_rate: float,
    batch_size: float,
) -> NetworkExit:
    """Exit through a plane whose normal lies in the basis.

    Raises:
        Unstable: when the learning rate is unstable.
        DegenerateNoise: when no noise acts along the normal.
    """
    _require_stable(model, learning_rate)
    curvatures, covariance = model.curvatures, model.covariance
    used = np.abs(normal) > 1e-8 * np.linalg.norm(normal)
    if not np.all(curvatures[used] > 0):
        raise Unstable("the normal has directions along which the loss does not curve upwards")
    sums = curvatures[:, None] + curvatures - learning_rate * np.outer(curvatures, curvatures)
    spread = np.where(sums > 0, covariance / np.where(sums > 0, sums, 1.0), 0.0)
    toward = spread @ normal
    variance = float(normal @ toward)
    epsilon_squared = learning_rate / batch_size
    if not epsilon_squared * variance > (QUIET * offset) ** 2:
        raise DegenerateNoise(
            "there is next to no gradient noise along the normal, so SGD never leaves through it"
        )
    hessian = np.diag(curvatures[used])
    form = LinearForm(normal[used], offset, two_sided)
    found = uniform_mean_exit_time(
        hessian, covariance[np.ix_(used, used)], form, learning_rate, batch_size
    )
    log_mean, effect = found.log_mean, None
    column = int(np.argmax(np.abs(normal)))
    if abs(normal[column]) > ALONE * np.linalg.norm(normal):
        slopes = np.sign(normal[column]) * model.slopes[:, column]
        sides = (1.0, -1.0) if two_sided else (1.0,)
        levels = np.array(
            [
                minibatch_level(
                    side * slopes, curvatures[column], offset, learning_rate, batch_size
                )
                for side in sides
            ]
        )
        log_mean = through_levels(levels, curvatures[column], learning_rate)
        effect = log_mean - found.log_mean
        found = eqx.tree_at(lambda exit: exit.barrier, found, float(0.5 * levels.min() ** 2))
    groups = _groups(
        model, found, learning_rate, shell_ratio=epsilon_squared * variance / offset**2
    )
    return NetworkExit(
        log_mean,
        found.relative_error,
        found.barrier * epsilon_squared,
        groups,
        toward * offset / variance,
        normal * offset / variance,
        carried=0.0,
        least_barrier=found.barrier,
        noise_effect=effect,
    )


def through_levels(
    levels: Float[np.ndarray, " sides"], curvature: float, learning_rate: float
) -> float:
    """Log mean exit steps of a scalar chain through one or two levels, in standard deviations."""
    one = np.ones((1, 1))
    rate = curvature * one
    # Noise of which the stationary standard deviation is one.
    noise = (2 * curvature - learning_rate * curvature**2) * one
    logs = []
    for level in levels:
        if not np.isfinite(level):
            logs.append(np.inf)
            continue
        form = LinearForm(np.ones(1), float(level), two_sided=False)
        # With B = eta the noise scale is one.
        logs.append(
            uniform_mean_exit_time(rate, noise, form, learning_rate, learning_rate).log_mean
        )
    if not np.isfinite(min(logs)):
        return float(min(logs))
    if len(levels) == 2 and np.isclose(levels[0], levels[1], rtol=1e-6):
        form = LinearForm(np.ones(1), float(levels[0]), two_sided=True)
        return uniform_mean_exit_time(rate, noise, form, learning_rate, learning_rate).log_mean
    return float(-np.logaddexp.reduce([-value for value in logs]))


def ellipsoid_exit(
    model: LocalModel,
    kind: str,
    size: float,
    learning_rate: float,
    batch_size: float,
    *,
    samples: int | None = None,
) -> NetworkExit:
    """Exit from a ball (`size` is its radius) or a sublevel set (its depth) around the minimum.

    `samples` is the number of boundary points, as in `uniform_mean_exit_time`; few are faster.

    Raises:
        Unstable: when the learning rate is unstable.
        DegenerateNoise: when there is no noise.
    """
    _require_stable(model, learning_rate)
    # Directions that hardly curve relax more slowly than anything lasts: they belong to the rest.
    kept = model.curvatures > 1e-6 * model.curvatures[0]
    curvatures, covariance = model.curvatures[kept], model.covariance[np.ix_(kept, kept)]
    matrix = np.eye(len(curvatures)) if kind == "ball" else np.diag(curvatures)
    square = size**2 if kind == "ball" else 2 * size
    epsilon_squared = learning_rate / batch_size

    def share(steps: float, *, whole: bool) -> tuple[float, float]:
        def function(at: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
            metric = 1.0 if kind == "ball" else np.maximum(at, 0.0)
            return metric * spread_after(at, steps, learning_rate)

        total, error = model.rest_integral(function)
        left_out = np.diag(model.covariance)[~kept] @ function(model.curvatures[~kept])
        total += float(left_out)
        if whole:
            total += float(np.diag(covariance) @ function(curvatures))
        return epsilon_squared * total / square, epsilon_squared * error / square

    @cache
    def mean_exit(filled: float, samples: int | None) -> MeanExitTime:
        form = QuadraticForm(matrix, float(np.sqrt(square * (1 - filled))))
        return uniform_mean_exit_time(
            np.diag(curvatures), covariance, form, learning_rate, batch_size, samples=samples
        )

    def excess(log_steps: float) -> float:
        filled, _ = share(float(np.exp(log_steps)), whole=False)
        if filled > FULL:
            return -1.0
        return mean_exit(filled, SEARCH).log_mean - log_steps

    high = np.log(LONGEST)
    alone = model.rest is None and bool(kept.all())
    if alone or excess(high) >= 0:
        log_mean = mean_exit(share(LONGEST, whole=False)[0], samples).log_mean
    elif excess(0.0) <= 0:
        log_mean = 0.0
    else:
        log_mean = float(scipy.optimize.brentq(excess, 0.0, high, xtol=1e-2))
    steps = float(np.exp(min(log_mean, high)))
    filled, error = share(steps, whole=False)
    filled = min(filled, FULL)
    found = mean_exit(filled, samples)
    if alone or 0 < filled < FULL / 2:
        log_mean = found.log_mean
    # What the error of the share does to the mean: the exit time at a fuller and an emptier region.
    from_rest = 0.0
    if error:
        emptier, fuller = (
            mean_exit(min(max(filled + sign * error, 0.0), FULL), SEARCH).log_mean
            for sign in (-1, 1)
        )
        from_rest = 0.5 * abs(fuller - emptier)
    shell, _ = share(steps, whole=True)
    direction, momentum = _easiest(curvatures, covariance, matrix, square, learning_rate)
    groups = _groups(model, found, learning_rate, shell_ratio=shell)
    relative_error = float(np.expm1(min(np.hypot(np.log1p(found.relative_error), from_rest), 50.0)))
    least_barrier = 1 / (1 / groups.barrier + 2 * filled)
    if filled < FULL and least_barrier < 0.5 * groups.barrier:
        # A direction outside the basis may be easier than all those in it.
        relative_error = float("inf")
    return NetworkExit(
        log_mean,
        relative_error,
        groups.barrier * epsilon_squared,
        groups,
        _scatter(direction, kept),
        _scatter(momentum, kept),
        carried=filled,
        least_barrier=least_barrier,
    )


def spread_after(
    curvatures: Float[np.ndarray, "..."], steps: float, learning_rate: float
) -> Float[np.ndarray, "..."]:
    """Variance after some steps along directions of these curvatures, per ``epsilon^2 C_ii``.

    ``eta sum_k (1 - eta lambda)^(2 k)``: it grows as eta K along flat directions, without bound
    where the loss curves downwards.
    """
    gain = (1 - learning_rate * np.asarray(curvatures, np.float64)) ** 2
    rate = np.log(np.maximum(gain, 1e-300))
    with np.errstate(over="ignore"):
        grown = np.expm1(np.minimum(rate * steps, 690.0))
    slope = np.where(np.abs(rate) * steps < 1e-12, steps, grown / np.where(rate == 0, 1, gain - 1))
    return learning_rate * slope


def _require_stable(model: LocalModel, learning_rate: float) -> None:
    stiffness = learning_rate * model.curvatures[0]
    if not stiffness < 2:
        raise Unstable(
            f"learning_rate {learning_rate:g} times sharpness {model.curvatures[0]:.4g} is "
            f"{stiffness:.3g}; SGD is stable only below 2"
        )


def _easiest(
    curvatures: Float[np.ndarray, " basis"],
    covariance: Float[np.ndarray, "basis basis"],
    matrix: Float[np.ndarray, "basis basis"],
    square: float,
    learning_rate: float,
) -> tuple[Float[np.ndarray, " basis"], Float[np.ndarray, " basis"]]:
    """Displacement at the most likely exit, and its momentum."""
    sums = curvatures[:, None] + curvatures - learning_rate * np.outer(curvatures, curvatures)
    values, vectors = np.linalg.eigh(covariance / sums)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    weights, axes = np.linalg.eigh(root.T @ matrix @ root)
    if not weights[-1] > 0:
        raise DegenerateNoise("there is no gradient noise, so SGD never leaves")
    whitened = axes[:, -1] * np.sqrt(square / weights[-1])
    inverse = vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    return root @ whitened, inverse @ whitened


def _scatter(values: Float[np.ndarray, " kept"], kept: np.ndarray) -> Float[np.ndarray, " basis"]:
    whole = np.zeros(len(kept))
    whole[kept] = values
    return whole


def _groups(
    model: LocalModel, found: MeanExitTime, learning_rate: float, *, shell_ratio: float
) -> Groups:
    steps = float(np.exp(min(found.log_mean, np.log(LONGEST))))
    spread, _ = model.noise_integral(lambda at: spread_after(at, steps, learning_rate))
    widest = np.diag(model.covariance) * spread_after(model.curvatures, steps, learning_rate)
    rates = learning_rate * model.curvatures_met
    slowest = rates[rates > 0].min() if np.any(rates > 0) else np.nan
    return Groups(
        barrier=found.barrier,
        signal_to_noise=found.signal_to_noise,
        stiffness=float(learning_rate * model.curvatures[0]),
        effective_dimension=float(spread / widest.max()),
        shell_ratio=float(shell_ratio),
        relaxation_steps=(float(1 / slowest), float(1 / rates.max())),
    )
