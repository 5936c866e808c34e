"""Continuous SGD within a finite time: against closed forms, brute force and limits."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import escapade as esc
from escapade.errors import DegenerateNoise, InvalidArgument, NotInRegion
from escapade.minimum.lyapunov import horizon_covariance
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.local import minimum_over_boundary
from escapade.steepness.time_grid.finite_horizon import finite_horizon_orbits

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])
X = np.array([0.6, 0.3])
START = np.array([-0.2, 0.4])
QUADRATIC = esc.landscapes.Quadratic(H)
WELL = esc.landscapes.DoubleWell()
ISOTROPIC = esc.ContinuousSGD(1.0, 1.0, esc.noise.Isotropic())


def spiral(x):
    """Not a gradient, and not linear."""
    turn = jnp.array([[-1.0, 2.0], [-2.0, -1.0]])
    return turn @ x - 0.5 * jnp.array([x[0] ** 3, x[0] * x[1]])


def linear(region=None, covariance=C, landscape=QUADRATIC, **given):
    dynamics = esc.ContinuousSGD(1.0, 1.0, esc.noise.Constant(covariance))
    return esc.Escape(landscape, dynamics, region or esc.Ball(1.0), **given)


def well(offset=0.9, **given):
    return esc.Escape(WELL, ISOTROPIC, esc.HalfSpace([1.0], offset), minimum=[-1.0], **given)


def orbits(escape, time, **given):
    if "to" not in given:
        given["region"] = escape.region
    return finite_horizon_orbits(hamiltonian(escape), escape.start, escape.minimum, time, **given)


def exit_value(escape, time):
    form = escape.region.local_form(escape.minimum, H)
    mean = scipy.linalg.expm(-H * time) @ escape.start
    return minimum_over_boundary(horizon_covariance(H, C, time), form, mean).value


def test_to_a_point(oracle):
    for case, start in (("Q04", None), ("Q05", oracle("Q05")["params"]["x0"])):
        found = orbits(linear(start=start), 0.7, to=X)
        assert len(found) == 1
        assert found[0].value == pytest.approx(oracle(case)["value"], rel=1e-10)
        assert found[0].converged
        assert found[0].times[0] == 0
        assert found[0].times[-1] == 0.7


@pytest.mark.parametrize(
    "region",
    [esc.Ball(1.0), esc.Sublevel(1.0), esc.HalfSpace([1.0, 1.0], 1.0), esc.Slab([1.0, 1.0], 1.0)],
    ids=str,
)
def test_out_of_regions_as_in_closed_form(region):
    escape = linear(region)
    for time in (0.7, 40.0):
        found = orbits(escape, time)[0]
        assert found.value == pytest.approx(exit_value(escape, time), rel=1e-9)
        assert found.converged
        assert escape.region.level(found.end) == pytest.approx(0, abs=1e-9)


def test_from_elsewhere_the_best_exit_comes_before_the_horizon():
    escape = linear(esc.HalfSpace([1.0, 1.0], 1.0), start=START)
    best = scipy.optimize.minimize_scalar(
        lambda time: exit_value(escape, time), bounds=(0.1, 3.0), options={"xatol": 1e-9}
    )
    found = orbits(escape, 3.0)[0]
    assert found.value == pytest.approx(best.fun, rel=1e-9)
    assert found.times[-1] == pytest.approx(best.x, rel=1e-5)
    short = orbits(escape, 0.2)[0]
    assert short.value == pytest.approx(exit_value(escape, 0.2), rel=1e-9)
    assert short.times[-1] == 0.2


def test_action_of_the_path_and_energy():
    """Against the action by another rule, on the points handed back; energy is conserved."""
    landscape = esc.landscapes.Drift(spiral, 2, minima=np.zeros((1, 2)))
    escape = esc.Escape(landscape, ISOTROPIC, esc.Ball(0.8))
    found = orbits(escape, 2.0)[0]
    assert found.converged
    spline = scipy.interpolate.CubicSpline(found.times, found.path)
    times = np.linspace(0, 2, 4001)
    drift = np.array([spiral(x) for x in spline(times)])
    lagrangian = 0.5 * ((spline(times, 1) - drift) ** 2).sum(1)
    action = scipy.integrate.simpson(lagrangian, x=times)
    assert found.value == pytest.approx(action, rel=1e-5)
    drift = np.array([spiral(x) for x in found.path])
    energies = (found.momenta * drift).sum(1) + 0.5 * (found.momenta**2).sum(1)
    np.testing.assert_allclose(energies, energies[0], rtol=1e-5)


def test_double_well_against_shooting():
    """One dimension: the start's momentum by bisection, the motion by a Runge-Kutta method."""
    time, end = 1.5, -0.1

    def shoot(momentum):
        def motion(_, state):
            x, p, _ = state
            return [x - x**3 + p, p * (3 * x**2 - 1), p**2 / 2]

        return scipy.integrate.solve_ivp(
            motion, (0, time), [-1.0, momentum, 0.0], rtol=1e-11, atol=1e-13
        ).y[:, -1]

    momentum = scipy.optimize.brentq(lambda p: shoot(p)[0] - end, 1e-3, 2.0, xtol=1e-14)
    found = orbits(well(), time)
    assert len(found) == 1
    assert found[0].value == pytest.approx(shoot(momentum)[2], rel=1e-8)
    assert found[0].momenta[0, 0] == pytest.approx(momentum, rel=1e-6)


