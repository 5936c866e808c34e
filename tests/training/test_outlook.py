"""Exits from a slab against one-dimensional chains."""

import numpy as np
import pytest

from escapade.inspection.stability import _stability
from escapade.training.outlook import slab_exit


def outlook(slope, curvature, noise, half_width, rate=0.1, batch_size=8, spread=0.0):
    stability = _stability(np.array([curvature]), np.array([spread]), rate, batch_size)
    return slab_exit(slope, curvature, noise, half_width, stability, batch_size)


def simulated(slope, curvature, noise, half_width, rate=0.1, batch_size=8, runs=4000, seed=0):
    """Mean exit steps of the chain and its standard error."""
    rng = np.random.default_rng(seed)
    x, times, step = np.zeros(runs), [], 0
    while x.size:
        step += 1
        kick = np.sqrt(noise / batch_size) * rng.standard_normal(x.size)
        x = x - rate * (slope + curvature * x + kick)
        inside = np.abs(x) < half_width
        times += [step] * int((~inside).sum())
        x = x[inside]
    return np.mean(times), np.std(times) / np.sqrt(runs)


@pytest.mark.parametrize(("slope", "half_width"), [(0.0, 0.36), (0.12, 0.42), (-0.3, 0.6)])
def test_activated_exits_take_as_long_as_the_chain_does(slope, half_width):
    found = outlook(slope, 1.0, 2.0, half_width)
    mean, error = simulated(slope, 1.0, 2.0, half_width)
    assert found.mechanism == "activated"
    # Started at the centre of the slab and not at the minimum; 8 % is the theory's own allowance.
    assert found.steps == pytest.approx(mean, abs=4 * error + 0.08 * mean)


def test_a_minimum_outside_is_fallen_to():
    found = outlook(slope=1.0, curvature=0.5, noise=1e-12, half_width=1.0)
    mean, error = simulated(1.0, 0.5, 1e-12, 1.0, runs=1)
    assert found == (mean, "drift")
    assert error == 0


@pytest.mark.parametrize("curvature", [0.0, -0.5])
def test_slopes_without_a_minimum_are_fallen_down(curvature):
    found = outlook(slope=0.3, curvature=curvature, noise=1e-12, half_width=1.0)
    mean, _ = simulated(0.3, curvature, 1e-12, 1.0, runs=1)
    assert found.mechanism == "drift"
    assert found.steps == pytest.approx(mean, abs=1)


def test_a_ridge_is_left_by_amplified_noise():
    found = outlook(slope=0.0, curvature=-1.0, noise=1e-6, half_width=1.0)
    mean, _ = simulated(0.0, -1.0, 1e-6, 1.0, runs=1000)
    assert found.mechanism == "drift"
    assert found.steps == pytest.approx(mean, rel=0.15)


def test_an_unstable_rate_leaves_by_growth():
    found = outlook(slope=0.0, curvature=21.0, noise=1e-8, half_width=1.0)
    mean, _ = simulated(0.0, 21.0, 1e-8, 1.0, runs=1000)
    assert found.mechanism == "unstable"
    assert found.steps == pytest.approx(mean, rel=0.25)
    assert outlook(0.0, 15.0, 1e-3, 1.0, spread=40.0).mechanism == "unstable"


def test_a_narrow_slab_is_left_by_diffusion():
    assert outlook(slope=0.0, curvature=0.1, noise=4.0, half_width=0.1).mechanism == "diffusive"


def test_without_noise_nothing_leaves_a_minimum():
    found = outlook(slope=0.0, curvature=1.0, noise=0.0, half_width=1.0)
    assert found.steps == np.inf
