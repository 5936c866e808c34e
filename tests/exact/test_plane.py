"""Chains in the plane: oracles, what one coordinate decides, simulation, brute force."""

import numpy as np
import pytest
import scipy.integrate
from scipy.special import ndtr

from escapade.dynamics import GaussianSGD, LangevinSGD
from escapade.errors import DegenerateNoise, Unsupported
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exact.chain.plane import solve_plane
from escapade.exits import simulate
from escapade.landscape import Drift, Quadratic
from escapade.landscape import Function as FunctionLoss
from escapade.noise import Constant, Function
from escapade.region import Ball, HalfSpace, Slab, Sublevel, Where

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCE = np.array([[1.0, -0.3], [-0.3, 0.5]])
DENSE = GaussianSGD(0.3, 1.0, Constant(COVARIANCE))
SPLIT = np.diag([2.0, 0.5])


def agrees_with_simulation(escape, exact, replicas=8192, key=1):
    sample = simulate(escape, replicas=replicas, max_steps=200_000, key=key)
    assert not sample.censored.any()
    error = sample.times.std() / np.sqrt(replicas)
    assert abs(sample.times.mean() - exact.mean) < 3 * error


@pytest.mark.parametrize(
    ("case", "escape"),
    [
        ("M08", Escape(Quadratic(HESSIAN), DENSE, Ball(1.0))),
        ("M09", Escape(Quadratic(SPLIT), GaussianSGD(0.3, 1.2, Constant(SPLIT)), Ball(1.0))),
        ("M10", Escape(Quadratic(SPLIT), LangevinSGD(0.3, 1.2), Ball(1.0))),
    ],
)
def test_balls(oracle, case, escape):
    exact = solve(escape)
    assert exact.mean == pytest.approx(oracle(case)["value"], rel=1e-8)
    assert abs(exact.mean / oracle(case)["value"] - 1) < exact.error < 1e-6


def test_two_quadratures_give_the_stated_error():
    """The error covers the difference to a solution at half the spacing."""
    from escapade.exact.chain import plane

    escape = Escape(Quadratic(HESSIAN), DENSE, Sublevel(0.6))
    law, error = solve_plane(escape, escape.start)
    coarse, spacings = plane.SPACINGS[0], plane.SPACINGS
    assert coarse > spacings[1]
    disc = plane.disc_of(escape, plane._moments(escape))
    finest = plane._discretise(disc(0.6), plane._moments(escape), escape.start)
    assert len(finest.nodes) > 2 * len(law.nodes)
    assert abs(law.mean / finest.mean - 1) <= error


@pytest.mark.parametrize("batch_size", [4.0, 25.0])
def test_isotropic_ball_is_the_radial_chain(batch_size):
    """At 8e4 and at 1e28 steps: exits of any rarity keep their digits."""
    rate = 0.3 if batch_size == 4 else 0.4
    escape = Escape(
        Quadratic(np.eye(2)), LangevinSGD(rate, batch_size), Ball(1.0), start=[0.2, 0.1]
    )
    law, _ = solve_plane(escape, escape.start)
    exact = solve(escape)
    assert law.mean == pytest.approx(exact.mean, rel=1e-8)
    assert law.rate == pytest.approx(exact.rate, rel=1e-8)
    assert law.second_rate == pytest.approx(rate, rel=1e-2)


@pytest.mark.parametrize("region", [Slab([1.0, 0.0], 0.7), HalfSpace([1.0, 0.0], 0.7)], ids=str)
def test_faces_across_an_eigenvector(region):
    escape = Escape(Quadratic(SPLIT), GaussianSGD(0.3, 3.0, Constant(COVARIANCE)), region)
    law, error = solve_plane(escape, escape.start)
    assert law.mean == pytest.approx(solve(escape).mean, rel=1e-8)
    assert error < 1e-5


@pytest.mark.parametrize(
    "region", [Slab([1.0, 1.0], 0.8), HalfSpace([1.0, 1.0], 0.6), Sublevel(0.5)], ids=str
)
def test_linear_chain_agrees_with_simulation(region):
    escape = Escape(Quadratic(HESSIAN), DENSE, region)
    agrees_with_simulation(escape, solve(escape))


def test_changing_noise_on_a_curved_landscape():
    loss = FunctionLoss(
        lambda theta: (theta[0] ** 2 - 1) ** 2 / 4 + (theta[1] - theta[0]) ** 2 / 2,
        2,
        minima=[[-1.0, -1.0]],
    )

    def covariance(theta):
        return np.array([[1.0, 0.3], [0.3, 0.6]]) * (1 + theta[1] ** 2 / 4)

    escape = Escape(loss, GaussianSGD(0.25, 0.9, Function(covariance)), HalfSpace([1.0, 0.0], 0.8))
    agrees_with_simulation(escape, solve(escape))


