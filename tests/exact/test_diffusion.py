"""Diffusions on a line and in a ball, against oracles, asymptotics and finite volumes."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import escapade as esc
from escapade.dynamics import ContinuousSGD, GaussianSGD
from escapade.errors import (
    DegenerateNoise,
    InvalidArgument,
    NoBoundary,
    NotInRegion,
    Unsupported,
)
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exact.line.diffusion import DiffusionLaw, solve_diffusion
from escapade.exact.line.mesh import build
from escapade.exact.line.process import line_of
from escapade.exact.line.radial import log_radius_line
from escapade.exact.line.reduction import Radial
from escapade.landscape import DoubleWell, Drift, Quadratic, StyblinskiTang
from escapade.landscape import Function as FunctionLoss
from escapade.noise import Constant, Function, HessianProportional, Isotropic
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where

RATE = 0.01
WHITE = Isotropic(1.0)


def continuous(noise_scale, noise=WHITE):
    return ContinuousSGD(RATE, RATE / noise_scale, noise)


def ornstein_uhlenbeck(dim=1, noise_scale=0.2, radius=1.0, start=None):
    landscape = Quadratic(np.eye(dim))
    return Escape(landscape, continuous(noise_scale), Ball(radius), start=start)


def over_the_barrier(noise_scale=0.1, noise=WHITE, target=0.0):
    return Escape(DoubleWell(), continuous(noise_scale, noise), HalfSpace([1.0], target + 1.0))


def test_double_well(oracle):
    for case, target in (("N01", 0.0), ("N02", 1.0)):
        exact = solve(over_the_barrier(target=target))
        assert exact.mean * RATE == pytest.approx(oracle(case)["value"], rel=1e-10)
        assert exact.error < 1e-12


def test_changing_noise(oracle):
    exact = solve(over_the_barrier(noise=Function(lambda theta: 1 + theta[0] ** 2 / 2)))
    assert exact.mean * RATE == pytest.approx(oracle("N04")["value"], rel=1e-10)
    noise = Function(lambda theta: 2 * (0.2 + theta[0] ** 2 / 2))
    loss = FunctionLoss(lambda theta: 0.2 + theta[0] ** 2 / 2, 1, minima=[[0.0]])
    exact = solve(Escape(loss, continuous(0.25, noise), Slab([1.0], 1.0)))
    assert exact.mean * RATE == pytest.approx(oracle("N10")["value"], rel=1e-10)


@pytest.mark.parametrize(
    ("case", "interpretation"), [("N04", "ito"), ("N05", "stratonovich"), ("N06", "anti_ito")]
)
def test_where_in_a_step_the_noise_is_evaluated(oracle, case, interpretation):
    escape = over_the_barrier(noise=Function(lambda theta: 1 + theta[0] ** 2 / 2))
    exact = solve(escape, interpretation=interpretation)
    assert exact.mean * RATE == pytest.approx(oracle(case)["value"], rel=1e-10)


@pytest.mark.parametrize("interpretation", ["ito", "stratonovich", "anti_ito"])
def test_against_an_independent_package(interpretation):
    """Kramers integrates ``exp(phi)`` with ``phi' = A / D``: drift A, diffusion D."""
    kramers = pytest.importorskip("kramers")
    weight = {"ito": 0.0, "stratonovich": 0.5, "anti_ito": 1.0}[interpretation]
    noise_scale = 0.15

    def covariance(x):
        return 1 + x**2 / 2

    def diffusion(x):
        return noise_scale * covariance(x) / 2

    # A = b + weight D', and int b / D = (2 / noise_scale) int (x - x^3) / (1 + x^2 / 2).
    def log_psi(x):
        potential = 3 * np.log(2 + x**2) - x**2
        return 2 / noise_scale * potential + weight * np.log(covariance(x))

    for low, target, start in ((-2.5, 0.5, -1.0), (-1.8, -0.2, -0.7)):
        passage = kramers.FirstPassage1D(
            D=diffusion, log_psi=log_psi, domain=(low, target), left="absorbing", right="absorbing"
        )
        expected = float(passage.mean_time(start).value)
        middle, half = (low + target) / 2, (target - low) / 2
        escape = Escape(
            DoubleWell(),
            continuous(noise_scale, Function(lambda theta: covariance(theta[0]))),
            Slab([1.0], half, reference=[middle]),
            start=[start],
        )
        exact = solve(escape, interpretation=interpretation)
        assert exact.mean * RATE == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("diffusion", "to_saddle", "to_other"),
    [
        (0.125, 18.4261, 41.0343),
        (0.1, 30.8213, 66.2686),
        (0.05, 361.904, 729.671),
        (0.025, 51050.70, 102108.37),
    ],
)
def test_published_passage_times(diffusion, to_saddle, to_other):
    for target, expected in ((0.0, to_saddle), (1.0, to_other)):
        exact = solve(over_the_barrier(2 * diffusion, target=target))
        assert exact.mean * RATE == pytest.approx(expected, rel=4e-6)


