"""The scalar chain of minibatches: against simulation, enumeration and the Gaussian chain."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from escapade.errors import Unsupported
from escapade.region.forms import LinearForm
from escapade.theory.minibatch_chain import _law_of_a_step, minibatch_chain_exit
from escapade.theory.uniform import uniform_mean_exit_time

PLACES = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def simulated(slopes_at, learning_rate, batch_size, replicas, examples, seed=0):
    """Mean exit steps out of (-1, 1) of ``x' = x - eta mean slope``; every replica leaves."""
    generator = np.random.default_rng(seed)
    x, total, step = np.zeros(replicas), 0, 0
    while x.size:
        step += 1
        index = generator.integers(0, examples, (x.size, batch_size))
        x = x - learning_rate * slopes_at(x[:, None], index).mean(axis=1)
        inside = np.abs(x) < 1
        total += step * int((~inside).sum())
        x = x[inside]
    return total / replicas


def problem(spread, outliers):
    """Slopes ``curvature_i x + bend_i x^2 - push_i`` of 400 examples, skewed and steepening."""
    generator = np.random.default_rng(3)
    pushes = generator.standard_normal(400)
    pushes[:10] += outliers
    pushes = spread * (pushes - pushes.mean())
    curvatures = 1 + 0.5 * generator.standard_normal(400) + 0.1 * np.abs(pushes)
    curvatures /= curvatures.mean()
    bends = 0.3 * generator.standard_normal(400)

    def slopes_at(x, index=slice(None)):
        return curvatures[index] * x + bends[index] * x**2 - pushes[index]

    return slopes_at


@pytest.mark.parametrize(
    ("learning_rate", "batch_size", "spread", "outliers"),
    [(0.4, 16, 1.8, 6.0), (1.1, 32, 1.4, 6.0), (0.03, 4, 6.0, 3.0)],
)
def test_exits_are_those_of_true_minibatches(learning_rate, batch_size, spread, outliers):
    """Skewed noise that changes along the line, in steps of any length: 3000 replicas."""
    slopes_at = problem(spread, outliers)
    slopes = slopes_at(PLACES[:, None])
    log_mean = minibatch_chain_exit(
        PLACES, slopes, 1.0, learning_rate, batch_size, -1.0, 1.0, two_sided=True
    )
    measured = simulated(slopes_at, learning_rate, batch_size, 3000, 400)
    assert measured > 80
    assert np.exp(log_mean) == pytest.approx(measured, rel=0.02 + 3 / np.sqrt(3000))
    variance = float(slopes[2].var())
    gaussian = uniform_mean_exit_time(
        np.ones((1, 1)), np.full((1, 1), variance), LinearForm(np.ones(1), 1.0, True),
        learning_rate, batch_size,
    )  # fmt: skip
    # With steps that long the linear-Gaussian chain is elsewhere, so that the test can fail.
    assert learning_rate < 0.1 or abs(gaussian.log_mean - np.log(measured)) > 0.1


@pytest.mark.parametrize(
    ("learning_rate", "barrier"), [(0.02, 4.0), (0.3, 4.0), (1.2, 4.0), (0.05, 40.0)]
)
@pytest.mark.parametrize("two_sided", [True, False])
def test_gaussian_slopes_give_the_gaussian_chain(learning_rate, barrier, two_sided):
    """Large batches of nearly normal slopes: the uniform formula, within its 3 %."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    pushes = ndtri(quantiles)
    pushes *= np.sqrt(400 * (2 - learning_rate) / learning_rate / (2 * barrier)) / pushes.std()
    log_mean = minibatch_chain_exit(
        PLACES, PLACES[:, None] - pushes, 1.0, learning_rate, 400, -1.0, 1.0, two_sided=two_sided
    )
    gaussian = uniform_mean_exit_time(
        np.ones((1, 1)), np.full((1, 1), pushes.var()), LinearForm(np.ones(1), 1.0, two_sided),
        learning_rate, 400,
    )  # fmt: skip
    assert gaussian.barrier == pytest.approx(barrier, rel=1e-3)
    assert log_mean == pytest.approx(gaussian.log_mean, abs=0.03)


def test_tails_of_a_minibatch_are_relatively_exact():
    """Slopes of two values sum to a binomial law, here down to 1e-21."""
    slopes = (np.arange(1000) < 300).astype(float)
    moves, law = _law_of_a_step(slopes, 64)
    for count in (27, 34, 41, 49, 56):
        beyond = np.log(law[64 * moves > count - 0.5].sum())
        assert beyond == pytest.approx(binom.logsf(count - 1, 64, 0.3), abs=1e-4)
    for count in (11, 4):
        below = np.log(law[64 * moves < count + 0.5].sum())
        assert below == pytest.approx(binom.logcdf(count, 64, 0.3), abs=1e-3)


def test_exits_by_rare_jumps_are_refused():
    pushes = np.tile([-1.0, 1.0], 50)
    with pytest.raises(Unsupported, match="linear theory"):
        minibatch_chain_exit(
            PLACES, PLACES[:, None] - 0.5 * pushes, 1.0, 1.0, 100, -1.0, 1.0, two_sided=True
        )
