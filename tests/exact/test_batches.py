"""Minibatch SGD with every batch enumerated: walks solved by hand, simulation, Gaussian limit."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csr_array

from escapade.dynamics import GaussianSGD, MinibatchSGD
from escapade.errors import Unsupported
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exact.chain.batches import _batches, solve_batches
from escapade.exact.chain.sparse import sparse_chain_law
from escapade.exits import simulate
from escapade.landscape import Empirical, Quadratic
from escapade.noise import Empirical as EmpiricalNoise
from escapade.noise import Isotropic
from escapade.region import Ball, HalfSpace, Sublevel, Where

CURVATURES = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6])
MINIMUM = np.array([CURVATURES @ CENTRES / CURVATURES.sum()])


def parabola(theta, example):
    curvature, centre = example
    return 0.5 * curvature * (theta[0] - centre) ** 2


def slope(theta, gradient):
    return jnp.dot(gradient, theta)


def walk(gradients):
    """A flat landscape whose examples push by constant gradients."""
    gradients = np.array(gradients, dtype=float)
    gradients = gradients if gradients.ndim == 2 else gradients[:, None]
    dim = gradients.shape[1]
    return Empirical(slope, np.zeros(dim), gradients, minima=[np.zeros(dim)])


LINE = Empirical(parabola, np.zeros(1), (CURVATURES, CENTRES), minima=[MINIMUM])


@pytest.mark.parametrize("start", [0.0, 0.25, -0.875])
def test_ruin_of_a_fair_gambler(start):
    """Steps of 1/8 up or down: (64 - (8 x)^2) steps from x."""
    exact = solve(Escape(walk([1.0, -1.0]), MinibatchSGD(0.125, 1), Ball(1.0)), start=[start])
    assert exact.mean == pytest.approx(64 - (8 * start) ** 2, rel=1e-11)
    assert exact.error < 1e-9
    assert exact.rate == pytest.approx(1 - np.cos(np.pi / 16), rel=1e-10)


def test_ruin_of_a_gambler_who_loses_two_and_wins_one():
    """Against the linear system of the walk's fifteen states."""
    exact = solve(Escape(walk([2.0, -1.0, -1.0]), MinibatchSGD(0.125, 1), Ball(1.0)))
    transitions = np.diag(np.full(14, 2 / 3), 1) + np.diag(np.full(13, 1 / 3), -2)
    times = np.linalg.solve(np.eye(15) - transitions, np.ones(15))
    assert exact.mean == pytest.approx(times[7], rel=1e-11)


def test_law_of_a_walk():
    exact = solve(Escape(walk([1.0, -1.0]), MinibatchSGD(0.25, 1), Ball(1.0)))
    steps = np.arange(0, 12)
    position = np.zeros(9)
    position[4] = 1
    expected = []
    for _ in steps:
        expected.append(position.sum())
        moved = np.zeros(9)
        moved[1:] += position[:-1] / 2
        moved[:-1] += position[1:] / 2
        moved[[0, -1]] = 0
        position = moved
    np.testing.assert_allclose(exact.survival(steps), expected, rtol=1e-11)
    np.testing.assert_allclose(
        exact.law.hazard(steps[:-1]), 1 - np.divide(expected[1:], expected[:-1]), atol=1e-11
    )


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_chances_of_batches(sampling):
    """Against the enumeration of all ordered draws."""
    shares, chances = _batches(MinibatchSGD(0.1, 3, sampling), 4)
    ordered = (
        itertools.product(range(4), repeat=3)
        if sampling == "with_replacement"
        else itertools.permutations(range(4), 3)
    )
    counted: dict[tuple, float] = {}
    for draw in ordered:
        key = tuple(np.bincount(draw, minlength=4))
        counted[key] = counted.get(key, 0) + 1
    found = {
        tuple(np.rint(3 * row).astype(int)): chance
        for row, chance in zip(shares.toarray(), chances, strict=True)
    }
    assert found.keys() == counted.keys()
    whole = sum(counted.values())
    for key, count in counted.items():
        assert found[key] == pytest.approx(count / whole, rel=1e-13)
    assert len(chances) == (math.comb(6, 3) if sampling == "with_replacement" else 4)


@pytest.mark.parametrize(
    ("rate", "batch", "sampling", "region"),
    [
        (0.3, 1, "with_replacement", Ball(0.95)),
        (0.4, 2, "without_replacement", Ball(0.7)),
        (0.35, 3, "with_replacement", HalfSpace([1.0], 0.5)),
        (0.3, 1, "with_replacement", Sublevel(0.4)),
    ],
)
def test_line_agrees_with_simulation(rate, batch, sampling, region):
    escape = Escape(LINE, MinibatchSGD(rate, batch, sampling), region)
    exact = solve(escape)
    assert exact.error < 5e-3
    sample = simulate(escape, replicas=8192, max_steps=200_000, key=4)
    assert not sample.censored.any()
    assert abs(sample.times.mean() - exact.mean) < 3 * sample.times.std() / np.sqrt(8192)


