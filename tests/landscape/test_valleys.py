"""Asymmetric valleys: depths and curvatures as asked for, and pieces that join smoothly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapade.errors import InvalidArgument
from escapade.landscape import AsymmetricValleys
from escapade.landscape.descent import jacobian

CASES = {
    "default": {},
    "all different": {
        "sharp_curvature": 7.3,
        "flat_curvature": 1.9,
        "sharp_depth": 0.37,
        "flat_depth": 0.91,
        "saddle_curvature": 3.1,
        "transverse_curvature": 2.5,
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dim", [1, 3])
def test_depths_and_curvatures(case, dim):
    valleys = AsymmetricValleys(**CASES[case], dim=dim)
    sharp, flat = valleys.minima
    assert valleys.dim == dim
    assert sharp[0] < 0 < flat[0]
    across = [valleys.transverse_curvature] * (dim - 1)
    expected = (
        (sharp, -valleys.sharp_depth, valleys.sharp_curvature),
        (np.zeros(dim), 0.0, -valleys.saddle_curvature),
        (flat, -valleys.flat_depth, valleys.flat_curvature),
    )
    for point, loss, curvature in expected:
        assert valleys.loss(point) == pytest.approx(loss, abs=1e-14)
        np.testing.assert_allclose(valleys.gradient(point), np.zeros(dim), atol=1e-13)
        hessian = np.diag([curvature, *across])
        np.testing.assert_allclose(jacobian(valleys, point), hessian, rtol=1e-10, atol=1e-12)


def test_joins_are_twice_continuously_differentiable():
    valleys = AsymmetricValleys(**CASES["all different"])
    for join in (valleys.minima[0, 0], 0.0, valleys.minima[1, 0]):
        # The third derivative jumps, so the second ones on both sides differ by O(gap).
        for gap in (1e-3, 1e-5):
            left, right = np.array([join - gap]), np.array([join + gap])
            assert valleys.loss(left) == pytest.approx(valleys.loss(right), abs=10 * gap**2)
            assert abs(valleys.gradient(left) - valleys.gradient(right)) < 20 * gap
            assert abs(jacobian(valleys, left) - jacobian(valleys, right)) < 500 * gap


def test_descends_monotonically_from_the_saddle():
    valleys = AsymmetricValleys(**CASES["all different"])
    for minimum in valleys.minima[:, 0]:
        slopes = [valleys.gradient([minimum * share])[0] for share in np.linspace(0.02, 0.98, 49)]
        assert (np.sign(slopes) == -np.sign(minimum)).all()


def test_parabolic_beyond_the_minima():
    valleys = AsymmetricValleys(**CASES["all different"])
    beyond = valleys.minima[1] + 0.7
    assert valleys.loss(beyond) == pytest.approx(-0.91 + 0.5 * 1.9 * 0.49, rel=1e-13)
    far = valleys.minima[0] - 1e6
    assert valleys.gradient(far)[0] == pytest.approx(-7.3e6, rel=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    sharp=st.floats(0.5, 50.0),
    ratio=st.floats(1.0, 10.0),
    saddle=st.floats(0.1, 1.0),
    depths=st.tuples(st.floats(0.05, 5.0), st.floats(0.05, 5.0)),
)
def test_accepted_valleys_have_no_third_minimum(sharp, ratio, saddle, depths):
    flat = sharp / ratio
    valleys = AsymmetricValleys(sharp, flat, *depths, saddle_curvature=saddle * flat)
    # The slope of the spline, integrated by an independent rule, gives the depth, and it has one
    # sign: the finite differences of the loss on a fine grid never turn.
    widths = np.abs(valleys.minima[:, 0])
    np.testing.assert_allclose(widths, np.sqrt(8 * np.array(depths) / [sharp, flat]))
    for sign, width in zip((-1, 1), widths, strict=True):
        t = np.linspace(0, 1, 201)
        a, b = 8.0, 8.0 * saddle * flat / (sharp if sign < 0 else flat)
        slope = t * (1 - t) * (a * (1 - t) + b * t + (30 - 2.5 * (a + b)) * t * (1 - t))
        assert (slope[1:-1] > 0).all()
        assert np.trapezoid(slope, t) == pytest.approx(1, abs=1e-3)
        depth = depths[0] if sign < 0 else depths[1]
        middle = -depth + depth * np.trapezoid(slope[:101], t[:101])
        assert valleys.loss([sign * width / 2]) == pytest.approx(middle, abs=1e-3 * depth)


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"sharp_curvature": -1.0}, "sharp_curvature"),
        ({"flat_curvature": np.nan}, "flat_curvature"),
        ({"sharp_depth": 0.0}, "sharp_depth"),
        ({"flat_depth": np.inf}, "flat_depth"),
        ({"transverse_curvature": "wide"}, "transverse_curvature"),
        ({"saddle_curvature": 6.0}, "saddle_curvature"),
        ({"dim": 0}, "dim"),
    ],
)
def test_bad_arguments_are_named(given, argument):
    with pytest.raises(InvalidArgument, match=argument):
        AsymmetricValleys(**given)
