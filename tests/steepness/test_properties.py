"""What holds of every path: signs, symmetries, limits and duality, on paths drawn at random."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import escapade as esc
from escapade.precision import in_float64
from escapade.steepness.action.lagrangian import lagrangian
from escapade.steepness.action.steepness import steepness
from escapade.steepness.hamiltonian import hamiltonian

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])
EXAMPLES = np.random.default_rng(1).normal(size=(12, 2))
WEIGHTS = np.linspace(0.5, 1.5, 12)

few = settings(max_examples=15, deadline=None, derandomize=True)
numbers = st.floats(-1, 1, allow_subnormal=False)
paths = arrays(np.float64, (5, 2), elements=numbers)
vectors = arrays(np.float64, (2,), elements=numbers)


def loss(theta, example):
    """Convex, not quadratic; the examples' gradients differ in direction."""
    point, weight = example
    return weight * jnp.log(jnp.cosh(point @ theta)) + jnp.sum((theta - point) ** 2) / 4


LANDSCAPE = esc.landscapes.Empirical(loss, jnp.zeros(2), (EXAMPLES, WEIGHTS))
MINIMUM = esc.find_minimum(LANDSCAPE, np.zeros(2)).theta
NOISE = esc.noise.Constant(C)


def escape(dynamics, landscape=LANDSCAPE, start=MINIMUM):
    return esc.Escape(landscape, dynamics, esc.Ball(3.0), start=start)


CHAIN = escape(esc.GaussianSGD(0.1, 1.0, NOISE))
LIMIT = escape(esc.ContinuousSGD(0.1, 1.0, NOISE))
MINIBATCH = escape(esc.MinibatchSGD(0.1, 4))
SUBSETS = escape(esc.MinibatchSGD(0.1, 4, "without_replacement"))


@few
@given(paths)
def test_no_path_is_worth_less_than_nothing(path):
    for problem in (CHAIN, MINIBATCH, SUBSETS):
        assert steepness(problem, path) >= 0
    assert steepness(LIMIT, path) >= 0
    # Over a straight line, which both rules take the same way, free timing can only gain.
    line = np.outer(np.linspace(0, 1, 5), path[0]) + MINIMUM
    assert steepness(LIMIT, line, horizon=40) >= steepness(LIMIT, line) * (1 - 1e-9) - 1e-15


@few
@given(vectors)
def test_the_noiseless_chain_is_free(start):
    path = [MINIMUM + start]
    for _ in range(4):
        path.append(path[-1] - 0.1 * LANDSCAPE.gradient(path[-1]))
    for problem in (CHAIN, MINIBATCH, SUBSETS):
        assert steepness(problem, path) == pytest.approx(0, abs=1e-14)


def test_the_noiseless_flow_is_free_to_the_order_of_the_rule():
    quadratic = escape(esc.ContinuousSGD(0.1, 1.0, NOISE), esc.landscapes.Quadratic(H), None)
    values, vectors_ = np.linalg.eigh(H)

    def value(points):
        times = np.linspace(0, 2, points)
        flow = np.exp(-np.outer(times, values)) * (vectors_.T @ [1.0, -0.7]) @ vectors_.T
        return steepness(quadratic, flow, times=times / 0.1)

    coarse, fine = value(41), value(81)
    assert coarse < 1e-6
    assert np.log2(coarse / fine) > 5.5


@few
@given(paths, st.floats(0, 2 * np.pi))
def test_rotations_change_nothing(path, angle):
    c, s = np.cos(angle), np.sin(angle)
    Q = np.array([[c, -s], [s, c]])
    turned = esc.landscapes.Quadratic(Q @ H @ Q.T)
    for dynamics in (esc.GaussianSGD, esc.ContinuousSGD):
        one = escape(dynamics(0.1, 1.0, NOISE), esc.landscapes.Quadratic(H), None)
        noise = esc.noise.Constant(Q @ C @ Q.T)
        other = escape(dynamics(0.1, 1.0, noise), turned, None)
        expected = steepness(one, path)
        assert steepness(other, path @ Q.T) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@few
@given(paths, st.floats(0.1, 10))
def test_scaling_the_loss_and_the_learning_rate(path, a):
    """L -> a L, eta -> eta / a, C -> a^2 C leave S / eta of a chain as it is."""
    one = escape(esc.GaussianSGD(0.1, 1.0, NOISE), esc.landscapes.Quadratic(H), None)
    scaled = esc.GaussianSGD(0.1 / a, 1.0, esc.noise.Constant(a**2 * C))
    other = escape(scaled, esc.landscapes.Quadratic(a * H), None)
    barrier = steepness(one, path) / 0.1
    assert steepness(other, path) / (0.1 / a) == pytest.approx(barrier, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("minibatch", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_small_steps_are_continuous(minibatch):
    """Chains along a smooth curve: the sum tends to the integral, at first order."""

    def chain(rate):
        if minibatch:
            return escape(esc.MinibatchSGD(rate, 4))
        return escape(esc.GaussianSGD(rate, 1.0, NOISE))

    def curve(count):
        s = np.linspace(0, 1, count + 1)
        return MINIMUM + 0.1 * np.stack([np.sin(s), s**2], axis=1)

    limit = steepness(chain(0.1), curve(64), 10, continuous_limit=True)
    errors = [steepness(chain(1 / n), curve(n)) - limit for n in (64, 512)]
    assert abs(errors[1]) < 0.01 * limit
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)


@few
@given(vectors, vectors)
def test_small_fluctuations_of_minibatches_are_gaussian(offset, direction):
    """The third cumulant changes L by a relative amount of the order of the excess velocity."""
    size = np.linalg.norm(direction)
    if size < 0.1:
        return
    x = MINIMUM + offset
    drift = -LANDSCAPE.gradient(x)
    for problem in (MINIBATCH, SUBSETS):
        law = hamiltonian(problem)
        covariance = problem.dynamics.noise_covariance(LANDSCAPE, x)
        for excess in (1e-2, 1e-4):
            kick = excess * direction / size
            value = lagrangian(law, x[None], (drift + kick)[None]).values[0]
            expected = 0.5 * kick @ np.linalg.solve(covariance, kick)
            assert value == pytest.approx(expected, rel=100 * excess, abs=1e-15)


@few
@given(vectors, vectors, vectors)
def test_fenchel(offset, velocity, momentum):
    """L(x, v) + H(x, p) >= p . v, with equality at v = dH/dp and at the momentum found."""
    x = MINIMUM + offset
    for problem in (CHAIN, MINIBATCH, SUBSETS):
        law = hamiltonian(problem)
        H_at_p = float(in_float64(evaluate, law, x, momentum)[0])
        conjugate = in_float64(evaluate, law, x, momentum)[1]
        both = lagrangian(law, np.stack([x, x]), np.stack([velocity, conjugate]))
        assert both.values[0] + H_at_p >= momentum @ velocity - 1e-12
        assert both.values[1] + H_at_p == pytest.approx(momentum @ conjugate, abs=1e-11)
        if np.isfinite(both.values[0]):
            H_at_found = float(in_float64(evaluate, law, x, both.momenta[0])[0])
            expected = both.momenta[0] @ velocity - H_at_found
            assert both.values[0] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def evaluate(law, x, p):
    return law(x, p), law.velocity(x, p)
