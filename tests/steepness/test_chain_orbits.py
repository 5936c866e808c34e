"""Chains at a finite learning rate: the general solver against closed forms and brute force."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import escapade as esc
from escapade.errors import DegenerateNoise, InvalidArgument, NotInRegion, Unstable, Unsupported
from escapade.minimum import neighbourhood
from escapade.minimum.lyapunov import horizon_covariance
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.local import minimum_over_boundary
from escapade.steepness.time_grid.chain import chain_orbits

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])
X = np.array([0.6, 0.3])
START = np.array([-0.2, 0.4])
QUADRATIC = esc.landscapes.Quadratic(H)
WELL = esc.landscapes.DoubleWell()
CURVATURES = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2, 0.7, 1.3])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6, 2.2, -0.4])
BOTTOM = CURVATURES @ CENTRES / CURVATURES.sum()


def example_loss(theta, example):
    return 0.5 * example[0] * jnp.sum((theta - example[1]) ** 2)


EXAMPLES = esc.landscapes.Empirical(example_loss, jnp.zeros(1), (CURVATURES, CENTRES))


def linear(region=None, learning_rate=0.3, covariance=C, landscape=QUADRATIC, **given):
    chain = esc.GaussianSGD(learning_rate, 1.0, esc.noise.Constant(covariance))
    return esc.Escape(landscape, chain, region or esc.Ball(1.0), **given)


def well(learning_rate, noise=None, offset=0.9, **given):
    chain = esc.GaussianSGD(learning_rate, 1.0, noise or esc.noise.Isotropic())
    return esc.Escape(WELL, chain, esc.HalfSpace([1.0], offset), minimum=[-1.0], **given)


def minibatch(learning_rate, region, sampling="with_replacement", batch_size=3):
    chain = esc.MinibatchSGD(learning_rate, batch_size, sampling=sampling)
    return esc.Escape(EXAMPLES, chain, region, minimum=[BOTTOM])


def orbits(escape, **given):
    if "to" not in given:
        given["region"] = escape.region
    return chain_orbits(hamiltonian(escape), escape.start, escape.minimum, **given)


def gaussian_action(escape, path, learning_rate, covariance):
    """Independent of the solver: sum of squared kicks in the metric of the noise."""
    gradients = np.array([escape.landscape.gradient(x) for x in path[:-1]])
    kicks = np.diff(path, axis=0) + learning_rate * gradients
    return float((kicks @ np.linalg.inv(covariance) * kicks).sum() / (2 * learning_rate))


def test_to_a_point(oracle):
    found = orbits(linear(), to=X)
    assert len(found) == 1
    assert found[0].value == pytest.approx(oracle("D01")["value"], rel=1e-8)
    found = orbits(linear(), to=X, steps=5)[0]
    assert found.value == pytest.approx(oracle("D03")["value"], rel=1e-8)
    assert gaussian_action(linear(), found.path, 0.3, C) == pytest.approx(found.value, rel=1e-10)
    np.testing.assert_allclose(found.times, 0.3 * np.arange(6))
    proportional = esc.GaussianSGD(0.3, 1.0, esc.noise.HessianProportional())
    params = oracle("D02")["params"]
    landscape = esc.landscapes.Quadratic(params["H"])
    escape = esc.Escape(landscape, proportional, esc.Ball(1.0))
    found = orbits(escape, to=np.asarray(params["x"], dtype=float))[0]
    assert found.value == pytest.approx(oracle("D02")["value"], rel=1e-8)


def test_edge_of_stability(oracle):
    sharp = esc.GaussianSGD(0.4, 1.0, esc.noise.HessianProportional())
    landscape = esc.landscapes.Quadratic([1.0, 4.9])
    for case, region in (("D04", esc.Ball(1.0)), ("D05", esc.Sublevel(1.0))):
        found = orbits(esc.Escape(landscape, sharp, region))
        assert found[0].value == pytest.approx(oracle(case)["value"], rel=1e-8)
        assert found[0].converged


@pytest.mark.parametrize(
    "region",
    [esc.Ball(1.0), esc.Sublevel(1.0), esc.HalfSpace([1.0, 1.0], 1.0), esc.Slab([1.0, 1.0], 1.0)],
    ids=str,
)
def test_out_of_regions_as_in_closed_form(region):
    escape = linear(region)
    form = escape.region.local_form(escape.minimum, H)
    spread = escape_spread(escape)
    for steps, covariance in ((None, spread), (5, horizon_covariance(H, C, 5, 0.3))):
        expected = minimum_over_boundary(covariance, form)
        found = orbits(escape, steps=steps)
        best = found[0]
        assert best.value == pytest.approx(expected.value, rel=1e-10)
        assert len(found) == len(expected.points)
        offsets = np.linalg.norm(expected.points - best.end, axis=1)
        assert offsets.min() < 1e-6
        np.testing.assert_allclose(
            covariance @ best.momenta[-1], best.end, atol=1e-9
        )  # the momentum is the gradient of V
        assert escape.region.level(best.end) == pytest.approx(0, abs=1e-9)
        assert best.converged
        assert best.actions[-1] == best.value


def escape_spread(escape):
    return neighbourhood(escape).stationary_covariance(escape.dynamics.learning_rate)


def test_from_elsewhere_the_best_exit_comes_before_the_horizon():
    for region in (esc.Ball(1.0), esc.HalfSpace([1.0, 1.0], 1.0)):
        escape = linear(region, start=START)
        form = escape.region.local_form(escape.minimum, H)
        step = np.eye(2) - 0.3 * H
        values = [
            minimum_over_boundary(
                horizon_covariance(H, C, k, 0.3), form, np.linalg.matrix_power(step, k) @ START
            ).value
            for k in range(1, 7)
        ]
        assert np.argmin(values) < 5
        found = orbits(escape, steps=6)[0]
        assert found.value == pytest.approx(min(values), rel=1e-10)
        assert len(found.path) == np.argmin(values) + 2
        np.testing.assert_array_equal(found.path[0], START)


def test_double_well_against_minimisation_of_the_action():
    """Brute force: all interior points are free, the end on the boundary."""
    steps, rate = 12, 0.25
    escape = well(rate)

    def action(inner):
        path = np.concatenate([[-1.0], inner, [-0.1]])
        gradient = path[:-1] ** 3 - path[:-1]
        return ((np.diff(path) + rate * gradient) ** 2).sum() / (2 * rate)

    brute = scipy.optimize.minimize(action, np.linspace(-1, -0.1, steps + 1)[1:-1], tol=1e-12)
    found = orbits(escape, steps=steps)
    assert len(found) == 1
    assert found[0].value == pytest.approx(brute.fun, rel=1e-8)
    np.testing.assert_allclose(found[0].path[1:-1, 0], brute.x, atol=1e-5)


def test_first_order_in_the_learning_rate():
    """V_d = V - eta/2 int phi' V'' phi' dt; here V = 2 (L - L0) and the integral is L'(end)^2."""
    end = -0.1
    slope = end**3 - end
    limit = 2 * (end**4 / 4 - end**2 / 2 + 0.25)
    rates = np.array([0.1, 0.05, 0.025])
    values = [orbits(well(rate))[0].value for rate in rates]
    slopes = (np.array(values) - limit) / rates
    extrapolated = 2 * slopes[1:] - slopes[:-1]
    twice = (4 * extrapolated[1] - extrapolated[0]) / 3
    assert twice == pytest.approx(-(slope**2) / 2, rel=1e-2)


