"""The verb `minimum_steepness`: reference values, and paths whose action is computed apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize

import escapade as esc
from escapade.errors import (
    DegenerateNoise,
    InvalidArgument,
    NotAMinimum,
    NotConverged,
    NotInRegion,
    Unsupported,
)

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])
X = np.array([0.6, 0.3])
QUADRATIC = esc.landscapes.Quadratic(H)


def continuous(learning_rate=1.0, covariance=C):
    return esc.ContinuousSGD(learning_rate, 1.0, esc.noise.Constant(covariance))


def discrete(learning_rate=0.3, covariance=C):
    return esc.GaussianSGD(learning_rate, 1.0, esc.noise.Constant(covariance))


def escape(dynamics, region=None, landscape=QUADRATIC, **given):
    return esc.Escape(landscape, dynamics, region or esc.Ball(1.0), **given)


def test_to_a_point(oracle):
    assert esc.minimum_steepness(escape(continuous()), to=X).value == pytest.approx(
        oracle("Q03")["value"], rel=1e-8
    )
    assert esc.minimum_steepness(escape(discrete()), to=X).value == pytest.approx(
        oracle("D01")["value"], rel=1e-8
    )


@pytest.mark.parametrize("learning_rate", [1.0, 0.1])
def test_within_a_horizon(oracle, learning_rate):
    steps = 0.7 / learning_rate  # a horizon is counted in steps, whatever the learning rate
    start = oracle("Q05")["params"]["x0"]
    for case, given in (("Q04", {}), ("Q05", {"start": start})):
        problem = escape(continuous(learning_rate), **given)
        value = esc.minimum_steepness(problem, horizon=steps, to=X).value
        assert value == pytest.approx(oracle(case)["value"], rel=1e-8)
    value = esc.minimum_steepness(escape(discrete()), horizon=5, to=X).value
    assert value == pytest.approx(oracle("D03")["value"], rel=1e-8)


def test_out_of_regions(oracle):
    for case, region in (
        ("Q06", esc.Ball(1.0)),
        ("Q07", esc.Sublevel(1.0)),
        ("Q08", esc.HalfSpace([1.0, 1.0], 1.0)),
        ("Q08", esc.Slab([1.0, 1.0], 1.0)),
    ):
        found = esc.minimum_steepness(escape(continuous(), region))
        assert found.value == pytest.approx(oracle(case)["value"], rel=1e-8)
        assert found.converged
        assert found.error < 1e-12
    edge = esc.landscapes.Quadratic([1.0, 4.9])
    sharp = esc.GaussianSGD(0.4, 1.0, esc.noise.HessianProportional())
    for case, region in (("D04", esc.Ball(1.0)), ("D05", esc.Sublevel(1.0))):
        value = esc.minimum_steepness(escape(sharp, region, edge)).value
        assert value == pytest.approx(oracle(case)["value"], rel=1e-8)


def discrete_action(path, learning_rate):
    """B / (2 eta^2) sum |theta' - theta + eta H theta|^2_{C^-1}, per B / eta."""
    kicks = np.diff(path, axis=0) + learning_rate * path[:-1] @ H
    return float((kicks @ np.linalg.inv(C) * kicks).sum() / (2 * learning_rate))


def test_discrete_paths_cost_what_is_said():
    found = esc.minimum_steepness(escape(discrete()))
    assert discrete_action(found.path, 0.3) == pytest.approx(found.value, rel=1e-7)
    start = np.array([-0.2, 0.4])
    found = esc.minimum_steepness(escape(discrete(), start=start), horizon=3)
    np.testing.assert_allclose(found.path[0], start)
    assert len(found.path) == 4
    assert discrete_action(found.path, 0.3) == pytest.approx(found.value, rel=1e-10)
    # Any other path with the same ends costs more.
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = found.path.copy()
        other[1:-1] += 1e-2 * rng.standard_normal(other[1:-1].shape)
        assert discrete_action(other, 0.3) > found.value


