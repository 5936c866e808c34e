"""Slopes of log mean exit times are unbiased, and their intervals cover."""

import numpy as np
import pytest
from scipy import stats

from escapade.errors import InvalidArgument
from escapade.exits import ExitSample
from escapade.exits.regression import log_mean_regression, log_slope

LOG_MEANS = np.log([100.0, 300.0, 1000.0, 3000.0, 10000.0])


def sample_of(times, max_steps=10**9):
    """An ensemble from uncapped exit times."""
    times = np.asarray(times)
    censored = times > max_steps
    return ExitSample(
        times=np.minimum(times, max_steps),
        censored=censored,
        diverged=np.zeros(times.size, bool),
        exit_points=np.zeros((times.size, 1)),
        start=np.zeros(1),
        max_steps=max_steps,
        seconds=0.0,
        precision="float32",
        engine="synthetic",
        key="0",
    )


def geometric(random, log_means, replicas, cap=np.inf):
    """Ensembles of geometric exit times, censored at a multiple of the mean."""
    means = np.exp(log_means)
    return [
        sample_of(random.geometric(1 / mean, replicas), int(min(cap * mean, 1e9))) for mean in means
    ]


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.6, 2.0)])
def test_a_known_line_is_found(slope, shift):
    samples = geometric(np.random.default_rng(1), LOG_MEANS, 4000)
    x = (LOG_MEANS - shift) / slope
    fit = log_mean_regression(samples, x)
    # Standard error of the slope by hand: every log mean has the error 4000^(-1/2).
    error = 4000**-0.5 / np.sqrt(np.sum((x - x.mean()) ** 2))
    assert abs(fit.slope - slope) < 3 * error
    low, high = fit.slope_interval
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert fit.intercept_interval[0] < shift < fit.intercept_interval[1]
    assert fit.errors == pytest.approx(4000**-0.5, rel=0.1)
    assert fit.log_means == pytest.approx(LOG_MEANS, abs=5 * 4000**-0.5)
    right = fit.chi_square_of(slope, shift)
    assert right.degrees == 5
    assert right.p_value > 0.01
    assert fit.chi_square_of(slope, shift + 0.1).p_value < 1e-6
    assert f"{fit.slope:.4g}" in str(fit)


def test_the_line_is_that_of_weighted_least_squares():
    random = np.random.default_rng(2)
    samples = [
        *geometric(random, LOG_MEANS[:2], 200),
        *geometric(random, LOG_MEANS[2:], 3000),
    ]
    fit = log_slope(samples, LOG_MEANS)
    slope, intercept = np.polyfit(LOG_MEANS, fit.log_means, 1, w=1 / fit.errors)
    assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept))
    expected = (fit.log_means - slope * LOG_MEANS - intercept) / fit.errors
    assert fit.residuals == pytest.approx(expected)
    assert fit.chi_square.value == pytest.approx(expected @ expected)
    assert fit.chi_square.p_value == pytest.approx(stats.chi2.sf(expected @ expected, 3))


def test_chi_square_finds_a_bend():
    bent = LOG_MEANS + 0.05 * (LOG_MEANS - LOG_MEANS.mean()) ** 2
    fit = log_slope(geometric(np.random.default_rng(3), bent, 4000), LOG_MEANS)
    assert fit.chi_square.p_value < 1e-4


@pytest.mark.parametrize("cap", [np.inf, 0.7])
def test_intervals_cover_at_their_confidence(cap):
    """400 repetitions; without censoring and with half of the replicas censored."""
    random = np.random.default_rng(4)
    repetitions = 400
    hits = np.zeros(2)
    deviations = []
    for repetition in range(repetitions):
        samples = geometric(random, LOG_MEANS, 200, cap)
        fit = log_mean_regression(samples, LOG_MEANS, bootstrap=400, key=repetition)
        deviations.append(fit.chi_square_of().value)
        for index, (truth, (low, high)) in enumerate(
            ((1, fit.slope_interval), (0, fit.intercept_interval))
        ):
            hits[index] += low <= truth <= high
    assert 0.92 <= hits[0] / repetitions <= 0.98
    assert 0.92 <= hits[1] / repetitions <= 0.98
    # Chi-square of the true line: 5 on average, 0.16 its standard error.
    assert np.mean(deviations) == pytest.approx(5, abs=4 * np.sqrt(10 / repetitions))