def test_hazard_is_minus_the_slope_of_the_log_survival():
    exact = solve(ornstein_uhlenbeck(start=[0.3]))
    times = np.array([20.0, 100.0, 400.0])
    logs = np.log([exact.survival(times + shift) for shift in (-0.05, 0.05)])
    np.testing.assert_allclose(exact.law.hazard(times), (logs[0] - logs[1]) / 0.1, rtol=1e-4)
    assert exact.law.hazard(np.array([1e7])) == pytest.approx(exact.rate, rel=1e-12)


def test_half_line_to_the_left(oracle):
    case = oracle("N08")
    landscape = StyblinskiTang(1)
    minimum = landscape.minima[1]
    region = HalfSpace([-1.0], float(minimum[0]) - case["params"]["target"])
    exact = solve(Escape(landscape, continuous(10.0), region, start=minimum))
    assert exact.mean * RATE == pytest.approx(case["value"], rel=1e-10)


def test_ornstein_uhlenbeck(oracle):
    for case, dim in (("R01", 1), ("R02", 2), ("R03", 10)):
        exact = solve(ornstein_uhlenbeck(dim))
        assert exact.mean * RATE == pytest.approx(oracle(case)["value"], rel=1e-12)
    exact = solve(ornstein_uhlenbeck())
    assert exact.rate / RATE == pytest.approx(oracle("R04")["value"], rel=1e-11)
    assert exact.second_rate / RATE == pytest.approx(oracle("R05")["value"], rel=1e-10)


@pytest.mark.parametrize("dim", [2, 3, 10, 60])
@pytest.mark.parametrize("start", [0.0, 0.3, 0.95])
def test_radial_series_against_quadrature(dim, start):
    point = start * np.ones(dim) / np.sqrt(dim)
    exact = solve(ornstein_uhlenbeck(dim, 0.1), start=point)
    line = log_radius_line(Radial(dim, RATE, RATE * 0.1, 1.0, float(np.linalg.norm(point))))
    assert solve_diffusion(line)[0].log_mean == pytest.approx(exact.log_mean, abs=2e-11)


def test_radial_beyond_overflow_and_in_high_dimension():
    exact = solve(ornstein_uhlenbeck(3, 1e-3))
    line = log_radius_line(Radial(3, RATE, RATE * 1e-3, 1.0, 0.0))
    assert exact.log_mean == pytest.approx(solve_diffusion(line)[0].log_mean, rel=1e-13)
    assert exact.log_mean > 900
    assert exact.rate == 0 or np.log(exact.rate) == pytest.approx(-exact.log_mean, rel=1e-6)
    # Diffusion alone carries |theta|^2 = d eps^2 (1 - exp(-2t)) / 2 out of the ball.
    large = solve(ornstein_uhlenbeck(500, 0.2))
    assert large.mean * RATE == pytest.approx(-0.5 * np.log(1 - 2 / (500 * 0.2)), rel=1e-2)


def test_radial_rate_is_that_of_a_bessel_zero():
    """Without pull the lowest eigenvalue in the plane is j_0^2 D / R^2."""
    flat = solve(ornstein_uhlenbeck(2, 2e4))
    assert flat.rate / RATE == pytest.approx(2.404825557695773**2 * 1e4, rel=1e-3)
    with pytest.raises(Unsupported, match="simulate"):
        flat.survival(1.0)


def test_sublevel_of_an_isotropic_quadratic_is_a_ball():
    landscape = Quadratic(np.eye(2))
    sublevel = solve(Escape(landscape, continuous(0.2, HessianProportional()), Sublevel(0.5)))
    assert sublevel.log_mean == pytest.approx(solve(ornstein_uhlenbeck(2)).log_mean, rel=1e-14)