def test_continuous_paths_cost_what_is_said():
    # The trapezoidal action of the sampled path, refined by its own spacing: first check that the
    # ends are right, then that the action of a finite-horizon path tends to the value.
    start = np.array([-0.2, 0.4])
    found = esc.minimum_steepness(escape(continuous(), start=start), horizon=1.5)
    np.testing.assert_allclose(found.path[0], start)
    assert np.linalg.norm(found.path[-1]) == pytest.approx(1.0, rel=1e-9)
    assert 0 < found.times[-1] <= 1.5
    step = found.times[-1] / (len(found.path) - 1)
    np.testing.assert_allclose(np.diff(found.times), step)
    middle = (found.path[1:] + found.path[:-1]) / 2
    kick = np.diff(found.path, axis=0) / step + middle @ H
    action = 0.5 * step * (kick @ np.linalg.inv(C) * kick).sum()
    assert action == pytest.approx(found.value, rel=1e-4)
    infinite = esc.minimum_steepness(escape(continuous()))
    np.testing.assert_allclose(infinite.path[0], 0, atol=1e-9)
    np.testing.assert_allclose(infinite.path[-1], infinite.exit_point)
    # Up the instanton, theta' = -H theta + C p with p = S^-1 theta: check it by differences.
    S = esc.neighbourhood(escape(continuous())).stationary_covariance()
    np.testing.assert_allclose(infinite.momentum, np.linalg.solve(S, infinite.exit_point))
    np.testing.assert_allclose(H @ S + S @ H, C, atol=1e-14)


def test_finite_horizon_decreases_to_the_quasipotential():
    values = [
        esc.minimum_steepness(escape(continuous()), horizon=steps).value
        for steps in (0.3, 1.0, 3.0, 30.0)
    ]
    limit = esc.minimum_steepness(escape(continuous())).value
    assert np.all(np.diff(values) < 0)
    assert values[-1] == pytest.approx(limit, rel=1e-6)


def test_invariances():
    base = esc.minimum_steepness(escape(continuous())).value
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = escape(
        continuous(covariance=turn @ C @ turn.T),
        landscape=esc.landscapes.Quadratic(turn @ H @ turn.T),
    )
    assert esc.minimum_steepness(turned).value == pytest.approx(base, rel=1e-12)
    # L -> a L, C -> a^2 C, eta -> eta / a leaves every SGD path unchanged, so (B / eta) V too.
    a = 3.0
    scaled = escape(discrete(0.3 / a, a**2 * C), landscape=esc.landscapes.Quadratic(a * H))
    one = esc.minimum_steepness(escape(discrete())).value / 0.3
    assert esc.minimum_steepness(scaled).value / (0.3 / a) == pytest.approx(one, rel=1e-12)


def test_discrete_tends_to_continuous():
    limit = esc.minimum_steepness(escape(continuous())).value
    errors = [
        abs(esc.minimum_steepness(escape(discrete(rate))).value - limit) for rate in (0.02, 0.01)
    ]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.02)


def test_any_dimension():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.standard_normal((100, 100)))[0]
    hessian = orthogonal * np.geomspace(1, 1e-3, 100) @ orthogonal.T
    hessian = (hessian + hessian.T) / 2
    dynamics = esc.ContinuousSGD(0.1, 1.0, esc.noise.HessianProportional(2.0))
    problem = esc.Escape(esc.landscapes.Quadratic(hessian), dynamics, esc.Ball(1.0))
    # C = c H: V = |x|^2 / c in every direction.
    found = esc.minimum_steepness(problem, to=0.3 * orthogonal[:, 17])
    assert found.value == pytest.approx(0.09 / 2, rel=1e-10)


