"""Cumulants of the noise, against enumeration, finite differences and covariances."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import Unsupported
from escapade.precision import float64, in_float64
from escapade.steepness.hamiltonian import hamiltonian, log_mean_subset_product

RNG = np.random.default_rng(3)
FEATURES, LABELS = RNG.normal(size=(6, 2)), RNG.normal(size=6)
X, P = np.array([0.3, -0.2]), np.array([0.7, -1.1])


def loss(theta, example):
    row, label = example
    return jnp.log(jnp.cosh(row @ theta - label))


LANDSCAPE = esc.landscapes.Empirical(loss, jnp.zeros(2), (FEATURES, LABELS), weight_decay=0.1)
MINIMUM = esc.find_minimum(LANDSCAPE, np.zeros(2)).theta


def law(dynamics, continuous_limit=False, landscape=LANDSCAPE):
    escape = esc.Escape(landscape, dynamics, esc.Ball(1.0), start=MINIMUM)
    return hamiltonian(escape, continuous_limit)


def tilted(theta):
    return jnp.diag(jnp.exp(theta)) + 0.1


def value(H, x, p):
    return H(x, p)


NOISES = {
    "isotropic": esc.noise.Isotropic(0.7),
    "constant": esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]]),
    "hessian": esc.noise.HessianProportional(0.4),
    "empirical": esc.noise.Empirical(),
    "function": esc.noise.Function(tilted),
}
LAWS = {name: law(esc.GaussianSGD(0.1, 3, noise)) for name, noise in NOISES.items()} | {
    "with replacement": law(esc.MinibatchSGD(0.1, 3)),
    "without replacement": law(esc.MinibatchSGD(0.1, 3, "without_replacement")),
    "all examples": law(esc.MinibatchSGD(0.1, 6, "without_replacement")),
}


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
@pytest.mark.parametrize("momentum", [P, 40 * P, np.zeros(2)])
def test_minibatches_by_enumeration(batch, momentum):
    gradients = LANDSCAPE.example_gradients(X)
    slopes = -gradients @ momentum
    for sampling, draws in (
        ("with_replacement", itertools.product(range(6), repeat=batch)),
        ("without_replacement", itertools.combinations(range(6), batch)),
    ):
        if sampling == "with_replacement" and batch > 5:
            continue
        sums = np.array([slopes[list(draw)].sum() for draw in draws])
        expected = (sums.max() + np.log(np.mean(np.exp(sums - sums.max())))) / batch
        with float64():
            found = value(law(esc.MinibatchSGD(0.1, batch, sampling)), X, momentum)
        assert float(found) == pytest.approx(expected, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize(("examples", "size"), [(40, 17), (40, 39)])
def test_elementary_symmetric_polynomials(examples, size):
    """Against the recursion over examples, in exact integers."""
    logarithms = 8 * RNG.normal(size=examples)
    weights = [int(math.exp(value) * 2**60) for value in logarithms]
    polynomial = [1] + [0] * size
    for weight in weights:
        for order in range(size, 0, -1):
            polynomial[order] += weight * polynomial[order - 1]
    expected = math.log(polynomial[size]) - 60 * size * math.log(2)
    expected -= math.log(math.comb(examples, size))
    with float64():
        both = jax.jit(jax.value_and_grad(lambda each: log_mean_subset_product(each, size)))
        found, slopes = (np.asarray(part) for part in both(jnp.array(logarithms)))
    assert float(found) == pytest.approx(expected, rel=1e-11, abs=1e-11)
    # The derivatives are probabilities of being drawn.
    assert slopes.sum() == pytest.approx(size, rel=1e-10)
    assert slopes.min() > -1e-12
    assert slopes.max() < 1 + 1e-12


def derivatives(H, x, p):
    """Velocity, force and second derivative, and central differences instead of the first two."""
    steps = 1e-5 * jnp.eye(2)
    along_p = jax.vmap(lambda s: (H(x, p + s) - H(x, p - s)) / 2e-5)(steps)
    along_x = jax.vmap(lambda s: (H(x + s, p) - H(x - s, p)) / 2e-5)(steps)
    second = jax.hessian(lambda q: H(x, q))(jnp.zeros(2))
    return (H.velocity(x, p), along_p), (H.force(x, p), -along_x), (second, H.covariance(x))


def at_rest(H, x):
    zero = jnp.zeros(2)
    return H(x, zero), H.velocity(x, zero), H.drift(x)


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_and_cumulants(name):
    """Hamilton's equations by central differences; two cumulants against drift and covariance."""
    velocity, force, second = in_float64(derivatives, LAWS[name], X, P)
    np.testing.assert_allclose(*velocity, rtol=2e-8)
    np.testing.assert_allclose(*force, rtol=2e-8, atol=1e-9)
    np.testing.assert_allclose(*second, rtol=1e-9, atol=1e-12)
    height, velocity, drift = in_float64(at_rest, LAWS[name], X)
    assert float(height) == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(velocity, drift, rtol=1e-12)
    np.testing.assert_allclose(drift, -LANDSCAPE.gradient(X), rtol=1e-12)


def test_covariance_is_that_of_the_dynamics():
    for dynamics in (
        esc.MinibatchSGD(0.1, 3),
        esc.MinibatchSGD(0.1, 3, "without_replacement"),
        esc.GaussianSGD(0.1, 3, esc.noise.Empirical()),
    ):
        with float64():
            covariance = np.asarray(law(dynamics).covariance(jnp.array(X)))
        np.testing.assert_allclose(covariance, dynamics.noise_covariance(LANDSCAPE, X), rtol=1e-12)


def test_time_steps_and_what_has_no_hamiltonian():
    noise = esc.noise.Isotropic()
    assert law(esc.GaussianSGD(0.1, 3, noise)).time_step == 0.1
    assert law(esc.LangevinSGD(0.2)).time_step == 0.2
    assert law(esc.MinibatchSGD(0.1, 3)).time_step == 0.1
    assert law(esc.ContinuousSGD(0.1, 3, noise)).time_step is None
    assert law(esc.MinibatchSGD(0.1, 3), continuous_limit=True).time_step is None
    with pytest.raises(Unsupported, match="with or without replacement"):
        law(esc.MinibatchSGD(0.1, 3, "shuffled_epochs"))
