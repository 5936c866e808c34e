"""Slopes of the log mean exit time: against a prediction of it, or against any other variable.

Exit times are regressed on the full prediction, exponent and prefactor together: a slope of 1 and
an intercept of 0 mean that it is right. A correlation coefficient would be near 1 for almost any
law that grows.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float, Real
from scipy import stats

from escapade.errors import InvalidArgument
from escapade.exits.rare.rare_exit import RareExit
from escapade.exits.sample import ExitSample

Measured = ExitSample | RareExit
"""A mean exit time with its error: of replicas, or of a splitting."""

_CHUNK = 2**22
"""Replicas resampled at a time."""


class ChiSquare(eqx.Module):
    """How well a line fits.

    Attributes:
        value: sum of the squared residuals in standard errors.
        degrees: degrees of freedom.
        p_value: probability of a larger value if the line is true; NaN without a degree of freedom.
    """

    value: float
    degrees: int
    p_value: float


class Regression(eqx.Module):
    """A line through the logarithms of mean exit times.

    Attributes:
        x: abscissas: logarithms of predictions, or the variable given.
        log_means: logarithms of the measured mean exit times in steps.
        errors: their standard errors; the weights are ``1 / errors^2``.
        slope: slope of the weighted least-squares line.
        slope_interval: its bootstrap interval.
        intercept: value of the line at x = 0.
        intercept_interval: its bootstrap interval.
        confidence: of each interval.
    """

    x: Float[np.ndarray, " points"]
    log_means: Float[np.ndarray, " points"]
    errors: Float[np.ndarray, " points"]
    slope: float
    slope_interval: tuple[float, float]
    intercept: float
    intercept_interval: tuple[float, float]
    confidence: float

    @property
    def residuals(self) -> Float[np.ndarray, " points"]:
        """Measured minus fitted, in standard errors."""
        return self._residuals(self.slope, self.intercept)

    @property
    def chi_square(self) -> ChiSquare:
        """Whether a line describes the points at all: residuals from the fitted one."""
        return _chi_square(self.residuals, self.x.size - 2)

    def chi_square_of(self, slope: float = 1.0, intercept: float = 0.0) -> ChiSquare:
        """Residuals from a line that was not fitted: from the prediction itself, unless given."""
        return _chi_square(self._residuals(slope, intercept), self.x.size)

    def _residuals(self, slope: float, intercept: float) -> Float[np.ndarray, " points"]:
        return (self.log_means - intercept - slope * self.x) / self.errors

    def __str__(self) -> str:
        fit = self.chi_square
        return (
            f"slope {_with_interval(self.slope, self.slope_interval)}, intercept "
            f"{_with_interval(self.intercept, self.intercept_interval)} "
            f"({100 * self.confidence:g} %, {self.x.size} ensembles); chi-square {fit.value:.3g} "
            f"with {fit.degrees} degrees of freedom, p = {fit.p_value:.2g}"
        )


def log_mean_regression(
    samples: Sequence[Measured],
    log_predictions: Real[np.ndarray, " points"],
    *,
    bootstrap: int = 2000,
    key: int = 0,
    confidence: float = 0.95,
) -> Regression:
    """Regress measured on predicted log mean exit times.

    Args:
        samples: one ensemble, or one rare exit, for each prediction.
        log_predictions: natural logarithms of the predicted means in steps
            (``predict(escape).log_mean``), shape (points,).
        bootstrap: as in `log_slope`.
        key: as in `log_slope`.
        confidence: as in `log_slope`.

    Raises:
        InvalidArgument: as `log_slope` does.
    """
    return log_slope(samples, log_predictions, bootstrap=bootstrap, key=key, confidence=confidence)


def log_slope(
    samples: Sequence[Measured],
    x: Real[np.ndarray, " points"],
    *,
    bootstrap: int = 2000,
    key: int = 0,
    confidence: float = 0.95,
) -> Regression:
    """Slope of the log mean exit time against a variable such as 1 / eta, B or a barrier.

    Weighted least squares. The standard error of a log mean is the sample's own,
    ``standard_error / mean``: it assumes no law where no replica is censored, and is
    ``exits^(-1/2)``, from the exponential law, where some are. In exponential ensembles it is
    independent of the mean (their coefficient of variation is ancillary), so the weights do not
    bias the line.

    Intervals come from resampling replicas within each ensemble, a replica's time and its
    censoring together, and are pivotal (Davison and Hinkley, Bootstrap Methods, 1997, eq. 5.6),
    which suits logarithms of exponential means: their errors do not depend on the mean. Weights
    are kept. Resamples in which some ensemble has no exit are left out. A rare exit is few runs, so
    its log mean is drawn from Student's law of its own interval.

    Args:
        samples: one ensemble, or one rare exit, for each value of x.
        x: the variable, shape (points,).
        bootstrap: number of resamples.
        key: seed of the resampling; the same key gives the same intervals.
        confidence: of each interval.

    Raises:
        InvalidArgument: with fewer than two points, when shapes do not match, x does not vary or
            is not finite, an ensemble has no exit or no spread, or a number is out of range.
    """
    x = _checked(samples, x)
    if not 0 < confidence < 1:
        raise InvalidArgument(f"confidence = {confidence} must lie between 0 and 1, such as 0.95")
    if bootstrap < 100:
        raise InvalidArgument(f"bootstrap is {bootstrap}; give at least 100 resamples")
    log_means = np.array([log_mean(sample) for sample in samples])
    errors = np.array([relative_error(sample) for sample in samples])
    if not (errors > 0).all():
        which = int(np.argmin(errors > 0))
        raise InvalidArgument(
            f"samples[{which}] is without any spread, so its mean has no error; leave it out"
        )
    slope, intercept = weighted_line(x, log_means, errors)
    seeds = np.random.SeedSequence(key).spawn(len(samples))
    resampled = np.stack(
        [
            resampled_log_means(sample, bootstrap, seed)
            for sample, seed in zip(samples, seeds, strict=True)
        ],
        axis=-1,
    )
    slopes, intercepts = weighted_line(x, resampled[np.isfinite(resampled).all(axis=-1)], errors)
    return Regression(
        x=x,
        log_means=log_means,
        errors=errors,
        slope=float(slope),
        slope_interval=pivotal_interval(float(slope), slopes, confidence),
        intercept=float(intercept),
        intercept_interval=pivotal_interval(float(intercept), intercepts, confidence),
        confidence=confidence,
    )


def _checked(
    samples: Sequence[Measured], x: Real[np.ndarray, " points"]
) -> Float[np.ndarray, " points"]:
    abscissas = np.asarray(x, dtype=np.float64)
    if abscissas.shape != (len(samples),):
        raise InvalidArgument(
            f"x has shape {abscissas.shape} but there are {len(samples)} samples; give one number "
            "for each sample"
        )
    if len(samples) < 2:
        raise InvalidArgument(f"samples holds {len(samples)}; a line needs at least two")
    if not np.isfinite(abscissas).all() or np.ptp(abscissas) == 0:
        raise InvalidArgument(f"x is {abscissas}; give finite numbers that are not all equal")
    for index, sample in enumerate(samples):
        if isinstance(sample, ExitSample) and sample.exits == 0:
            raise InvalidArgument(
                f"samples[{index}] has no exit among {sample.replicas} replicas; raise max_steps, "
                "or leave it out"
            )
    return abscissas


def weighted_line(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, "*resamples points"],
    errors: Float[np.ndarray, " points"],
) -> tuple[Float[np.ndarray, "*resamples"], Float[np.ndarray, "*resamples"]]:
    """Slope and intercept of weighted least squares."""
    weights = errors**-2 / np.sum(errors**-2)
    centered = x - weights @ x
    slope = y @ (weights * centered) / (weights @ centered**2)
    return slope, y @ weights - slope * (weights @ x)


def log_mean(sample: Measured) -> float:
    """Natural logarithm of the mean exit time in steps."""
    return sample.log_mean if isinstance(sample, RareExit) else float(np.log(sample.mean))


def relative_error(sample: Measured) -> float:
    """Standard error of the logarithm of the mean exit time."""
    if isinstance(sample, RareExit):
        return sample.relative_error
    return sample.standard_error / sample.mean


def resampled_log_means(
    sample: Measured, bootstrap: int, seed: np.random.SeedSequence
) -> Float[np.ndarray, " bootstrap"]:
    """Logarithms of the mean exit time in resamples; infinite in one without an exit.

    Of total time over exits, with replicas drawn anew; of a rare exit, from Student's law.
    """
    random = np.random.default_rng(seed)
    if isinstance(sample, RareExit):
        errors = random.standard_t(len(sample.rates) - 1, bootstrap)
        return sample.log_mean + sample.relative_error * errors
    kept = ~sample.diverged
    times, exited = sample.times[kept].astype(np.float64), ~sample.censored[kept]
    rows = max(1, _CHUNK // times.size)
    log_means = np.empty(bootstrap)
    for start in range(0, bootstrap, rows):
        size = min(rows, bootstrap - start)
        drawn = random.integers(times.size, size=(size, times.size))
        with np.errstate(divide="ignore"):
            ratio = times[drawn].sum(axis=1) / exited[drawn].sum(axis=1)
        log_means[start : start + size] = np.log(ratio)
    return log_means


def pivotal_interval(
    estimate: float, resampled: Float[np.ndarray, " resamples"], confidence: float
) -> tuple[float, float]:
    """Pivotal bootstrap interval of an estimate (Davison and Hinkley 1997, eq. 5.6)."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(2 * estimate - high), float(2 * estimate - low)


def _chi_square(residuals: Float[np.ndarray, " points"], degrees: int) -> ChiSquare:
    value = float(residuals @ residuals)
    p_value = float(stats.chi2.sf(value, degrees)) if degrees else float("nan")
    return ChiSquare(value, degrees, p_value)


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"
