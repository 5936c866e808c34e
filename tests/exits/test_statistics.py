"""Exit-time statistics against analytic values, hand computations, SciPy fits and repetition."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from escapade.errors import InvalidArgument
from escapade.exits import statistics


def uncensored(times):
    times = np.asarray(times)
    return times, np.zeros(times.size, dtype=bool)


def censored_at(times, last):
    return np.minimum(times, last), times > last


def geometric(rng, mean, size):
    return rng.geometric(1 / mean, size)


def sharp(rng, mean, size):
    """Whole steps of a Gamma law with coefficient of variation 0.1, on average ``mean``."""
    return np.rint(rng.gamma(100, mean / 100, size)).astype(int)


def assert_frequency(hits, probability, standard_errors=4.0):
    """The frequency of ``hits`` is that of a binomial with ``probability``."""
    error = np.sqrt(probability * (1 - probability) / len(hits))
    assert abs(np.mean(hits) - probability) < standard_errors * error


# The example of the Kaplan-Meier tests: exits at 3, 5, 5, 8; inside after 5, 6, 9.
# At risk 7, 6, 2 at the exits; S = 6/7, 6/7 * 4/6 = 4/7, 4/7 * 1/2 = 2/7.
TIMES = np.array([5, 9, 3, 8, 5, 6, 5])
CENSORED = np.array([False, True, False, False, True, True, False])


# ---- mean -------------------------------------------------------------------------------------


def test_mean_is_the_sample_mean_without_censoring():
    assert statistics.exponential_mean(*uncensored([3, 4, 8])) == 5.0


def test_mean_agrees_with_the_exponential_fit_of_scipy_under_censoring():
    times, censored = censored_at(geometric(np.random.default_rng(0), 300, 500), 400)
    data = stats.CensoredData(uncensored=times[~censored], right=times[censored])
    _, scale = stats.expon.fit(data, floc=0)
    assert statistics.exponential_mean(times, censored) == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("last", [30, 300])
def test_mean_is_unbiased_under_heavy_censoring(last):
    # Censoring at 30 steps hides 90 % of the exits of a law of mean 300.
    rng = np.random.default_rng(1)
    means = np.array(
        [
            statistics.exponential_mean(*censored_at(geometric(rng, 300, 2000), last))
            for _ in range(400)
        ]
    )
    # A ratio: the bias of order mean / exits (here at most 0.5 %) is part of the tolerance.
    exits = 2000 * (1 - (1 - 1 / 300) ** last)
    error = means.std() / np.sqrt(means.size)
    assert abs(means.mean() - 300) < 4 * error + 300 / exits


def test_mean_and_its_error_are_infinite_without_an_exit():
    times, censored = np.array([10, 10]), np.array([True, True])
    assert statistics.exponential_mean(times, censored) == np.inf
    assert statistics.mean_standard_error(times, censored) == np.inf


def test_standard_error_of_the_mean():
    times = np.array([3, 4, 8])
    assert statistics.mean_standard_error(*uncensored(times)) == pytest.approx(stats.sem(times))
    rng = np.random.default_rng(2)
    samples = [censored_at(geometric(rng, 300, 1000), 300) for _ in range(400)]
    means = [statistics.exponential_mean(*sample) for sample in samples]
    claimed = np.mean([statistics.mean_standard_error(*sample) for sample in samples])
    # The relative standard error of a standard deviation of 400 values is 1 / sqrt(800).
    assert np.std(means) == pytest.approx(claimed, rel=4 / np.sqrt(800))


@pytest.mark.parametrize("law", [geometric, sharp])
@pytest.mark.parametrize("mean", [20, 300])
def test_interval_without_censoring_covers_for_a_sharp_and_an_exponential_law(law, mean):
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(1000):
        lower, upper = statistics.mean_interval(*uncensored(law(rng, mean, 100)))
        hits.append(lower <= mean <= upper)
    assert_frequency(hits, 0.95)


@pytest.mark.parametrize("last", [150, 600])
def test_interval_with_censoring_covers_for_the_geometric_law(last):
    rng = np.random.default_rng(4)
    hits = []
    for _ in range(1000):
        sample = censored_at(geometric(rng, 300, 200), last)
        lower, upper = statistics.mean_interval(*sample, confidence=0.9)
        hits.append(lower <= 300 <= upper)
    assert_frequency(hits, 0.9)


def test_interval_with_censoring_is_that_of_a_poisson_count():
    lower, upper = statistics.mean_interval(TIMES, CENSORED)
    exposure, exits = TIMES.sum(), 4
    assert stats.poisson.sf(exits - 1, exposure / upper) == pytest.approx(0.025)
    assert stats.poisson.cdf(exits, exposure / lower) == pytest.approx(0.025)


def test_interval_without_an_exit_bounds_from_below():
    lower, upper = statistics.mean_interval(np.array([60, 40]), np.array([True, True]))
    assert np.exp(-100 / lower) == pytest.approx(0.05)
    assert upper == np.inf


def test_interval_of_one_replica_covers():
    rng = np.random.default_rng(5)
    intervals = [statistics.mean_interval(*uncensored(geometric(rng, 300, 1))) for _ in range(1000)]
    assert_frequency([lower <= 300 <= upper for lower, upper in intervals], 0.95)


# ---- survival ---------------------------------------------------------------------------------


def test_kaplan_meier_by_hand():
    curve = statistics.kaplan_meier(TIMES, CENSORED)
    np.testing.assert_array_equal(curve.steps, [0, 3, 5, 6, 8, 9])
    np.testing.assert_array_equal(curve.at_risk, [7, 7, 6, 3, 2, 1])
    np.testing.assert_array_equal(curve.exits, [0, 1, 2, 0, 1, 0])
    expected = [1, 6 / 7, 4 / 7, 4 / 7, 2 / 7, 2 / 7]
    np.testing.assert_allclose(curve.survival, expected, rtol=1e-12)
    # Greenwood at step 5: sum of d / (n (n - d)) = 1/42 + 2/24, on the scale log(-log S).
    log_survival = np.log(4 / 7)
    spread = stats.norm.isf(0.025) * np.sqrt(1 / 42 + 2 / 24) / abs(log_survival)
    assert curve.lower[2] == pytest.approx(np.exp(log_survival * np.exp(spread)))
    assert curve.upper[2] == pytest.approx(np.exp(log_survival * np.exp(-spread)))


def test_survival_is_a_right_continuous_step_function():
    curve = statistics.kaplan_meier(TIMES, CENSORED)
    values = curve(np.array([-1, 0, 2.9, 3, 4, 9]))
    np.testing.assert_allclose(values, [1, 1, 1, 6 / 7, 6 / 7, 2 / 7])
    assert isinstance(curve(3), float)
    assert np.isnan(curve(10))  # a replica outlived step 9, so nothing is known beyond it
    assert statistics.kaplan_meier(*uncensored([3, 5]))(10) == 0.0


def test_survival_limits_cover_under_censoring_at_random():
    rng = np.random.default_rng(6)
    t = np.array([5, 20, 40])
    truth = (1 - 1 / 20) ** t
    hits = []
    for _ in range(600):
        times, last = geometric(rng, 20, 200), geometric(rng, 60, 200)
        curve = statistics.kaplan_meier(np.minimum(times, last), times > last)
        at = np.searchsorted(curve.steps, t, side="right") - 1
        hits.append((curve.lower[at] <= truth) & (truth <= curve.upper[at]))
    for column in np.transpose(hits):
        assert_frequency(column, 0.95)


def test_survival_limits_where_greenwood_is_undefined():
    nothing = statistics.kaplan_meier(np.array([4, 4, 4]), np.array([True, True, True]))
    np.testing.assert_allclose(nothing.survival, 1)
    assert nothing.lower[-1] ** 3 == pytest.approx(0.025)  # no exit among three: binomial
    everything = statistics.kaplan_meier(*uncensored([4, 7]))
    assert everything.lower[-1] == 0
    assert everything.upper[-1] == everything.upper[-2] < 1
    single = statistics.kaplan_meier(*uncensored([4]))
    np.testing.assert_array_equal(single.survival, [1, 0])
    np.testing.assert_array_equal(single.upper, [1, 1])


def test_restricted_mean_by_hand():
    estimate = statistics.restricted_mean(TIMES, CENSORED)
    areas = np.array([3, 2 * 6 / 7, 3 * 4 / 7, 2 / 7])  # of the pieces from 0, 3, 5, 8
    assert estimate.value == pytest.approx(areas.sum())
    beyond = np.array([areas[1:].sum(), areas[2:].sum(), areas[3]])
    variance = beyond**2 @ np.array([1 / 42, 2 / 24, 1 / 2]) * 4 / 3
    assert estimate.standard_error == pytest.approx(np.sqrt(variance))


def test_restricted_mean_is_the_sample_mean_without_censoring():
    times = geometric(np.random.default_rng(7), 20, 300)
    estimate = statistics.restricted_mean(*uncensored(times))
    assert estimate.value == pytest.approx(times.mean())
    assert estimate.standard_error == pytest.approx(stats.sem(times))


def test_restricted_mean_without_an_exit():
    estimate = statistics.restricted_mean(np.array([9, 9]), np.array([True, True]))
    assert estimate.value == 9
    assert np.isnan(estimate.standard_error)


# ---- hazard -----------------------------------------------------------------------------------


def test_hazard_by_hand():
    found = statistics.hazard(TIMES, CENSORED, bins=np.array([0, 4, 6.5, 9, 20]))
    np.testing.assert_array_equal(found.edges, [0, 4, 6, 9, 20])
    np.testing.assert_array_equal(found.exits, [1, 2, 1, 0])
    # Steps taken after 4 and up to 6: three replicas stop at 5 and three go on, 3 + 2 * 3.
    np.testing.assert_array_equal(found.exposure, [3 + 6 * 4, 3 + 2 * 3, 2 + 3, 0])
    np.testing.assert_allclose(found.rate[:3], [1 / 27, 2 / 9, 1 / 5])
    assert np.isnan(found.rate[3])
    assert (found.lower[3], found.upper[3]) == (0, 1)
    assert stats.poisson.sf(0, 27 * found.lower[0]) == pytest.approx(0.025)
    assert stats.poisson.cdf(1, 27 * found.upper[0]) == pytest.approx(0.025)


def test_hazard_of_a_geometric_law_is_constant():
    rng = np.random.default_rng(8)
    times, censored = censored_at(geometric(rng, 20, 20000), 50)
    found = statistics.hazard(times, censored)
    assert found.exits.size == 10
    assert found.exits.sum() == np.count_nonzero(~censored)
    assert found.exposure.sum() == times.sum()
    # Equal numbers up to those of one step, of which the first holds 5 % of the replicas.
    assert np.ptp(found.exits) <= 2 * 0.055 * times.size
    errors = (found.rate - 1 / 20) / np.sqrt(1 / 20 * 19 / 20 / found.exposure)
    assert np.abs(errors).max() < 4


def test_hazard_limits_cover():
    rng = np.random.default_rng(9)
    hits = []
    for _ in range(600):
        found = statistics.hazard(*censored_at(geometric(rng, 300, 200), 600), bins=5)
        hits.append((found.lower <= 1 / 300) & (found.upper >= 1 / 300))
    for column in np.transpose(hits):
        assert np.mean(column) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 600)


def test_hazard_of_a_sharp_law_rises():
    found = statistics.hazard(*uncensored(sharp(np.random.default_rng(10), 300, 1000)))
    assert found.lower[-2] > found.upper[0]


def test_hazard_of_few_or_no_exits():
    none = statistics.hazard(np.array([30, 30]), np.array([True, True]), bins=4)
    np.testing.assert_array_equal(none.edges, [0, 30])
    assert (none.rate[0], none.lower[0]) == (0, 0)
    assert np.exp(-60 * none.upper[0]) == pytest.approx(0.025)
    many = statistics.hazard(*uncensored([3, 3, 8]), bins=10)
    np.testing.assert_array_equal(many.edges, [0, 3, 8])
    assert statistics.hazard(*uncensored([1])).upper[0] == 1  # a probability per step


@pytest.mark.parametrize("bins", [0, np.array([5.0]), np.array([0.2, 0.9]), np.array([-3, 4])])
def test_hazard_refuses_bins_that_are_none(bins):
    with pytest.raises(InvalidArgument, match="bins"):
        statistics.hazard(TIMES, CENSORED, bins=bins)


# ---- coefficient of variation -----------------------------------------------------------------


def weibull(rng, shape, scale, size):
    return np.ceil(scale * rng.weibull(shape, size)).astype(int)


def weibull_variation(shape):
    mean, variance = stats.weibull_min.stats(shape, moments="mv")
    return np.sqrt(variance) / mean


@pytest.mark.parametrize(
    ("times_of", "truth"),
    [
        (lambda rng: geometric(rng, 20, 200), np.sqrt(1 - 1 / 20)),
        (lambda rng: np.ceil(rng.gamma(4, 250, 200)).astype(int), 0.5),
        (lambda rng: weibull(rng, 3, 1000, 200), weibull_variation(3)),
    ],
)
def test_variation_and_its_error_without_censoring(times_of, truth):
    rng = np.random.default_rng(11)
    found = [statistics.coefficient_of_variation(*uncensored(times_of(rng))) for _ in range(600)]
    values = np.array([estimate.value for estimate in found])
    claimed = np.mean([estimate.standard_error for estimate in found])
    # 1 % for the bias of order 1 / replicas; 10 % for the bias of the error of skewed laws.
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(600) + 0.01 * truth
    assert claimed == pytest.approx(values.std(), rel=0.1 + 4 / np.sqrt(1200))


@pytest.mark.parametrize(("shape", "last"), [(1.0, 300), (3.0, 900), (0.7, 200)])
def test_variation_and_its_error_with_censoring(shape, last):
    rng = np.random.default_rng(12)
    found = [
        statistics.coefficient_of_variation(*censored_at(weibull(rng, shape, 1000, 400), last))
        for _ in range(150)
    ]
    values = np.array([estimate.value for estimate in found])
    claimed = np.array([estimate.standard_error for estimate in found])
    truth = weibull_variation(shape)
    assert_frequency(np.abs(values - truth) < stats.norm.isf(0.025) * claimed, 0.95)
    assert abs(np.median(values) - truth) < 4 * 1.25 * values.std() / np.sqrt(150)


def test_variation_of_few_exits_and_of_equal_times():
    for times, censored in [
        (np.array([5]), np.array([False])),
        (np.array([5, 9, 9]), np.array([False, True, True])),
        (np.array([9, 9]), np.array([True, True])),
    ]:
        estimate = statistics.coefficient_of_variation(times, censored)
        assert np.isnan(estimate.value)
        assert np.isnan(estimate.standard_error)
    assert statistics.coefficient_of_variation(*uncensored([7, 7, 7])).value == 0


def test_variation_when_the_censored_likelihood_has_no_maximum():
    # All that leave do so at once, and one never: broader than any Weibull law.
    times, censored = np.array([1, 1, 1, 50]), np.array([False, False, False, True])
    assert statistics.coefficient_of_variation(times, censored).value > 10


# ---- exponential law --------------------------------------------------------------------------


@pytest.mark.parametrize("last_over_mean", [np.inf, 0.7])
@pytest.mark.parametrize("mean", [20, 300])
def test_exponentiality_p_value_is_uniform_under_the_geometric_law(mean, last_over_mean):
    rng = np.random.default_rng(13)
    p_values = []
    for _ in range(300):
        times = geometric(rng, mean, 300)
        sample = censored_at(times, min(times.max(), int(min(last_over_mean * mean, 1e9))))
        p_values.append(statistics.exponentiality_test(*sample).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    assert_frequency(np.array(p_values) < 0.05, 0.05)


@pytest.mark.parametrize("last", [10**9, 300])
def test_exponentiality_is_rejected_for_a_gamma_law_with_variation_one_half(last):
    rng = np.random.default_rng(14)
    for _ in range(20):
        times = np.ceil(rng.gamma(4, 75, 100)).astype(int)
        found = statistics.exponentiality_test(*censored_at(times, last))
        assert found.p_value < 0.05
        assert found.shape > 1


def test_exponentiality_by_brute_force():
    # Twice the log-likelihood ratio, from the definition, maximised by another method.
    times, censored = censored_at(weibull(np.random.default_rng(15), 1.3, 8, 200), 10)

    def log_likelihood(shape, scale):
        def survival(t):
            return np.exp(-((t / scale) ** shape))

        exits = times[~censored]
        return np.sum(np.log(survival(exits - 1) - survival(exits))) + np.sum(
            np.log(survival(times[censored]))
        )

    best = optimize.minimize(lambda x: -log_likelihood(*np.exp(x)), [0.0, 2.0], method="BFGS")
    probability = np.count_nonzero(~censored) / times.sum()
    null = log_likelihood(1.0, -1 / np.log1p(-probability))
    found = statistics.exponentiality_test(times, censored)
    assert found.shape == pytest.approx(np.exp(best.x[0]), rel=1e-3)
    assert found.statistic == pytest.approx(2 * (-best.fun - null), abs=1e-4)
    assert found.p_value == pytest.approx(special.chdtrc(1, found.statistic))
    for other in (0.9, 1.1):  # the null is at its maximum
        assert log_likelihood(1.0, -other / np.log1p(-probability)) < null


def test_exponentiality_shape_error():
    rng = np.random.default_rng(16)
    found = [
        statistics.exponentiality_test(*censored_at(weibull(rng, 1.5, 40, 300), 40))
        for _ in range(200)
    ]
    errors = [(fit.shape - 1.5) / fit.shape_error for fit in found]
    assert_frequency(np.abs(errors) < stats.norm.isf(0.025), 0.95)


def test_exponentiality_shape_error_tends_to_that_of_fisher_information():
    # Uncensored, with many steps per exit: sqrt(6) / pi * shape / sqrt(replicas).
    times = weibull(np.random.default_rng(19), 1.5, 1e6, 20000)
    found = statistics.exponentiality_test(*uncensored(times))
    expected = np.sqrt(6) / np.pi * found.shape / np.sqrt(20000)
    assert found.shape_error == pytest.approx(expected, rel=0.02)


def test_exponentiality_of_long_times_needs_no_more_precision():
    # Near 10^9 steps S(t - 1) - S(t) is 10^-9 of S, so a plain difference keeps 7 digits only.
    rng = np.random.default_rng(17)
    times, censored = censored_at(np.ceil(1e9 * rng.weibull(2, 1000)).astype(int), 10**9)
    found = statistics.exponentiality_test(times, censored)
    data = stats.CensoredData(uncensored=times[~censored] / 1e9, right=times[censored] / 1e9)
    shape, _, _ = stats.weibull_min.fit(data, floc=0)
    assert found.shape == pytest.approx(shape, rel=1e-3)


def test_exponentiality_is_readable():
    rng = np.random.default_rng(18)
    text = repr(statistics.exponentiality_test(*uncensored(sharp(rng, 300, 100))))
    assert text.startswith("evidence against the exponential law: p < 1e-16")
    text = repr(statistics.exponentiality_test(*uncensored([5, 6, 9])))
    assert "3 exits" in text


@pytest.mark.parametrize("times", [[4], [1, 1, 1]])
def test_exponentiality_without_information(times):
    found = statistics.exponentiality_test(*uncensored(times))
    assert np.isnan([found.shape, found.statistic, found.p_value]).all()
    assert "untested" in repr(found)


def test_exponentiality_of_equal_times():
    # The saturated likelihood is 1; the geometric one is (4/5)^4 / 5 for each replica.
    found = statistics.exponentiality_test(*uncensored([5, 5, 5]))
    assert found.statistic == pytest.approx(-6 * np.log(0.8**4 * 0.2), abs=1e-4)
    assert found.shape > 10


# ---- arguments --------------------------------------------------------------------------------

FUNCTIONS = [
    statistics.exponential_mean,
    statistics.mean_standard_error,
    statistics.mean_interval,
    statistics.kaplan_meier,
    statistics.restricted_mean,
    statistics.hazard,
    statistics.coefficient_of_variation,
    statistics.exponentiality_test,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("times", "censored", "name"),
    [
        (np.array([], dtype=int), np.array([], dtype=bool), "times"),
        (np.array([[3, 4]]), np.array([[False, False]]), "times"),
        (np.array([3.0, 4.5]), np.array([False, False]), "times"),
        (np.array([3, 0]), np.array([False, False]), "times"),
        (np.array([3, 4]), np.array([False]), "censored"),
        (np.array([3, 4]), np.array([0, 1]), "censored"),
    ],
)
def test_bad_samples_are_refused(function, times, censored, name):
    with pytest.raises(InvalidArgument, match=name):
        function(times, censored)


@pytest.mark.parametrize(
    "function", [statistics.mean_interval, statistics.kaplan_meier, statistics.hazard]
)
@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, np.nan])
def test_bad_confidence_is_refused(function, confidence):
    with pytest.raises(InvalidArgument, match="confidence"):
        function(TIMES, CENSORED, confidence=confidence)