@pytest.mark.parametrize("barrier", [700.0, 4000.0])
def test_laplace_asymptotics_at_enormous_barriers(barrier):
    """Eyring-Kramers with its first correction, 3/4 eps^2 for x^4/4 - x^2/2.

    The integrals of exp(-2L/eps^2) at -1 and of exp(2L/eps^2) at 0 each have the relative
    correction (eps^2 / 2) 3/4; the next is of order eps^4.
    """
    noise_scale = 0.5 / barrier
    exact = solve(over_the_barrier(noise_scale, target=1.0))
    expected = barrier + np.log(2 * np.pi / np.sqrt(2)) - np.log(RATE) + 0.75 * noise_scale
    assert exact.log_mean == pytest.approx(expected, abs=4 * noise_scale**2)
    assert exact.error < 1e-10
    assert (exact.mean == np.inf) == (exact.log_mean > 709.8)
    assert f"e{int(expected / np.log(10))} steps" in str(exact)
    if barrier == 700:
        assert exact.rate * exact.mean == pytest.approx(1, rel=1e-9)


def test_refinement_converges():
    escape = ornstein_uhlenbeck(noise_scale=0.02)
    line = line_of(escape, escape.start)
    expected = solve(escape).log_mean
    errors = []
    for panels in (2, 4, 8):
        edges = np.linspace(-1, 1, panels + 1)
        mesh = build(line, edges, steepest=np.inf)
        assert len(mesh.edges) == panels + 1  # a linear drift needs no finer panels
        errors.append(abs(DiffusionLaw(line, mesh).log_mean - expected))
    assert errors[0] > 1e3 * errors[1]
    assert errors[2] < 1e-11


@pytest.mark.parametrize(
    "region", [Basin(), Where(lambda theta: theta[0] < 0), HalfSpace([1.0], 1.0)], ids=str
)
def test_the_same_interval_by_any_region(region):
    exact = solve(Escape(DoubleWell(), continuous(0.1), region))
    assert exact.log_mean == pytest.approx(solve(over_the_barrier()).log_mean, abs=1e-9)


def test_drift_without_a_loss():
    field = Drift(lambda theta: theta - theta**3, 1, minima=[[-1.0]])
    exact = solve(Escape(field, continuous(0.1), HalfSpace([1.0], 1.0)))
    assert exact.log_mean == pytest.approx(solve(over_the_barrier()).log_mean, abs=1e-12)


def test_survival_against_finite_volumes():
    escape = Escape(DoubleWell(), continuous(0.3), Slab([1.0], 1.0), start=[-0.8])
    exact = solve(escape)
    cells = 400
    edges = np.linspace(-2, 0, cells + 1)
    width = edges[1] - edges[0]
    x = (edges[1:] + edges[:-1]) / 2
    diffusion = 0.15

    def loss(x):
        return x**4 / 4 - x**2 / 2

    right = np.exp(-(loss(edges[1:]) - loss(x)) / diffusion) * diffusion / width**2
    left = np.exp(-(loss(edges[:-1]) - loss(x)) / diffusion) * diffusion / width**2
    right[-1] *= 2  # the boundary is half a cell away
    left[0] *= 2
    generator = np.diag(-(right + left)) + np.diag(right[:-1], 1) + np.diag(left[1:], -1)
    for time in (0.2, 2.0, 10.0):
        alive = scipy.linalg.expm(generator * time).sum(axis=1)
        expected = np.interp(-0.8, x, alive)
        assert exact.survival(time / RATE) == pytest.approx(expected, abs=5e-5)
    assert exact.survival(0) == 1
    grid = np.linspace(0, 30 / exact.rate, 20_001)
    total = np.trapezoid(exact.survival(grid), grid)
    assert total == pytest.approx(exact.mean, rel=1e-5)


def test_survival_refuses_a_start_that_costs_all_digits():
    exact = solve(over_the_barrier(0.004), start=[-0.05])
    assert np.isfinite(exact.log_mean)
    with pytest.raises(Unsupported, match="start nearer to the minimum"):
        exact.survival(10.0)
    assert solve(over_the_barrier(0.004)).survival(1e6) == pytest.approx(1, abs=1e-6)


