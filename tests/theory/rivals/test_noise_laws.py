"""Theories of other noise, or of no barrier: Levy, Mori et al., Zhu et al., linear stability."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma

import escapade as esc
from escapade.dynamics import AlphaStableSGD
from escapade.errors import Unsupported
from escapade.minimum import neighbourhood
from escapade.theory.rivals.linear_stability import mean_square_growth
from escapade.theory.rivals.zhu import mean_rise
from escapade.theory.setting import Setting


def line(dynamics, region=None):
    return esc.Escape(esc.landscapes.Quadratic([1.0]), dynamics, region or esc.Ball(0.3))


def test_levy_against_the_exact_chain(oracle):
    escape = line(esc.HeavyTailedSGD(0.1, 1.5, 0.005))
    found = esc.predict(escape, "levy")
    exact = oracle("M11")["value"]
    assert found.mean == pytest.approx(exact, rel=0.05)
    # The estimate of one big jump noted there, up to the tail's own correction.
    assert found.mean == pytest.approx(616.388128, rel=1e-3)
    assert np.isnan(found.exponent)
    larger = line(esc.HeavyTailedSGD(0.1, 1.5, 0.01))
    error = esc.predict(larger, "levy").mean / esc.solve(larger).mean - 1
    assert abs(error) > 2 * abs(found.mean / exact - 1)


def test_levy_as_printed():
    """``E[tau] = (alpha / 2) (R / epsilon)^alpha`` for the jump density ``|y|^(-1 - alpha)``."""
    alpha, epsilon, rate, radius = 1.3, 1e-3, 0.05, 0.4
    # A stable variable of scale one has the jump density alpha A / 2 |y|^(-1 - alpha).
    constant = alpha / 2 * 2 / np.pi * gamma(alpha) * np.sin(np.pi * alpha / 2)
    scale = (rate / constant) ** (1 / alpha) * epsilon
    found = esc.predict(line(AlphaStableSGD(rate, alpha, scale), esc.Ball(radius)), "levy")
    assert found.mean * rate == pytest.approx(alpha / 2 * (radius / epsilon) ** alpha)


@pytest.mark.slow
def test_levy_of_stable_noise_against_the_exact_chain():
    escape = line(AlphaStableSGD(0.1, 1.2, 0.005))
    assert esc.predict(escape, "levy").mean == pytest.approx(esc.solve(escape).mean, rel=0.06)
    gaussian = line(AlphaStableSGD(0.1, 2.0, 0.001))
    with pytest.raises(Unsupported, match="Gaussian"):
        esc.predict(gaussian, "levy")


@pytest.mark.slow
def test_levy_in_the_plane():
    """Along the two axes, whichever is first: simulation as the judge."""
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0, 2.0]), esc.HeavyTailedSGD(0.1, 1.5, 0.002), esc.Ball(0.3)
    )
    found = esc.predict(escape, "levy")
    alone = esc.predict(line(esc.HeavyTailedSGD(0.1, 1.5, 0.002)), "levy")
    assert found.mean == pytest.approx(alone.mean / 2)
    sample = esc.simulate(escape, 1500, key=2)
    # What is left of earlier jumps shortens it by a few per cent.
    tolerance = 3.5 * sample.standard_error / sample.mean + 0.05
    assert abs(found.mean / sample.mean - 1) < tolerance


def test_levy_needs_a_tail():
    for dynamics in (esc.GaussianSGD(0.1, 10, esc.noise.Isotropic()), esc.LangevinSGD(0.1)):
        with pytest.raises(Unsupported, match="tail"):
            esc.predict(line(dynamics), "levy")


def proportional(noise_scale, height=0.2, rate=0.05):
    """C = 2 L H on L = height + x^2 / 2."""
    landscape = esc.landscapes.Function(lambda x: height + x[0] ** 2 / 2, 1, minima=[[0.0]])
    noise = esc.noise.Function(lambda x: 2 * (height + x[0] ** 2 / 2))
    dynamics = esc.ContinuousSGD(rate, rate / noise_scale, noise)
    return esc.Escape(landscape, dynamics, esc.Ball(1.0))


def test_mori_through_a_boundary(oracle):
    found = esc.predict(proportional(0.25), "mori")
    assert found.exponent == pytest.approx(oracle("N09")["value"], rel=1e-9)
    exact = oracle("N10")["value"]
    errors = [np.log(found.mean * 0.05 / exact)]
    assert abs(errors[0]) < 0.1
    quieter = proportional(0.0625)
    errors.append(esc.predict(quieter, "mori").log_mean - esc.solve(quieter).log_mean)
    assert abs(errors[1]) < 0.4 * abs(errors[0])
    assert not any(line.startswith("FAILS: noise of a square") for line in found.assumptions)


@pytest.mark.slow
def test_mori_over_a_saddle():
    """The printed power of the losses, prefactor included: an error of first order in the noise."""

    def loss(x):
        return 0.75 + x[0] ** 4 / 4 - x[0] ** 2 / 2

    landscape = esc.landscapes.Function(loss, 1, minima=[[-1.0]])
    errors = []
    for noise_scale in (0.05, 0.0125):
        dynamics = esc.ContinuousSGD(
            0.05, 0.05 / noise_scale, esc.noise.Function(lambda x: 2 * loss(x) * 2.0)
        )
        escape = esc.Escape(landscape, dynamics, esc.HalfSpace([1.0], 1.0))
        found = esc.predict(escape, "mori")
        errors.append(found.log_mean - esc.solve(escape).log_mean)
        power = 1 / (noise_scale * 2.0) + 1 - 0.5
        printed = 2 * np.pi / np.sqrt(2.0) * 1.5**power / 2
        assert found.mean * 0.05 == pytest.approx(printed, rel=1e-6)
    assert abs(errors[0]) < 0.2
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.3)


def test_mori_with_several_outliers():
    """The flux of ``L^-(1 + B / (eta h))`` in the plane, by quadrature over boundary and plane."""
    floor, h, power = 0.2, 2.0, 1 + 1 / (0.1 * 2.0)

    def loss(theta):
        return floor + h * (theta**2).sum() / 2

    def law(square):
        return (floor + h * square / 2) ** -power

    landscape = esc.landscapes.Function(loss, 2, minima=[[0.0, 0.0]])
    dynamics = esc.GaussianSGD(0.1, 1.0, esc.noise.Function(lambda theta: 2 * loss(theta) * h))
    mass = quad(lambda r: 2 * np.pi * r * law(r**2), 0, np.inf)[0]
    marginal = quad(lambda y: law(0.36 + y**2), -np.inf, np.inf)[0]
    through = (
        (esc.Ball(0.6), h * 0.6 * 2 * np.pi * 0.6 * law(0.36)),
        (esc.Slab([1.0, 0.0], 0.6), 2 * h * 0.6 * marginal),
    )
    for region, flux in through:
        found = esc.predict(esc.Escape(landscape, dynamics, region), "mori")
        assert 1 / (found.mean * 0.1) == pytest.approx(flux / mass, rel=1e-7)


def test_mori_is_silent_without_loss_at_the_minimum_or_a_stationary_law():
    with pytest.raises(Unsupported, match="positive loss"):
        esc.predict(line(esc.GaussianSGD(0.1, 10, esc.noise.Isotropic())), "mori")

    def bowl(theta):
        return 0.2 + (theta**2).sum() / 2

    escape = esc.Escape(
        esc.landscapes.Function(bowl, 4, minima=[np.zeros(4)]),
        esc.GaussianSGD(1.5, 1.0, esc.noise.Isotropic(0.4)),
        esc.Ball(2.0),
    )
    with pytest.raises(Unsupported, match="stationary"):
        esc.predict(escape, "mori")


def test_mori_is_silent_over_a_saddle_along_flat_directions():
    landscape = esc.landscapes.Function(
        lambda x: 5 * x[0] ** 2 + 0.2 * (x[1] ** 4 / 4 - x[1] ** 2 / 2) + 1.0, 2
    )
    noise = esc.noise.LossProportional(hessian=[10.0, 0.4])
    dynamics = esc.GaussianSGD(0.05, 8, noise)
    escape = esc.Escape(landscape, dynamics, esc.Basin(), minimum=[0.0, 1.0])
    with pytest.raises(Unsupported, match="the saddle is crossed along them"):
        esc.predict(escape, "mori")


def test_zhu_indicator(oracle):
    case = oracle("Q09")
    noise = esc.noise.Constant(case["params"]["C"])
    escape = esc.Escape(
        esc.landscapes.Quadratic(case["params"]["H"]),
        esc.GaussianSGD(0.1, 2.0, noise),
        esc.Ball(1.0),
    )
    rise = mean_rise(Setting(escape), case["params"]["t"])
    assert rise / escape.noise_scale == pytest.approx(case["value"], rel=1e-12)
    with pytest.raises(Unsupported, match="never rises"):
        esc.predict(line(esc.GaussianSGD(0.1, 10, esc.noise.Isotropic())), "zhu")


@pytest.mark.slow
def test_zhu_is_right_where_the_spread_itself_leaves():
    """In many directions all exits come at once: against exact means, better the more there are."""
    errors = []
    for dim in (10, 160):
        noise = esc.noise.Isotropic()
        dynamics = esc.ContinuousSGD(0.01, 0.01 / (4 / dim), noise)
        escape = esc.Escape(esc.landscapes.Quadratic(np.ones(dim)), dynamics, esc.Ball(1.0))
        errors.append(esc.predict(escape, "zhu").log_mean - esc.solve(escape).log_mean)
    assert abs(errors[1]) < 0.03
    assert abs(errors[1]) < 0.2 * abs(errors[0])


CURVATURES = np.array([0.2, 0.5, 1.0, 3.5])


def interpolating(rate, start=0.01, radius=1.0):
    def parabola(theta, curvature):
        return 0.5 * curvature * theta[0] ** 2

    landscape = esc.landscapes.Empirical(parabola, np.zeros(1), CURVATURES)
    return esc.Escape(
        landscape, esc.MinibatchSGD(rate, 1), esc.Ball(radius), start=[start], minimum=[0.0]
    )


def test_linear_stability_limit(oracle):
    limit = oracle("K01")["value"]
    for rate, stable in ((0.99 * limit, True), (limit, None), (1.01 * limit, False)):
        # Interpolating minima have no noise there, which an Escape wants from a start elsewhere.
        escape = interpolating(rate)
        growth = mean_square_growth(escape, neighbourhood(escape))
        if stable is None:
            assert growth == pytest.approx(1.0, abs=1e-12)
        elif stable:
            with pytest.raises(Unsupported, match="stays"):
                esc.predict(escape, "linear_stability")
        else:
            assert growth > 1
            assert esc.predict(escape, "linear_stability").mean > 1


def test_linear_stability_grows_as_the_second_moment_does():
    """Every minibatch enumerated: the first step at which the root mean square is outside."""
    escape = interpolating(0.9)
    steps = esc.predict(escape, "linear_stability").mean
    moment, count = 0.01**2, 0
    while moment < 1:
        moment = float(np.mean((1 - 0.9 * CURVATURES) ** 2)) * moment
        count += 1
    assert count - 1 < steps <= count


def test_linear_stability_has_no_continuous_time():
    escape = line(esc.ContinuousSGD(0.1, 10, esc.noise.Isotropic()))
    with pytest.raises(Unsupported, match="finite steps"):
        esc.predict(escape, "linear_stability")
