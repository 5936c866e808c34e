"""The law of momentum: against exact chains of position and velocity, simulation and plain SGD."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.sparse.linalg import LinearOperator, gmres
from scipy.special import log_ndtr, ndtr

import escapade as esc
from escapade.errors import DegenerateNoise, Unstable, Unsupported
from escapade.minimum import neighbourhood
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.momentum import log_cluster_rate, momentum_law

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCE = np.array([[1.0, -0.3], [-0.3, 0.5]])
LINE, PLANE = esc.landscapes.Quadratic([1.0]), esc.landscapes.Quadratic(HESSIAN)


def law(escape):
    return momentum_law(escape, neighbourhood(escape))


def escape_over(barrier, landscape, covariance, region, rate, momentum, **options):
    """An escape whose batch size gives it the barrier."""
    noise = esc.noise.Constant(covariance)

    def at(batch_size):
        dynamics = esc.MomentumSGD(rate, batch_size, momentum, noise=noise, **options)
        return esc.Escape(landscape, dynamics, region)

    return at(1e4 * barrier / law(at(1e4)).groups.barrier)


def exact_mean(rate, momentum, deviation, radius, count=90):
    """Mean exit time of ``x'' = x' + mu (x' - x) - eta (x' + noise)`` from rest at 0.

    `deviation` is that of the last term. The pair of the last two positions is a Markov chain; its
    integral equation, ``T(x, x') = 1 + int k(x'' | x, x') T(x', x'') dx''``, on Gauss nodes.
    """
    gauss, weights = np.polynomial.legendre.leggauss(count)
    x, weights = radius * gauss, radius * weights

    def kernel(before, now):
        mean = now + momentum * (now - before) - rate * now
        shape = np.exp(-0.5 * ((x - mean[..., None]) / deviation) ** 2)
        return shape * weights / (np.sqrt(2 * np.pi) * deviation)

    inner = kernel(x[:, None], x)

    def equation(times):
        times = times.reshape(count, count)
        return (times - np.einsum("bnx,nx->bn", inner, times)).ravel()

    operator = LinearOperator((count**2, count**2), matvec=equation, dtype=float)
    times, failed = gmres(operator, np.ones(count**2), rtol=1e-9, restart=100, maxiter=20)
    assert not failed
    from_rest = 1 + np.einsum("nx,nx->n", kernel(np.zeros(count), x), times.reshape(count, count))
    return 1 + kernel(np.zeros(1), np.zeros(1))[0] @ from_rest


@pytest.mark.parametrize(
    ("rate", "momentum", "barrier"),
    [
        (0.1, 0.5, 3),
        (0.1, 0.9, 5),
        pytest.param(0.1, 0.5, 6, marks=pytest.mark.slow),
        pytest.param(0.5, 0.5, 4, marks=pytest.mark.slow),
        pytest.param(0.1, 0.9, 7, marks=pytest.mark.slow),
        pytest.param(1.0, 0.9, 4, marks=pytest.mark.slow),
        pytest.param(3.0, 0.9, 5, marks=pytest.mark.slow),
    ],
)
def test_exact_chain_of_positions(rate, momentum, barrier):
    """From the overdamped to the edge of stability, within the stated error."""
    escape = escape_over(barrier, LINE, [[1.0]], esc.Slab([1.0], 0.5), rate, momentum)
    found = law(escape)
    exact = exact_mean(rate, momentum, rate / np.sqrt(escape.dynamics.batch_size), 0.5)
    assert abs(found.log_mean - np.log(exact)) < found.relative_error < 0.1
    assert found.groups.barrier == pytest.approx(barrier)


def test_the_exact_chain_is_the_one_simulated():
    escape = escape_over(3, LINE, [[1.0]], esc.Slab([1.0], 0.5), 0.1, 0.9)
    exact = exact_mean(0.1, 0.9, 0.1 / np.sqrt(escape.dynamics.batch_size), 0.5)
    sample = esc.simulate(escape, 4000, 10**5, key=1)
    assert abs(sample.mean - exact) < 3 * sample.standard_error


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_without_momentum_it_is_plain_sgd(rate):
    """Against the exact chain of `solve`; at a rate of one every step forgets the one before."""
    escape = escape_over(5, LINE, [[1.0]], esc.Slab([1.0], 0.5), rate, 0.0)
    batch_size = escape.dynamics.batch_size
    plain = esc.GaussianSGD(rate, batch_size, esc.noise.Isotropic(1.0))
    exact = esc.solve(esc.Escape(LINE, plain, esc.Slab([1.0], 0.5)))
    assert law(escape).mean == pytest.approx(exact.mean, rel=0.02)


REGIONS = (esc.Ball(0.5), esc.Sublevel(0.3), esc.HalfSpace([1.0, 1.0], 0.4), esc.Slab([1, 2], 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("barrier", [3, 5])
@pytest.mark.parametrize(("rate", "momentum"), [(0.1, 0.5), (0.05, 0.9), (1.0, 0.9)])
@pytest.mark.parametrize("covariance", [COVARIANCE, HESSIAN], ids=["dense", "as Hessian"])
@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_simulation_in_the_plane(barrier, rate, momentum, covariance, region):
    escape = escape_over(barrier, PLANE, covariance, region, rate, momentum)
    found = law(escape)
    sample = esc.simulate(escape, 8000, 10**6, key=barrier)
    assert not sample.censored.any()
    error = np.hypot(3 * sample.standard_error / sample.mean, found.relative_error)
    assert abs(found.log_mean - np.log(sample.mean)) < error


@pytest.mark.parametrize(
    ("options", "barrier"), [({}, 5), pytest.param({"nesterov": True}, 5, marks=pytest.mark.slow)]
)
def test_simulation_of_a_ball(options, barrier):
    escape = escape_over(barrier, PLANE, COVARIANCE, esc.Ball(0.5), 0.05, 0.9, **options)
    found = law(escape)
    sample = esc.simulate(escape, 2000, 10**6, key=2)
    error = np.hypot(3 * sample.standard_error / sample.mean, found.relative_error)
    assert abs(found.log_mean - np.log(sample.mean)) < error < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_simulation_of_minibatches(momentum):
    """Forty examples with Gaussian gradients: the covariance measured, minibatches drawn."""
    examples = np.random.default_rng(0).standard_normal((40, 2)) @ [[1.0, 0.4], [0.0, 0.7]]
    landscape = esc.landscapes.Empirical(
        lambda theta, example: 0.5 * jnp.sum((theta - example) ** 2),
        jnp.zeros(2),
        examples,
        minima=[examples.mean(axis=0)],
    )
    dynamics = esc.MomentumSGD(0.1 * (1 - momentum), 20, momentum)
    escape = esc.Escape(landscape, dynamics, esc.Ball(0.23))
    found = law(escape)
    assert found.groups.barrier > 4
    sample = esc.simulate(escape, 1000, 10**6, key=1)
    error = np.hypot(3 * sample.standard_error / sample.mean, found.relative_error)
    assert abs(found.log_mean - np.log(sample.mean)) < np.hypot(error, 0.1)


def test_exponent(oracle):
    """V0 is the least position marginal V on the boundary: D07 is V at one point."""
    case = oracle("D07")["params"]
    dynamics = esc.MomentumSGD(case["eta"], 1e4, case["mu"], noise=esc.noise.Constant(case["C"]))
    escape = esc.Escape(esc.landscapes.Quadratic(case["H"]), dynamics, esc.Ball(1.0))
    matrix, kick = dynamics.transition(np.array(case["H"]))
    whole = solve_discrete_lyapunov(matrix, kick @ np.array(case["C"]) @ kick.T)
    largest = np.linalg.eigvalsh(whole[:2, :2] / case["eta"])[-1]
    assert law(escape).exponent == pytest.approx(1 / (2 * largest), rel=1e-9)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0], [1.0, 1.1, 1.3, 1.6, 1.9, 2.0]], ids=len)
def test_independent_draws(weights):
    """A chain without memory leaves when one draw is outside and the next inside."""
    dim, square = len(weights), 20.0
    one, none = np.eye(dim), np.zeros((dim, dim))
    form = QuadraticForm(np.diag(weights), np.sqrt(square))
    log_rate, error = log_cluster_rate(none, one, one, one, form)
    outside = 2 * ndtr(-np.sqrt(square))
    if dim > 1:  # by inverting the characteristic function (Imhof, Biometrika 1961)
        u = np.linspace(1e-6, 60.0, 200_001)
        phase = np.sum(np.arctan(np.outer(weights, u)), axis=0) / 2 - square / 2 * u
        modulus = u * np.prod((1 + np.outer(weights, u) ** 2) ** 0.25, axis=0)
        outside = 0.5 + np.trapezoid(np.sin(phase) / modulus, u) / np.pi
    rate = np.exp(log_rate)
    assert error < 0.01
    assert rate * np.exp(-rate) == pytest.approx(outside * (1 - outside), rel=4 * error)


def test_independent_draws_beyond_planes():
    for two_sided, sides in ((False, 1), (True, 2)):
        form = LinearForm([3.0, 4.0], 20.0, two_sided)
        none, one = np.zeros((2, 2)), np.eye(2)
        log_rate, _ = log_cluster_rate(none, one, one, one, form)
        outside = sides * ndtr(-4.0)
        assert np.exp(log_rate) == pytest.approx(outside, rel=1e-3)
    form = LinearForm([3.0, 4.0], 500.0, False)  # beyond the smallest float
    assert log_cluster_rate(none, one, one, one, form)[0] == pytest.approx(log_ndtr(-100.0))


def at(dynamics, landscape=LINE, region=None):
    return esc.Escape(landscape, dynamics, region or esc.Slab([1.0], 0.5))


WHITE = esc.noise.Isotropic(1.0)


@pytest.mark.parametrize(
    ("escape", "error", "message"),
    [
        (lambda: at(esc.GaussianSGD(0.1, 100.0, WHITE)), Unsupported, "use MomentumSGD"),
        (lambda: at(esc.MomentumSGD(0.1, 100.0, 1.0, noise=WHITE)), Unsupported, "never settles"),
        (lambda: at(esc.MomentumSGD(4.0, 100.0, 0.5, noise=WHITE)), Unstable, "rate is 3"),
        (
            lambda: at(
                esc.MomentumSGD(0.1, 100.0, noise=WHITE), region=esc.Where(lambda x: x[0] ** 2 < 1)
            ),
            Unsupported,
            "no closed form",
        ),
        (
            lambda: at(
                esc.MomentumSGD(0.1, 100.0, noise=esc.noise.Constant([1.0, 0.0])),
                esc.landscapes.Quadratic(np.eye(2)),
                esc.Slab([0.0, 1.0], 0.5),
            ),
            DegenerateNoise,
            "never",
        ),
        (lambda: at(esc.MomentumSGD(0.1, 1e-3, noise=WHITE)), Unsupported, "none of"),
    ],
)
def test_what_does_not_apply(escape, error, message):
    with pytest.raises(error, match=message):
        law(escape())
