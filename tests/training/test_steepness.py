"""The steepness of an interval against the recursion, the least action, and simulated noise."""

import numpy as np
import pytest

from escapade.inspection.stability import Stability
from escapade.training.observation import Observation
from escapade.training.steepness import Batches, interval_steepness

CURVATURES = np.array([2.0, 0.3])
SLOPES = np.array([0.4, -0.1])
NOISE = np.array([[1.0, 0.4], [0.4, 0.6]])


def seen(curvatures=CURVATURES, slopes=SLOPES, noise=NOISE):
    stability = Stability(0.1, 4, np.inf, np.inf, np.zeros(1), 0.0)
    rows = np.eye(len(curvatures))
    return Observation(1.0, 1.0, curvatures, rows, 0.0, slopes, noise, 1.0, stability)


def whole(batch_size=4, sampling="with_replacement", population=50, error_share=0.0):
    return Batches(batch_size, sampling, population, error_share)


def law(rates, batch_size=4):
    """Mean and covariance of the displacement, step by step."""
    mean, covariance = np.zeros(2), np.zeros((2, 2))
    for rate in rates:
        factor = np.diag(1 - rate * CURVATURES)
        mean = factor @ mean - rate * SLOPES
        covariance = factor @ covariance @ factor + rate**2 * NOISE / batch_size
    return mean, covariance


@pytest.mark.parametrize("rates", [np.full(1, 0.1), np.full(7, 0.3), np.linspace(0.6, 0.01, 40)])
def test_it_is_that_of_the_gaussian_at_the_end(rates):
    mean, covariance = law(rates)
    displacement = np.array([0.2, 0.5])
    missed = displacement - mean
    found = interval_steepness(seen(), displacement, rates, whole())
    assert found.value == pytest.approx(0.5 * missed @ np.linalg.solve(covariance, missed))
    assert found.expected == 1


def test_it_is_the_least_cost_of_all_paths_between():
    rates, end = np.array([0.3, 0.2, 0.1, 0.2]), np.array([-0.3, 0.4])
    # Displacement at the end is linear in the noise of each step: least squares under a constraint.
    root = np.linalg.cholesky(NOISE / 4)
    later = np.ones((4, 2))
    for step in range(3):
        later[step] = np.prod(1 - rates[step + 1 :, None] * CURVATURES, axis=0)
    into = np.concatenate([np.diag(rates[k] * later[k]) @ root for k in range(4)], axis=1)
    mean, _ = law(rates)
    kicks = np.linalg.lstsq(into, end - mean, rcond=None)[0]
    found = interval_steepness(seen(), end, rates, whole())
    assert found.value == pytest.approx(0.5 * kicks @ kicks)


def test_noise_alone_spends_what_is_expected():
    rng = np.random.default_rng(0)
    runs, rates = 20_000, np.linspace(0.5, 0.1, 12)
    root = np.linalg.cholesky(NOISE / 4)
    x = np.zeros((runs, 2))
    for rate in rates:
        x = x - rate * (SLOPES + CURVATURES * x) + rate * rng.standard_normal((runs, 2)) @ root.T
    spent = np.array([interval_steepness(seen(), row, rates, whole()).value for row in x[:4000]])
    assert spent.mean() == pytest.approx(1, abs=4 * np.sqrt(1 / 4000))
    assert spent.var() == pytest.approx(1, rel=0.2)  # half a chi-squared of two degrees


def test_the_error_of_a_subset_is_expected():
    rng = np.random.default_rng(1)
    population, watched, runs = 30, 10, 3000
    pushes = rng.standard_normal((population, 1)) * 2
    noise = np.atleast_2d(pushes.var())
    error_share = (population - watched) / (population - 1) / watched
    rates, curvature = np.full(8, 0.3), np.array([1.0])
    factor = np.prod(1 - rates * curvature)
    weights = rates * np.cumprod(np.r_[1, (1 - rates * curvature)[:0:-1]])[::-1]
    spent, expected = [], []
    for _ in range(runs):
        chosen = rng.permutation(population)[:watched]
        drawn = pushes[rng.integers(0, population, (8, 4)), 0].mean(axis=1)
        assert factor < 1
        x = -weights @ drawn
        begin = seen(curvature, pushes[chosen].mean(axis=0), noise)
        found = interval_steepness(begin, np.array([x]), rates, whole(error_share=error_share))
        spent.append(found.value)
        expected.append(found.expected)
    error = np.std(spent) / np.sqrt(runs)
    assert np.mean(expected) > 1  # half of it is the error's
    assert np.mean(spent) == pytest.approx(np.mean(expected), abs=4 * error)


@pytest.mark.parametrize("first_step", [0, 3])
def test_shuffled_epochs_spend_what_is_expected(first_step):
    rng = np.random.default_rng(2)
    population, size, runs, steps = 40, 8, 4000, 12
    pushes = rng.standard_normal(population)
    pushes -= pushes.mean()
    noise, curvature = np.atleast_2d(pushes.var()), np.array([0.5])
    rates = np.full(steps, 0.3)
    batches = Batches(size, "shuffled_epochs", population, 0.0)
    orders = rng.permuted(np.tile(np.arange(population), (runs, 4, 1)), axis=2)
    means = pushes[orders].reshape(runs, 20, size).mean(axis=2)[:, first_step : first_step + steps]
    x = np.zeros(runs)
    for step in range(steps):
        x = x - 0.3 * (0.5 * x + means[:, step])
    begin = seen(curvature, np.zeros(1), noise)
    spent = [
        interval_steepness(begin, np.array([row]), rates, batches, first_step).value for row in x
    ]
    assert np.mean(spent) == pytest.approx(0.5, abs=4 * np.sqrt(0.5 / runs))
    # Independent subsets of the same size would spread further.
    apart = interval_steepness(
        begin, np.ones(1), rates, batches._replace(sampling="without_replacement")
    )
    assert apart.value < 0.8 * interval_steepness(begin, np.ones(1), rates, batches).value


def test_a_run_that_climbs_costs_more_than_noise():
    rates = np.full(20, 0.1)
    _, covariance = law(rates)
    far = 6 * np.sqrt(np.diag(covariance))
    assert interval_steepness(seen(slopes=np.zeros(2)), far, rates, whole()).value > 10


@pytest.mark.parametrize(
    "begin",
    [
        seen(curvatures=np.array([25.0, 1.0])),
        seen(curvatures=np.array([1.0, -0.1])),
        seen(noise=np.zeros((2, 2))),
    ],
    ids=["unstable", "downwards", "noiseless"],
)
def test_intervals_without_a_law_are_not_counted(begin):
    found = interval_steepness(begin, np.ones(2), np.full(3000, 0.1), whole())
    assert np.isnan(found.value)
    assert np.isnan(found.expected)
