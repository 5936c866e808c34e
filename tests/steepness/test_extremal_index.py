import math

import numpy as np
import pytest
from scipy.special import ndtr

from escapade.errors import InvalidArgument
from escapade.steepness.prefactor.extremal_index import (
    BOUNDARY_SHIFT,
    extremal_index,
    log_delay,
    log_delay_slope,
)


def direct(s):
    """Spitzer's sum until it no longer counts."""
    n = np.arange(1, 2 + int(80 / s**2))
    return math.exp(-2 * math.fsum(ndtr(-s * np.sqrt(n)) / n))


def test_reference_values(oracle):
    for case in ("S01", "S02", "S03"):
        reference = oracle(case)
        value = extremal_index(reference["params"]["s"])
        assert value == pytest.approx(reference["value"], rel=1e-13)
    assert pytest.approx(oracle("S04")["value"], rel=1e-14) == BOUNDARY_SHIFT


@pytest.mark.parametrize("s", [0.02, 0.3, 1.0, 1.499999, 1.5, 1.500001, 2.5, 6.0])
def test_direct_sum(s):
    assert extremal_index(s) == pytest.approx(direct(s), rel=1e-13)
    assert log_delay(s) == pytest.approx(np.log(2 * s**2 / direct(s)), rel=1e-12, abs=1e-13)


def test_limits():
    assert extremal_index(0.0) == 0
    assert log_delay(0.0) == 0
    assert log_delay_slope(0.0) == pytest.approx(2 * BOUNDARY_SHIFT, rel=1e-14)
    assert extremal_index(1e-9) == pytest.approx(2e-18, rel=1e-8)
    assert extremal_index(50.0) == 1
    assert log_delay_slope(50.0) == pytest.approx(2 / 50, rel=1e-14)


def test_walk_seen_at_one_in_n_runs():
    """The mean number of visits above a level per cluster is 1 / theta: simulate the clusters."""
    rng = np.random.default_rng(0)
    s, paths = 0.7, 20_000
    # A stationary visit above 0 has an exponential height of mean 1 / (2 s); it ends a cluster
    # when the walk from there never returns above 0.
    height = rng.exponential(1 / (2 * s), paths)
    walks = height[:, None] + np.cumsum(rng.normal(-s, 1, (paths, 120)), axis=1)
    last = np.all(walks < 0, axis=1)
    error = np.sqrt(last.mean() * (1 - last.mean()) / paths)
    assert abs(last.mean() - extremal_index(s)) < 4 * error


def test_vectorised_monotone_and_smooth():
    s = np.linspace(0.01, 5, 500).reshape(50, 10)
    theta = extremal_index(s)
    assert theta.shape == s.shape
    assert np.all(np.diff(theta.ravel()) > 0)
    h = 1e-5
    slope = (log_delay(s + h) - log_delay(s - h)) / (2 * h)
    np.testing.assert_allclose(log_delay_slope(s), slope, rtol=1e-8)


@pytest.mark.parametrize("s", [-0.1, np.nan])
def test_negative_drift_is_refused(s):
    with pytest.raises(InvalidArgument, match="s is"):
        extremal_index(s)
