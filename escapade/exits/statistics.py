"""Statistics of exit times that are whole numbers of steps, some of them right-censored.

``times[i]`` is the step at which replica ``i`` left the region or, where ``censored[i]``, the last
step at which it was still inside. All times are in SGD steps and at least 1. Every function raises
InvalidArgument unless times are such whole numbers, one or more, with one bool for each.
"""

import warnings
from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import optimize, special, stats

from escapade.errors import InvalidArgument

Times = Int[np.ndarray, " replicas"]
Censored = Bool[np.ndarray, " replicas"]


class Estimate(eqx.Module):
    """A number, or an array of numbers, with its standard error."""

    value: float | Float[np.ndarray, "..."]
    standard_error: float | Float[np.ndarray, "..."]


class SurvivalCurve(eqx.Module):
    """The Kaplan-Meier estimate of S(t) = P(exit time > t), a step function of t in steps.

    ``survival[j]`` holds from ``steps[j]`` until ``steps[j + 1]``; the first entry is S(0) = 1.
    ``lower`` and ``upper`` are pointwise limits. ``at_risk[j]`` replicas entered step ``steps[j]``
    and ``exits[j]`` of them left in it.
    """

    steps: Int[np.ndarray, " points"]
    survival: Float[np.ndarray, " points"]
    lower: Float[np.ndarray, " points"]
    upper: Float[np.ndarray, " points"]
    at_risk: Int[np.ndarray, " points"]
    exits: Int[np.ndarray, " points"]

    def __call__(
        self, t: int | float | Real[np.ndarray, "..."]
    ) -> float | Float[np.ndarray, "..."]:
        """Survival at ``t`` steps; NaN after the last step observed if some replica outlived it."""
        t = np.asarray(t, dtype=float)
        index = np.maximum(np.searchsorted(self.steps, t, side="right") - 1, 0)
        unknown = np.isnan(t) | ((t > self.steps[-1]) & (self.survival[-1] > 0))
        survival = np.where(unknown, np.nan, self.survival[index])
        return survival if survival.ndim else float(survival)


class Hazard(eqx.Module):
    """A piecewise-constant hazard: the probability per step of leaving, given still inside.

    Bin ``j`` holds the steps ``edges[j] < t <= edges[j + 1]``; ``exposure`` counts the steps that
    replicas took in it. A bin in which no step was taken has rate NaN and limits 0 and 1.
    """

    edges: Int[np.ndarray, " edges"]
    rate: Float[np.ndarray, " edges-1"]
    lower: Float[np.ndarray, " edges-1"]
    upper: Float[np.ndarray, " edges-1"]
    exits: Int[np.ndarray, " edges-1"]
    exposure: Int[np.ndarray, " edges-1"]


class Exponentiality(eqx.Module):
    """The likelihood-ratio test of the exponential law; see :func:`exponentiality_test`."""

    shape: float
    shape_error: float
    statistic: float
    p_value: float
    exits: int

    def __repr__(self) -> str:
        if np.isnan(self.p_value):
            return f"exponential law untested: {self.exits} exit(s) carry no information on it"
        verdict = "no evidence against" if self.p_value >= 0.05 else "evidence against"
        p_value = f"= {self.p_value:.2g}" if self.p_value > 1e-16 else "< 1e-16"
        return (
            f"{verdict} the exponential law: p {p_value}, "
            f"Weibull shape {self.shape:.3g} ± {self.shape_error:.1g} (1 if exponential), "
            f"{self.exits} exits"
        )


def exponential_mean(times: Times, censored: Censored) -> float:
    """Mean exit time in steps: all steps taken over the number of exits.

    The sample mean when nothing is censored, whatever the law. With censoring it is the maximum
    likelihood estimate of the exponential (and, exactly, of the geometric) law, and rests on that
    law. Infinite without an exit. Epstein and Sobel, J. Am. Stat. Assoc. 48 (1953) 486.
    """
    times, censored = _checked(times, censored)
    exits = np.count_nonzero(~censored)
    return float(times.sum() / exits) if exits else np.inf


def mean_standard_error(times: Times, censored: Censored) -> float:
    """Standard error in steps of :func:`exponential_mean`.

    s / sqrt(replicas) when nothing is censored; mean / sqrt(exits), from the exponential law, with
    censoring or one replica; infinite without an exit.
    """
    times, censored = _checked(times, censored)
    if censored.any() or times.size == 1:
        exits = np.count_nonzero(~censored)
        return exponential_mean(times, censored) / np.sqrt(exits) if exits else np.inf
    return float(times.std(ddof=1) / np.sqrt(times.size))