def test_error_covers_the_difference_to_a_finer_grid(monkeypatch):
    escape = Escape(LINE, MinibatchSGD(0.3, 1), Ball(0.9))
    means, errors = [], []
    for cells in (2**11, 2**12, 2**13, 2**15):
        monkeypatch.setattr("escapade.exact.chain.batches.MOST_CELLS", {1: cells})
        law, error = solve_batches(escape, escape.start)
        means.append(law.mean)
        errors.append(error)
    differences = np.abs(np.array(means[:-1]) / means[-1] - 1)
    assert (differences < errors[:-1]).all()
    assert errors[0] > 4 * errors[-1]


def test_gaussian_limit():
    """Many draws of additive noise are Gaussian in their middle: a barrier of one and a half."""
    shift = Empirical(
        lambda theta, centre: 0.5 * (theta[0] - centre) ** 2,
        np.zeros(1),
        np.array([-1.0, 0.3, 0.7]),
        minima=[[0.0]],
    )
    ratios = []
    for batch in (8, 64):
        size = 1.5 * np.sqrt(0.3 / batch)
        exact = solve(Escape(shift, MinibatchSGD(0.3, batch), Ball(size)))
        gaussian = solve(Escape(shift, GaussianSGD(0.3, batch, EmpiricalNoise()), Ball(size)))
        ratios.append(abs(exact.mean / gaussian.mean - 1))
    assert ratios[1] < 0.02
    assert ratios[1] < ratios[0]


def test_following_the_law_gives_what_elimination_gives():
    """At 4e18 steps (S06), from the middle and from near the boundary."""
    escape = Escape(Quadratic([1.0]), GaussianSGD(0.2, 9.0, Isotropic(1.0)), Ball(1.0))
    for start in (0.0, 0.97):
        exact = solve(escape, start=[start])
        law = exact.law
        transitions = csr_array(np.vstack([law.transitions, law.start_transitions]))
        exits = np.append(law.exits, law.start_exit)
        followed = sparse_chain_law(law.nodes, law.weights, transitions, exits)
        assert followed.mean == pytest.approx(exact.mean, rel=1e-9)
        assert followed.rate == pytest.approx(exact.rate, rel=1e-9)
        steps = np.array([3, 30, 10**6])
        np.testing.assert_allclose(
            followed.exit_probability(steps), exact.exit_probability(steps), rtol=1e-9
        )


SQUARE = Where(lambda theta: jnp.max(jnp.abs(theta)) < 1)


def test_walk_in_the_plane():
    """Two independent gamblers: the first to be ruined, by the product of their survivals."""
    gradients = [[a, b] for a in (1.0, -1.0) for b in (1.0, -1.0)]
    escape = Escape(walk(gradients), MinibatchSGD(0.25, 1), SQUARE)
    one = solve(Escape(walk([1.0, -1.0]), MinibatchSGD(0.25, 1), Ball(1.0)))
    expected = (one.survival(np.arange(400)) ** 2).sum()
    assert solve(escape).mean == pytest.approx(expected, rel=1e-9)


def test_plane_agrees_with_simulation():
    matrix = np.array([[1.0, 0.3], [0.3, 0.6]])
    centres = np.array([[1.0, 0.2], [-0.8, 0.5], [0.1, -0.9], [-0.3, 0.2]])
    loss = Empirical(
        lambda theta, centre: 0.5 * (theta - centre) @ matrix @ (theta - centre),
        np.zeros(2),
        centres,
        minima=[[0.0, 0.0]],
    )
    escape = Escape(loss, MinibatchSGD(0.6, 1), Ball(0.8))
    exact = solve(escape)
    assert exact.error < 0.03
    sample = simulate(escape, replicas=8192, max_steps=100_000, key=6)
    allowed = 3 * sample.times.std() / np.sqrt(8192) + exact.error * exact.mean
    assert abs(sample.times.mean() - exact.mean) < allowed


def test_what_is_not_enumerated():
    with pytest.raises(Unsupported, match="different batches"):
        solve(Escape(LINE, MinibatchSGD(0.3, 40), Ball(0.9)))
    with pytest.raises(Unsupported, match="epochs"):
        solve(Escape(LINE, MinibatchSGD(0.3, 2, "shuffled_epochs"), Ball(0.9)))
    space = walk(np.eye(3).tolist() + (-np.eye(3)).tolist())
    with pytest.raises(Unsupported, match="one or two dimensions"):
        solve(Escape(space, MinibatchSGD(0.3, 1), Ball(0.9)))


def test_an_exit_that_bounded_steps_cannot_reach():
    """The mean of three never gets as far as 1.2 at this learning rate."""
    with pytest.raises(Unsupported, match="simulate"):
        solve(Escape(LINE, MinibatchSGD(0.05, 3, "without_replacement"), Ball(1.2)))
