"""The escape problem: what it fills in, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade import noise
from escapade.dynamics import ContinuousSGD, GaussianSGD, MinibatchSGD
from escapade.errors import (
    DegenerateNoise,
    InvalidArgument,
    NoBoundary,
    NotAMinimum,
    NotInRegion,
    Unsupported,
)
from escapade.escape import Escape
from escapade.landscape import (
    DoubleWell,
    Drift,
    Empirical,
    Function,
    MaierStein,
    MuellerBrown,
    Quadratic,
    StyblinskiTang,
)
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where

PLANE = Quadratic([2.0, 0.5], minimum=[1.0, -1.0])
DYNAMICS = GaussianSGD(0.1, 20.0, noise.Isotropic())


def bowl(theta):
    return jnp.sum((theta - 1.0) ** 2)


def test_the_minimum_is_the_start_unless_given():
    escape = Escape(PLANE, DYNAMICS, Ball(0.5))
    np.testing.assert_array_equal(escape.minimum, [1.0, -1.0])
    np.testing.assert_array_equal(escape.start, [1.0, -1.0])
    assert escape.region.level([1.5, -1.0]) == 0
    assert escape.noise_scale == pytest.approx(0.005)


def test_the_nearest_known_minimum_is_the_one_left():
    escape = Escape(MuellerBrown(), DYNAMICS, Ball(0.4), start=[0.5, 0.1])
    np.testing.assert_array_equal(escape.minimum, MuellerBrown().minima[1])
    np.testing.assert_array_equal(escape.start, [0.5, 0.1])
    assert Escape(DoubleWell(), DYNAMICS, Ball(0.4), start=[0.8]).minimum == 1.0
    assert Escape(DoubleWell(), DYNAMICS, Ball(0.4)).minimum == -1.0


def test_a_minimum_may_be_given_beside_the_start():
    escape = Escape(Function(bowl, 2), DYNAMICS, Ball(0.5), start=[1.2, 1.0], minimum=[1.0, 1.0])
    np.testing.assert_array_equal(escape.minimum, [1.0, 1.0])
    np.testing.assert_array_equal(escape.start, [1.2, 1.0])
    alone = Escape(Function(bowl, 2), DYNAMICS, Ball(0.5), start=[1.0, 1.0])
    np.testing.assert_array_equal(alone.minimum, [1.0, 1.0])


def test_the_parts_are_prepared():
    proportional = GaussianSGD(0.1, 20.0, noise.HessianProportional(0.5))
    escape = Escape(PLANE, proportional, Sublevel(0.2))
    assert isinstance(escape.dynamics.noise, noise.Constant)
    np.testing.assert_array_equal(escape.dynamics.noise.matrix, np.diag([1.0, 0.25]))
    assert escape.region.level(escape.start) == pytest.approx(-0.2)


def test_a_drift_can_be_left():
    spiral = np.array([[-1.0, 5.0], [-5.0, -1.0]])
    landscape = Drift(lambda theta: spiral @ theta, 2, minima=[0.0, 0.0])
    assert Escape(landscape, DYNAMICS, Ball(0.5)).minimum.tolist() == [0.0, 0.0]
    # Not normal: the symmetric part has a negative eigenvalue, but the origin attracts.
    shear = np.array([[-1.0, 10.0], [0.0, -1.0]])
    landscape = Drift(lambda theta: shear @ theta, 2, minima=[0.0, 0.0])
    assert Escape(landscape, DYNAMICS, HalfSpace([1.0, 0.0], 1.0)).minimum.tolist() == [0.0, 0.0]


def test_flat_directions_are_no_reason_to_refuse():
    valley = Function(lambda theta: theta[0] ** 2 + theta[1] ** 4, 3, minima=[0.0, 0.0, 0.0])
    assert Escape(valley, DYNAMICS, Ball(0.5)).landscape.dim == 3


def test_text():
    text = str(Escape(PLANE, DYNAMICS, Ball(0.5)))
    for part in ("Gaussian SGD", "0.1", "20", "ball of radius 0.5", "Quadratic", "dimension 2"):
        assert part in text


BAD = {
    "landscape": (lambda: Escape(bowl, DYNAMICS, Ball(0.5)), InvalidArgument, "landscape"),
    "dynamics": (lambda: Escape(PLANE, "SGD", Ball(0.5)), InvalidArgument, "dynamics"),
    "noise for dynamics": (
        lambda: Escape(PLANE, noise.Isotropic(), Ball(0.5)),
        InvalidArgument,
        "dynamics",
    ),
    "region": (lambda: Escape(PLANE, DYNAMICS, 0.5), InvalidArgument, "region"),
    "class for region": (lambda: Escape(PLANE, DYNAMICS, Ball), InvalidArgument, "region"),
    "start of another dimension": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), start=[0.0]),
        InvalidArgument,
        "start",
    ),
    "start with NaN": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), start=[np.nan, 0.0]),
        InvalidArgument,
        "start",
    ),
    "start of text": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), start="here"),
        InvalidArgument,
        "start",
    ),
    "two starts": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), start=np.zeros((2, 2))),
        InvalidArgument,
        "start holds 2 points",
    ),
    "minimum of another dimension": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), minimum=[0.0, 0.0, 0.0]),
        InvalidArgument,
        "minimum",
    ),
    "minimum that is infinite": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), minimum=[np.inf, 0.0]),
        InvalidArgument,
        "minimum",
    ),
    "no minimum known": (
        lambda: Escape(Function(bowl, 2), DYNAMICS, Ball(0.5)),
        NotAMinimum,
        "minimum=",
    ),
    "not stationary": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), minimum=[1.0, -0.9]),
        NotAMinimum,
        "minimum has gradient norm 0.05",
    ),
    "start taken for a minimum": (
        lambda: Escape(Function(bowl, 2), DYNAMICS, Ball(0.5), start=[0.0, 0.0]),
        NotAMinimum,
        "start has gradient norm",
    ),
    "minimum named by the user, wrongly": (
        lambda: Escape(Function(bowl, 2, minima=[0.0, 0.0]), DYNAMICS, Ball(0.5)),
        NotAMinimum,
        "the landscape's minimum",
    ),
    "maximum": (
        lambda: Escape(DoubleWell(), DYNAMICS, Ball(0.5), minimum=[0.0]),
        NotAMinimum,
        "repels",
    ),
    "saddle": (
        lambda: Escape(Quadratic([1.0, -0.1]), DYNAMICS, Ball(0.5)),
        NotAMinimum,
        "repels",
    ),
    "drift away": (
        lambda: Escape(Drift(lambda theta: theta, 2, minima=[0.0, 0.0]), DYNAMICS, Ball(0.5)),
        NotAMinimum,
        "repels",
    ),
    "NaN gradient": (
        lambda: Escape(Function(lambda t: jnp.sqrt(t[0]), 1), DYNAMICS, Ball(1.0), start=[0.0]),
        InvalidArgument,
        "gradient at start",
    ),
    "start outside a ball": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5), start=[1.0, 0.0]),
        NotInRegion,
        "start has level 0.5",
    ),
    "start on the boundary": (
        lambda: Escape(Quadratic([1.0]), DYNAMICS, Ball(0.5), start=[0.5]),
        NotInRegion,
        "start",
    ),
    "half-space on the wrong side": (
        lambda: Escape(PLANE, DYNAMICS, HalfSpace([1.0, 0.0], -0.5)),
        NotInRegion,
        "start",
    ),
    "start in another basin": (
        lambda: Escape(DoubleWell(), DYNAMICS, Basin(), start=[-0.5], minimum=[1.0]),
        NotInRegion,
        "basin",
    ),
    "centre of another dimension": (
        lambda: Escape(PLANE, DYNAMICS, Ball(0.5, center=[0.0])),
        InvalidArgument,
        "center",
    ),
    "normal of another dimension": (
        lambda: Escape(PLANE, DYNAMICS, Slab([1.0], 0.5)),
        InvalidArgument,
        "normal",
    ),
    "sublevel of a drift": (
        lambda: Escape(MaierStein(10.0), DYNAMICS, Sublevel(0.5)),
        InvalidArgument,
        "Sublevel",
    ),
    "predicate of one number": (
        lambda: Escape(PLANE, DYNAMICS, Where(lambda theta: theta[0])),
        InvalidArgument,
        "predicate",
    ),
    "everywhere": (
        lambda: Escape(PLANE, DYNAMICS, Where(lambda theta: theta[0] < jnp.inf)),
        NoBoundary,
        "region",
    ),
    "basin of the only valley": (
        lambda: Escape(PLANE, DYNAMICS, Basin()),
        NoBoundary,
        "basin",
    ),
    "noise of another dimension": (
        lambda: Escape(PLANE, GaussianSGD(0.1, 1.0, noise.Constant(np.eye(3))), Ball(0.5)),
        InvalidArgument,
        "covariance",
    ),
    "noise that is nothing": (
        lambda: Escape(PLANE, GaussianSGD(0.1, 1.0, noise.Function(lambda t: 0 * t[0])), Ball(0.5)),
        DegenerateNoise,
        "noise",
    ),
    "noise of a saddle": (
        lambda: Escape(
            Quadratic([1.0, -1.0]), GaussianSGD(0.1, 1.0, noise.HessianProportional()), Ball(0.5)
        ),
        DegenerateNoise,
        "covariance",
    ),
    "noise of a drift": (
        lambda: Escape(
            MaierStein(1.0), ContinuousSGD(0.1, 1.0, noise.HessianProportional()), Ball(0.5)
        ),
        Unsupported,
        "HessianProportional",
    ),
    "noise without examples": (
        lambda: Escape(StyblinskiTang(2), ContinuousSGD(0.1, 1.0, noise.Empirical()), Ball(0.5)),
        Unsupported,
        "Empirical",
    ),
    "minibatches without examples": (
        lambda: Escape(PLANE, MinibatchSGD(0.1, 2), Ball(0.5)),
        Unsupported,
        "MinibatchSGD",
    ),
    "batch beyond the data": (
        lambda: Escape(
            Empirical(lambda p, x: (p[0] - x) ** 2, np.zeros(1), np.array([-1.0, 1.0])),
            MinibatchSGD(0.1, 3, "without_replacement"),
            Ball(0.5),
            minimum=[0.0],
        ),
        InvalidArgument,
        "batch_size",
    ),
}


VERBS = {
    "predict": esc.predict,
    "compare": esc.compare,
    "diagnose": esc.diagnose,
    "simulate": lambda escape: esc.simulate(escape, 1, 1),
    "split": esc.split,
    "solve": esc.solve,
    "minimum_steepness": esc.minimum_steepness,
    "steepness": lambda escape: esc.steepness(escape, np.zeros((2, 2))),
    "trace_steepness": lambda escape: esc.trace_steepness(escape, np.zeros((2, 2))),
    "quasipotential": lambda escape: esc.quasipotential(escape, [-1, -1], [1, 1]),
    "relaxation": esc.relaxation,
    "hazard_ratio": lambda escape: esc.hazard_ratio(escape, [1]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_say_what_they_want_instead_of_an_escape(verb):
    for given in (3, None, PLANE):
        with pytest.raises(InvalidArgument, match=r"escape is .*; give an escapade\.Escape"):
            VERBS[verb](given)


@pytest.mark.parametrize("case", BAD)
def test_bad_problems_are_refused(case):
    build, error, argument = BAD[case]
    with pytest.raises(error, match=argument) as caught:
        build()
    assert type(caught.value) is error
