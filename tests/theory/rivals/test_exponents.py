"""Theories on the logarithmic scale: Hu et al., Xie et al., Ibayashi and Imaizumi."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import escapade as esc
from escapade.errors import Unsupported

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])


def gaussian(hessian, noise, region, rate=0.01, batch=1.0):
    landscape = esc.landscapes.Quadratic(hessian)
    return esc.Escape(landscape, esc.GaussianSGD(rate, batch, noise), region)


def well(noise, noise_scale, rate=0.05):
    return esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.ContinuousSGD(rate, rate / noise_scale, noise),
        esc.HalfSpace([1.0], 1.0),
    )


def test_hu_has_the_quasipotential(oracle):
    for name, region in (
        ("Q06", esc.Ball(1.0)),
        ("Q07", esc.Sublevel(1.0)),
        ("Q08", esc.HalfSpace([1.0, 1.0], 1.0)),
    ):
        found = esc.predict(gaussian(H, esc.noise.Constant(C), region, 0.02, 0.5), "hu")
        assert found.exponent == pytest.approx(oracle(name)["value"], rel=1e-9)
        assert found.log_mean == pytest.approx(found.exponent / 0.04 - np.log(0.02))
    assert "logarithmic" in found.assumptions[0]


@pytest.mark.slow
def test_hu_beyond_the_quadratic(oracle):
    varying = esc.noise.Function(lambda theta: 1 + theta[0] ** 2 / 2)
    found = esc.predict(well(varying, 0.1), "hu")
    assert found.exponent == pytest.approx(oracle("N03")["value"], rel=1e-6)


def piecewise(theta):
    """``|H|`` of the double well, held at its value at the minimum and at the saddle."""
    return jnp.where(theta[0] < -1 / jnp.sqrt(3.0), 2.0, 1.0)


def test_xie_is_the_quasipotential_of_piecewise_constant_noise():
    """Against the integral of ``2 L' / C``, and against exact mean exit times."""

    def slope(x):
        return 2 * (x**3 - x) / (2.0 if x < -1 / np.sqrt(3) else 1.0)

    expected, _ = scipy.integrate.quad(slope, -1, 0, points=[-1 / np.sqrt(3)])
    prediction = esc.predict(well(esc.noise.Function(piecewise), 0.05), "xie")
    assert prediction.exponent == pytest.approx(expected, rel=0.01)
    logs = [
        esc.solve(well(esc.noise.Function(piecewise), scale)).log_mean for scale in (0.02, 0.01)
    ]
    growth = (logs[1] - logs[0]) / (1 / 0.01 - 1 / 0.02)
    assert growth == pytest.approx(expected, rel=0.03)
    assert not any(line.startswith("FAILS: noise like") for line in prediction.assumptions)


def test_xie_needs_a_saddle_and_noise_like_the_hessian():
    with pytest.raises(Unsupported, match="saddle"):
        esc.predict(gaussian([1.0], esc.noise.Isotropic(), esc.Ball(0.3)), "xie")
    lines = esc.predict(well(esc.noise.Isotropic(), 0.1), "xie").assumptions
    assert any(line.startswith("FAILS: noise like the Hessian at the saddle") for line in lines)


@pytest.mark.parametrize("theory", ["kramers", "xie", "mori", "liu"])
def test_two_equal_saddles_halve_the_time(theory):
    landscape = esc.landscapes.Function(
        lambda x: 1.0 + x[0] ** 2 / 2 - x[0] ** 4 / 4, 1, minima=[[0.0]]
    )
    dynamics = esc.ContinuousSGD(0.05, 2.0, esc.noise.Isotropic())
    one, both = (
        esc.predict(esc.Escape(landscape, dynamics, region), theory).log_mean
        for region in (esc.HalfSpace([1.0], 1.0), esc.Slab([1.0], 1.0))
    )
    assert one - both == pytest.approx(np.log(2), abs=1e-9)


def test_xie_has_the_prefactor_of_kramers_up_to_the_saddle():
    """Half of ``2 pi / |H_be|`` where the region ends at the saddle, all of it beyond."""
    escape = well(esc.noise.Function(piecewise), 0.05)
    found = esc.predict(escape, "xie")
    prefactor = found.log_mean + np.log(escape.dynamics.learning_rate) - found.exponent / 0.05
    assert prefactor == pytest.approx(np.log(np.pi), abs=1e-9)


def test_version_1_as_printed():
    noise = esc.noise.HessianProportional(0.5)
    found = esc.predict(gaussian([4.0, 9.0], noise, esc.Ball(0.3)), "ibayashi_imaizumi_v1")
    assert found.exponent == pytest.approx(2 * 0.3**2 * np.sqrt(4.0 / 0.5))
    # The true exponent knows no sharpness: R^2 / c.
    true = esc.predict(gaussian([4.0, 9.0], noise, esc.Ball(0.3)), "hu")
    assert true.exponent == pytest.approx(0.3**2 / 0.5)


def test_version_1_is_no_invariant_of_sgd():
    """``L -> a L, C -> a^2 C, eta -> eta / a`` leaves every path as it is."""
    a = 3.0
    region = esc.Ball(0.3)
    first = gaussian([4.0, 9.0], esc.noise.Constant([2.0, 4.5]), region, 0.03, 1.0)
    second = gaussian(
        [4.0 * a, 9.0 * a], esc.noise.Constant([2.0 * a**2, 4.5 * a**2]), region, 0.03 / a, 1.0
    )
    times = [esc.simulate(one, 16, max_steps=40, key=3).times for one in (first, second)]
    np.testing.assert_array_equal(*times)

    def barriers(theory):
        return [esc.predict(one, theory).exponent / one.noise_scale for one in (first, second)]

    for theory in ("hu", "exponential_law", "ibayashi_imaizumi_v2"):
        assert barriers(theory)[1] == pytest.approx(barriers(theory)[0])
    printed = barriers("ibayashi_imaizumi_v1")
    assert printed[1] == pytest.approx(a * printed[0])


def test_version_1_is_about_balls():
    for region in (esc.Slab([1.0, 0.0], 0.3), esc.Sublevel(0.1), esc.Ball(0.3, center=[0.1, 0])):
        with pytest.raises(Unsupported, match="ball around the minimum"):
            esc.predict(
                gaussian([4.0, 9.0], esc.noise.HessianProportional(), region),
                "ibayashi_imaizumi_v1",
            )


def test_version_2_is_right_at_fixed_depth_with_noise_like_the_hessian():
    noise = esc.noise.HessianProportional(0.5)
    for region, holds in (
        (esc.Sublevel(0.2), True),
        (esc.Slab([0.0, 1.0], 0.3), True),
        (esc.Ball(0.3), False),
    ):
        escape = gaussian([4.0, 9.0], noise, region)
        found = esc.predict(escape, "ibayashi_imaizumi_v2")
        true = esc.predict(escape, "hu").exponent
        assert (abs(found.exponent / true - 1) < 1e-9) == holds
        line = next(line for line in found.assumptions if "fixed depth" in line)
        assert line.startswith("holds" if holds else "FAILS")
    lines = esc.predict(
        gaussian([4.0, 9.0], esc.noise.Isotropic(), esc.Sublevel(0.2)), "ibayashi_imaizumi_v2"
    ).assumptions
    assert any(line.startswith("FAILS: noise like the Hessian") for line in lines)
