"""Decay, survival and field on lattices, against spectra, dense exponentials and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from scipy.sparse import diags_array

from escapade.dynamics import ContinuousSGD
from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.exact.grid import solve_grid
from escapade.exact.grid.transient import transient
from escapade.exact.line.diffusion import solve_diffusion
from escapade.exact.line.process import line_of
from escapade.landscape import Function as FunctionLoss
from escapade.landscape import Quadratic
from escapade.noise import Constant, Isotropic
from escapade.region import Ball, Slab

RATE = 0.01
WHITE = Isotropic(1.0)


def continuous(noise_scale, noise=WHITE):
    return ContinuousSGD(RATE, RATE / noise_scale, noise)


@pytest.fixture(scope="module")
def coarse():
    noise = Constant([[1.0, 0.3], [0.3, 0.5]])
    return solve_grid(
        Escape(Quadratic(np.diag([1.0, 0.5])), continuous(0.2, noise), Ball(1.5)), nodes=20
    )


@pytest.fixture(scope="module")
def flat():
    """Brownian motion in the unit disc."""
    landscape = FunctionLoss(lambda theta: 1e-14 * jnp.sum(theta**2), 2, minima=[[0.0, 0.0]])
    return solve_grid(Escape(landscape, continuous(0.2), Ball(1.0)), nodes=100)


VARIANCE = RATE * 0.2


def dense(split):
    return (split.process.rates - diags_array(split.process.total)).toarray()


def test_transient_against_dense_exponentials(coarse):
    decay = coarse.law.fine
    matrix, leaving = dense(decay.split), decay.split.process.leaving
    times = np.array([5.0, 20.0, 300.0, 5000.0])
    computed = transient(decay.split, decay.start, times)
    for place, time in enumerate(times):
        law = scipy.linalg.expm(time * matrix)[decay.start]
        assert computed.survival[place] == pytest.approx(law.sum(), rel=1e-9)
        # Relative accuracy far below what a survival near one can show.
        assert computed.flux[place] == pytest.approx(law @ leaving, rel=1e-6)
    steps = np.linspace(250.0, 350.0, 101)
    near = transient(decay.split, decay.start, steps)
    gained = scipy.integrate.simpson(near.flux, x=steps)
    assert near.exited[-1] - near.exited[0] == pytest.approx(gained, rel=1e-8)


def test_rates_against_dense_spectrum(coarse):
    decay = coarse.law.fine
    values = np.sort(-np.linalg.eigvals(dense(decay.split)).real)
    assert decay.rate == pytest.approx(values[0], rel=1e-8)
    assert decay.second_rate == pytest.approx(values[1], rel=1e-8)


def test_law_of_an_ornstein_uhlenbeck_product(oracle):
    # In a slab the coordinate across decides; the free one adds its own relaxation rates.
    escape = Escape(Quadratic(np.diag([1.0, 1.7])), continuous(0.2), Slab([1.0, 0.0], 1.0))
    exact = solve_grid(escape, nodes=100)
    assert exact.rate / RATE == pytest.approx(oracle("R04")["value"], rel=1e-4)
    assert exact.second_rate / RATE == pytest.approx(oracle("R05")["value"], rel=1e-4)
    line = Escape(Quadratic([[1.0]]), continuous(0.2), Slab([1.0], 1.0))
    law, _ = solve_diffusion(line_of(line, line.start))
    times = np.array([0.0, 60.0, 100.0, 5000.0, 50000.0])
    np.testing.assert_allclose(exact.survival(times), law.survival(times), rtol=3e-4)
    np.testing.assert_allclose(
        exact.exit_probability(times)[1:], law.exit_probability(times)[1:], rtol=1e-3
    )


def test_hazard_settles_at_the_rate_however_small():
    escape = Escape(Quadratic(np.eye(2)), continuous(0.2), Ball(3.0))
    exact = solve_grid(escape, nodes=100)
    assert exact.mean > 1e18
    assert exact.rate * exact.mean == pytest.approx(1, rel=1e-12)
    hazard = exact.law.hazard(np.array([0.0, 100.0, 200.0, 400.0, 1000.0, 3000.0, 1e22]))
    assert (np.diff(hazard[:5]) > 0).all()
    np.testing.assert_allclose(hazard[-3:], exact.rate, rtol=1e-6)
    # The hazard of an Ornstein-Uhlenbeck process nears its limit as exp(-2 b), b = exp(-2 t) 45.
    late = exact.exit_probability(np.array([2000.0, 4000.0]))
    assert late[1] - late[0] == pytest.approx(2000 * exact.rate, rel=1e-6)


def test_moments_of_brownian_motion_in_a_disc(flat):
    field = flat.field
    square = (field.nodes**2).sum(axis=1)
    np.testing.assert_allclose(field.mean * VARIANCE, (1 - square) / 2, atol=1e-9)
    second = (3 - 4 * square + square**2) / 8
    np.testing.assert_allclose(field.second_moment * VARIANCE**2, second, atol=1e-4)
    assert flat.rate == pytest.approx(5.783185962946785 * VARIANCE / 2, rel=1e-4)
    assert flat.second_rate == pytest.approx(14.681970642123893 * VARIANCE / 2, rel=1e-4)


def test_where_brownian_motion_leaves_a_disc(flat):
    field = flat.field
    assert field.exit_probabilities.sum() == pytest.approx(1, rel=1e-12)
    assert field.quasi_stationary.sum() == pytest.approx(1, rel=1e-12)
    assert field.quasi_stationary_exit_probabilities.sum() == pytest.approx(1, rel=1e-12)
    angle = np.arctan2(field.exit_points[:, 1], field.exit_points[:, 0])
    for order in (1, 2, 3, 4):
        assert abs(field.exit_probabilities @ np.cos(order * angle)) < 1e-9 or order == 4
    assert abs(field.exit_probabilities @ np.cos(4 * angle)) < 1e-3
    # Harmonic measure of the upper half of the circle.
    committor = field.committor(lambda points: points[:, 1] > 1e-9)
    x, y = field.nodes.T
    harmonic = 0.5 + np.arctan2(2 * y, 1 - x**2 - y**2) / np.pi
    inner = (field.nodes**2).sum(axis=1) < 0.64
    np.testing.assert_allclose(committor[inner], harmonic[inner], atol=0.02)
    with pytest.raises(InvalidArgument, match="truth value"):
        field.committor(lambda points: points)


def test_committor_of_a_slab_against_its_scale_function():
    escape = Escape(
        Quadratic(np.diag([1.0, 2.0])), continuous(0.2), Slab([1.0, 0.0], 1.0), start=[0.3, 0.0]
    )
    field = solve_grid(escape, nodes=140).field
    committor = field.committor(lambda points: points[:, 0] > 0)
    grid = np.linspace(-1, 1, 20001)
    scale = np.append(0, np.cumsum(np.exp((grid[1:] + grid[:-1]) ** 2 / 4 / 0.2)))
    expected = np.interp(field.nodes[:, 0], grid, scale / scale[-1])
    np.testing.assert_allclose(committor, expected, rtol=2e-3)


def test_interpolation(flat):
    field = flat.field
    np.testing.assert_allclose(field.at(field.nodes[::97]), field.mean[::97], rtol=1e-9)
    points = np.array([[0.31, 0.22], [0.7, -0.11], [0.599, 0.799], [2.0, 0.0]])
    means = field.at(points) * 2 * VARIANCE
    np.testing.assert_allclose(means[:3], 1 - (points[:3] ** 2).sum(axis=1), atol=1e-3)
    assert np.isnan(means[3])
    doubled = field.at(points[:2], 2 * field.mean)
    np.testing.assert_allclose(doubled, 2 * field.at(points[:2]), rtol=1e-9)
    with pytest.raises(InvalidArgument, match="points"):
        field.at(np.zeros((3, 3)))
    with pytest.raises(InvalidArgument, match="values"):
        field.at(points, np.zeros(3))


def test_arrays(flat):
    data = flat.field.to_xarray()
    assert data.sizes == {"node": len(flat.field.nodes), "axis": 2, "exit": len(data.exit)}
    assert data["mean"].attrs["units"] == "steps"
    np.testing.assert_array_equal(data["mean"].values, flat.field.mean)
