"""The verb `predict` against exact mean exit times, and what it says about its assumptions."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument, Unstable, Unsupported

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])


def gaussian(hessian, covariance, region, learning_rate, batch_size):
    return esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(learning_rate, batch_size, esc.noise.Constant(covariance)),
        region,
    )


def continuous(hessian, covariance, region, noise_scale, learning_rate=0.05):
    return esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.ContinuousSGD(
            learning_rate, learning_rate / noise_scale, esc.noise.Constant(covariance)
        ),
        region,
    )


EXACT = {
    "M01": gaussian([1.0], [1.0], esc.Ball(0.3), 0.1, 10),
    "S06": gaussian([1.0], [1.0], esc.Ball(1.0), 0.2, 9),
    "M08": gaussian(H, C, esc.Ball(1.0), 0.3, 1),
    "M09": gaussian([2.0, 0.5], [2.0, 0.5], esc.Ball(1.0), 0.3, 1.2),
    "M10": gaussian([2.0, 0.5], [1.0, 1.0], esc.Ball(1.0), 0.3, 1.2),
    "R01": continuous([1.0], [1.0], esc.Slab([1.0], 1.0), 0.2),
    "R02": continuous(np.ones(2), np.ones(2), esc.Ball(1.0), 0.2),
    "R03": continuous(np.ones(10), np.ones(10), esc.Ball(1.0), 0.2),
    "P01": continuous([1.0, 0.3], [1.0, 0.3], esc.Ball(1.0), 0.25),
    "P02": continuous([1.0, 0.3], [1.0, 0.3], esc.Sublevel(0.5), 0.25),
    "P03": continuous([1.0, 0.3], [1.0, 1.0], esc.Sublevel(0.5), 0.25),
    "P04": continuous([1.0, 0.3], [1.0, 1.0], esc.Ball(1.4), 0.25),
    "P05": continuous(H, C, esc.Ball(1.0), 0.25),
}


@pytest.mark.parametrize("name", EXACT)
def test_mean_exit_time(oracle, name):
    escape = EXACT[name]
    exact = oracle(name)["value"]
    if name[0] in "RP":  # those are times, not steps
        exact /= escape.dynamics.learning_rate
    prediction = esc.predict(escape)
    error = abs(prediction.mean / exact - 1)
    assert error < 0.05  # what we hold ourselves to
    assert error <= 2 * prediction.relative_error + 1e-6  # what the prediction says of itself
    assert prediction.relative_error < 0.5


def test_exponent_is_the_minimum_steepness():
    for escape in EXACT.values():
        prediction = esc.predict(escape)
        found = esc.minimum_steepness(escape)
        assert prediction.exponent == pytest.approx(found.value, rel=1e-9)
        assert prediction.groups.barrier == pytest.approx(found.value / escape.noise_scale)


def test_exponential_law():
    escape = EXACT["M01"]
    law = esc.predict(escape, "exponential_law")
    # C = lambda = 1: V0 = R^2 in the continuous theory the law rests on.
    assert law.exponent == pytest.approx(0.09)
    assert law.log_mean == pytest.approx(0.09 / 0.01 - np.log(0.1))
    assert np.isinf(law.relative_error)
    assert "logarithmic" in law.assumptions[0]


def test_groups():
    groups = esc.predict(EXACT["M01"]).groups
    assert groups.barrier == pytest.approx(0.045 * 1.9 / 0.01)  # R^2 (2 - eta lambda) / 2 epsilon^2
    assert groups.signal_to_noise == pytest.approx(np.sqrt(10) * 0.3)
    assert groups.stiffness == pytest.approx(0.1)
    assert groups.effective_dimension == pytest.approx(1.0)
    assert groups.shell_ratio == pytest.approx(0.01 / 1.9 / 0.09)
    assert groups.relaxation_steps == pytest.approx((10.0, 10.0))
    assert groups.noise_correction == 0.0
    two = esc.predict(EXACT["P01"]).groups
    assert two.effective_dimension == pytest.approx(2.0)  # C = H: S = 1/2 in every direction
    assert two.relaxation_steps == pytest.approx((1 / 0.015, 1 / 0.05))


def parabola(parameters, example):
    return 0.5 * (parameters[0] - example) ** 2


def test_noise_correction_is_the_first_order_of_the_cumulant():
    # Curvature 1 for all, skewed centres: the exact exponent solves mean exp(-p xi) = 1 for
    # p = V'(x) with xi = x - c_i; to first order V = V_Gauss - integral of the third cumulant.
    rng = np.random.default_rng(1)
    centres = rng.gamma(4.0, size=64)
    centres = (centres - centres.mean()) / centres.std()
    landscape = esc.landscapes.Empirical(parabola, np.zeros(1), centres)
    corrections = {}
    for width in (0.02, 0.04):
        escape = esc.Escape(
            landscape, esc.MinibatchSGD(1e-4, 1), esc.HalfSpace([1.0], width), minimum=[0.0]
        )
        groups = esc.predict(escape).groups
        # The third cumulant of -xi at the minimum is that of the centres, kappa; p(t) = 2 a e^-t
        # (C = 1), so the change of V is -int kappa p^3 / 6 dt = -kappa (2 a)^3 / 18.
        kappa = float((centres**3).mean())
        expected = -kappa * (2 * width) ** 3 / 18 / 1e-4
        corrections[width] = groups.noise_correction / expected
    # Exact as the width goes to zero: the rest is of the next order.
    assert abs(corrections[0.02] - 1) < 0.6 * abs(corrections[0.04] - 1)
    assert corrections[0.02] == pytest.approx(1.0, abs=0.05)


def test_assumptions_say_what_fails():
    holds = esc.predict(EXACT["M01"]).assumptions
    assert all(line.startswith("holds") for line in holds)
    low = esc.predict(gaussian([1.0], [1.0], esc.Ball(0.1), 0.1, 10)).assumptions
    assert any(line.startswith("FAILS: exit over a barrier") for line in low)
    assert any(line.startswith("FAILS: the region lies outside") for line in low)
    well = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.05, 1.0, esc.noise.Isotropic()),
        esc.Ball(0.8),
    )
    quadratic = esc.predict(well, "quadratic").assumptions
    assert any(line.startswith("FAILS: quadratic") for line in quadratic)
    assert any("next order" in line for line in esc.predict(well).assumptions)


def test_printing():
    text = str(esc.predict(EXACT["S06"]))
    assert "4.44e18" in text
    assert "minimum steepness V0" in text


def test_what_cannot_be_predicted():
    with pytest.raises(InvalidArgument, match="theory"):
        esc.predict(EXACT["M01"], "arrhenius")
    with pytest.raises(Unsupported, match="region"):
        esc.predict(gaussian([1.0], [1.0], esc.Where(lambda theta: abs(theta[0]) < 1), 0.1, 10))
    with pytest.raises(Unsupported, match="region"):
        esc.predict(gaussian([1.0] * 8, [1.0] * 8, esc.Ball(0.3, center=[0.1] * 8), 0.1, 10))
    with pytest.raises(Unstable, match="learning rate"):
        esc.predict(gaussian([1.0], [1.0], esc.Ball(0.3), 2.1, 10))
    centres = np.array([-1.0, 0.0, 1.0, 2.0, -2.0])
    landscape = esc.landscapes.Empirical(parabola, np.zeros(1), centres)
    shuffled = esc.Escape(
        landscape,
        esc.MinibatchSGD(0.1, 1, "shuffled_epochs"),
        esc.Ball(1.0),
        minimum=[0.0],
    )
    with pytest.raises(Unsupported, match="shuffled"):
        esc.predict(shuffled)


def test_drift_that_is_not_a_gradient():
    """A linear rotating drift: the same stationary law, and simulation as the judge."""
    rotation = np.array([[1.0, 2.0], [-2.0, 1.0]])

    def field(theta):
        return -rotation @ theta

    escape = esc.Escape(
        esc.landscapes.Drift(field, 2, minima=[0.0, 0.0]),
        esc.GaussianSGD(0.05, 0.25, esc.noise.Isotropic()),
        esc.Ball(1.0),
    )
    prediction = esc.predict(escape)
    sample = esc.simulate(escape, 4000, key=5)
    tolerance = 3.5 * sample.standard_error / sample.mean + 2 * prediction.relative_error
    assert abs(prediction.mean / sample.mean - 1) < tolerance
    assert prediction.relative_error < 0.1


def test_instantons_where_the_landscape_is_not_quadratic():
    """Against the exact chain, which the quadratic theory misses by far."""
    well = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, 1.5, esc.noise.Isotropic()),
        esc.HalfSpace([1.0], 0.6),
    )
    exact = esc.solve(well)
    prediction = esc.predict(well)
    assert prediction.mean == pytest.approx(exact.mean, rel=0.015)
    assert abs(prediction.mean / exact.mean - 1) < prediction.relative_error
    assert "instantons" in prediction.source
    quadratic = esc.predict(well, "quadratic")
    assert abs(quadratic.mean / exact.mean - 1) > 1
    assert prediction.exponent == pytest.approx(
        esc.minimum_steepness(well, continuous_limit=False).value, rel=0.01
    )


@pytest.mark.parametrize("offset", [1.0, 1.8])
def test_to_a_saddle_and_beyond(offset):
    well = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.ContinuousSGD(0.1, 1.0, esc.noise.Isotropic()),
        esc.HalfSpace([1.0], offset),
    )
    assert esc.predict(well).mean == pytest.approx(esc.solve(well).mean, rel=0.02)


def test_an_off_centre_ball_of_a_quadratic():
    """No closed form covers it, the law along instantons does."""
    problem = gaussian([1.0], [1.0], esc.Ball(1.0, center=[0.15]), 0.05, 0.4)
    assert esc.predict(problem).mean == pytest.approx(esc.solve(problem).mean, rel=0.03)


def test_heavy_tails_have_no_theory():
    """A Gaussian of the same variance would be wrong by orders of magnitude."""
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]), esc.HeavyTailedSGD(0.1, 3.0, 0.01), esc.Ball(0.3)
    )
    for verb in (esc.predict, esc.diagnose):
        with pytest.raises(Unsupported, match="jump"):
            verb(escape)
