"""The Lagrangian: against its definition, entropies, enumeration, and between methods."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import escapade as esc
from escapade.errors import NotConverged
from escapade.precision import in_float64
from escapade.steepness.action import lagrangian as module
from escapade.steepness.action import legendre
from escapade.steepness.action.lagrangian import lagrangian
from escapade.steepness.hamiltonian import hamiltonian

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def same_numbers():
    """Each test draws the same numbers, whichever others run."""
    RNG.bit_generator.state = np.random.default_rng(5).bit_generator.state


def loss(theta, example):
    """Examples whose gradient at theta is theta minus the example."""
    return 0.5 * jnp.sum((theta - example) ** 2)


def cloud(points, learning_rate=0.1, batch=3, sampling="with_replacement"):
    """Law of minibatches of quadratic examples around their mean."""
    points = np.asarray(points, float)
    landscape = esc.landscapes.Empirical(loss, jnp.zeros(points.shape[1]), points)
    dynamics = esc.MinibatchSGD(learning_rate, batch, sampling)
    return hamiltonian(
        esc.Escape(landscape, dynamics, esc.Ball(1.0), start=points.mean(axis=0)), True
    )


def gaussian(covariance, dim=2, learning_rate=0.1):
    noise = esc.noise.Constant(covariance)
    landscape = esc.landscapes.Quadratic(np.arange(1.0, dim + 1))
    dynamics = esc.GaussianSGD(learning_rate, 1.0, noise)
    return hamiltonian(esc.Escape(landscape, dynamics, esc.Ball(1.0)))


def at(law, velocity, x=None, **options):
    velocity = np.atleast_2d(np.asarray(velocity, float))
    points = np.zeros_like(velocity) if x is None else np.broadcast_to(x, velocity.shape)
    return lagrangian(law, points, velocity, **options)


# Gaussian noise


def test_gaussian_noise():
    C = np.array([[1.0, -0.3], [-0.3, 0.5]])
    x, velocities = np.array([0.2, 0.5]), RNG.normal(size=(5, 2))
    found = at(gaussian(C), velocities, x)
    excess = velocities + np.array([0.2, 1.0])
    np.testing.assert_allclose(found.momenta, excess @ np.linalg.inv(C), rtol=1e-12)
    np.testing.assert_allclose(
        found.values, 0.5 * (excess @ np.linalg.inv(C) * excess).sum(axis=1), rtol=1e-12
    )


@pytest.mark.parametrize("dense", [True, False])
def test_noise_that_does_not_reach_every_direction(dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(module, "DENSE", 0)
    reach = np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 1.0]])
    law = gaussian(reach @ reach.T, dim=3)
    along = reach @ [0.3, -0.4]
    across = np.cross(reach[:, 0], reach[:, 1])
    found = at(law, [along, along + 1e-3 * across, along + 1e-12 * across])
    assert found.values[0] == pytest.approx(0.5 * (0.3**2 + 0.4**2), rel=1e-10)
    assert np.isinf(found.values[1])
    assert found.values[2] == pytest.approx(found.values[0], rel=1e-9)
    # The momentum of what is unreachable separates it from what noise can do.
    assert found.momenta[1] @ across > 0
    np.testing.assert_allclose(reach.T @ found.momenta[1], 0, atol=1e-2 * found.momenta[1] @ across)
    assert at(law, along + 1e-3 * across, tolerance=1e-2).values[0] < np.inf


@pytest.mark.parametrize(
    "dynamics",
    [
        pytest.param(
            esc.GaussianSGD(0.1, 4, esc.noise.Empirical()), marks=pytest.mark.slow, id="gaussian"
        ),
        pytest.param(esc.MinibatchSGD(0.1, 4), id="minibatches"),
    ],
)
def test_products_only_agree_with_factorisation(monkeypatch, dynamics):
    """Data noise of a network, by conjugate gradients and by eigenvalues."""
    data = (RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40))
    network = esc.landscapes.MLP((3, 4, 2), key=1)

    def cross_entropy(model, example):
        scores = model(example[0])
        return jax.nn.logsumexp(scores) - scores[example[1]]

    landscape = esc.landscapes.Empirical(cross_entropy, network, data, 0.01)
    start = esc.find_minimum(landscape, landscape.initial).theta
    points = start + 0.05 * RNG.normal(size=(3, landscape.dim))
    law = hamiltonian(esc.Escape(landscape, dynamics, esc.Ball(9.0), start=start))
    batches = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 30]]
    # Halfway to the mean: means of few examples lie on a face of what minibatches reach.
    velocities = -0.5 * np.stack(
        [
            landscape.batch_gradient(x, np.array(i)) + landscape.gradient(x)
            for x, i in zip(points, batches, strict=True)
        ]
    )
    monkeypatch.setattr(module, "DENSE", 10**6)
    dense = lagrangian(law, points, velocities)
    monkeypatch.setattr(module, "DENSE", 0)
    products = lagrangian(law, points, velocities)
    assert (dense.values > 0.01).all()
    np.testing.assert_allclose(products.values, dense.values, rtol=1e-6)


# Minibatches


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_minibatches_by_the_definition(sampling):
    """On a line in the plane: maximise p v - H by scalar search, H by enumeration."""
    places = RNG.normal(size=7)
    size = 3 if sampling == "without_replacement" else 1
    means = np.array([np.mean(c) for c in itertools.combinations(places, size)])
    line = np.array([0.6, 0.8])
    law = cloud(np.outer(places, line), sampling=sampling)

    def transform(v):
        def dual(p):
            return np.log(np.mean(np.exp(size * p * means))) / size - p * v

        return -scipy.optimize.minimize_scalar(dual, (-1, 1), tol=1e-14).fun

    # At theta = 0 the velocity is the mean of the examples drawn.
    velocities = np.linspace(means.min() + 0.01, means.max() - 0.01, 9)
    expected = [transform(v) for v in velocities]
    np.testing.assert_allclose(
        at(law, np.outer(velocities, line)).values, expected, rtol=1e-10, atol=1e-14
    )
    outside = at(law, np.outer([means.min() - 0.01, means.max() + 0.01, means.max() + 100], line))
    assert np.isinf(outside.values).all()
    assert (np.sign(outside.momenta @ line) == [-1, 1, 1]).all()
    assert np.isinf(at(law, velocities[3] * line + [-0.08, 0.06]).values[0])
    # On the boundary only one minibatch does it.
    draws = math.comb(7, size)
    at_end = at(law, np.outer([means.max(), means.min()], line)).values
    np.testing.assert_allclose(at_end, np.log(draws) / size, rtol=1e-9)


def test_recorded_minibatches_with_more_parameters_than_examples():
    """The weights of the examples are unique there, and the value is their relative entropy."""
    examples, dim = 6, 40
    points = RNG.normal(size=(examples, dim))
    counts = np.array([[1, 1, 1, 0, 0, 0], [2, 0, 1, 0, 0, 0], [0, 0, 0, 3, 0, 0]])
    velocities = counts / 3 @ points
    shares = counts / 3
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = np.where(counts > 0, shares * np.log(shares * examples), 0.0).sum(axis=1)
    np.testing.assert_allclose(at(cloud(points), velocities).values, entropies, rtol=1e-9)
    subset = at(cloud(points, sampling="without_replacement"), velocities)
    assert subset.values[0] == pytest.approx(math.log(math.comb(6, 3)) / 3, rel=1e-9)
    # An example cannot be drawn twice.
    assert np.isinf(subset.values[1:]).all()
    beyond = np.linalg.svd(points)[2][-1]
    assert np.isinf(at(cloud(points), velocities + 0.1 * beyond).values).all()
    # In single precision the same, to its accuracy.
    rounded = np.asarray(velocities, np.float32).astype(float)
    values = at(cloud(points), rounded, tolerance=3.5e-4).values
    np.testing.assert_allclose(values, entropies, rtol=2e-2)


def test_on_a_face_of_the_hull():
    """A square with points on its edges and inside: only those of the face get weight."""
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [1, 0], [0.5, 0.1], [0, 0]], float)
    law = cloud(square)

    def on_the_edge(q):
        return np.log(np.mean(np.exp(q * np.array([1, -1, 0.0])))) - 0.4 * q

    along = -scipy.optimize.minimize_scalar(on_the_edge, (-1, 1), tol=1e-14).fun
    found = at(law, [[1.0, 0.4], [1.0, 1.0], [1.0 + 1e-6, 0.4], [1.0, 1.0 + 1e-6]])
    assert found.values[0] == pytest.approx(np.log(7 / 3) + along, rel=1e-9)
    assert found.values[1] == pytest.approx(np.log(7), rel=1e-9)
    assert np.isinf(found.values[2:]).all()


def test_repeated_and_identical_examples():
    same = cloud(np.ones((7, 2)))
    assert at(same, [1.0, 1.0]).values[0] == pytest.approx(0, abs=1e-15)
    assert np.isinf(at(same, [1.0, 1.1]).values[0])
    # Two places: the relative entropy of a biased coin.
    coin = cloud([[0.0, 1.0]] * 3 + [[1.0, 1.0]] * 4)
    entropy = 0.3 * np.log(0.3 / (4 / 7)) + 0.7 * np.log(0.7 / (3 / 7))
    assert at(coin, [0.3, 1.0]).values[0] == pytest.approx(entropy, rel=1e-10)
    everything = cloud([[0.0], [1.0], [5.0]], sampling="without_replacement")
    assert at(everything, [2.0]).values[0] == pytest.approx(0, abs=1e-12)
    assert np.isinf(at(everything, [2.1]).values[0])


def value_and_velocity(law, x, p):
    return law(x, p), law.velocity(x, p)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_equality_at_the_momentum(sampling):
    """L(x, dH/dp(x, p)) = p v - H(x, p), and the momentum is p again."""
    law = cloud(RNG.normal(size=(7, 2)), sampling=sampling)
    momenta = RNG.normal(size=(4, 2))
    for p in momenta:
        value, v = in_float64(value_and_velocity, law, np.zeros(2), p)
        found = at(law, v)
        assert found.values[0] == pytest.approx(p @ v - float(value))
        np.testing.assert_allclose(found.momenta[0], p, rtol=1e-5)


def test_what_does_not_converge_is_not_returned(monkeypatch):
    monkeypatch.setattr(legendre, "NEWTON_STEPS", 2)
    points = RNG.normal(size=(11, 2))
    with pytest.raises(NotConverged, match="tolerance"):
        at(cloud(points), 0.9 * points[0] + 0.1 * points.mean(axis=0))


def test_no_dense_matrix_in_many_dimensions():
    """A covariance over 200 000 parameters would take 300 GB."""
    dim = 200_000
    landscape = esc.landscapes.Function(lambda x: 0.5 * jnp.sum(x**2), dim)
    dynamics = esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic(2.0))
    law = hamiltonian(esc.Escape(landscape, dynamics, esc.Ball(1.0), start=np.zeros(dim)))
    velocities = RNG.normal(size=(2, dim))
    np.testing.assert_allclose(
        at(law, velocities).values, (velocities**2).sum(axis=1) / 4, rtol=1e-10
    )