def test_regular_exits_weigh_by_their_own_spread():
    """Times sharper than exponential know their mean better than 1 / exits says."""
    random = np.random.default_rng(5)
    sharp = [
        sample_of(np.maximum(1, random.normal(m, 0.1 * m, 400).astype(int))) for m in (100, 400)
    ]
    fit = log_slope(sharp, [0.0, 1.0])
    assert fit.errors == pytest.approx(0.1 * 400**-0.5, rel=0.15)
    low, high = fit.slope_interval
    assert high - low == pytest.approx(2 * 1.96 * np.hypot(*fit.errors), rel=0.15)


def test_censored_replicas_are_resampled_with_their_times():
    samples = geometric(np.random.default_rng(6), LOG_MEANS[:3], 2000, cap=0.2)
    fit = log_mean_regression(samples, LOG_MEANS[:3])
    exits = np.array([sample.exits for sample in samples])
    assert exits.max() < 0.25 * 2000
    assert fit.errors == pytest.approx(exits**-0.5)
    x = LOG_MEANS[:3] - LOG_MEANS[:3].mean()
    error = np.mean(exits) ** -0.5 / np.sqrt(x @ x)
    assert np.diff(fit.slope_interval)[0] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert abs(fit.slope - 1) < 3 * error


def test_the_same_key_gives_the_same_intervals():
    samples = geometric(np.random.default_rng(7), LOG_MEANS[:2], 300)
    fits = [log_slope(samples, [0, 1], key=key, bootstrap=200) for key in (0, 0, 1)]
    assert fits[0].slope_interval == fits[1].slope_interval != fits[2].slope_interval
    assert fits[0].slope == fits[2].slope
    # Two points leave nothing to test a line with.
    assert fits[0].chi_square.degrees == 0
    assert np.isnan(fits[0].chi_square.p_value)


def test_rare_exits_survive_resampling():
    """With three exits of a thousand, one resample in twenty has none."""
    times = np.full(1000, 500)
    times[:3] = (100, 200, 300)
    rare = sample_of(times, 499)
    assert rare.exits == 3
    fit = log_slope([rare, rare], [0.0, 1.0])
    assert np.isfinite([*fit.slope_interval, *fit.intercept_interval]).all()


@pytest.mark.parametrize(
    ("count", "x", "options", "message"),
    [
        (1, [1.0], {}, "at least two"),
        (3, [1.0, 2.0], {}, r"shape \(2,\) but there are 3"),
        (2, [1.0, 1.0], {}, "not all equal"),
        (2, [1.0, np.nan], {}, "finite"),
        (2, [1.0, 2.0], {"confidence": 1.0}, "between 0 and 1"),
        (2, [1.0, 2.0], {"bootstrap": 5}, "at least 100"),
    ],
)
def test_arguments_are_checked(count, x, options, message):
    samples = geometric(np.random.default_rng(8), LOG_MEANS[:count], 50)
    with pytest.raises(InvalidArgument, match=message):
        log_slope(samples, x, **options)


def test_ensembles_that_say_nothing_are_named():
    good = geometric(np.random.default_rng(9), LOG_MEANS[:1], 50)[0]
    none = sample_of(np.full(10, 200), max_steps=100)
    with pytest.raises(InvalidArgument, match=r"samples\[1\] has no exit among 10"):
        log_mean_regression([good, none], [1.0, 2.0])
    with pytest.raises(InvalidArgument, match=r"samples\[0\].*without any spread"):
        log_mean_regression([sample_of(np.full(10, 7)), good], [1.0, 2.0])
    lost = ExitSample(
        times=np.ones(3, int),
        censored=np.zeros(3, bool),
        diverged=np.ones(3, bool),
        exit_points=np.zeros((3, 1)),
        start=np.zeros(1),
        max_steps=10,
        seconds=0.0,
        precision="float32",
        engine="synthetic",
        key="0",
    )
    with pytest.raises(InvalidArgument, match=r"samples\[1\] has no exit"):
        log_mean_regression([good, lost], [1.0, 2.0])
