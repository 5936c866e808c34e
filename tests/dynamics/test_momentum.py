"""Momentum: against PyTorch, the linear chain it is near a minimum, a NumPy loop and plain SGD."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

import escapade as esc
from escapade.dynamics import SAMPLINGS
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument, Unstable, Unsupported
from escapade.minimum.lyapunov import stationary_covariance_of_chain

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCE = np.array([[1.0, -0.3], [-0.3, 0.5]])
PLANE = esc.landscapes.Quadratic(HESSIAN)
NOISE = esc.noise.Constant(COVARIANCE)
EXAMPLES = np.random.default_rng(0).normal(size=(10, 2))


def distance(theta, example):
    return 0.5 * jnp.sum((theta - example) ** 2)


CLOUD = esc.landscapes.Empirical(distance, jnp.zeros(2), EXAMPLES, minima=[EXAMPLES.mean(axis=0)])


def path_of(dynamics, landscape, steps=40, key=3):
    escape = esc.Escape(landscape, dynamics, esc.Ball(50.0))
    return np.array(list(esc.iterates(escape, steps, key, precision="float64")))


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.5}, {"momentum": 1.0}, {"nesterov": True}, {"dampening": 0.3}],
    ids=str,
)
def test_a_step_is_that_of_pytorch(options):
    torch = pytest.importorskip("torch")
    gradients = np.random.default_rng(1).normal(size=(30, 3))
    dynamics = esc.MomentumSGD(0.1, 1, **options)
    ours = (np.zeros(3), np.zeros(3))
    theirs = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimiser = torch.optim.SGD([theirs], lr=0.1, **{"momentum": 0.9} | options)
    for step, gradient in enumerate(gradients):
        ours = dynamics.update(PLANE, ours, gradient)
        if step == 0 and options.get("dampening"):
            # PyTorch does not dampen its first gradient.
            first = 0.1 * options["dampening"] * gradient
            ours = (ours[0] - first, ours[1] + first / 0.1)
        theirs.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
        np.testing.assert_allclose(ours[0], theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_no_momentum_is_plain_sgd_on_the_same_minibatches(sampling):
    plain = path_of(esc.MinibatchSGD(0.2, 3, sampling), CLOUD)
    ours = path_of(esc.MomentumSGD(0.2, 3, momentum=0.0, sampling=sampling), CLOUD)
    np.testing.assert_allclose(ours, plain, atol=1e-13)


def test_no_momentum_is_plain_sgd_with_the_same_noise():
    plain = path_of(esc.GaussianSGD(0.2, 3.5, NOISE), PLANE)
    ours = path_of(esc.MomentumSGD(0.2, 3.5, 0.0, noise=NOISE), PLANE)
    np.testing.assert_allclose(ours, plain, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.5}], ids=str)
def test_covariance_of_the_linear_chain(options):
    """Theta after some steps and, later, at stationarity, within 4 standard errors."""
    dynamics = esc.MomentumSGD(0.1, 2.0, 0.8, noise=NOISE, **options)
    matrix, kick = dynamics.transition(HESSIAN)
    one = kick @ COVARIANCE @ kick.T / 2.0
    stationary = solve_discrete_lyapunov(matrix, one)
    escape = esc.Escape(PLANE, dynamics, esc.Ball(1e3))
    early, after = np.zeros_like(one), 5
    for _ in range(after):
        early = matrix @ early @ matrix.T + one
    assert np.linalg.norm(early) < 0.9 * np.linalg.norm(stationary)
    for steps, expected in ((after, early[:2, :2]), (300, stationary[:2, :2])):
        found = esc.simulate(escape, 20_000, steps, key=4)
        assert found.censored.all()
        spread = np.outer(np.diag(expected), np.diag(expected)) + expected**2
        deviation = np.abs(np.cov(found.exit_points.T) - expected)
        np.testing.assert_array_less(deviation, 4 * np.sqrt(spread / 20_000))


def brute_force(rate, momentum, batch_size, radius, replicas=4000):
    """Exit times in one dimension by a loop over NumPy vectors."""
    random = np.random.default_rng(7)
    x, v, times = np.zeros(replicas), np.zeros(replicas), np.zeros(replicas)
    inside = np.ones(replicas, bool)
    while inside.any():
        gradient = x + random.standard_normal(replicas) / np.sqrt(batch_size)
        v = momentum * v + gradient
        x = x - rate * v
        times += inside
        inside &= np.abs(x) < radius
    return times


@pytest.mark.parametrize(("rate", "momentum"), [(0.05, 0.8), (0.02, 1.0)])
def test_exit_times_against_a_loop(rate, momentum):
    """With momentum one nothing is damped, and the energy grows until the exit."""
    dynamics = esc.MomentumSGD(rate, 10.0, momentum, noise=esc.noise.Isotropic(1.0))
    escape = esc.Escape(esc.landscapes.Quadratic([1.0]), dynamics, esc.Ball(0.3))
    found, loop = esc.simulate(escape, 4000, 10**5, key=1), brute_force(rate, momentum, 10.0, 0.3)
    assert not found.censored.any()
    error = np.hypot(found.standard_error, loop.std() / np.sqrt(loop.size))
    assert error < 0.03 * loop.mean()
    assert abs(found.mean - loop.mean()) < 3.5 * error


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.4}], ids=str)
def test_effective_learning_rate(options):
    """How far one gradient carries, once its velocity has died away."""
    dynamics = esc.MomentumSGD(0.1, 1, 0.8, **options)
    state = dynamics.update(PLANE, (np.zeros(2), np.zeros(2)), np.ones(2))
    for _ in range(300):
        state = dynamics.update(PLANE, state, np.zeros(2))
    np.testing.assert_allclose(state[0], -dynamics.effective_learning_rate, rtol=1e-12)


def test_contraction_is_the_decay_of_a_free_run():
    dynamics = esc.MomentumSGD(0.1, 1, 0.5)
    found = dynamics.contraction(PLANE, np.zeros(2), HESSIAN)
    state, sizes = (np.ones(2), np.zeros(2)), []
    for _ in range(400):
        state = dynamics.update(PLANE, state, HESSIAN @ state[0])
        sizes.append(np.linalg.norm(state[0]))
    assert found == pytest.approx((sizes[399] / sizes[199]) ** (1 / 200), rel=1e-4)
    assert esc.MomentumSGD(0.1, 1, 1.0).contraction(PLANE, np.zeros(2), HESSIAN) >= 1 - 1e-12


def test_momentum_one_never_zeroes_its_gradients():
    """The loop of the public experiment code: ``backward`` adds to ``grad``, nothing clears it."""
    torch = pytest.importorskip("torch")
    rate, inputs = 0.05, torch.from_numpy(EXAMPLES)
    dynamics = esc.MomentumSGD(rate, 3, momentum=1.0, sampling="shuffled_epochs")
    escape = esc.Escape(CLOUD, dynamics, esc.Ball(50.0), start=[0.3, -0.2])
    ours = np.array(list(esc.iterates(escape, 30, 3, precision="float64")))
    batches = _batches_of(dynamics, 30, key=3)
    theta = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    theirs = [theta.detach().numpy().copy()]
    for batch in batches:
        (0.5 * ((theta - inputs[batch]) ** 2).sum(1)).mean().backward()
        with torch.no_grad():
            theta -= rate * theta.grad
        theirs.append(theta.detach().numpy().copy())
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    gradients = [theirs[k] - EXAMPLES[batch].mean(axis=0) for k, batch in enumerate(batches)]
    np.testing.assert_allclose(
        np.diff(ours, 2, axis=0), -rate * np.array(gradients[1:]), atol=1e-12
    )


def _batches_of(dynamics, steps, key):
    """Indices of the minibatches of a run."""
    stream = Stream(jnp.asarray(seed_words(key)), jnp.zeros(1, jnp.uint32))
    pair = jnp.arange(-(-steps // 2), dtype=jnp.uint32)[:, None]
    draws = np.array(dynamics.gradients.draw_pairs(CLOUD, stream, pair))
    return draws.reshape(-1, draws.shape[2])[:steps]


def test_stationary_covariance(oracle):
    case = oracle("D06")
    rate, momentum, curvature = (case["params"][name] for name in ("eta", "mu", "lam"))
    dynamics = esc.MomentumSGD(rate, 1, momentum)
    matrix, kick = dynamics.transition(np.array([[curvature]]))
    whole = stationary_covariance_of_chain(matrix, kick, np.array([[case["params"]["c"]]]))
    assert whole[0, 0] / rate == pytest.approx(case["value"], rel=1e-12)
    case = oracle("D07")
    rate, momentum, x = (np.array(case["params"][name]) for name in ("eta", "mu", "x"))
    matrix, kick = esc.MomentumSGD(float(rate), 1, float(momentum)).transition(HESSIAN)
    whole = stationary_covariance_of_chain(matrix, kick, COVARIANCE)
    value = 0.5 * x @ np.linalg.solve(whole[:2, :2] / rate, x)
    assert value == pytest.approx(case["value"], rel=1e-12)
    np.testing.assert_allclose(
        whole, solve_discrete_lyapunov(matrix, kick @ COVARIANCE @ kick.T), rtol=1e-10
    )


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.4}], ids=str)
@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_edge_of_stability(options, momentum):
    edge = esc.MomentumSGD(0.1, 1, momentum, **options).largest_stable_learning_rate(2.5)
    for share, stable in ((1 - 1e-6, True), (1 + 1e-6, False)):
        dynamics = esc.MomentumSGD(share * edge, 1, momentum, **options)
        matrix, kick = dynamics.transition(np.array([[2.5]]))
        assert (np.abs(np.linalg.eigvals(matrix)).max() < 1) == stable
    with pytest.raises(Unstable, match="does not settle"):
        stationary_covariance_of_chain(matrix, kick, np.eye(1))
    with pytest.raises(InvalidArgument, match="kick"):
        stationary_covariance_of_chain(matrix, kick[:1], np.eye(1))


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 1.1},
        {"momentum": -0.1},
        {"dampening": 2.0},
        {"nesterov": True, "momentum": 0.0},
        {"nesterov": True, "dampening": 0.1},
        {"batch_size": 2.5},
        {"sampling": "sorted"},
        {"noise": 3.0},
        {"learning_rate": 0.0},
    ],
    ids=str,
)
def test_bad_arguments(options):
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        esc.MomentumSGD(**{"learning_rate": 0.1, "batch_size": 2} | options)


def test_minibatches_need_examples():
    with pytest.raises(Unsupported, match=r"MomentumSGD needs a loss over examples.*noise="):
        esc.Escape(PLANE, esc.MomentumSGD(0.1, 2), esc.Ball(1.0))
    dynamics = esc.MomentumSGD(0.1, 11, sampling="without_replacement")
    with pytest.raises(InvalidArgument, match="10 examples"):
        esc.Escape(CLOUD, dynamics, esc.Ball(1.0))