def test_drift_without_a_loss_and_a_predicate():
    swirl = np.array([[1.0, 0.8], [-0.8, 1.0]])
    field = Drift(lambda theta: -swirl @ theta, 2, minima=[[0.0, 0.0]])
    inside = Where(lambda theta: theta[0] ** 2 + theta[1] ** 2 / 2 + theta[0] ** 3 / 4 < 0.5)
    escape = Escape(field, LangevinSGD(0.25, 1.2), inside, start=[0.1, 0.2])
    exact = solve(escape)
    agrees_with_simulation(escape, exact)
    # An isotropic swirl in a ball only rotates: the radius does not see it but through the step.
    ball = Escape(field, LangevinSGD(0.25, 1.2), Ball(0.9))
    shrink = abs(1 - 0.25 * (1 + 0.8j))
    radial = Escape(Quadratic(np.eye(2) * (1 - shrink) / 0.25), LangevinSGD(0.25, 1.2), Ball(0.9))
    assert solve(ball).mean == pytest.approx(solve(radial).mean, rel=1e-8)


def test_survival_and_hazard():
    escape = Escape(Quadratic(HESSIAN), DENSE, Ball(1.0))
    exact = solve(escape)
    survival = exact.survival(np.arange(2500))
    assert survival.sum() == pytest.approx(exact.mean, rel=1e-10)
    hazard = exact.law.hazard(np.arange(60))
    np.testing.assert_allclose(hazard, 1 - survival[1:61] / survival[:60], atol=1e-13)
    assert hazard[-1] == pytest.approx(exact.rate, rel=1e-8)
    law = exact.law
    np.testing.assert_allclose(law.transitions.sum(axis=1) + law.exits, 1, atol=1e-7)


def test_exits_are_integrals_over_the_outside():
    """Relative accuracy at 1e-40, where one minus the probability of staying has no digit."""
    from escapade.exact.chain import plane

    escape = Escape(Quadratic(np.eye(2)), LangevinSGD(0.3, 20.0), Ball(1.0))
    disc = plane.disc_of(escape, plane._moments(escape))(1.0)
    deviation = 0.07
    means = np.array([[0.0, 0.0], [0.3, -0.4], [0.99, 0.0]])
    exits = disc.exits(means, np.tile(deviation**2 * np.eye(2), (3, 1, 1)))
    assert exits[0] == pytest.approx(np.exp(-0.5 / deviation**2), rel=1e-12)
    for mean, found in zip(means[1:], exits[1:], strict=True):
        distance = np.linalg.norm(mean)

        def outside(y, distance=distance):
            """Beyond the circle at height y, the mean lying on the first axis."""
            edge = np.sqrt(np.maximum(1 - y**2, 0))
            beyond = ndtr((distance - edge) / deviation) + ndtr((-edge - distance) / deviation)
            beyond = np.where(np.abs(y) > 1, 1.0, beyond)
            return beyond * np.exp(-0.5 * (y / deviation) ** 2) / np.sqrt(2 * np.pi) / deviation

        y = np.linspace(-1.5, 1.5, 300_001)
        expected = scipy.integrate.trapezoid(outside(y), y)
        assert found == pytest.approx(expected, rel=1e-5)


def test_what_has_no_exact_chain():
    with pytest.raises(Unsupported, match="too many"):
        solve(Escape(Quadratic(HESSIAN), GaussianSGD(0.01, 10.0, Constant(COVARIANCE)), Ball(1.0)))
    wells = FunctionLoss(
        lambda theta: (theta[0] ** 2 - 0.5) ** 2 + theta[1] ** 2, 2, minima=[[-(0.5**0.5), 0.0]]
    )
    two_parts = Where(lambda theta: (theta[0] ** 2 - 0.5) ** 2 + theta[1] ** 2 < 0.2)
    with pytest.raises(Unsupported, match="again"):
        solve(Escape(wells, LangevinSGD(0.2, 1.0), two_parts))
    with pytest.raises(Unsupported, match="no end"):
        solve(Escape(Quadratic(HESSIAN), DENSE, Where(lambda theta: theta[0] < 0.5)))
    singular = GaussianSGD(0.3, 1.0, Constant([[1.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(DegenerateNoise, match="every direction"):
        solve(Escape(Quadratic(HESSIAN), singular, Ball(1.0)))
    # Along the second coordinate the chain walks freely, and far before it leaves along the first.
    flat = FunctionLoss(lambda theta: theta[0] ** 2 / 2, 2, minima=[[0.0, 0.0]])
    with pytest.raises(Unsupported, match=r"too many|open sides"):
        solve(Escape(flat, LangevinSGD(0.3, 9.0), Slab([1.0, 0.0], 1.0)))


def test_a_flat_direction_is_walked_only_so_far():
    flat = FunctionLoss(lambda theta: theta[0] ** 2 / 2, 2, minima=[[0.0, 0.0]])
    exact = solve(Escape(flat, LangevinSGD(0.3, 1.0), Slab([1.0, 0.0], 0.2)))
    line = solve(Escape(Quadratic([1.0]), LangevinSGD(0.3, 1.0), Ball(0.2)))
    assert exact.mean == pytest.approx(line.mean, rel=1e-7)


def test_steps_that_overshoot_the_region():
    steep = FunctionLoss(lambda theta: 1.5 * (theta @ theta) ** 2, 2, minima=[[0.0, 0.0]])
    escape = Escape(steep, LangevinSGD(0.3, 1.5), Ball(1.0))
    agrees_with_simulation(escape, solve(escape))
