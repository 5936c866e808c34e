"""One tick of each dynamics, by hand and in law."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapade import noise
from escapade.dynamics import SAMPLINGS, ContinuousSGD, GaussianSGD, LangevinSGD, MinibatchSGD
from escapade.dynamics._base import halves
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import Empirical, Quadratic, StyblinskiTang
from escapade.precision import in_float64

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCE = np.array([[1.0, -0.3], [-0.3, 0.5]])
PLANE = Quadratic(HESSIAN)
THETA = np.array([0.7, -0.4])
RATE, BATCH = 0.2, 5.0

CURVATURES = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6])


def parabola(theta, example):
    curvature, centre = example
    return 0.5 * curvature * (theta[0] - centre) ** 2


LINE = Empirical(parabola, np.zeros(1), (CURVATURES, CENTRES))


def one_tick(dynamics, landscape, theta, draw):
    prepared = dynamics.prepared(landscape)
    return in_float64(lambda at, with_: prepared.tick(landscape, at, with_), theta, draw)


def states(dynamics, landscape, theta, pairs, replicas, seed=0):
    """Replicas started at theta: their states (pairs, dim, replicas) after each pair of ticks."""
    dynamics = dynamics.prepared(landscape)
    stream = Stream(jnp.asarray(seed_words(seed)), jnp.arange(replicas, dtype=jnp.uint32))
    across = {"in_axes": -1, "out_axes": -1}

    @jax.jit
    def run(start):
        pair = jnp.broadcast_to(jnp.arange(pairs, dtype=jnp.uint32)[:, None], (pairs, replicas))
        draws = dynamics.draw_pairs(landscape, stream, pair)

        def two_ticks(theta, draw):
            for half in halves(draw):
                tick = jax.vmap(lambda at, noise: dynamics.tick(landscape, at, noise), **across)
                theta = tick(theta, half)
            return theta, theta

        return jax.lax.scan(two_ticks, start, draws)[1]

    start = jnp.repeat(jnp.asarray(theta, jnp.float32)[:, None], replicas, axis=1)
    return np.asarray(run(start), np.float64)


def test_gaussian_tick():
    factor = np.linalg.cholesky(COVARIANCE)
    xi = np.array([1.3, -0.2])
    moved = one_tick(GaussianSGD(RATE, BATCH, noise.Constant(COVARIANCE)), PLANE, THETA, xi)
    kick = (moved - THETA + RATE * HESSIAN @ THETA) / (RATE / np.sqrt(BATCH))
    # Any square root of C will do: the whitened kick has the length of the normals.
    assert np.linalg.norm(np.linalg.solve(factor, kick)) == pytest.approx(np.linalg.norm(xi))
    moved = one_tick(GaussianSGD(RATE, BATCH, noise.Constant([4.0, 9.0])), PLANE, THETA, xi)
    expected = THETA - RATE * HESSIAN @ THETA + RATE / np.sqrt(BATCH) * np.array([2, 3]) * xi
    np.testing.assert_allclose(moved, expected, rtol=1e-13)


def test_langevin_tick():
    xi = np.array([1.3, -0.2])
    moved = one_tick(LangevinSGD(RATE, BATCH, scale=3.0), PLANE, THETA, xi)
    expected = THETA - RATE * HESSIAN @ THETA + RATE * np.sqrt(3.0 / BATCH) * xi
    np.testing.assert_allclose(moved, expected, rtol=1e-13)
    same = one_tick(GaussianSGD(RATE, BATCH, noise.Isotropic(3.0)), PLANE, THETA, xi)
    np.testing.assert_allclose(moved, same, rtol=1e-13)


def test_continuous_tick():
    xi, substeps = np.array([1.3, -0.2]), 4
    dynamics = ContinuousSGD(RATE, BATCH, noise.Constant([4.0, 9.0]), substeps)
    assert (dynamics.ticks_per_step, dynamics.continuous) == (4, True)
    length, variance = RATE / substeps, RATE / BATCH
    kick = np.sqrt(variance * length) * np.array([2, 3]) * xi
    ahead = THETA - length * HESSIAN @ THETA + kick
    expected = THETA - length * HESSIAN @ (THETA + ahead) / 2 + kick
    np.testing.assert_allclose(one_tick(dynamics, PLANE, THETA, xi), expected, rtol=1e-13)


def test_minibatch_tick():
    index = np.array([4, 1, 4])
    moved = one_tick(MinibatchSGD(RATE, 3), LINE, np.array([0.3]), index)
    gradient = np.mean(CURVATURES[index] * (0.3 - CENTRES[index]))
    np.testing.assert_allclose(moved, [0.3 - RATE * gradient], rtol=1e-13)


@pytest.mark.parametrize(
    "dynamics",
    [
        GaussianSGD(RATE, BATCH, noise.Constant(COVARIANCE)),
        LangevinSGD(RATE, BATCH, 0.8),
        ContinuousSGD(RATE, BATCH, noise.HessianProportional(0.7), 3),
    ],
    ids=lambda dynamics: type(dynamics).__name__,
)
def test_mean_and_covariance_of_two_ticks(dynamics):
    replicas, ticks = 100_000, 2
    length = dynamics.learning_rate / dynamics.ticks_per_step
    step = np.eye(2) - length * HESSIAN
    one = (
        dynamics.learning_rate**2
        / (dynamics.batch_size * dynamics.ticks_per_step)
        * dynamics.noise_covariance(PLANE, THETA)
    )
    if dynamics.continuous:  # the trapezoidal drift, on a linear landscape
        half = np.eye(2) - length / 2 * HESSIAN
        step, one = np.eye(2) - length * HESSIAN @ half, half @ one @ half.T
    mean, covariance = np.linalg.matrix_power(step, ticks) @ THETA, one + step @ one @ step.T
    moved = states(dynamics, PLANE, THETA, 1, replicas)[0]
    error = np.sqrt(np.diag(covariance) / replicas)
    np.testing.assert_array_less(np.abs(moved.mean(axis=1) - mean), 4 * error)
    spread = np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2
    deviation = np.abs(np.cov(moved) - covariance)
    np.testing.assert_array_less(deviation, 4 * np.sqrt(spread / replicas))


@pytest.mark.parametrize(
    ("dynamics", "landscape"),
    [
        (GaussianSGD(RATE, BATCH, noise.Constant(COVARIANCE)), PLANE),
        (LangevinSGD(RATE, BATCH, 0.8), PLANE),
        (ContinuousSGD(RATE, BATCH, noise.Constant(COVARIANCE), 3), PLANE),
    ],
    ids=lambda part: type(part).__name__,
)
def test_spread_of_a_tick(dynamics, landscape):
    along, theta = np.array([0.5, -1.2])[: landscape.dim], THETA[: landscape.dim]
    spread = in_float64(lambda at, d: dynamics.tick_spread(landscape, at, d), theta, along)
    covariance = dynamics.noise_covariance(landscape, theta)
    variance = RATE**2 / (dynamics.batch_size * dynamics.ticks_per_step)
    assert spread == pytest.approx(np.sqrt(variance * along @ covariance @ along), rel=1e-12)


@pytest.mark.parametrize(("sampling", "batch"), [(s, b) for s in SAMPLINGS for b in (1, 4)])
def test_mean_and_covariance_of_a_minibatch_step(sampling, batch):
    dynamics = MinibatchSGD(RATE, batch, sampling)
    theta, examples = np.array([0.3]), CENTRES.size
    gradients = CURVATURES * (0.3 - CENTRES)
    factor = 1.0 if sampling == "with_replacement" else (examples - batch) / (examples - 1)
    covariance = dynamics.noise_covariance(LINE, theta)
    np.testing.assert_allclose(covariance, [[factor * gradients.var()]], rtol=1e-13)
    # Exactly, over all equally likely minibatches.
    draws = (
        itertools.product(range(examples), repeat=batch)
        if sampling == "with_replacement"
        else itertools.combinations(range(examples), batch)
    )
    means = np.array([gradients[list(draw)].mean() for draw in draws])
    assert means.var() == pytest.approx(float(covariance[0, 0]) / batch, rel=1e-12)
    # And the indices drawn are such minibatches: the mean of their gradients, in law.
    prepared, replicas = dynamics.prepared(LINE), 20_000
    stream = Stream(jnp.asarray(seed_words(3)), jnp.arange(replicas, dtype=jnp.uint32))
    index = prepared.draw_pairs(LINE, stream, jnp.zeros((1, replicas), jnp.uint32))
    assert index.shape == (1, 2, batch, replicas)
    drawn = gradients[np.asarray(index)[0, 0]].mean(axis=0)
    fourth = ((means - means.mean()) ** 4).mean()
    assert abs(drawn.mean() - means.mean()) < 4 * np.sqrt(means.var() / replicas)
    error = np.sqrt((fourth - means.var() ** 2) / replicas)
    assert abs(drawn.var() - means.var()) < 4 * error + 1e-12


@pytest.mark.parametrize("substeps", [1, 2, 4])
def test_continuous_sgd_tends_to_the_diffusion(substeps):
    # On dX = -X dt + eps dW a tick h multiplies by a = 1 - h + h^2 / 2 and adds noise of variance
    # (1 - h / 2)^2 eps^2 h, exactly; the stationary variance is 1 - h^2 / 4 + ... of eps^2 / 2.
    rate, batch, replicas = 0.4, 2.0, 100_000
    dynamics = ContinuousSGD(rate, batch, noise.Isotropic(1.0), substeps)
    moved = states(dynamics, Quadratic([1.0]), [0.0], 10 * substeps, replicas)[-1, 0]
    h = rate / substeps
    a = 1 - h + h**2 / 2
    stationary = (1 - h / 2) ** 2 * rate / batch * h / (1 - a**2)
    variance = stationary * (1 - a ** (2 * 20 * substeps))
    assert abs(moved.var() / variance - 1) < 4 * np.sqrt(2 / replicas)
    assert stationary / (rate / batch / 2) - 1 == pytest.approx(-(h**2) / 4, rel=0.5)


def test_one_epoch_of_shuffling(oracle):
    case = oracle("D09")
    centres, rate = np.array(case["params"]["c"]), case["params"]["eta"]
    landscape = Empirical(parabola, np.zeros(1), (np.full(6, case["params"]["h"]), centres))
    shuffled = MinibatchSGD(rate, 1, "shuffled_epochs")
    replicas = 50_000
    ends = states(shuffled, landscape, [0.0], 3, replicas)[-1, 0]
    # All 720 orders, by hand, give the exact law and so the error of the sample variance.
    exact = []
    for order in itertools.permutations(centres):
        theta = 0.0
        for centre in order:
            theta -= rate * (theta - centre)
        exact.append(theta)
    exact = np.array(exact)
    assert exact.var() == pytest.approx(case["value"], rel=1e-12)
    fourth = ((exact - exact.mean()) ** 4).mean()
    error = np.sqrt((fourth - exact.var() ** 2) / replicas)
    assert abs(ends.var() - exact.var()) < 4 * error
    assert abs(ends.mean() - exact.mean()) < 4 * np.sqrt(exact.var() / replicas)
    independent = states(MinibatchSGD(rate, 1), landscape, [0.0], 3, replicas)[-1, 0]
    assert independent.var() == pytest.approx(0.0321018365, rel=0.03)


def test_counts_of_examples():
    gaussian = GaussianSGD(RATE, BATCH, noise.Isotropic())
    assert gaussian.examples_per_tick(PLANE) == 0
    assert gaussian.examples_per_tick(LINE) == 6
    assert MinibatchSGD(RATE, 2).examples_per_tick(LINE) == 2


ISOTROPIC = noise.Isotropic()


@pytest.mark.parametrize(
    ("build", "error", "argument"),
    [
        (lambda: GaussianSGD(0.0, 1.0, ISOTROPIC), InvalidArgument, "learning_rate"),
        (lambda: GaussianSGD(np.inf, 1.0, ISOTROPIC), InvalidArgument, "learning_rate"),
        (lambda: GaussianSGD("fast", 1.0, ISOTROPIC), InvalidArgument, "learning_rate"),
        (lambda: GaussianSGD(True, 1.0, ISOTROPIC), InvalidArgument, "learning_rate"),
        (lambda: GaussianSGD([0.1], 1.0, ISOTROPIC), InvalidArgument, "learning_rate"),
        (lambda: GaussianSGD(0.1, -1.0, ISOTROPIC), InvalidArgument, "batch_size"),
        (lambda: GaussianSGD(0.1, 1.0, 0.5), InvalidArgument, "noise"),
        (lambda: LangevinSGD(0.1, 1.0, 0.0), InvalidArgument, "scale"),
        (lambda: LangevinSGD(np.nan), InvalidArgument, "learning_rate"),
        (lambda: ContinuousSGD(0.1, 1.0, ISOTROPIC, 0), InvalidArgument, "substeps"),
        (lambda: ContinuousSGD(0.1, 1.0, ISOTROPIC, 2.5), InvalidArgument, "substeps"),
        (lambda: ContinuousSGD(0.1, None, ISOTROPIC), InvalidArgument, "batch_size"),
        (lambda: ContinuousSGD(0.1, 1.0, "white"), InvalidArgument, "noise"),
        (lambda: MinibatchSGD(0.1, 0), InvalidArgument, "batch_size"),
        (lambda: MinibatchSGD(0.1, 2.5), InvalidArgument, "batch_size"),
        (lambda: MinibatchSGD(0.1, 2, "bootstrap"), InvalidArgument, "with_replacement"),
        (
            lambda: MinibatchSGD(0.1, 7, "without_replacement").prepared(LINE),
            InvalidArgument,
            "batch_size is 7 but there are 6 examples",
        ),
        (
            lambda: MinibatchSGD(0.1, 7, "shuffled_epochs").prepared(LINE),
            InvalidArgument,
            "batch_size is 7",
        ),
        (lambda: MinibatchSGD(0.1, 2).prepared(StyblinskiTang(2)), Unsupported, "StyblinskiTang"),
    ],
)
def test_bad_arguments_are_named(build, error, argument):
    with pytest.raises(error, match=argument):
        build()


def test_a_batch_may_be_larger_than_the_data_with_replacement():
    assert MinibatchSGD(0.1, 50).prepared(LINE).batch_size == 50