def test_an_exit_may_come_before_the_horizon():
    """From elsewhere the noiseless chain drifts home, so that waiting does not help."""
    start = np.array([-0.2, 0.4])
    found = esc.minimum_steepness(escape(discrete(), start=start), horizon=5)
    step = np.eye(2) - 0.3 * H
    covariance, mean, values = np.zeros((2, 2)), start, []
    angles = np.linspace(0, 2 * np.pi, 20_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for _ in range(5):  # exit at step k exactly, scanning the circle
        covariance, mean = step @ covariance @ step.T + 0.3 * C, step @ mean
        offsets = circle - mean
        values.append(0.5 * (offsets @ np.linalg.inv(covariance) * offsets).sum(axis=1).min())
    assert found.value == pytest.approx(min(values), rel=1e-6)
    assert np.argmin(values) == 2
    np.testing.assert_allclose(found.times, [0, 1, 2, 3])
    assert discrete_action(found.path, 0.3) == pytest.approx(found.value, rel=1e-9)


# Beyond the quadratic: who solves it is found out by `minimum_steepness`.

WELL = esc.landscapes.DoubleWell()
MAIER_STEIN = esc.landscapes.MaierStein(10.0)
CURVED = esc.noise.Function(lambda theta: 1 + theta[0] ** 2 / 2)
WEIGHTS = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2, 0.7, 1.3])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6, 2.2, -0.4])
BOTTOM = [WEIGHTS @ CENTRES / WEIGHTS.sum()]
EXAMPLES = esc.landscapes.Empirical(
    lambda theta, example: example[0] * jnp.sum((theta - example[1]) ** 2) / 2,
    jnp.zeros(1),
    (WEIGHTS, CENTRES),
)


def diffusion(landscape, minimum, region, noise=None, learning_rate=0.1, **given):
    dynamics = esc.ContinuousSGD(learning_rate, 1.0, noise or esc.noise.Isotropic())
    return esc.Escape(landscape, dynamics, region, minimum=minimum, **given)


def minibatches(region, sampling="with_replacement"):
    dynamics = esc.MinibatchSGD(0.3, 3, sampling=sampling)
    return esc.Escape(EXAMPLES, dynamics, region, minimum=BOTTOM)


def test_state_dependent_noise(oracle):
    saddle = oracle("N03")["value"]
    problem = diffusion(WELL, [-1.0], esc.HalfSpace([1.0], 1.0), CURVED)
    assert esc.minimum_steepness(problem).value == pytest.approx(saddle, rel=1e-8)
    loss = esc.landscapes.Function(lambda theta: 0.2 + 0.5 * theta[0] ** 2, 1)
    noise = esc.noise.Function(lambda theta: 2 * (0.2 + 0.5 * theta[0] ** 2))
    right, left = esc.minimum_steepness(diffusion(loss, [0.0], esc.Ball(1.0), noise)).minimisers
    for orbit in (right, left):
        assert orbit.value == pytest.approx(oracle("N09")["value"], rel=1e-8)
    np.testing.assert_allclose(right.end, -left.end)


def test_lowest_saddle_of_a_basin(oracle):
    landscape = esc.landscapes.StyblinskiTang(1)
    problem = diffusion(landscape, landscape.minima[1], esc.Basin())
    found = esc.minimum_steepness(problem)
    assert found.value == pytest.approx(oracle("N07")["value"], rel=1e-8)
    assert found.exit_point == pytest.approx(oracle("N07")["params"]["saddle"])


@pytest.fixture(scope="module")
def around_a_ridge():
    return esc.minimum_steepness(diffusion(MAIER_STEIN, [-1.0, 0.0], esc.Basin()), to=[0.0, 0.0])


def test_two_mirror_routes(oracle, around_a_ridge):
    exact = oracle("X01")["value"]
    assert around_a_ridge.value == pytest.approx(exact, rel=1e-8)
    assert len(around_a_ridge.orbits) == len(around_a_ridge.minimisers) == 2
    np.testing.assert_allclose(around_a_ridge.exit_points, 0, atol=1e-12)
    heights = [np.abs(orbit.path[:, 1]).max() for orbit in around_a_ridge.orbits]
    assert heights == pytest.approx([0.31297] * 2, abs=1.5e-5)
    one, other = around_a_ridge.minimisers
    assert one.path[:, 1].sum() * other.path[:, 1].sum() < 0
    basin = esc.minimum_steepness(diffusion(MAIER_STEIN, [-1.0, 0.0], esc.Basin()))
    assert basin.value == pytest.approx(exact, rel=1e-8)