def test_longer_horizons_approach_the_quasipotential_from_above():
    limit = 2 * (0.1**4 / 4 - 0.1**2 / 2 + 0.25)
    values = [orbits(well(), time)[0].value for time in (1.0, 4.0, 12.0)]
    assert all(np.diff(values) < 0)
    assert values[-1] > limit * (1 - 1e-9)
    assert values[-1] == pytest.approx(limit, rel=1e-6)


@pytest.mark.slow
def test_longer_horizons_are_easier_without_a_loss():
    landscape = esc.landscapes.Drift(spiral, 2, minima=np.zeros((1, 2)))
    escape = esc.Escape(landscape, ISOTROPIC, esc.Ball(0.8))
    values = [orbits(escape, time)[0].value for time in (1.0, 4.0, 20.0)]
    assert all(np.diff(values) < 0)
    assert values[-1] == pytest.approx(values[-2], rel=1e-3)


def test_saddle_and_beyond():
    """From the saddle on the path falls by itself: V is that of the saddle, 1/2."""
    moderate, long = orbits(well(1.5), 5.0)[0], orbits(well(1.5), 60.0)[0]
    assert moderate.value > long.value
    assert long.value == pytest.approx(0.5, rel=1e-7)
    assert abs(long.value / 0.5 - 1) < 10 * long.error


@pytest.mark.slow
def test_to_a_saddle_by_a_bent_route(oracle):
    landscape = esc.landscapes.MaierStein(10.0)
    escape = esc.Escape(landscape, ISOTROPIC, esc.Ball(3.0), minimum=[-1.0, 0.0])
    found = orbits(escape, 30.0, to=np.zeros(2))[0]
    assert found.value == pytest.approx(oracle("X01")["value"], rel=1e-7)
    assert found.times[-1] == pytest.approx(30.0)
    # The route is bent: twice the mirror image, never the straight line.
    assert np.abs(found.path[:, 1]).max() > 0.05


def test_refusals():
    apart = linear(covariance=np.diag([1.0, 0.0]), landscape=esc.landscapes.Quadratic([2, 1]))
    with pytest.raises(DegenerateNoise, match="does not lead"):
        orbits(apart, 1.0, to=X)
    field = esc.landscapes.Drift(
        lambda x: jnp.stack([-x[0] + 4 * x[1], -x[1]]), 2, minima=np.zeros((1, 2))
    )
    swung = esc.Escape(field, ISOTROPIC, esc.Ball(1.0), start=[0.0, 0.95])
    with pytest.raises(NotInRegion, match="no fluctuation is needed"):
        orbits(swung, 3.0)
    with pytest.raises(InvalidArgument, match="steepness is zero"):
        orbits(linear(), 1.0, to=np.zeros(2))
    with pytest.raises(InvalidArgument, match="time"):
        orbits(linear(), -1.0)
    with pytest.raises(InvalidArgument, match="either"):
        orbits(linear(), 1.0, to=X, region=linear().region)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(angle=st.floats(0.1, 3.0), time=st.floats(0.3, 3.0))
def test_rotation_and_horizon(angle, time):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = linear(
        covariance=turn @ C @ turn.T, landscape=esc.landscapes.Quadratic(turn @ H @ turn.T)
    )
    value = orbits(linear(), time, to=X)[0].value
    assert orbits(turned, time, to=turn @ X)[0].value == pytest.approx(value, rel=1e-8)
    assert orbits(linear(), 1.5 * time, to=X)[0].value < value