def test_what_has_no_exact_solution():
    anisotropic = (
        Escape(Quadratic([1.0, 1.0, 1.0, 2.0]), continuous(0.1), Ball(1.0)),
        Escape(Quadratic(np.eye(4)), continuous(0.1, Constant([1.0, 2.0, 1.0, 1.0])), Ball(1.0)),
        Escape(Quadratic(np.eye(4)), continuous(0.1), Ball(1.0, center=[0.1, 0.0, 0.0, 0.0])),
        Escape(StyblinskiTang(4), continuous(0.1), Ball(1.0)),
        Escape(Quadratic([1.0, 1.0, 2.0]), GaussianSGD(0.1, 1.0, WHITE), Ball(1.0)),
    )
    for escape in anisotropic:
        with pytest.raises(Unsupported, match="simulate, split or predict"):
            solve(escape)
    flat = FunctionLoss(lambda theta: 1 - jnp.exp(-(theta[0] ** 2) / 2), 1, minima=[[0.0]])
    with pytest.raises(Unsupported, match="does not hold"):
        solve(Escape(flat, continuous(0.3), HalfSpace([1.0], 1.0)))
    with pytest.raises(DegenerateNoise, match="vanishes"):
        solve(over_the_barrier(noise=HessianProportional()))


def test_bad_input():
    escape = ornstein_uhlenbeck()
    with pytest.raises(NotInRegion, match="start"):
        solve(escape, start=[1.5])
    with pytest.raises(InvalidArgument, match="start"):
        solve(escape, start=[0.1, 0.2])
    with pytest.raises(InvalidArgument, match="one"):
        solve(escape, start=[[0.1], [0.2]])
    with pytest.raises(InvalidArgument, match="escape"):
        solve("escape")
    with pytest.raises(InvalidArgument, match="interpretation"):
        solve(escape, interpretation="klimontovich")
    with pytest.raises(InvalidArgument, match="lattice"):
        solve(escape, box=((-1.0, 1.0),))
    exact = solve(escape)
    for times in (-1.0, np.nan, [1.0, np.inf]):
        with pytest.raises(InvalidArgument, match="t is"):
            exact.survival(times)
    assert exact.survival([[1.0, 2.0]]).shape == (1, 2)
    with pytest.raises(NoBoundary):
        Escape(Quadratic([1.0]), continuous(0.1), Where(lambda theta: theta[0] < jnp.inf))


def test_reads_well():
    text = str(solve(ornstein_uhlenbeck()))
    assert text.startswith("mean exit time 6622.820429 steps (relative error ")
    assert "scale and speed" in text


def tilted_well(region):
    """x^4 / 4 - x^2 / 2 - x / 10 from its left, shallow well."""
    landscape = esc.landscapes.Function(lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 - 0.1 * x[0], 1)
    roots = np.sort(np.roots([1, 0, -1, -0.1]).real)
    dynamics = esc.ContinuousSGD(0.1, 5.0, esc.noise.Isotropic())
    return esc.Escape(landscape, dynamics, region, minimum=[roots[0]]), roots


def test_a_region_that_ends_at_a_thin_ridge():
    """A sublevel set just below its saddle, against the same interval as a ball."""
    _, (left, saddle, _) = tilted_well(esc.Ball(0.1))

    def height(x):
        return x**4 / 4 - x**2 / 2 - 0.1 * x

    for part in (0.9999, 0.99999, 0.999999):
        depth = part * (height(saddle) - height(left))
        ends = np.roots([0.25, 0, -0.5, -0.1, -height(left) - depth])
        low, high = np.sort(ends[np.abs(ends.imag) < 1e-9].real)[:2]
        ball, _ = tilted_well(esc.Ball((high - low) / 2, [(high + low) / 2]))
        ridge, _ = tilted_well(esc.Sublevel(depth))
        assert solve(ridge).log_mean == pytest.approx(solve(ball).log_mean, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 500.0])
def test_any_scale_of_parameters(scale):
    """The unit of the parameters decides nothing."""

    def escape(unit):
        dynamics = esc.GaussianSGD(0.1, 2.0, esc.noise.Isotropic(unit**2))
        region = esc.Where(lambda x: jnp.abs(x[0] - 0.1 * unit) < unit)
        return esc.Escape(esc.landscapes.Quadratic([1.0]), dynamics, region)

    assert solve(escape(scale)).log_mean == pytest.approx(solve(escape(1.0)).log_mean, abs=1e-9)
