"""Noise proportional to the loss: exits as powers of the ratio of the losses (Mori et al.)."""

import numpy as np
import pytest

import escapade as esc

LEAST = 0.2
LINE = esc.landscapes.Quadratic([1.0])
NOISE = esc.noise.LossProportional(offset=-LEAST)


def leaving(noise_scale, rate=0.01, **options):
    dynamics = esc.ContinuousSGD(rate, rate / noise_scale, NOISE, **options)
    return esc.Escape(LINE, dynamics, esc.Slab([1.0], 1.0))


def test_exact_exit_time(oracle):
    exact = esc.solve(leaving(0.25))
    assert exact.mean * 0.01 == pytest.approx(oracle("N10")["value"], rel=1e-10)


def test_quasipotential(oracle):
    found = esc.minimum_steepness(leaving(0.25))
    assert found.value == pytest.approx(oracle("N09")["value"], rel=1e-8)


@pytest.mark.slow
def test_simulation_agrees(oracle):
    sample = esc.simulate(leaving(0.25, rate=0.1, substeps=8), 4000, 10**5, key=3)
    assert not sample.censored.any()
    error = np.hypot(3 * sample.standard_error, 0.01 * sample.mean)
    assert abs((sample.mean - 0.5) * 0.1 - oracle("N10")["value"]) < error


def test_power_law_of_the_loss_ratio():
    """At one barrier the exit time is a power of L / L*: its slope is the theory's B / (eta h)."""
    mean = {}
    for radius in (2.0, 4.0, 8.0):
        escape = esc.Escape(LINE, esc.ContinuousSGD(0.01, 0.05, NOISE), esc.Slab([1.0], radius))
        mean[radius] = esc.solve(escape).log_mean
    ratio = {radius: np.log1p(radius**2 / 2 / LEAST) for radius in mean}
    # Mori et al., Theorem 1: exponent B / (eta h) + 1 - n / 2, here with B / eta = 5, h = n = 1.
    slope = (mean[8.0] - mean[4.0]) / (ratio[8.0] - ratio[4.0])
    assert slope == pytest.approx(5.0 + 1 - 0.5, rel=0.02)
    assert slope != pytest.approx((mean[4.0] - mean[2.0]) / (ratio[4.0] - ratio[2.0]), rel=1e-4)


def test_below_the_offset_a_run_is_reported_as_diverged():
    """The known minimum is not the deepest: a run that rolls into the other has no noise."""
    shallow = np.roots([4.0, 0.0, -4.0, -0.3]).real.min()
    tilted = esc.landscapes.Function(
        lambda x: (x[0] ** 2 - 1) ** 2 - 0.3 * x[0], 1, minima=[[shallow]]
    )
    least = float(tilted.loss([shallow]))
    noise = esc.noise.LossProportional([[8.0]], offset=least - 0.05)
    escape = esc.Escape(tilted, esc.GaussianSGD(0.05, 0.3, noise), esc.Ball(5.0))
    sample = esc.simulate(escape, 200, 20_000, key=1)
    assert sample.diverged.sum() > 150
    assert not np.isfinite(sample.exit_points[sample.diverged]).any()