@pytest.mark.slow
def test_state_dependent_noise_tends_to_the_continuous_value(oracle):
    """Order one in the learning rate; to the saddle the continuous value is N03."""
    noise = esc.noise.Function(lambda theta: 1 + theta[0] ** 2 / 2)
    rates = np.array([0.4, 0.2, 0.1])
    values = np.array([orbits(well(rate, noise), to=np.zeros(1))[0].value for rate in rates])
    expected = oracle("N03")["value"]
    errors = np.abs(values - expected)
    assert (errors[1:] < errors[:-1]).all()
    once = 2 * values[1:] - values[:-1]
    twice = (4 * once[1] - once[0]) / 3
    assert twice == pytest.approx(expected, rel=1e-3)


def test_minibatches(oracle):
    escape = minibatch(0.3, esc.HalfSpace([1.0], 0.4))
    found = orbits(escape)
    assert found[0].value == pytest.approx(oracle("B04")["value"], rel=1e-8)
    assert found[0].converged
    to = orbits(escape, to=np.array([BOTTOM + 0.4]))[0]
    assert to.value == pytest.approx(found[0].value, rel=1e-9)
    # Both sides of a slab are local minimisers, and not equally hard: the examples are skewed.
    right, left = orbits(minibatch(0.3, esc.Slab([1.0], 0.6)))
    assert right.end[0] > BOTTOM > left.end[0]
    assert right.value < 0.5 * left.value


@pytest.mark.parametrize(
    ("case", "sampling"), [("B01", "with_replacement"), ("B03", "without_replacement")]
)
def test_minibatches_tend_to_the_continuous_value(oracle, case, sampling):
    region = esc.HalfSpace([1.0], 0.6)
    values = [orbits(minibatch(rate, region, sampling))[0].value for rate in (0.2, 0.1, 0.05)]
    once = 2 * np.array(values[1:]) - np.array(values[:-1])
    twice = (4 * once[1] - once[0]) / 3
    assert twice == pytest.approx(oracle(case)["value"], rel=1e-4)
    assert abs(values[0] - values[1]) == pytest.approx(2 * abs(values[1] - values[2]), rel=0.1)


