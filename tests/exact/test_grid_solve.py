"""Mean exit times on lattices, against oracles, series, and exact lines."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

from escapade.dynamics import ContinuousSGD, GaussianSGD
from escapade.errors import InvalidArgument, NoBoundary, NotConverged, NotInRegion, Unsupported
from escapade.escape import Escape
from escapade.exact.grid import solve_grid
from escapade.exact.line.diffusion import solve_diffusion
from escapade.exact.line.process import line_of
from escapade.landscape import DoubleWell, MaierStein, Quadratic
from escapade.landscape import Function as FunctionLoss
from escapade.noise import Constant, Function, Isotropic
from escapade.region import Ball, HalfSpace, Slab, Sublevel, Where

RATE = 0.01
WHITE = Isotropic(1.0)
LONG = np.diag([1.0, 0.3])


def continuous(noise_scale, noise=WHITE):
    return ContinuousSGD(RATE, RATE / noise_scale, noise)


def log_mean_radial(dim, radius, noise_scale):
    """``2F2(1, 1; 2, 1 + d / 2; R^2 / noise_scale)`` summed in logarithms, from the centre."""
    argument = radius**2 / noise_scale
    k = np.arange(int(argument + 12 * np.sqrt(argument) + 200))
    logs = np.cumsum(np.append(0.0, np.log(argument / (dim / 2 + k[1:])))) - np.log(k + 1)
    return np.logaddexp.reduce(logs) + np.log(radius**2 / (dim * noise_scale * RATE))


def agrees(exact, log_mean, tolerance=1e-3):
    """Within a relative tolerance, and within the stated error."""
    difference = abs(exact.log_mean - log_mean)
    assert difference < tolerance
    assert difference < exact.error


POSED_IN_THE_PLANE = {
    "P01": (LONG, LONG, Ball(1.0)),
    "P02": (LONG, LONG, Sublevel(0.5)),
    "P03": (LONG, np.eye(2), Sublevel(0.5)),
    "P04": (LONG, np.eye(2), Ball(1.4)),
    "P05": ([[2.0, 0.6], [0.6, 1.0]], [[1.0, -0.3], [-0.3, 0.5]], Ball(1.0)),
}


@pytest.mark.parametrize("case", POSED_IN_THE_PLANE)
def test_quadratics(oracle, case):
    hessian, covariance, region = POSED_IN_THE_PLANE[case]
    escape = Escape(Quadratic(hessian), continuous(0.25, Constant(covariance)), region)
    exact = solve_grid(escape, nodes=100)
    agrees(exact, np.log(oracle(case)["value"] / RATE), 1e-4)
    assert exact.error < 1e-3


@pytest.mark.parametrize(
    ("radius", "noise_scale"), [(0.5, 0.2), (1.0, 0.2), (2.0, 0.2), (4.0, 0.2), (1.0, 1 / 400)]
)
def test_ball_in_the_plane_up_to_means_of_1e170(radius, noise_scale):
    escape = Escape(Quadratic(np.eye(2)), continuous(noise_scale), Ball(radius))
    exact = solve_grid(escape, nodes=160)
    agrees(exact, log_mean_radial(2, radius, noise_scale), 5e-3)


def test_ball_in_space():
    escape = Escape(Quadratic(np.eye(3)), continuous(0.2), Ball(1.0))
    agrees(solve_grid(escape, nodes=28), log_mean_radial(3, 1.0, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("radius", [1.0, 3.0, 4.0])
def test_ball_in_space_deep(radius):
    escape = Escape(Quadratic(np.eye(3)), continuous(0.2), Ball(radius))
    agrees(solve_grid(escape), log_mean_radial(3, radius, 0.2), 2e-2)


@cache
def well_and_valley(turn=0.0):
    """A double well along an axis turned by an angle, and a quadratic across it."""
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def loss(theta):
        x, y = axes.T @ theta
        return x**4 / 4 - x**2 / 2 + y**2

    def noise(theta):
        x, _ = axes.T @ theta
        return axes @ jnp.diag(jnp.stack([1 + x**2 / 2, 0.3 + 0 * x])) @ axes.T

    landscape = FunctionLoss(loss, 2, minima=[axes @ [-1.0, 0.0], axes @ [1.0, 0.0]])
    return landscape, Function(noise), axes[:, 0]


def on_the_line(noise_scale, noise, offset):
    escape = Escape(DoubleWell(), continuous(noise_scale, noise), HalfSpace([1.0], offset))
    law, _ = solve_diffusion(line_of(escape, escape.start))
    return law.log_mean


@pytest.mark.parametrize("noise_scale", [0.1, 0.02, 0.0025])
def test_double_well_up_to_means_of_1e90(noise_scale):
    landscape, _, _ = well_and_valley()
    escape = Escape(landscape, continuous(noise_scale), HalfSpace([1.0, 0.0], 1.6))
    agrees(solve_grid(escape, nodes=100), on_the_line(noise_scale, WHITE, 1.6))


ALONG = Function(lambda theta: 1 + theta[0] ** 2 / 2)


@pytest.mark.parametrize("turn", [0.0, 0.5])
@pytest.mark.parametrize("noise_scale", [0.1, 0.01])
def test_changing_noise(turn, noise_scale):
    landscape, noise, axis = well_and_valley(turn)
    escape = Escape(landscape, continuous(noise_scale, noise), HalfSpace(axis, 1.6))
    agrees(solve_grid(escape, nodes=100), on_the_line(noise_scale, ALONG, 1.6))


@pytest.mark.parametrize(("case", "weight"), [("N04", 0.0), ("N05", 0.5), ("N06", 1.0)])
def test_interpretations(oracle, case, weight):
    landscape, noise, axis = well_and_valley()
    escape = Escape(landscape, continuous(0.1, noise), HalfSpace(axis, 1.0))
    exact = solve_grid(escape, nodes=140, interpretation=weight)
    agrees(exact, np.log(oracle(case)["value"] / RATE), 1e-4)


@pytest.mark.parametrize("noise_scale", [0.05, 0.004])
def test_beyond_a_second_well_that_is_not_known(noise_scale):
    landscape, _, axis = well_and_valley(0.3)
    unknown = FunctionLoss(landscape.function, 2, minima=[landscape.minima[0]])
    escape = Escape(unknown, continuous(noise_scale), HalfSpace(axis, 2.5))
    exact = solve_grid(escape, nodes=200)
    recurrent = exact.field.process.split.hitting.shape[1]
    assert recurrent == (2 if noise_scale < 0.01 else 1)
    agrees(exact, on_the_line(noise_scale, WHITE, 2.5), 1e-2)


MAIER_STEIN = {
    (1, 0.1): 543.27,
    (1, 0.05): 74075,
    (1, 0.03): 5.6528e7,
    (1, 0.02): 2.3247e11,
    (3, 0.1): 284.15,
    (3, 0.05): 33377,
    (3, 0.03): 2.3835e7,
    (3, 0.02): 9.433e10,
}


OUTSIDE_TARGET = Where(lambda theta: (theta[0] - 1) ** 2 + theta[1] ** 2 > 0.09)


def maier_stein(beta, noise_scale):
    return Escape(
        MaierStein(float(beta)), continuous(noise_scale), OUTSIDE_TARGET, start=[-1.0, 0.0]
    )


FAST = ((1, 0.1), (1, 0.02), (3, 0.03))


@pytest.mark.parametrize(
    ("beta", "noise_scale"),
    [case if case in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in MAIER_STEIN],
)
def test_maier_stein(beta, noise_scale):
    escape = maier_stein(beta, noise_scale)
    exact = solve_grid(escape, nodes=140, box=((-1.8, 1.8), (-1.1, 1.1)))
    tolerance = 0.02 if noise_scale == 0.02 else 0.005
    expected = MAIER_STEIN[beta, noise_scale] / RATE
    assert exact.mean == pytest.approx(expected, rel=tolerance)
    finer = solve_grid(escape, nodes=200, box=((-1.8, 1.8), (-1.1, 1.1)))
    assert abs(finer.log_mean - exact.log_mean) < exact.error


def test_box_is_found_where_no_side_matters():
    exact = solve_grid(maier_stein(3, 0.05), nodes=140)
    boxed = solve_grid(maier_stein(3, 0.05), nodes=140, box=((-1.8, 1.8), (-1.1, 1.1)))
    assert abs(exact.log_mean - boxed.log_mean) < exact.error + boxed.error


def test_flat_strip_with_reflecting_sides():
    flat = FunctionLoss(lambda theta: 1e-14 * jnp.sum(theta**2), 2, minima=[[0.0, 0.0]])
    variance = RATE * 0.2
    for start in (0.0, 0.37):
        escape = Escape(flat, continuous(0.2), HalfSpace([1.0, 0.0], 1.0), start=[start, 0.0])
        # Box sides reflect at -1 and 1, but the region ends at 1: u = (2^2 - (x + 1)^2) / variance.
        exact = solve_grid(escape, nodes=40, box=((-1.0, 1.0), (-0.5, 0.7)))
        assert exact.mean == pytest.approx((4 - (start + 1) ** 2) / variance, rel=1e-6)


def test_sharp_and_flat_directions_askew():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    hessian = turn @ np.diag([1.0, 1000.0]) @ turn.T
    escape = Escape(Quadratic((hessian + hessian.T) / 2), continuous(0.15), Sublevel(0.5))
    straight = Escape(Quadratic(np.diag([1.0, 1000.0])), continuous(0.15), Sublevel(0.5))
    exact, same = solve_grid(escape, nodes=100), solve_grid(straight, nodes=100)
    assert abs(exact.log_mean - same.log_mean) < exact.error
    assert exact.error < 1e-3


def test_slab_without_end():
    escape = Escape(Quadratic(np.diag([1.0, 50.0])), continuous(0.1), Slab([1.0, 0.0], 1.0))
    line = Escape(Quadratic([[1.0]]), continuous(0.1), Slab([1.0], 1.0))
    law, _ = solve_diffusion(line_of(line, line.start))
    agrees(solve_grid(escape, nodes=140), law.log_mean)


def test_start_elsewhere():
    escape = Escape(Quadratic(np.eye(2)), continuous(0.2), Ball(1.0))
    exact = solve_grid(escape, [0.6, 0.7], nodes=140)
    line = Escape(Quadratic(np.eye(2)), continuous(0.2), Ball(1.0))
    field = solve_grid(line, nodes=140).field
    assert field.at(np.array([[0.6, 0.7]]))[0] == pytest.approx(exact.mean, rel=1e-3)


def quadratic(dim=2, noise_scale=0.2, radius=1.0):
    return Escape(Quadratic(np.eye(dim)), continuous(noise_scale), Ball(radius))


def test_refusals():
    with pytest.raises(Unsupported, match="simulate"):
        solve_grid(quadratic(dim=4))
    with pytest.raises(Unsupported, match="simulate"):
        solve_grid(Escape(Quadratic(np.eye(2)), GaussianSGD(RATE, 1.0, WHITE), Ball(1.0)))
    with pytest.raises(InvalidArgument, match="nodes"):
        solve_grid(quadratic(), nodes=8)
    with pytest.raises(InvalidArgument, match="nodes"):
        solve_grid(quadratic(), nodes=5000)
    with pytest.raises(InvalidArgument, match="box"):
        solve_grid(quadratic(), box=((0.1, 1.0), (-1.0, 1.0)))
    with pytest.raises(InvalidArgument, match="box"):
        solve_grid(quadratic(), box=((-1.0, 1.0),))
    with pytest.raises(NotInRegion):
        solve_grid(quadratic(), [2.0, 0.0])
    with pytest.raises(NoBoundary, match="box"):
        solve_grid(quadratic(), nodes=20, box=((-0.1, 0.1), (-0.1, 0.1)))
    with pytest.raises(Unsupported, match="1e-290"):
        solve_grid(quadratic(noise_scale=0.001), nodes=60)
    with pytest.raises(NotConverged, match="nodes"):
        solve_grid(quadratic(noise_scale=0.003), nodes=16)


def test_a_side_that_does_not_hold_the_process():
    plain = FunctionLoss(lambda theta: 0 * jnp.sum(theta), 2, minima=[[0.0, 0.0]])
    escape = Escape(plain, continuous(0.2), HalfSpace([1.0, 0.0], 1.0))
    with pytest.raises(Unsupported, match="box"):
        solve_grid(escape, nodes=40)