def test_a_result_as_labelled_arrays_and_in_words(around_a_ridge):
    dataset = around_a_ridge.to_xarray()
    np.testing.assert_array_equal(dataset["path"], around_a_ridge.path)
    np.testing.assert_array_equal(dataset["momentum"], around_a_ridge.momenta)
    np.testing.assert_array_equal(dataset["steepness"], around_a_ridge.actions)
    # Times are steps: eta times them are those of the orbit.
    times = 0.1 * dataset["step"].values
    np.testing.assert_allclose(times, around_a_ridge.orbits[0].times)
    assert dataset.attrs["value"] == around_a_ridge.value == around_a_ridge.actions[-1]
    values = [orbit.value for orbit in around_a_ridge.orbits]
    assert dataset.attrs["values_of_all_local_minimisers"] == values
    assert np.isinf(dataset.attrs["horizon"])
    assert "minimum steepness 0.34004140" in str(around_a_ridge)
    assert "1 other local minimiser" in str(around_a_ridge)
    assert "steps" not in str(around_a_ridge)


@pytest.mark.parametrize(
    "sampling", ["with_replacement", pytest.param("without_replacement", marks=pytest.mark.slow)]
)
def test_small_learning_rates_with_minibatches(oracle, sampling):
    found = esc.minimum_steepness(minibatches(esc.Ball(0.6), sampling), continuous_limit=True)
    case = {"with_replacement": "B01", "without_replacement": "B03"}[sampling]
    assert found.value == pytest.approx(oracle(case)["value"], rel=1e-8)
    assert found.exit_point == pytest.approx([BOTTOM[0] + 0.6])
    assert len(found.orbits) == 2
    assert len(found.minimisers) == 1  # the examples are skewed: left is harder
    if sampling == "with_replacement":
        assert found.orbits[1].value == pytest.approx(oracle("B02")["value"], rel=1e-8)
        assert found.orbits[1].end == pytest.approx([BOTTOM[0] - 0.6])


def test_minibatches_at_a_finite_learning_rate(oracle):
    found = esc.minimum_steepness(minibatches(esc.HalfSpace([1.0], 0.4)))
    assert found.value == pytest.approx(oracle("B04")["value"], rel=1e-8)
    np.testing.assert_allclose(np.diff(found.times), 1)
    assert found.times[-1] == 0


def test_a_horizon_beyond_the_quadratic():
    """By energy conservation in one dimension: the time to pass, and the action, are integrals."""
    slope = WELL.gradient
    region = esc.HalfSpace([1.0], 0.9)

    def speed(x, energy):  # x' of the orbit with H = energy
        return np.sqrt(slope(np.array([x]))[0] ** 2 + 2 * energy)

    def integral(function, energy):
        return scipy.integrate.quad(
            lambda x: function(x, energy), -1, -0.1, epsabs=1e-13, epsrel=1e-12, limit=200
        )[0]

    time = 1.5
    energy = scipy.optimize.brentq(
        lambda h: integral(lambda x, h: 1 / speed(x, h), h) - time, 1e-4, 10, xtol=1e-14
    )
    exact = integral(lambda x, h: speed(x, h) + slope(np.array([x]))[0], energy) - energy * time
    for learning_rate in (0.1, 1.0):
        problem = diffusion(WELL, [-1.0], region, learning_rate=learning_rate)
        found = esc.minimum_steepness(problem, horizon=time / learning_rate)
        assert found.value == pytest.approx(exact, rel=1e-8)
        np.testing.assert_allclose(found.times[[0, -1]], [0, time / learning_rate])
        assert f"within {time / learning_rate:g} steps" in str(found)


def test_a_chain_with_a_horizon_beyond_the_quadratic():
    """A minimiser over all interior points knows no better."""
    chain = esc.GaussianSGD(0.25, 1.0, esc.noise.Isotropic())
    problem = esc.Escape(WELL, chain, esc.HalfSpace([1.0], 0.9), minimum=[-1.0])

    def action(inner):
        path = np.concatenate([[-1.0], inner, [-0.1]])
        kicks = np.diff(path) + 0.25 * (path[:-1] ** 3 - path[:-1])
        return (kicks**2).sum() / (2 * 0.25)

    brute = scipy.optimize.minimize(action, np.linspace(-1, -0.1, 13)[1:-1], tol=1e-12)
    found = esc.minimum_steepness(problem, horizon=12)
    assert found.value == pytest.approx(brute.fun, rel=1e-8)
    assert len(found.path) == 13