def mean_interval(
    times: Times, censored: Censored, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval, in steps, of the mean exit time.

    Without censoring it assumes no law: mean * exp(+- q s / (mean sqrt(n))), the delta method for
    the logarithm, with q of Student's t; it is right for a sharp exit time (CV 0.1) as for an
    exponential one. It collapses to a point if all times are equal.

    With censoring it assumes the EXPONENTIAL law: the exits in the steps taken are a Poisson count,
    whose exact (chi-square) interval is inverted; as the number of steps taken is random too, the
    coverage is close to the confidence, not exact. For another law it can miss altogether. Without
    an exit it is the one-sided (lower, inf). One replica that exits has the exact interval of the
    exponential law, for lack of a sample spread.

    Raises:
        InvalidArgument: unless 0 < confidence < 1.
    """
    times, censored = _checked(times, censored)
    _check_confidence(confidence)
    exits, exposure = np.count_nonzero(~censored), float(times.sum())
    if censored.any():
        if exits == 0:
            return float(exposure / -np.log1p(-confidence)), np.inf
        low, high = _poisson_interval(exits, confidence)
        return float(exposure / high), float(exposure / low)
    mean, tail = times.mean(), (1 - confidence) / 2
    if exits == 1:
        return float(mean / stats.expon.isf(tail)), float(mean / stats.expon.ppf(tail))
    relative_error = mean_standard_error(times, censored) / mean
    factor = np.exp(stats.t.isf(tail, exits - 1) * relative_error)
    return float(mean / factor), float(mean * factor)


def kaplan_meier(times: Times, censored: Censored, confidence: float = 0.95) -> SurvivalCurve:
    """The survival curve, assuming no law (Kaplan and Meier, J. Am. Stat. Assoc. 53 (1958) 457).

    Pointwise limits come from Greenwood's variance on the scale log(-log S). Where that is
    undefined: before the first exit the lower limit is the exact binomial one, and once no replica
    is left the upper limit stays at its last value.

    Raises:
        InvalidArgument: unless 0 < confidence < 1.
    """
    times, censored = _checked(times, censored)
    _check_confidence(confidence)
    curve = stats.ecdf(stats.CensoredData(uncensored=times[~censored], right=times[censored])).sf
    steps = curve.quantiles.astype(np.int64)
    at_risk = times.size - np.searchsorted(np.sort(times), steps, side="left")
    exit_times = np.sort(times[~censored])
    exits = np.diff(np.searchsorted(exit_times, steps, side="right"), prepend=0)

    survival = curve.probabilities
    with warnings.catch_warnings():  # the limits are NaN where S is 0 or 1, and filled in below
        warnings.simplefilter("ignore", RuntimeWarning)
        band = curve.confidence_interval(confidence, method="log-log")
    lower, upper = band.low.probabilities, band.high.probabilities
    before, after = survival == 1, survival == 0
    lower[before], upper[before] = ((1 - confidence) / 2) ** (1 / at_risk[before]), 1.0
    lower[after], upper[after] = 0.0, 1.0 if after.all() else upper[~after][-1]
    return SurvivalCurve(
        steps=np.append(0, steps),
        survival=np.append(1.0, survival),
        lower=np.append(1.0, lower),
        upper=np.append(1.0, upper),
        at_risk=np.append(times.size, at_risk),
        exits=np.append(0, exits),
    )


def restricted_mean(times: Times, censored: Censored) -> Estimate:
    """Mean of min(exit time, last step observed), in steps, assuming no law.

    The area under the Kaplan-Meier curve, with Greenwood's variance times exits / (exits - 1) as
    Kaplan and Meier proposed; without censoring these are the sample mean and its usual standard
    error. A lower bound of the mean exit time if some replica outlived the last step. The standard
    error is NaN with fewer than two exits.
    """
    curve = kaplan_meier(times, censored)
    areas = np.append(np.diff(curve.steps) * curve.survival[:-1], 0.0)
    area_beyond = areas[::-1].cumsum()[::-1]
    remaining = curve.at_risk - curve.exits
    terms = area_beyond**2 * curve.exits / (curve.at_risk * np.maximum(remaining, 1))
    exits = curve.exits.sum()
    correction = exits / (exits - 1) if exits > 1 else np.nan
    return Estimate(float(areas.sum()), float(np.sqrt(correction * terms.sum())))


def hazard(
    times: Times,
    censored: Censored,
    bins: int | Real[np.ndarray, " edges"] | None = None,
    confidence: float = 0.95,
) -> Hazard:
    """Hazard per step, exits / exposure, in bins of time.

    ``bins`` is the number of bins, made to hold about equal numbers of exits, or their edges in
    steps (rounded down to whole steps, the first bin starting after the first edge); by default up
    to ten bins with at least ten exits each. As such bins end at an exit, their rates are too large
    by a factor of about 1 + 1 / exits. The limits are the exact Poisson ones, capped at 1; they are
    conservative where the hazard is not small.

    Raises:
        InvalidArgument: for ``bins`` without a bin, or unless 0 < confidence < 1.
    """
    times, censored = _checked(times, censored)
    _check_confidence(confidence)
    exit_times = np.sort(times[~censored])
    if bins is None:
        bins = min(10, max(1, exit_times.size // 10))
    if np.ndim(bins) == 0:
        edges = _equal_count_edges(exit_times, int(times.max()), int(bins))
    else:
        edges = np.unique(np.floor(bins).astype(np.int64))
        if edges.size < 2 or edges[0] < 0:
            raise InvalidArgument(
                f"bins = {bins!r} are not edges of at least one bin of whole steps; give "
                "increasing edges, the first at least 0, that differ by one step or more"
            )
    exits = np.diff(np.searchsorted(exit_times, edges, side="right"))
    exposure = np.diff([np.minimum(times, edge).sum() for edge in edges])
    low, high = _poisson_interval(exits, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate, lower, upper = exits / exposure, low / exposure, high / exposure
    return Hazard(
        edges=edges,
        rate=rate,
        lower=np.where(exposure > 0, lower, 0.0),
        upper=np.where(exposure > 0, np.minimum(upper, 1.0), 1.0),
        exits=exits,
        exposure=exposure,
    )


def coefficient_of_variation(times: Times, censored: Censored) -> Estimate:
    """Standard deviation over mean of the exit time: 1 for an exponential law.

    Without censoring from the sample moments, with the asymptotic (delta-method) standard error,
    which assumes no law. With censoring from the shape k of a Weibull law fitted by maximum
    likelihood, CV^2 = Gamma(1 + 2/k) / Gamma(1 + 1/k)^2 - 1, with the asymptotic standard error of
    that fit; it then rests on the Weibull law. NaN with fewer than two exits.

    A geometric law of mean m steps has CV sqrt(1 - 1/m) in the sample and 1 in the Weibull fit.
    """
    times, censored = _checked(times, censored)
    if np.count_nonzero(~censored) < 2:
        return Estimate(np.nan, np.nan)
    if not censored.any():
        mean, deviation = times.mean(), times.std(ddof=1)
        if deviation == 0:
            return Estimate(0.0, 0.0)
        z = (times - mean) / deviation
        influence = (z**2 - 1) / 2 - z * deviation / mean
        value = deviation / mean
        return Estimate(float(value), float(value * influence.std() / np.sqrt(times.size)))
    fit = exponentiality_test(times, censored)
    x = 1 / fit.shape
    with np.errstate(all="ignore"):  # degenerate fits: the shape may be extreme, its error infinite
        squared = np.expm1(special.gammaln(1 + 2 * x) - 2 * special.gammaln(1 + x))
        value = np.sqrt(np.maximum(squared, 0.0))
        # d(value^2) / d(shape) is -2 slope, hence d(value) / d(shape) is -slope / value.
        slope = x**2 * (squared + 1) * (special.digamma(1 + 2 * x) - special.digamma(1 + x))
        return Estimate(float(value), float(slope / value * fit.shape_error))


def exponentiality_test(times: Times, censored: Censored) -> Exponentiality:
    """Test the exponential law against Weibull laws, S(t) = exp(-(t / scale)^shape).

    A replica that exits in step t contributes S(t - 1) - S(t) and a censored one S(t), so at shape
    1 the null hypothesis is exactly the geometric law of discrete steps. Twice the log-likelihood
    ratio is compared with chi-square of one degree of freedom (Wilks), which is asymptotic: with
    fewer than about ten exits the p-value is only indicative. A shape above 1 means exit times
    sharper than exponential (CV < 1, hazard growing), below 1 broader. If the likelihood has no
    maximum, as when all replicas exit in the same step, the shape is some extreme number and its
    error infinite or huge.

    All NaN with fewer than two exits or if no replica got past the first step.
    """
    times, censored = _checked(times, censored)
    exits, exposure = np.count_nonzero(~censored), times.sum()
    if exits < 2 or times.max() == 1:
        return Exponentiality(np.nan, np.nan, np.nan, np.nan, int(exits))
    null = special.xlogy(exits, exits / exposure)
    null += special.xlog1py(exposure - exits, -exits / exposure)
    shape, shape_error, maximum = _weibull_fit(times, censored)
    statistic = max(0.0, float(2 * (maximum - null)))
    return Exponentiality(
        shape, shape_error, statistic, float(stats.chi2.sf(statistic, 1)), int(exits)
    )


def _weibull_fit(times: Times, censored: Censored) -> tuple[float, float, float]:
    """Shape, its standard error and the maximum of the interval-censored Weibull likelihood."""
    steps, counts = np.unique(times[~censored], return_counts=True)
    last_steps, last_counts = np.unique(times[censored], return_counts=True)
    exits = counts.sum()
    with np.errstate(divide="ignore"):
        log_ratio = np.log1p(-1.0 / steps)  # log((t - 1) / t), minus infinity at the first step

    def log_likelihood(point: Float[np.ndarray, "2"]) -> float:
        # Cumulative hazard at t is exp(log_level) (t / scale)^shape. Its growth in step t is found
        # without the cancellation that would spoil long exit times.
        log_shape, log_level = point
        shape = np.exp(log_shape)
        with np.errstate(all="ignore"):
            reached = np.exp(log_level + shape * np.log(steps / scale))
            growth = -reached * np.expm1(shape * log_ratio)
            survived = np.exp(log_level + shape * np.log(last_steps / scale))
            value = counts @ (np.log(-np.expm1(-growth)) - (reached - growth))
            value -= last_counts @ survived
        return float(value) if np.isfinite(value) else -np.inf

    # Start: the shape from the spread of log(exit time), the sd of which is pi / sqrt(6) / shape
    # uncensored; one step's rounding keeps it finite. The scale then follows in closed form.
    mean = counts @ steps / exits
    spread = counts @ (np.log(steps) - counts @ np.log(steps) / exits) ** 2 / exits
    shape = np.pi / np.sqrt(6 * (spread + 1 / (12 * mean**2)))
    longest = times.max()
    scale = longest * (np.sum((times / longest) ** shape) / exits) ** (1 / shape)

    start, width = np.array([np.log(shape), 0.0]), 1 / np.sqrt(exits)
    found = optimize.minimize(
        lambda point: -log_likelihood(point),
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": start + width * np.array([[0, 0], [1, 0], [0, 1]]),
            "xatol": 1e-4 * width,
            "fatol": 1e-8,
        },
    )
    shape = float(np.exp(found.x[0]))
    shape_error = shape * _first_standard_error(log_likelihood, found.x, 0.01 * width)
    return shape, shape_error, float(-found.fun)


def _first_standard_error(
    log_likelihood: Callable[[Float[np.ndarray, " dim"]], float],
    point: Float[np.ndarray, " dim"],
    step: float,
) -> float:
    """Standard error of the first parameter from the observed information, by differences."""
    shifts = step * np.eye(point.size)
    information = np.array(
        [
            [
                log_likelihood(point + a - b)
                + log_likelihood(point - a + b)
                - log_likelihood(point + a + b)
                - log_likelihood(point - a - b)
                for a in shifts
            ]
            for b in shifts
        ]
    ) / (4 * step**2)
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information)[0] <= 0:
        return np.inf
    return float(np.sqrt(np.linalg.inv(information)[0, 0]))


def _poisson_interval(
    count: np.integer | Int[np.ndarray, "..."], confidence: float
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Exact interval of a Poisson mean given one count (Garwood, Biometrika 28 (1936) 437)."""
    tail = (1 - confidence) / 2
    low = np.where(np.equal(count, 0), 0.0, stats.gamma.ppf(tail, np.maximum(count, 1)))
    return low, np.asarray(stats.gamma.isf(tail, np.add(count, 1)))


def _equal_count_edges(
    exit_times: Int[np.ndarray, " exits"], last: int, bins: int
) -> Int[np.ndarray, " edges"]:
    """Edges from 0 to ``last`` that part the sorted ``exit_times`` into about equal numbers."""
    if bins < 1:
        raise InvalidArgument(f"bins = {bins} must be at least 1; leave it out for a default")
    ends = np.arange(1, bins) * exit_times.size // bins - 1  # places in the order of the exits
    return np.unique(np.concatenate([[0], exit_times[ends[ends >= 0]], [last]]))


def _checked(times: Times, censored: Censored) -> tuple[Times, Censored]:
    times, censored = np.asarray(times), np.asarray(censored)
    if times.ndim != 1 or times.size == 0:
        raise InvalidArgument(
            f"times has shape {times.shape}; give one exit time for each of one or more replicas"
        )
    if censored.shape != times.shape or censored.dtype != np.bool_:
        raise InvalidArgument(
            f"censored has shape {censored.shape} and dtype {censored.dtype}; give one bool for "
            f"each of the {times.size} times"
        )
    if not np.issubdtype(times.dtype, np.integer) or times.min() < 1:
        raise InvalidArgument(
            f"times has dtype {times.dtype} and minimum {times.min()}; give whole steps, at least 1"
        )
    return times.astype(np.int64), censored


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InvalidArgument(f"confidence = {confidence} must lie between 0 and 1, such as 0.95")
