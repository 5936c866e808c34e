"""Eyring, Kramers and the theories built on them, against exact solutions."""

import warnings

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import escapade as esc
from escapade.errors import Unsupported
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.rivals.flux import log_flux
from escapade.theory.rivals.kramers import through_boundary
from escapade.theory.setting import Pass, Setting

RATE = 0.1


def well(noise_scale, offset):
    return esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.ContinuousSGD(RATE, RATE / noise_scale, esc.noise.Isotropic()),
        esc.HalfSpace([1.0], offset),
    )


def bowl(curvatures, noise_scale, region, variance=1.0):
    dynamics = esc.ContinuousSGD(RATE, RATE / noise_scale, esc.noise.Isotropic(variance))
    return esc.Escape(esc.landscapes.Quadratic(curvatures), dynamics, region)


def test_double_well(oracle):
    """To the other well in the printed formula, to the saddle in half of it."""
    across = esc.predict(well(0.1, 1.8), "kramers").mean * RATE
    assert across == pytest.approx(2 * np.pi / np.sqrt(2) * np.exp(5), rel=1e-6)
    assert across == pytest.approx(659.382292, rel=1e-6)  # noted with N02
    to_saddle = esc.predict(well(0.1, 1.0), "kramers").mean * RATE
    assert to_saddle == pytest.approx(across / 2, rel=1e-6)
    # Too short by a correction of relative order epsilon^2, about 0.1 at a barrier of 5.
    assert across == pytest.approx(oracle("N02")["value"], rel=0.12)
    assert to_saddle == pytest.approx(oracle("N01")["value"], rel=0.12)


@pytest.mark.slow
def test_the_error_over_a_saddle_is_of_first_order_in_the_noise():
    errors = []
    for noise_scale in (0.025, 0.00625):
        escape = well(noise_scale, 1.0)
        errors.append(esc.predict(escape, "kramers").log_mean - esc.solve(escape).log_mean)
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.15)


def test_the_handbook_agrees():
    kramers = pytest.importorskip("kramers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kramers.ValidityWarning)
        rate = kramers.get("K0001").function(
            curvature_well=2.0, curvature_barrier=1.0, barrier=0.25, friction=1.0, kT=0.05
        )
    found = esc.predict(well(0.1, 1.8), "kramers").mean * RATE
    assert 1 / found == pytest.approx(float(rate), rel=1e-6)


@pytest.mark.parametrize(
    "region", [esc.Slab([1.0, 0.0], 1.0), esc.Ball(1.0), esc.Sublevel(0.5)], ids=str
)
def test_the_error_through_a_boundary_is_of_first_order_in_the_noise(region):
    """Isotropic curvature, where every exit of a ball is equally easy."""
    errors = []
    for noise_scale in (0.1, 0.025):
        escape = bowl(np.ones(2), noise_scale, region)
        # The sublevel set of depth 1/2 is the unit ball.
        same = bowl(np.ones(2), noise_scale, esc.Ball(1.0))
        exact = esc.solve(escape if isinstance(region, esc.Slab) else same)
        errors.append(esc.predict(escape, "kramers").log_mean - exact.log_mean)
    assert 0.005 < abs(errors[1]) < 0.06
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.3)


def test_flux_of_a_gaussian_by_quadrature():
    """Dense matrices that do not commute, around an ellipse and through a line."""
    drift = np.array([[2.0, 0.6], [0.6, 1.0]])
    covariance = np.array([[0.3, -0.08], [-0.08, 0.2]])
    matrix = np.array([[1.5, 0.2], [0.2, 0.7]])
    density = scipy.stats.multivariate_normal(np.zeros(2), covariance).pdf

    def along_ellipse(angle):
        ray = np.array([np.cos(angle), np.sin(angle)])
        size = 1 / np.sqrt(ray @ matrix @ ray)
        x = size * ray
        normal = matrix @ x / np.linalg.norm(matrix @ x)
        arc = size / (normal @ ray)
        return normal @ drift @ x * density(x) * arc

    expected, _ = scipy.integrate.quad(along_ellipse, 0, 2 * np.pi, epsabs=1e-12)
    found = log_flux(drift, covariance, QuadraticForm(matrix, 1.0))
    assert found == pytest.approx(np.log(expected), abs=1e-7)

    normal = np.array([0.6, 0.8])

    def along_line(y):
        x = 0.9 * normal + y * np.array([-0.8, 0.6])
        return normal @ drift @ x * density(x)

    expected, _ = scipy.integrate.quad(along_line, -10, 10, epsabs=1e-13)
    found = log_flux(drift, covariance, LinearForm(normal, 0.9, two_sided=False))
    assert found == pytest.approx(np.log(expected), abs=1e-7)


