"""The estimator itself, without any dynamics of interest: unbiased, ties and extinction."""

import equinox as eqx
import numpy as np
import pytest
from known_escapes import ISOTROPIC, line

import escapade as esc


def walk(target):
    """A Gaussian walk with a pull, on its way to a target."""
    landscape = esc.landscapes.Quadratic([0.1])
    dynamics = esc.GaussianSGD(1.0, 1.0, ISOTROPIC)
    return esc.Escape(landscape, dynamics, esc.HalfSpace([1.0], target))


def staircase(theta):
    """A coordinate with few values: most walkers are tied."""
    return (theta[0] // 1.5) * 1.5


@pytest.mark.parametrize(
    ("coordinate", "walkers"),
    [
        (staircase, 4),
        pytest.param("level", 20, marks=pytest.mark.slow),
        pytest.param("level", 4, marks=pytest.mark.slow),
        pytest.param(staircase, 20, marks=pytest.mark.slow),
    ],
    ids=["ties, 4", "continuous, 20", "continuous, 4", "ties, 20"],
)
def test_unbiased_with_few_walkers(coordinate, walkers):
    """The mean over runs of ten walkers, against the exact chain; runs that die out count."""
    escape = walk(8.0)
    exact = esc.solve(escape).exit_probability(20)
    found = esc.exit_probability(
        escape, 20, key=11, runs=2000, walkers=walkers, coordinate=coordinate
    )
    assert abs(found.probability - exact) < 3.5 * found.relative_error * found.probability
    assert found.relative_error < 0.15
    if walkers == 4:
        assert (found.probabilities == 0).any()


def test_direct_simulation_is_the_special_case():
    """Nothing to split: the share of replicas that have left."""
    escape = walk(1.0)
    found = esc.exit_probability(escape, 20, key=3, walkers=2048, runs=4)
    direct = esc.simulate(escape, 8192, 20, key=8)
    share = 1 - direct.censored.mean()
    spread = np.sqrt(2 * share * (1 - share) / 8192)
    assert abs(found.probability - share) < 3 * spread


def plane():
    """Dense noise that does not commute with the curvature, out of a ball in the plane."""
    dynamics = esc.GaussianSGD(0.2, 2.2, esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]]))
    return esc.Escape(esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]]), dynamics, esc.Ball(1.0))


def twenty_directions():
    """Isotropic, out of a ball far from the typical shell."""
    dynamics = esc.GaussianSGD(0.1, 3.0, ISOTROPIC)
    return esc.Escape(esc.landscapes.Quadratic(np.ones(20)), dynamics, esc.Ball(1.0))


@pytest.mark.slow
@pytest.mark.parametrize("problem", [line, plane, twenty_directions])
def test_intervals_hold_what_they_promise(problem):
    """Between 93 and 97 % of 400 independent intervals cover the exact mean."""
    escape = problem()
    exact = esc.solve(escape)
    assert exact.mean > 1e4
    found = esc.split(escape, key=21, runs=400 * 16, walkers=1024, workers=2)
    parts = [
        eqx.tree_at(lambda whole: whole.rates, found, rates)
        for rates in found.rates.reshape(400, 16)
    ]
    covering = np.mean([part.interval[0] <= exact.mean <= part.interval[1] for part in parts])
    assert 0.93 <= covering <= 0.97
    assert abs(found.log_mean - exact.log_mean) < 3 * found.relative_error