def test_saddle_and_beyond():
    """Beyond the saddle the path falls by itself; at it, no first order in the learning rate."""
    to_saddle = orbits(well(0.4), to=np.zeros(1))[0]
    beyond = orbits(well(0.4, offset=1.5))[0]
    assert beyond.value == pytest.approx(to_saddle.value, rel=1e-8)
    assert to_saddle.converged
    small = orbits(well(0.2), to=np.zeros(1))[0].value
    # V = 1/2 in continuous time: the deviation is of second order.
    assert (0.5 - to_saddle.value) / (0.5 - small) == pytest.approx(4, rel=0.2)
    horizons = [orbits(well(0.4, offset=1.5), steps=steps)[0].value for steps in (10, 20, 60)]
    assert horizons[0] > horizons[1] > horizons[2] > to_saddle.value * (1 - 1e-9)
    assert horizons[2] == pytest.approx(to_saddle.value, rel=1e-4)


def test_two_routes_around_a_ridge():
    """Maier-Stein breaks the symmetry of its drift: two mirror exits, both found."""
    chain = esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic())
    landscape = esc.landscapes.MaierStein(10.0)
    found = orbits(esc.Escape(landscape, chain, esc.Ball(0.8), minimum=[-1.0, 0.0]))
    first, second = found[:2]
    assert first.value == pytest.approx(second.value, rel=1e-9)
    np.testing.assert_allclose(first.end, second.end * [1, -1], atol=1e-7)
    assert first.converged
    # The same cost from the minimum itself, in many steps: no use of the quadratic theory.
    many = orbits(esc.Escape(landscape, chain, esc.Ball(0.8), minimum=[-1.0, 0.0]), steps=120)[0]
    assert many.value == pytest.approx(first.value, rel=1e-8)


def test_slow_directions_take_thousands_of_steps():
    hessian = np.array([[1.0, 0.2], [0.2, 0.042]])  # eigenvalues 1.04 and 0.0019
    escape = linear(esc.Ball(1.0), 1.0, landscape=esc.landscapes.Quadratic(hessian))
    expected = minimum_over_boundary(
        escape_spread(escape), escape.region.local_form(escape.minimum, hessian)
    )
    found = orbits(escape)[0]
    assert len(found.path) > 2000
    assert found.value == pytest.approx(expected.value, rel=1e-8)


def test_noise_in_one_direction_only():
    noise = np.diag([1.0, 0.0])
    coupled = linear(covariance=noise)
    form = coupled.region.local_form(coupled.minimum, H)
    found = orbits(coupled)[0]
    expected = minimum_over_boundary(escape_spread(coupled), form)
    assert found.value == pytest.approx(expected.value, rel=1e-8)
    with pytest.raises(DegenerateNoise, match="longer horizon"):
        orbits(coupled, to=X, steps=1)
    apart = linear(
        esc.HalfSpace([0.0, 1.0], 0.5),
        covariance=noise,
        landscape=esc.landscapes.Quadratic([2.0, 1.0]),
    )
    with pytest.raises(DegenerateNoise, match="leads nowhere"):
        orbits(apart)


def test_refusals():
    noise = esc.noise.Isotropic()
    chain = esc.GaussianSGD(0.1, 1.0, noise)
    with pytest.raises(Unstable, match="largest stable"):
        orbits(linear(learning_rate=1.3), to=X)
    # The drift turns the start outwards before it comes home.
    field = esc.landscapes.Drift(
        lambda x: jnp.stack([-x[0] + 4 * x[1], -x[1]]), 2, minima=np.zeros((1, 2))
    )
    swung = esc.Escape(field, chain, esc.Ball(1.0), start=[0.0, 0.95])
    with pytest.raises(NotInRegion, match="no fluctuation is needed"):
        orbits(swung, steps=30)
    basin = esc.Escape(WELL, chain, esc.Basin(), minimum=[-1.0])
    with pytest.raises(Unsupported, match="to="):
        orbits(basin)
    with pytest.raises(InvalidArgument, match="steps"):
        orbits(linear(), steps=2.5)
    diffusion = esc.Escape(QUADRATIC, esc.ContinuousSGD(0.1, 1.0, noise), esc.Ball(1.0))
    with pytest.raises(InvalidArgument, match="chain"):
        orbits(diffusion)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(angle=st.floats(0.1, 3.0), steps=st.integers(3, 12))
def test_invariance_under_rotation(angle, steps):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = linear(
        covariance=turn @ C @ turn.T, landscape=esc.landscapes.Quadratic(turn @ H @ turn.T)
    )
    value = orbits(linear(), to=X, steps=steps)[0].value
    assert orbits(turned, to=turn @ X, steps=steps)[0].value == pytest.approx(value, rel=1e-10)
    assert orbits(linear(), to=X, steps=steps + 1)[0].value < value