def test_the_curvature_of_the_boundary_counts():
    """One exit of a ball: half of ``2 R h sqrt(p_1 p_2 / (p_2 - p_1)) / ...`` (theory of balls)."""
    hessian, temperature = np.diag([1.0, 4.0]), 0.05
    setting = Setting(bowl([1.0, 4.0], 2 * temperature, esc.Ball(1.0)))
    point = np.array([1.0, 0.0])
    found = through_boundary(
        Pass(point, 0.5, hessian, False, False, point[None]), setting, temperature
    )
    p = np.array([1.0, 4.0]) / temperature
    expected = np.sqrt(p[0] * p[1] / (p[1] - p[0]) / (2 * np.pi)) * np.exp(-p[0] / 2)
    assert found == pytest.approx(np.log(expected), abs=1e-12)


@pytest.mark.slow
def test_a_boundary_of_a_landscape_that_is_not_quadratic():
    errors = []
    for noise_scale in (0.0125, 0.00625):
        escape = well(noise_scale, 0.6)
        errors.append(esc.predict(escape, "kramers").log_mean - esc.solve(escape).log_mean)
    assert abs(errors[0]) < 0.03
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.2)


def test_what_it_assumes_is_measured():
    noise = esc.noise.Constant([1.0, 0.1])
    dynamics = esc.GaussianSGD(0.1, 10, noise)
    escape = esc.Escape(esc.landscapes.Quadratic([1.0, 1.0]), dynamics, esc.Ball(0.4))
    lines = esc.predict(escape, "kramers").assumptions
    assert any(line.startswith("FAILS: isotropic noise") for line in lines)
    assert any(line.startswith("FAILS: continuous time") for line in lines)


def test_silent_without_a_loss():
    escape = esc.Escape(
        esc.landscapes.Drift(lambda theta: -theta, 1, minima=[0.0]),
        esc.GaussianSGD(0.1, 10, esc.noise.Isotropic()),
        esc.Ball(0.4),
    )
    for theory in ("kramers", "jastrzebski", "xie", "mori"):
        with pytest.raises(Unsupported, match="loss"):
            esc.predict(escape, theory)


def test_jastrzebski_is_kramers_without_the_time_of_a_crossing():
    """Both are Gibbs weights; the rate 2 pi / lambda_s of the crossing is what a ratio lacks."""
    for noise_scale in (0.1, 0.05):
        escape = well(noise_scale, 1.8)
        ratio = esc.predict(escape, "jastrzebski")
        crossing = esc.predict(escape, "kramers")
        assert crossing.log_mean - ratio.log_mean == pytest.approx(np.log(2 * np.pi), abs=1e-6)
    assert ratio.exponent == pytest.approx(0.5)
    assert np.isinf(ratio.relative_error)
    # On a quadratic loss the determinants are the same.
    flat = esc.predict(bowl([1.0, 3.0], 0.1, esc.Ball(1.0), variance=2.0), "jastrzebski")
    assert flat.log_mean == pytest.approx(1.0 / (0.1 * 2.0) - np.log(RATE))


def test_liu_has_the_exponent_of_the_chain(oracle):
    """At the edge of stability, where that of the diffusion is off by a factor of 50."""
    rate, curvatures = 0.4, [1.0, 4.9]
    for name, region in (("D04", esc.Ball(1.0)), ("D05", esc.Sublevel(1.0))):
        dynamics = esc.GaussianSGD(rate, 1e3, esc.noise.Constant(curvatures))
        escape = esc.Escape(esc.landscapes.Quadratic(curvatures), dynamics, region)
        found = esc.predict(escape, "liu")
        assert found.exponent == pytest.approx(oracle(name)["value"], rel=1e-9)
        assert esc.predict(escape, "hu").exponent > 10 * found.exponent


@pytest.mark.slow
def test_liu_is_right_where_steps_are_small_against_the_boundary_layer():
    """The overshoot of a step, exp(2 * 0.58 s), is what it lacks: half of it at half of s."""
    errors = []
    for s, barrier in ((0.3, 10.0), (0.2, 10.0)):
        rate = s**2 / barrier
        escape = esc.Escape(
            esc.landscapes.Quadratic([1.0]),
            esc.GaussianSGD(rate, s**2, esc.noise.Isotropic()),
            esc.HalfSpace([1.0], 1.0),
        )
        errors.append(esc.predict(escape, "liu").log_mean - esc.solve(escape).log_mean)
    lacking = -2 * 0.5826 * 0.1
    assert errors[0] - errors[1] == pytest.approx(lacking, rel=0.1)


def test_liu_is_silent_through_a_boundary_that_is_not_quadratic():
    with pytest.raises(Unsupported, match="quadratic"):
        esc.predict(well(0.1, 0.6), "liu")
    assert esc.predict(well(0.1, 1.0), "liu").log_mean == pytest.approx(
        esc.predict(well(0.1, 1.0), "kramers").log_mean
    )
