"""Steps that an inspection predicts, against simulation with true minibatches."""

import numpy as np
import pytest
from inspection.networks import avila, digits

import escapade as esc

pytestmark = pytest.mark.slow


def compared(landscape, learning_rate, batch_size, barrier):
    """A slab's outlook, measured over predicted steps, and the standard error of that ratio.

    The slab lies across the sharpest direction; its barrier is that of Gaussian noise.
    """
    dynamics = esc.MinibatchSGD(learning_rate, batch_size)
    around = esc.neighbourhood(esc.Escape(landscape, dynamics, esc.Ball(1.0)))
    normal = around.sharpest_direction
    variance = normal @ around.stationary_covariance(learning_rate) @ normal
    half_width = np.sqrt(2 * barrier * learning_rate / batch_size * variance)
    region = esc.Slab(normal, float(half_width))
    outlook = esc.inspect(
        landscape, learning_rate=learning_rate, batch_size=batch_size, regions=[region]
    ).outlooks[0]
    sample = esc.simulate(esc.Escape(landscape, dynamics, region), 2500, 10**6, key=1)
    assert not sample.censored.any()
    assert outlook.diagnosis.mechanism == "activated"
    assert 4 < outlook.prediction.groups.barrier < 7
    return outlook, sample.mean / outlook.steps, sample.standard_error / outlook.steps


@pytest.mark.parametrize(
    ("name", "learning_rate", "batch_size", "barrier"),
    [
        ("avila", 0.2, 64, 4.5),
        ("avila", 0.2, 64, 6.0),
        # The learning rate times the sharpness is 1.1, and noise moves the mean: the linear law is
        # out by a factor of two.
        ("avila", 0.5, 256, 5.0),
        ("digits", 0.2, 64, 5.0),
        ("digits", 0.5, 256, 5.0),
    ],
)
def test_a_network_stays_as_long_as_predicted(name, learning_rate, batch_size, barrier, request):
    """Within 20 %, and within the stated error beside three standard errors."""
    landscape = digits() if name == "digits" else avila(request.getfixturevalue("avila_archive"))
    outlook, ratio, error = compared(landscape, learning_rate, batch_size, barrier)
    assert error < 0.03
    assert abs(ratio - 1) < 0.2
    assert abs(ratio - 1) < outlook.prediction.relative_error + 3 * error


def test_minibatches_too_small_for_the_approximation_are_named():
    """The other directions change the force, and no error is claimed: a third too long, or more."""
    outlook, ratio, error = compared(digits(), 0.2, 16, 6.0)
    assert any(line.startswith("FAILS: one force") for line in outlook.prediction.assumptions)
    assert 3 * error < abs(ratio - 1) < 0.5
