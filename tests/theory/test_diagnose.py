"""The verb `diagnose`: problems whose mechanism is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.theory.diagnose import noise_induced_shift


def gaussian(hessian, region, learning_rate=0.1, batch_size=10.0, **given):
    return esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(learning_rate, batch_size, esc.noise.HessianProportional()),
        region,
        **given,
    )


def test_activated():
    escape = gaussian([1.0], esc.Ball(0.25))
    verdict = esc.diagnose(escape)
    assert verdict.mechanism == "activated"
    assert "barrier" in verdict.reason
    sample = esc.simulate(escape, 400, key=0)
    assert esc.diagnose(escape, sample).mechanism == "activated"
    assert abs(sample.coefficient_of_variation - 1) < 4 / np.sqrt(400)


def test_diffusive():
    # Fifty directions of equal spread: the typical distance is beyond the radius.
    escape = gaussian(np.ones(50), esc.Ball(0.45))
    verdict = esc.diagnose(escape)
    assert verdict.mechanism == "diffusive"
    assert verdict.groups.barrier > 4
    sample = esc.simulate(escape, 200, key=0)
    assert esc.diagnose(escape, sample).mechanism == "diffusive"
    assert sample.coefficient_of_variation < 0.5


def test_drift_of_the_start():
    # Descent from the start overshoots out of the half-space.
    escape = gaussian([1.0], esc.HalfSpace([1.0], 0.5), learning_rate=1.9, batch_size=1e6,
                      start=[-0.9])  # fmt: skip
    verdict = esc.diagnose(escape)
    assert verdict.mechanism == "drift"
    assert "without noise" in verdict.reason


def bent(theta):
    """A sharp valley whose sharpness grows along a flat direction: noise pushes to flat."""
    x, y = theta
    return 0.5 * x**2 * (2 + y) + 0.005 * y**2


def test_drift_by_noise():
    landscape = esc.landscapes.Function(bent, 2, minima=[0.0, 0.0])
    covariance = esc.noise.Constant([1.0, 1e-6])
    escape = esc.Escape(landscape, esc.GaussianSGD(0.1, 5.0, covariance), esc.Slab([0.0, 1.0], 0.2))
    verdict = esc.diagnose(escape)
    assert verdict.mechanism == "drift"
    # Mean force on y: -E[x^2] / 2 with E[x^2] = eps^2 / (2 lambda (1 - eta lambda / 2)).
    around = esc.neighbourhood(escape)
    S = around.stationary_covariance(0.1)
    shift = noise_induced_shift(escape, around, S)
    assert shift[1] == pytest.approx(-0.5 * 0.02 * S[0, 0] / 0.01, rel=1e-3)
    sample = esc.simulate(escape, 64, 10**5, key=0)
    assert sample.coefficient_of_variation < 0.5
    assert (sample.exit_points[:, 1] < 0).all()


def test_unstable():
    verdict = esc.diagnose(gaussian([1.0, 30.0], esc.Ball(0.5)))
    assert verdict.mechanism == "unstable"
    assert verdict.groups.stiffness == pytest.approx(3.0)


def scaled_parabola(parameters, example):
    curvature, centre = example
    return 0.5 * curvature * (parameters[0] - centre) ** 2


def test_mean_square_unstable(oracle):
    case = oracle("K01")
    curvatures = np.array(case["params"]["h"])
    centres = np.zeros(len(curvatures)) + np.array([0.1, -0.1, 0.02, 0.0])
    centres -= (curvatures @ centres) / curvatures.sum()
    landscape = esc.landscapes.Empirical(scaled_parabola, np.zeros(1), (curvatures, centres))
    for factor, expected in ((1.01, "unstable"), (0.99, None)):
        rate = factor * case["value"]
        escape = esc.Escape(landscape, esc.MinibatchSGD(rate, 1), esc.Ball(5.0), minimum=[0.0])
        mechanism = esc.diagnose(escape).mechanism
        assert (mechanism == "unstable") == (expected == "unstable")


def test_a_sample_corrects_the_groups():
    # Barrier 1.5: by the groups alone diffusive, yet exponential at the predicted rate.
    escape = gaussian([1.0], esc.Slab([1.0], 0.13))
    assert esc.diagnose(escape).mechanism == "diffusive"
    sample = esc.simulate(escape, 2000, key=1)
    verdict = esc.diagnose(escape, sample)
    assert verdict.mechanism == "activated"
    assert "exponential" in verdict.reason


def test_regions_without_closed_form():
    well = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()),
        esc.Basin(),
    )
    verdict = esc.diagnose(well)
    assert verdict.mechanism == "activated"
    # 2 Delta L / epsilon^2 = 0.5 / 0.1, up to the finite step.
    assert verdict.groups.barrier == pytest.approx(5.0, rel=0.15)
    where = esc.Escape(
        esc.landscapes.Quadratic([1.0, 2.0]),
        esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()),
        esc.Where(lambda theta: jnp.sum(theta**2) < 1.0),
    )
    assert esc.diagnose(where).groups.barrier == pytest.approx(
        esc.diagnose(esc.Escape(where.landscape, where.dynamics, esc.Ball(1.0))).groups.barrier,
        rel=1e-6,
    )
