"""Regions: negative inside, positive outside, NaN for NaN, anchored at the minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from hypothesis import given, settings
from hypothesis import strategies as st

from escapade import noise
from escapade.dynamics import GaussianSGD
from escapade.errors import InvalidArgument, NoBoundary, Unsupported
from escapade.escape import Escape
from escapade.landscape import DoubleWell, Function, MaierStein, MuellerBrown, Quadratic
from escapade.landscape.descent import newton
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where
from escapade.region.boundary import distance_to_boundary

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
MINIMUM = np.array([1.0, -2.0])
PLANE = Quadratic(HESSIAN, MINIMUM)
DYNAMICS = GaussianSGD(0.1, 10.0, noise.Isotropic())


def outside_a_disc(theta):
    return (theta[0] - 1) ** 2 + (theta[1] + 2) ** 2 < 0.25


REGIONS = {
    "ball": (Ball(0.5), lambda x: np.linalg.norm(x) - 0.5),
    "slab": (Slab([3.0, 4.0], 0.2), lambda x: abs(0.6 * x[0] + 0.8 * x[1]) - 0.2),
    "half-space": (HalfSpace([3.0, 4.0], 0.2), lambda x: 0.6 * x[0] + 0.8 * x[1] - 0.2),
    "sublevel": (Sublevel(0.3), lambda x: 0.5 * x @ HESSIAN @ x - 0.3),
    "predicate": (Where(outside_a_disc), lambda x: -1.0 if x @ x < 0.25 else 1.0),
}


def anchored(name):
    return REGIONS[name][0].anchored(PLANE, MINIMUM)


@pytest.mark.parametrize("name", REGIONS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(x=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_level_is_measured_from_the_minimum(name, x):
    expected = REGIONS[name][1](np.array(x))
    level = anchored(name).level(MINIMUM + x)
    assert level.dtype == np.float64
    assert level == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("name", REGIONS)
def test_level_of_nan_is_nan_and_counts_as_not_inside(name):
    region = anchored(name)
    for theta in ([np.nan, 0.0], [np.nan, np.nan]):
        level = region.level(np.array(theta))
        assert np.isnan(level)
        assert not level < 0


@pytest.mark.parametrize("name", REGIONS)
def test_level_of_jax_vectors(name):
    region = anchored(name)
    points = jnp.asarray(MINIMUM + np.array([[0.0, 0.0], [3.0, 3.0]]))
    levels = jax.jit(jax.vmap(lambda theta: region.level(theta)))(points)
    assert levels.dtype == jnp.float32
    assert levels[0] < 0 < levels[1]


def test_a_boundary_point_is_outside():
    assert Ball(0.5, center=[0.0]).level([0.5]) == 0
    assert Ball(5.0, center=[0.0, 0.0]).level([3.0, 4.0]) == 0
    assert HalfSpace([2.0], 1.0).level([1.0]) == 0
    assert Slab([1.0, 0.0], 0.5).level([-0.5, 9.0]) == 0


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_level_of_a_ball_is_differentiable_at_its_centre(dim):
    ball = Ball(0.5, center=np.zeros(dim))
    level, slope = jax.value_and_grad(lambda theta: ball.level(theta))(jnp.zeros(dim))
    assert level == -0.5
    assert np.linalg.norm(slope) <= 1  # any subgradient will do, NaN will not
    slope = jax.grad(lambda theta: ball.level(theta))(jnp.ones(dim))
    np.testing.assert_allclose(slope, np.ones(dim) / np.sqrt(dim), rtol=1e-6)


def test_an_own_reference_is_kept():
    other = np.array([0.0, 0.0])
    regions = (
        Ball(0.5, center=other),
        HalfSpace([1.0, 0.0], 0.5, reference=other),
        Slab([1.0, 0.0], 0.5, reference=other),
    )
    for region in regions:
        level = region.anchored(PLANE, MINIMUM).level([0.4, 0.0])
        assert level == pytest.approx(-0.1)


def test_sublevel_is_above_the_loss_of_its_minimum():
    landscape = MuellerBrown()
    for minimum in landscape.minima:
        region = Sublevel(7.0).anchored(landscape, minimum)
        assert region.level(minimum) == pytest.approx(-7.0, abs=1e-12)


def test_basin_of_the_double_well_ends_at_the_saddle():
    region = Basin().anchored(DoubleWell(), np.array([1.0]))
    for theta, inside in ((1.0, True), (1e-4, True), (-1e-4, False), (-1.0, False), (50.0, True)):
        assert (region.level([theta]) < 0) == inside, theta
    assert np.isnan(region.level([np.nan]))


def test_basins_of_mueller_brown_partition_the_plane():
    landscape = MuellerBrown()
    basins = [Basin().anchored(landscape, minimum) for minimum in landscape.minima]
    points = [[-0.9, 1.2], [-0.4, 1.0], [0.9, -0.1], [0.4, 0.2], [-0.1, 0.5], [-0.3, 0.55]]
    owners = [[bool(basin.level(point) < 0) for basin in basins] for point in points]
    for point, owner in zip(points, owners, strict=True):
        flow = scipy.integrate.solve_ivp(  # an independent descent
            lambda _, theta: -landscape.gradient(theta), (0, 0.2), point, method="LSODA"
        )
        end = np.linalg.norm(landscape.minima - flow.y[:, -1], axis=1).argmin()
        assert owner == [basin == end for basin in range(3)], point


def test_basin_on_both_sides_of_a_saddle():
    landscape = MuellerBrown()
    saddle = newton(landscape, [0.212, 0.293])
    across = np.array([0.05, -0.04])
    right = Basin().anchored(landscape, landscape.minima[1])
    middle = Basin().anchored(landscape, landscape.minima[2])
    assert right.level(saddle + across) < 0 < right.level(saddle - across)
    assert middle.level(saddle - across) < 0 < middle.level(saddle + across)


@pytest.mark.parametrize("curvatures", [[1.0, 1.0], [100.0, 1.0]])
def test_the_basin_of_a_single_valley_is_everything(curvatures):
    # Regression: with a fixed number of descent steps the far end of a flat valley was outside.
    landscape = Quadratic(curvatures)
    region = Basin().anchored(landscape, np.zeros(2))
    for theta in ([0.0, 5.0], [300.0, -400.0], [0.0, 900.0]):
        assert region.level(theta) < 0
    with pytest.raises(NoBoundary):
        Escape(landscape, DYNAMICS, Basin())


def test_the_basin_of_a_very_flat_valley_asks_for_its_number_of_steps():
    landscape = Quadratic([1e4, 1.0])
    with pytest.raises(InvalidArgument, match="steps"):
        Basin().anchored(landscape, np.zeros(2))
    assert Basin(steps=300).anchored(landscape, np.zeros(2)).steps == 300


def test_distance_to_the_boundary():
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.6, -0.8]])
    curvature = np.einsum("ri,ij,rj->r", directions, HESSIAN, directions)
    expected = {
        "ball": np.full(4, 0.5),
        "predicate": np.full(4, 0.5),
        "sublevel": np.sqrt(0.6 / curvature),
        "half-space": np.array([0.2 / 0.6, 0.2 / 0.8, 0.2, np.inf]),
        "slab": np.array([0.2 / 0.6, 0.2 / 0.8, 0.2, 0.2]),
    }
    for name, distances in expected.items():
        found = distance_to_boundary(anchored(name), MINIMUM, directions)
        np.testing.assert_allclose(found, distances, rtol=1e-13, err_msg=name)
    ball = anchored("ball")
    off_centre = distance_to_boundary(ball, MINIMUM + np.array([0.3, 0.0]), directions[:2])
    np.testing.assert_allclose(off_centre, [0.2, 0.4], rtol=1e-13)
    assert distance_to_boundary(ball, MINIMUM, directions[0], search_radius=0.4) == np.inf


def test_distance_to_the_ridge_of_the_double_well():
    basin = Basin().anchored(DoubleWell(), np.array([1.0]))
    distances = distance_to_boundary(basin, np.array([1.0]), [[1.0], [-1.0]])
    assert distances[0] == np.inf
    # Near the ridge descent is slow: 200 steps of 1/4 leave the points within e^-50 of it behind.
    assert distances[1] == pytest.approx(1.0, abs=1e-9)


def test_regions_that_cannot_be_left_are_refused():
    bounded = Function(lambda t: 1 - jnp.exp(-t @ t), 2, minima=[0.0, 0.0])
    assert Escape(bounded, DYNAMICS, Sublevel(0.9)).region.level([0.0, 0.0]) == -0.9
    with pytest.raises(NoBoundary, match="depth"):
        Escape(bounded, DYNAMICS, Sublevel(1.5))
    with pytest.raises(NoBoundary, match="region"):
        Escape(PLANE, DYNAMICS, Where(lambda t: t[0] == t[0]))


def test_a_small_target_is_a_region_that_can_be_left():
    # Regression: 16 rays missed the target and the escape was refused.
    landscape = MuellerBrown()
    target = landscape.minima[1]
    dynamics = GaussianSGD(1e-4, 1e-3, noise.Isotropic(10.0))
    region = Where(lambda theta: jnp.sum((theta - target) ** 2) > 0.1**2)
    escape = Escape(landscape, dynamics, region)
    assert escape.region.level(target) > 0 > escape.region.level(escape.start)


@pytest.mark.parametrize(
    ("build", "error", "argument"),
    [
        (lambda: Ball(0.0), InvalidArgument, "radius"),
        (lambda: Ball("wide"), InvalidArgument, "radius"),
        (lambda: Ball(np.nan), InvalidArgument, "radius"),
        (lambda: Ball(1.0, center=[0.0, np.nan]), InvalidArgument, "center"),
        (lambda: Ball(1.0, center=[0.0]).anchored(PLANE, MINIMUM), InvalidArgument, "center"),
        (lambda: HalfSpace([0.0, 0.0], 1.0), InvalidArgument, "normal"),
        (lambda: HalfSpace([[1.0], [2.0]], 1.0), InvalidArgument, "normal"),
        (lambda: HalfSpace(["x"], 1.0), InvalidArgument, "normal"),
        (lambda: HalfSpace([1.0], np.inf), InvalidArgument, "offset"),
        (lambda: HalfSpace([1.0], "far"), InvalidArgument, "offset"),
        (lambda: HalfSpace([1.0], 1.0).anchored(PLANE, MINIMUM), InvalidArgument, "normal"),
        (lambda: HalfSpace([1.0, 0.0], 1.0, [0.0]), InvalidArgument, "reference"),
        (lambda: Slab([1.0], -1.0), InvalidArgument, "half_width"),
        (lambda: Slab([np.nan], 1.0), InvalidArgument, "normal"),
        (lambda: Slab([1.0], 1.0).anchored(PLANE, MINIMUM), InvalidArgument, "normal"),
        (lambda: Sublevel(-0.1), InvalidArgument, "depth"),
        (
            lambda: Sublevel(0.1).anchored(MaierStein(1.0), np.array([1.0, 0.0])),
            InvalidArgument,
            "Sublevel",
        ),
        (lambda: Sublevel(0.1).level([0.0]), Unsupported, "Sublevel"),
        (lambda: Basin().level([0.0]), Unsupported, "Basin"),
        (lambda: Basin(steps=0), InvalidArgument, "steps"),
        (lambda: Basin(step=-1.0), InvalidArgument, "step"),
        (lambda: Basin(capture_radius=np.nan), InvalidArgument, "capture_radius"),
        (lambda: Where(lambda t: t[0]).anchored(PLANE, MINIMUM), InvalidArgument, "predicate"),
        (lambda: Where(lambda t: t > 0).anchored(PLANE, MINIMUM), InvalidArgument, "predicate"),
        (
            lambda: Where(lambda t: bool(t[0] > 0)).anchored(PLANE, MINIMUM),
            InvalidArgument,
            "predicate",
        ),
    ],
)
def test_bad_arguments_are_named(build, error, argument):
    with pytest.raises(error, match=argument):
        build()
