"""Gradient noise: what is drawn has the covariance that is claimed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapade import noise
from escapade.dynamics import GaussianSGD
from escapade.errors import DegenerateNoise, InvalidArgument, Unsupported
from escapade.escape import Escape
from escapade.landscape import (
    DoubleWell,
    Empirical,
    Function,
    MaierStein,
    Quadratic,
    StyblinskiTang,
)
from escapade.precision import in_float64
from escapade.region import Ball

DENSE = np.array([[1.0, -0.3], [-0.3, 0.5]])
HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
PLANE = Quadratic(HESSIAN)


def quartic(theta):
    return theta[0] ** 4 / 12 + theta[0] ** 2 * theta[1] / 2 + theta[1] ** 2


def quartic_hessian(x, y):
    return np.array([[x**2 + y, x], [x, 2.0]])


def by_position(theta):
    return jnp.diag(1 + theta**2) + 0.2


def residual(parameters, example):
    return 0.5 * jnp.tanh(parameters @ example["x"] - example["y"]) ** 2


def make_examples():
    generator = np.random.default_rng(0)
    data = {"x": generator.standard_normal((9, 2)), "y": generator.standard_normal(9)}
    return Empirical(residual, np.zeros(2), data, weight_decay=0.1)


EXAMPLES = make_examples()
THETA = np.array([0.8, -0.3])

CASES = {
    "isotropic": (noise.Isotropic(0.7), PLANE, 0.7 * np.eye(2)),
    "constant": (noise.Constant(DENSE), PLANE, DENSE),
    "independent": (noise.Constant([2.0, 0.5]), PLANE, np.diag([2.0, 0.5])),
    "singular": (noise.Constant([[1.0, 1.0], [1.0, 1.0]]), PLANE, np.ones((2, 2))),
    "Hessian of a quadratic": (noise.HessianProportional(0.4), PLANE, 0.4 * HESSIAN),
    "Hessian": (
        noise.HessianProportional(0.4),
        Function(quartic, 2),
        0.4 * quartic_hessian(*THETA),
    ),
    "loss": (
        noise.LossProportional(DENSE, c=0.7, offset=-0.2),
        Function(quartic, 2),
        0.7 * (quartic(THETA) + 0.2) * DENSE,
    ),
    "loss and Hessian at the minimum": (
        noise.LossProportional(offset=-0.2),
        PLANE,
        2 * (THETA @ HESSIAN @ THETA / 2 + 0.2) * HESSIAN,
    ),
    "function": (noise.Function(by_position), PLANE, np.diag(1 + THETA**2) + 0.2),
    "scalar function": (
        noise.Function(lambda theta: 1 + theta @ theta),
        PLANE,
        (1 + THETA @ THETA) * np.eye(2),
    ),
    "empirical": (noise.Empirical(), EXAMPLES, None),
}


def expected_covariance(name):
    """The covariance by a route that does not go through the noise."""
    _, landscape, covariance = CASES[name]
    if covariance is None:
        gradients = landscape.example_gradients(THETA)
        covariance = np.cov(gradients, rowvar=False, bias=True)
    return covariance


@pytest.mark.parametrize("name", CASES)
def test_covariance(name):
    given, landscape, _ = CASES[name]
    prepared = given.prepared(landscape)
    for one in (given, prepared):
        covariance = one.covariance(landscape, THETA)
        assert isinstance(covariance, np.ndarray)
        assert covariance.dtype == np.float64
        np.testing.assert_allclose(covariance, expected_covariance(name), atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_covariance(name):
    given, landscape, _ = CASES[name]
    prepared = given.prepared(landscape)
    draws, count = 40_000, prepared.normals(landscape)
    normals = np.random.default_rng(5).standard_normal((draws, count))
    sample = jax.jit(jax.vmap(lambda z: prepared.sample(landscape, jnp.asarray(THETA), z)))
    samples = np.asarray(sample(normals), np.float64)
    expected = expected_covariance(name)
    # Gaussian samples: the variance of x_i x_j is C_ii C_jj + C_ij^2.
    diagonal = np.diag(expected)
    error = np.sqrt((np.outer(diagonal, diagonal) + expected**2) / draws)
    np.testing.assert_array_less(np.abs(samples.T @ samples / draws - expected), 4 * error + 1e-6)
    np.testing.assert_array_less(np.abs(samples.mean(axis=0)), 4 * np.sqrt(diagonal / draws) + 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_draw_is_a_factor_of_the_covariance(name):
    # Linear in the normals: the images of the unit vectors form F with F F^T = C, exactly.
    given, landscape, _ = CASES[name]
    prepared = given.prepared(landscape)
    units = np.eye(prepared.normals(landscape))
    factor = in_float64(
        lambda normals, theta: jax.vmap(lambda z: prepared.sample(landscape, theta, z))(normals),
        units,
        THETA,
    ).T
    np.testing.assert_allclose(factor @ factor.T, expected_covariance(name), atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_spread_is_the_standard_deviation_along_a_direction(name):
    given, landscape, _ = CASES[name]
    direction = np.array([0.6, -1.3])
    prepared = given.prepared(landscape)
    spread = in_float64(
        lambda theta, along: prepared.spread(landscape, theta, along), THETA, direction
    )
    variance = direction @ expected_covariance(name) @ direction
    assert float(spread) == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_hessian_proportional_takes_the_positive_part():
    landscape, theta = Function(quartic, 2), np.array([0.2, -0.5])
    values, vectors = np.linalg.eigh(quartic_hessian(*theta))
    assert values[0] < 0 < values[1]
    positive = vectors * np.clip(values, 0, None) @ vectors.T
    covariance = noise.HessianProportional(2.0).covariance(landscape, theta)
    np.testing.assert_allclose(covariance, 2 * positive, atol=1e-13)
    assert noise.HessianProportional().covariance(DoubleWell(), [0.1]) == 0
    assert noise.HessianProportional().covariance(DoubleWell(), [2.0]) == pytest.approx(11)


def test_preparing_computes_what_is_constant_once():
    prepared = noise.HessianProportional(0.4).prepared(PLANE)
    assert isinstance(prepared, noise.Constant)
    np.testing.assert_array_equal(prepared.matrix, 0.4 * HESSIAN)


def test_single_precision_draws_in_a_single_precision_run():
    for given, landscape, _ in CASES.values():
        prepared = given.prepared(landscape)
        sample = jax.eval_shape(
            lambda theta, normals, noise=prepared, on=landscape: noise.sample(on, theta, normals),
            jnp.asarray(THETA),
            jnp.ones(prepared.normals(landscape)),
        )
        assert sample.dtype == jnp.float32


def escape_with(given, landscape=PLANE):
    return Escape(landscape, GaussianSGD(0.1, 1.0, given), Ball(0.5))


@pytest.mark.parametrize(
    ("build", "error", "argument"),
    [
        (lambda: noise.Isotropic(0.0), DegenerateNoise, "scale"),
        (lambda: noise.Isotropic(-1.0), DegenerateNoise, "scale"),
        (lambda: noise.Isotropic(np.nan), DegenerateNoise, "scale"),
        (lambda: noise.Isotropic([1.0, 2.0]), DegenerateNoise, "scale"),
        (lambda: noise.Isotropic("loud"), InvalidArgument, "scale"),
        (lambda: noise.HessianProportional(0.0), DegenerateNoise, "c is"),
        (lambda: noise.HessianProportional(np.inf), DegenerateNoise, "c is"),
        (lambda: noise.Constant(np.zeros((2, 2))), DegenerateNoise, "covariance is zero"),
        (lambda: noise.Constant([[1.0, 2.0], [2.0, 1.0]]), DegenerateNoise, "negative eigenvalue"),
        (lambda: noise.Constant([[1.0, 0.2], [0.0, 1.0]]), DegenerateNoise, "not symmetric"),
        (lambda: noise.Constant([[1.0, np.nan], [np.nan, 1.0]]), DegenerateNoise, "NaN"),
        (lambda: noise.Constant([-1.0, 1.0]), DegenerateNoise, "negative eigenvalue"),
        (lambda: noise.Constant(np.ones((2, 3))), InvalidArgument, "covariance"),
        (lambda: noise.Constant([]), InvalidArgument, "covariance"),
        (lambda: escape_with(noise.Constant(np.eye(3))), InvalidArgument, "covariance"),
        (lambda: escape_with(noise.Function(lambda t: t)), InvalidArgument, "noise function"),
        (
            lambda: escape_with(noise.Function(lambda t: np.linalg.norm(t))),
            InvalidArgument,
            "noise function",
        ),
        (lambda: escape_with(noise.Function(lambda t: 0.0 * t[0])), DegenerateNoise, "zero"),
        (lambda: escape_with(noise.Function(lambda t: -1.0)), DegenerateNoise, "negative"),
        (
            lambda: escape_with(noise.Function(lambda t: jnp.array([[1.0, 2.0], [0.0, 1.0]]))),
            DegenerateNoise,
            "not symmetric",
        ),
        (lambda: escape_with(noise.Function(lambda t: t[0] / 0.0)), DegenerateNoise, "NaN"),
        (
            lambda: escape_with(noise.HessianProportional(), MaierStein(10.0)),
            Unsupported,
            "HessianProportional",
        ),
        (lambda: escape_with(noise.Empirical(), StyblinskiTang(2)), Unsupported, "noise.Empirical"),
        (lambda: noise.LossProportional(c=0.0), InvalidArgument, "c is"),
        (lambda: noise.LossProportional(offset=np.inf), InvalidArgument, "offset is"),
        (lambda: noise.LossProportional([[1.0, 2.0], [2.0, 1.0]]), DegenerateNoise, "hessian has"),
        (lambda: escape_with(noise.LossProportional(np.eye(3))), InvalidArgument, "hessian is 3"),
        (lambda: escape_with(noise.LossProportional(offset=0.1)), DegenerateNoise, "negative"),
        (lambda: escape_with(noise.LossProportional()), DegenerateNoise, "at the start is zero"),
        (
            lambda: escape_with(noise.LossProportional(), MaierStein(10.0)),
            Unsupported,
            "LossProportional",
        ),
        (
            lambda: Escape(
                DoubleWell(), GaussianSGD(0.1, 1.0, noise.LossProportional(offset=-1.0)), Ball(0.5)
            ),
            InvalidArgument,
            "2 minima",
        ),
    ],
)
def test_bad_noise_is_refused(build, error, argument):
    with pytest.raises(error, match=argument):
        build()


def test_noise_may_vanish_at_a_minimum_that_is_not_the_start():
    # An interpolating minimum: noise in proportion to the loss, start away from the minimum.
    multiplicative = noise.Function(lambda theta: theta @ theta)
    escape = Escape(PLANE, GaussianSGD(0.1, 1.0, multiplicative), Ball(0.5), start=[0.2, 0.0])
    assert escape.dynamics.noise is multiplicative
    with pytest.raises(DegenerateNoise):
        escape_with(multiplicative)
    proportional = GaussianSGD(0.1, 1.0, noise.LossProportional())
    assert Escape(PLANE, proportional, Ball(0.5), start=[0.2, 0.0]).minimum @ np.ones(2) == 0
