"""The verb `minimum_steepness`: reference values, and paths whose action is computed apart."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import DegenerateNoise, InvalidArgument, NotInRegion, Unsupported

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
    found = esc.minimum_steepness(escape(discrete(), start=start), horizon=6)
    np.testing.assert_allclose(found.path[0], start)
    assert len(found.path) == 7
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
    step = 1.5 / (len(found.path) - 1)
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
    orthogonal = np.linalg.qr(rng.standard_normal((300, 300)))[0]
    hessian = orthogonal * np.geomspace(1, 1e-3, 300) @ orthogonal.T
    hessian = (hessian + hessian.T) / 2
    dynamics = esc.ContinuousSGD(0.1, 1.0, esc.noise.HessianProportional(2.0))
    problem = esc.Escape(esc.landscapes.Quadratic(hessian), dynamics, esc.Ball(1.0))
    # C = c H: V = |x|^2 / c in every direction.
    found = esc.minimum_steepness(problem, to=0.3 * orthogonal[:, 17])
    assert found.value == pytest.approx(0.09 / 2, rel=1e-10)


def test_what_cannot_be_answered():
    with pytest.raises(Unsupported, match="no closed form"):
        esc.minimum_steepness(escape(continuous(), esc.Where(lambda theta: theta @ theta < 1)))
    well = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()),
        esc.HalfSpace([1.0], 1.0),
        minimum=[-1.0],
    )
    with pytest.raises(Unsupported, match="not quadratic"):
        esc.minimum_steepness(well)
    for horizon in (-1, 0, np.nan):
        with pytest.raises(InvalidArgument, match="horizon"):
            esc.minimum_steepness(escape(continuous()), horizon=horizon)
    with pytest.raises(InvalidArgument, match="whole number"):
        esc.minimum_steepness(escape(discrete()), horizon=2.5)
    with pytest.raises(InvalidArgument, match="to"):
        esc.minimum_steepness(escape(discrete()), to=[1.0, 2.0, 3.0])
    flat = esc.noise.Constant([1.0, 0.0])
    line = esc.Escape(
        esc.landscapes.Quadratic([1.0, 1.0]), esc.ContinuousSGD(0.1, 1.0, flat), esc.Ball(1.0)
    )
    with pytest.raises(DegenerateNoise):
        esc.minimum_steepness(line, to=[0.1, 0.1])
    thrown = escape(
        esc.GaussianSGD(0.9, 1.0, esc.noise.Constant(C)),
        esc.HalfSpace([1.0, 0.0], 0.5),
        start=[-0.9, 0.0],
    )
    with pytest.raises(NotInRegion, match="without noise"):
        esc.minimum_steepness(thrown, horizon=1)
