"""Problems in many dimensions that one coordinate decides."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from escapade.dynamics import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exact.chain.radial import log_density, solve_radial_chain
from escapade.exact.line.reduction import Radial, linear_coordinate, radial_coordinate
from escapade.exits import simulate
from escapade.landscape import Quadratic
from escapade.noise import Constant, Function, HessianProportional, Isotropic
from escapade.region import Ball, HalfSpace, Slab, Sublevel

ROTATION = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
HESSIAN = (ROTATION * np.array([2.0, 1.0, 0.5, 3.0, 1.5])) @ ROTATION.T
MIXING = np.random.default_rng(4).standard_normal((5, 5))
COVARIANCE = MIXING @ MIXING.T
MINIMUM = np.array([0.3, -1.0, 2.0, 0.1, 0.0])
NORMAL = ROTATION[:, 1]
VARIANCE = float(NORMAL @ COVARIANCE @ NORMAL)

SPACE = Quadratic(HESSIAN, MINIMUM)


@pytest.mark.parametrize(
    "dynamics",
    [ContinuousSGD, GaussianSGD, lambda rate, batch, noise: LangevinSGD(rate, batch, noise.scale)],
    ids=["continuous", "gaussian", "langevin"],
)
@pytest.mark.parametrize("two_sided", [True, False])
def test_face_across_an_eigenvector(dynamics, two_sided):
    """The coordinate along the normal has curvature 1 and variance n^T C n."""
    langevin = dynamics not in (ContinuousSGD, GaussianSGD)
    noise = Isotropic(1.7) if langevin else Constant(COVARIANCE)
    line_noise = Isotropic(1.7 if langevin else VARIANCE)
    size = 2.5 * np.sqrt(0.1 / 4 * line_noise.scale)
    region, line_region = (
        (Slab(NORMAL, size), Slab([1.0], size))
        if two_sided
        else (HalfSpace(NORMAL, size), HalfSpace([1.0], size))
    )
    escape = Escape(SPACE, dynamics(0.1, 4.0, noise), region)
    line = Escape(Quadratic([1.0]), dynamics(0.1, 4.0, line_noise), line_region)
    exact, expected = solve(escape), solve(line)
    assert exact.log_mean == pytest.approx(expected.log_mean, abs=1e-11)
    assert exact.rate == pytest.approx(expected.rate, rel=1e-10)
    # Only the part of the start along the normal counts.
    start = 0.4 * size * NORMAL + 0.3 * ROTATION[:, 2]
    moved = solve(escape, start=MINIMUM + start)
    assert moved.log_mean == pytest.approx(solve(line, start=[0.4 * size]).log_mean, abs=1e-11)


def test_face_measured_from_elsewhere():
    reference = MINIMUM + 0.2 * NORMAL
    escape = Escape(SPACE, GaussianSGD(0.1, 4.0, Isotropic(1.0)), HalfSpace(NORMAL, 0.1, reference))
    line = Escape(Quadratic([1.0]), GaussianSGD(0.1, 4.0, Isotropic(1.0)), HalfSpace([1.0], 0.3))
    assert solve(escape).mean == pytest.approx(solve(line).mean, rel=1e-11)


def test_a_face_in_a_hundred_dimensions_agrees_with_simulation():
    hessian = np.linspace(0.5, 2.0, 100)
    normal = np.eye(100)[70]
    escape = Escape(
        Quadratic(hessian), GaussianSGD(0.3, 2.0, HessianProportional()), Slab(normal, 0.7)
    )
    exact = solve(escape)
    sample = simulate(escape, replicas=2048, max_steps=100_000, key=5)
    assert not sample.censored.any()
    assert abs(sample.times.mean() - exact.mean) < 3 * sample.times.std() / np.sqrt(2048)


def test_what_does_not_reduce():
    gaussian = GaussianSGD(0.1, 4.0, Isotropic(1.0))
    plane = Quadratic([1.0, 2.0])
    changing = GaussianSGD(0.1, 4.0, Function(lambda theta: np.eye(2) * (1 + theta[0] ** 2)))
    for escape in (
        Escape(plane, gaussian, Slab([1.0, 1.0], 0.5)),
        Escape(plane, changing, Slab([1.0, 0.0], 0.5)),
        Escape(plane, gaussian, Ball(0.5)),
    ):
        assert linear_coordinate(escape, escape.start) is None
        assert radial_coordinate(escape, escape.start) is None


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 31, 40, 300])
@pytest.mark.parametrize("mean", [0.0, 0.4, 6.0])
def test_density_of_the_radius(dim, mean):
    """Against SciPy's noncentral chi-square, and one in all."""
    radial = Radial(dim, 0.3, 0.5, 10.0, 0.0)
    radii = np.sqrt(mean**2 + 0.5 * dim) + np.linspace(-2, 2, 9) * np.sqrt(0.5)
    radii = radii[radii > 0]
    density = np.exp(log_density(radial, radii, np.array([mean])))[0]
    scaled = (radii**2 / 0.5, dim, mean**2 / 0.5)
    law = scipy.stats.chi2(dim) if mean == 0 else scipy.stats.ncx2(*scaled[1:])
    np.testing.assert_allclose(density, law.pdf(scaled[0]) * 2 * radii / 0.5, rtol=1e-9)
    whole = scipy.integrate.quad(
        lambda r: float(np.exp(log_density(radial, np.array([r]), np.array([mean])))[0, 0]),
        max(0.0, radii[0] - 6),
        radii[-1] + 6,
        epsabs=1e-12,
    )
    assert whole[0] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("region", [Ball(0.8), Sublevel(0.32)], ids=str)
def test_radius_in_one_dimension_is_the_line(region):
    escape = Escape(Quadratic([1.0]), GaussianSGD(0.2, 4.0, Isotropic(1.0)), region, start=[0.3])
    law, error = solve_radial_chain(radial_coordinate(escape, escape.start))
    exact = solve(escape)
    assert law.mean == pytest.approx(exact.mean, rel=1e-11)
    assert law.rate == pytest.approx(exact.rate, rel=1e-11)
    assert error < 1e-10


@pytest.mark.parametrize(("dim", "radius", "start"), [(3, 0.9, 0.0), (40, 2.4, 1.5)])
def test_radius_agrees_with_simulation(dim, radius, start):
    first = np.zeros(dim)
    first[0] = start
    escape = Escape(Quadratic(np.eye(dim)), LangevinSGD(0.3, 2.0), Ball(radius), start=first)
    exact = solve(escape)
    sample = simulate(escape, replicas=8192, max_steps=100_000, key=7)
    assert not sample.censored.any()
    assert abs(sample.times.mean() - exact.mean) < 3 * sample.times.std() / np.sqrt(8192)
    median = int(np.median(sample.times))
    survival = exact.survival(median)
    deviation = np.sqrt(survival * (1 - survival) / 8192)
    assert abs((sample.times > median).mean() - survival) < 3 * deviation


def test_small_steps_approach_the_diffusion():
    """From below by the boundary shift, which vanishes with the square root of the step."""
    space, region = Quadratic(np.eye(10)), Ball(1.5)
    ratios = []
    for rate in (0.02, 0.005):
        chain = solve(Escape(space, GaussianSGD(rate, rate / 0.2, Isotropic(1.0)), region))
        diffusion = solve(Escape(space, ContinuousSGD(rate, rate / 0.2, Isotropic(1.0)), region))
        ratios.append(chain.mean / diffusion.mean - 1)
    assert ratios[0] > ratios[1] > 0
    assert ratios[0] / ratios[1] == pytest.approx(2, rel=0.15)