# What cannot be answered.


@pytest.mark.parametrize("horizon", [-1, 0, np.nan, np.inf, [5, 6]])
def test_horizons_are_positive(horizon):
    for problem in (escape(continuous()), diffusion(WELL, [-1.0], esc.HalfSpace([1.0], 0.9))):
        with pytest.raises(InvalidArgument, match=r"horizon is .*positive number"):
            esc.minimum_steepness(problem, horizon=horizon)


def test_chains_take_whole_steps():
    with pytest.raises(InvalidArgument, match=r"horizon is 2\.5; .*whole number"):
        esc.minimum_steepness(escape(discrete()), horizon=2.5)


def test_ends_have_the_shape_of_the_parameters():
    with pytest.raises(InvalidArgument, match="to"):
        esc.minimum_steepness(escape(discrete()), to=[1.0, 2.0, 3.0])
    with pytest.raises(InvalidArgument, match="to holds NaN"):
        esc.minimum_steepness(escape(discrete()), to=[1.0, np.nan])


def test_ends_out_of_the_reach_of_the_noise():
    flat = esc.noise.Constant([1.0, 0.0])
    round_bowl = esc.landscapes.Quadratic([1.0, 1.0])
    chain = esc.GaussianSGD(0.1, 1.0, flat)
    for problem in (
        diffusion(round_bowl, None, esc.Ball(1.0), flat),
        esc.Escape(round_bowl, chain, esc.Ball(1.0)),
    ):
        with pytest.raises(DegenerateNoise):
            esc.minimum_steepness(problem, to=[0.1, 0.1])


def test_starts_from_which_no_noise_is_needed():
    chain = esc.GaussianSGD(0.9, 1.0, esc.noise.Constant(C))
    thrown = escape(chain, esc.HalfSpace([1.0, 0.0], 0.5), start=[-0.9, 0.0])
    with pytest.raises(NotInRegion, match="without noise"):
        esc.minimum_steepness(thrown, horizon=1)
    turn = esc.landscapes.Drift(
        lambda x: jnp.stack([-x[0] + 4 * x[1], -x[1]]), 2, minima=np.zeros((1, 2))
    )
    swung = diffusion(turn, None, esc.Ball(1.0), start=[0.0, 0.95])
    with pytest.raises(NotInRegion, match="no fluctuation is needed"):
        esc.minimum_steepness(swung, horizon=30)


def test_shuffled_epochs_have_no_steepness():
    with pytest.raises(Unsupported, match="shuffled epochs"):
        esc.minimum_steepness(minibatches(esc.Ball(0.6), "shuffled_epochs"))


def test_kinks_are_named():
    kinked = esc.landscapes.Function(
        lambda theta: 0.5 * theta @ theta + jnp.abs(theta[0] - 0.4) / 2, 2, minima=[[0.4, 0.0]]
    )
    with pytest.raises(NotAMinimum, match="gradient norm"):
        diffusion(kinked, [0.4, 0.0], esc.Ball(1.0))
    bent = esc.landscapes.Function(
        lambda theta: 0.5 * theta @ theta + 0.5 * jax.nn.relu(theta[0] - 0.4), 2
    )
    problem = diffusion(bent, [0.0, 0.0], esc.Ball(1.0), esc.noise.Constant(C))
    with pytest.raises(Unsupported, match=r"not smooth: .* kink"):
        esc.minimum_steepness(problem, to=[0.8, 0.1])


def test_ends_outside_the_domain():
    walled = esc.landscapes.Function(lambda theta: -jnp.sqrt(1 - theta @ theta), 2)
    with pytest.raises(NotConverged, match="infinite or NaN; check the landscape"):
        esc.minimum_steepness(diffusion(walled, [0.0, 0.0], esc.Ball(1.5)))
    # A chain may jump over the wall: its last step starts inside.
    chain = esc.Escape(walled, discrete(0.1), esc.Ball(0.5), minimum=[0.0, 0.0])
    found = esc.minimum_steepness(chain, to=[1.2, 0.0])
    inside = np.linalg.norm(found.path, axis=1) < 1
    assert inside[:-1].all()
    assert not inside[-1]
