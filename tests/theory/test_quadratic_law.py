import numpy as np
import pytest
import scipy.integrate
from scipy.stats import chi2

from escapade.theory.quadratic_law import QuadraticLaw


@pytest.mark.parametrize("modes", [1, 2, 3, 10, 300])
def test_equal_weights_are_chi_square(modes):
    weight = 0.7
    law = QuadraticLaw(np.full(modes, weight))
    h = modes * np.array([0.3, 0.7, 1.0, 1.5, 3.0])
    below = law.log_probability_below(h)
    np.testing.assert_allclose(np.exp(below), chi2.cdf(h / weight, modes), rtol=1e-7)
    # sum_i z_i^2 is Y / weight.
    density = law.log_moment_density(h, np.ones(modes))
    expected = chi2.logpdf(h / weight, modes) + np.log(h) - 2 * np.log(weight)
    np.testing.assert_allclose(density, expected, rtol=0, atol=1e-9)


def test_far_tails_in_logarithms():
    law = QuadraticLaw(np.ones(4))
    h = np.array([1e-6, 1e3, 1e6])
    np.testing.assert_allclose(
        law.log_moment_density(h, np.ones(4)), chi2.logpdf(h, 4) + np.log(h), rtol=1e-12
    )
    assert law.log_probability_below(h)[0] == pytest.approx(chi2.logcdf(1e-6, 4), rel=1e-12)
    assert law.log_probability_below(h)[2] == 0


def test_paired_weights_are_sums_of_exponentials():
    a, b = 1.3, 0.4
    law = QuadraticLaw(np.array([a, a, b, b]))
    h = np.array([0.1, 1.0, 4.0, 30.0])
    tail = (a * np.exp(-h / (2 * a)) - b * np.exp(-h / (2 * b))) / (a - b)
    np.testing.assert_allclose(np.exp(law.log_probability_below(h)), 1 - tail, rtol=1e-8)
    density = (np.exp(-h / (2 * a)) - np.exp(-h / (2 * b))) / (2 * (a - b))
    weights = np.array([a, a, b, b])
    moment = law.log_moment_density(h, weights)
    np.testing.assert_allclose(moment, np.log(h * density), atol=1e-9)


def test_moments_of_chosen_modes():
    """``E[z_1^2; Y = h]`` against an integral over the angle."""
    weights, h = np.array([1.0, 0.3]), 2.5

    def integrand(angle):
        z = np.sqrt(h) * np.array([np.cos(angle), np.sin(angle)]) / np.sqrt(weights)
        return z[0] ** 2 * np.exp(-z @ z / 2) / (4 * np.pi * np.sqrt(np.prod(weights)))

    expected, _ = scipy.integrate.quad(integrand, 0, 2 * np.pi, epsrel=1e-12)
    found = QuadraticLaw(weights).log_moment_density(np.array([h]), np.array([1.0, 0.0]))
    assert found[0] == pytest.approx(np.log(expected), abs=1e-9)


def test_grouping_many_weights_changes_nothing():
    rng = np.random.default_rng(0)
    weights = np.concatenate(
        [[1.0, 0.999], rng.uniform(0.9, 0.99, 60), np.geomspace(1e-5, 0.5, 90)]
    )
    law = QuadraticLaw(weights)
    assert len(law.weights) < len(weights)
    plain = QuadraticLaw(weights)
    object.__setattr__(plain, "weights", weights)
    object.__setattr__(plain, "counts", np.ones(len(weights)))
    h = np.array([0.1, 0.8, 1.0, 1.5, 5.0]) * weights.sum()
    np.testing.assert_allclose(
        law.log_probability_below(h), plain.log_probability_below(h), atol=1e-7
    )
    # The moment density is checked against sampling: the mean of sum m_i z_i^2 given Y near h.
    moments = weights**2
    samples = rng.normal(size=(200_000, len(weights))) ** 2
    y = samples @ weights
    level, width = weights.sum(), 0.2
    near = np.abs(y - level) < width
    sampled = np.sum(samples[near] @ moments) / len(y) / (2 * width)
    grid = np.linspace(level - width, level + width, 9)
    expected = np.exp(law.log_moment_density(grid, moments)).mean()
    assert sampled == pytest.approx(expected, rel=4 / np.sqrt(near.sum()))
