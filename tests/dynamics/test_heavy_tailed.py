"""Student-t noise: one tick by hand, its law, simulation against the exact chain, refusals."""

import numpy as np
import pytest
import scipy.stats

from escapade.dynamics import HeavyTailedSGD, LangevinSGD
from escapade.errors import InvalidArgument, Unsupported
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exits import iterates, simulate
from escapade.landscape import Quadratic
from escapade.precision import in_float64
from escapade.region import Ball, HalfSpace, Slab
from escapade.steepness import minimum_steepness

PLANE = Quadratic([[2.0, 0.6], [0.6, 1.0]])


def one_tick(dynamics, theta, draw):
    return in_float64(dynamics.tick, PLANE, theta, draw)


def test_tick():
    """With as many degrees of freedom as this the polar identity is Box and Muller's: t = z."""
    theta, draw = np.array([0.7, -0.4]), np.array([1.3, -0.2, 0.4, 0.9])
    moved = one_tick(HeavyTailedSGD(0.2, 1e12, 0.05), theta, draw)
    descended = theta - 0.2 * PLANE.hessian @ theta
    np.testing.assert_allclose(moved, descended + 0.05 * draw[:2], rtol=1e-10)
    # Two degrees of freedom: r^2 = 2 log 5 gives sqrt(2 (5 - 1)) z / r.
    square = 2 * np.log(5.0)
    first = np.array([0.6, 0.1])
    draw = np.append(first, np.sqrt(square - first**2))
    moved = one_tick(HeavyTailedSGD(0.2, 2.0, 0.05), theta, draw)
    np.testing.assert_allclose(moved, descended + 0.05 * np.sqrt(8 / square) * first, rtol=1e-13)


def test_no_noise_where_both_normals_vanish():
    theta = np.array([0.7, -0.4])
    moved = one_tick(HeavyTailedSGD(0.2, 1.5, 0.05), theta, np.zeros(4))
    np.testing.assert_allclose(moved, theta - 0.2 * PLANE.hessian @ theta)


@pytest.mark.parametrize("freedom", [0.7, 1.5, 4.0])
def test_law_of_one_step(freedom):
    """A flat landscape and one step: the exit points are the noise."""
    flat = Quadratic(np.zeros((2, 2)))
    escape = Escape(flat, HeavyTailedSGD(0.1, freedom, 0.02), Ball(1e-6))
    noise = simulate(escape, replicas=20_000, max_steps=1, key=5).exit_points / 0.02
    for coordinate in noise.T:
        test = scipy.stats.kstest(coordinate, scipy.stats.t(freedom).cdf)
        assert test.pvalue > 1e-3
    signs = np.corrcoef(np.sign(noise).T)[0, 1]
    sizes = scipy.stats.spearmanr(*np.abs(noise).T).statistic
    assert max(abs(signs), abs(sizes)) < 3.5 / np.sqrt(20_000)


def test_simulation_agrees_with_the_exact_chain(oracle):
    parameters = oracle("M11")["params"]
    dynamics = HeavyTailedSGD(0.1, parameters["df"], parameters["scale"])
    escape = Escape(Quadratic([1.0]), dynamics, Ball(parameters["R"]))
    exact = solve(escape)
    assert exact.mean == pytest.approx(oracle("M11")["value"], rel=1e-7)
    assert exact.error < 1e-9
    sample = simulate(escape, replicas=8192, max_steps=100_000, key=2)
    assert not sample.censored.any()
    assert abs(sample.times.mean() - exact.mean) < 3 * sample.times.std() / np.sqrt(8192)


def test_one_coordinate_decides():
    parameters = (0.1, 1.5, 0.005)
    line = solve(Escape(Quadratic([1.0]), HeavyTailedSGD(*parameters), Ball(0.1)))
    space = Quadratic([1.0, 2.0, 3.0])
    slab = Escape(space, HeavyTailedSGD(*parameters), Slab([1.0, 0.0, 0.0], 0.1))
    assert solve(slab).mean == pytest.approx(line.mean, rel=1e-13)
    oblique = Escape(Quadratic(np.eye(2)), HeavyTailedSGD(*parameters), Slab([1.0, 1.0], 0.1))
    with pytest.raises(Unsupported, match="simulate"):
        solve(oblique)


def test_many_degrees_of_freedom_are_gaussian():
    heavy = solve(Escape(Quadratic([1.0]), HeavyTailedSGD(0.2, 1e6, 0.1), Ball(0.4)))
    gaussian = solve(Escape(Quadratic([1.0]), LangevinSGD(0.2, 4.0), Ball(0.4)))
    assert heavy.mean == pytest.approx(gaussian.mean, rel=1e-4)
    assert heavy.mean != pytest.approx(gaussian.mean, rel=1e-7)


def test_covariance_and_its_absence():
    theta = np.zeros(2)
    covariance = HeavyTailedSGD(0.1, 4.0, 0.02).noise_covariance(PLANE, theta)
    np.testing.assert_allclose(covariance * 0.1**2, 0.02**2 * 2 * np.eye(2))
    with pytest.raises(Unsupported, match="solve"):
        HeavyTailedSGD(0.1, 2.0, 0.02).noise_covariance(PLANE, theta)


def test_what_does_not_apply():
    escape = Escape(Quadratic([1.0]), HeavyTailedSGD(0.1, 3.0, 0.02), Ball(0.3))
    with pytest.raises(Unsupported, match="steepness is not known for heavy-tailed SGD"):
        minimum_steepness(escape)
    endless = Escape(Quadratic([1.0]), HeavyTailedSGD(0.1, 3.0, 0.02), HalfSpace([1.0], 0.3))
    with pytest.raises(Unsupported, match="never ends"):
        solve(endless)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 1.5, 0.1), "learning_rate"),
        ((0.1, -1.0, 0.1), "degrees_of_freedom"),
        ((0.1, 0.1, 0.1), "degrees_of_freedom"),
        ((0.1, 1.5, np.inf), "scale"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(InvalidArgument, match=name):
        HeavyTailedSGD(*arguments)


def test_replayed_path_is_the_simulated_one():
    escape = Escape(Quadratic([1.0]), HeavyTailedSGD(0.1, 1.5, 0.02), Ball(0.3))
    sample = simulate(escape, replicas=4, max_steps=10_000, key=1)
    *_, last = iterates(escape, int(sample.times[0]), key=1)
    np.testing.assert_allclose(last, sample.exit_points[0], rtol=1e-5)
