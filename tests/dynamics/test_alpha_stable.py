"""Alpha-stable noise: its law against scipy and its definition, exits against two solvers."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import escapade as esc
from escapade.dynamics import AlphaStableSGD
from escapade.errors import InvalidArgument, Unsupported
from escapade.exact.chain.steps import StableStep
from escapade.precision import in_float64

LINE = esc.landscapes.Quadratic([1.0])
PLANE = esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]])
SCALE, REPLICAS = 0.02, 20_000
SLOW = pytest.mark.slow


def one_step_noise(stability):
    """A flat landscape and one step: the exit points are the noise."""
    flat = esc.landscapes.Quadratic(np.zeros((2, 2)))
    escape = esc.Escape(flat, AlphaStableSGD(0.1, stability, SCALE), esc.Ball(1e-7))
    return esc.simulate(escape, REPLICAS, max_steps=1, key=5).exit_points / SCALE


@pytest.mark.parametrize(
    "stability", [0.5, 1.5, *(pytest.param(value, marks=SLOW) for value in (0.8, 1.0, 2.0))]
)
def test_law_of_one_step(stability):
    """Characteristic function ``exp(-|k|^alpha)``, joint too, within 3.5 standard errors."""
    noise = one_step_noise(stability)
    for k in ([0.3, 0.0], [0.0, 1.0], [0.7, 1.6]):
        expected, twice = (np.exp(-np.sum(np.abs(m * np.array(k)) ** stability)) for m in (1, 2))
        error = np.sqrt((1 + twice - 2 * expected**2) / 2 / REPLICAS)
        assert abs(np.cos(noise @ k).mean() - expected) < 3.5 * error
        assert abs(np.sin(noise @ k).mean()) < 3.5 * np.sqrt((1 - twice) / 2 / REPLICAS)
    law = scipy.stats.levy_stable(stability, 0)
    for size in (1.0, 4.0, 20.0):
        tail = 2 * law.sf(size)
        found = (np.abs(noise) > size).mean()
        assert abs(found - tail) < 3.5 * np.sqrt(tail * (1 - tail) / noise.size) + 1e-9


def test_stability_two_is_gaussian_and_one_is_cauchy():
    for stability, law in ((2.0, scipy.stats.norm(0, np.sqrt(2))), (1.0, scipy.stats.cauchy)):
        noise = one_step_noise(stability)
        assert scipy.stats.kstest(noise.ravel(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("stability", [0.5, 0.9, 1.0, 1.4, 2.0])
def test_tick(stability):
    """The formula of Chambers, Mallows and Stuck as it is printed."""
    theta, z, w = np.array([0.7, -0.4]), np.array([1.3, -0.2]), np.array([0.4, -0.9])
    u, e = np.arctan2(w, z) / 2, (z**2 + w**2) / 2
    noise = np.sin(stability * u) / np.cos(u) ** (1 / stability)
    noise *= (np.cos((1 - stability) * u) / e) ** ((1 - stability) / stability)
    moved = in_float64(AlphaStableSGD(0.2, stability, SCALE).tick, PLANE, theta, np.append(z, w))
    expected = theta - 0.2 * PLANE.hessian @ theta + SCALE * noise
    np.testing.assert_allclose(moved, expected, rtol=1e-12)


@pytest.mark.parametrize("stability", [0.5, 1.0, 1.7, 2.0])
def test_no_draw_overflows_in_single_precision(stability):
    least = np.array([0.0, 1e-30, 1e-9, 1.0, 6.6])
    first, second = (np.ravel(part) for part in np.meshgrid(np.append(least, -least), least))
    noise = AlphaStableSGD(0.1, stability, 1.0).standard_noise(
        jnp.float32(first), jnp.float32(second)
    )
    assert np.isfinite(noise).all()
    if stability == 2:
        np.testing.assert_array_less(np.abs(noise), 2 * 6.6 * (1 + 1e-6))


@pytest.mark.parametrize("stability", [0.5, 1.5, 1.95])
def test_density_and_tail_of_the_exact_chain(stability):
    z = np.array([0.0, 0.05, 0.7, 3.0, 30.0])
    step, law = StableStep(stability), scipy.stats.levy_stable(stability, 0)
    np.testing.assert_allclose(step.density(-z), law.pdf(z), rtol=1e-4)
    np.testing.assert_allclose(step.below(z), law.cdf(z), rtol=1e-4)
    far = step.reach(1e-25)
    assert step.below(-far) == pytest.approx(1e-25, rel=1e-6)
    assert step.below(-far * 1e30) == pytest.approx(1e-25 * 1e30**-stability, rel=1e-6)


def test_exact_law_of_stability_one():
    z = np.append(0.0, np.geomspace(1e-8, 1e25, 100))
    np.testing.assert_allclose(StableStep(1.0).density(z), scipy.stats.cauchy.pdf(z), rtol=1e-9)
    np.testing.assert_allclose(StableStep(1.0).below(-z), scipy.stats.cauchy.sf(z), rtol=1e-9)


@pytest.mark.parametrize(("stability", "scale"), [(1.5, 0.05), pytest.param(0.8, 0.01, marks=SLOW)])
def test_exit_times(stability, scale):
    """Simulation, the exact chain, and Simpson's rule with scipy's density."""
    escape = esc.Escape(LINE, AlphaStableSGD(0.5, stability, scale), esc.Ball(0.3))
    exact = esc.solve(escape)
    sample = esc.simulate(escape, 8192, max_steps=100_000, key=2)
    assert not sample.censored.any()
    assert abs(sample.mean - exact.mean) < 3 * sample.standard_error
    # Nodes h apart, halved by the drift: the differences are multiples of h / 2.
    nodes = np.linspace(-0.3, 0.3, 241)
    h = nodes[1] - nodes[0]
    law = scipy.stats.levy_stable(stability, 0, scale=scale)
    table = law.pdf(np.arange(3 * len(nodes)) * h / 2)
    index = np.arange(len(nodes)) - 120
    kernel = table[np.abs(2 * index - index[:, None])]
    weights = np.where(index % 2, 4.0, 2.0) * h / 3
    weights[[0, -1]] /= 2
    times = np.linalg.solve(np.eye(len(nodes)) - kernel * weights, np.ones(len(nodes)))
    assert times[120] == pytest.approx(exact.mean, rel=3e-3)


def test_stability_two_leaves_as_langevin_sgd():
    escape = esc.Escape(LINE, AlphaStableSGD(0.2, 2.0, 0.1), esc.Ball(0.5))
    gaussian = esc.Escape(LINE, esc.LangevinSGD(0.2, 2.0, scale=1.0), esc.Ball(0.5))
    assert esc.solve(escape).mean == pytest.approx(esc.solve(gaussian).mean, rel=1e-9)
    almost = esc.Escape(LINE, AlphaStableSGD(0.2, 2 - 1e-6, 0.1), esc.Ball(0.5))
    assert esc.solve(almost).mean == pytest.approx(esc.solve(gaussian).mean, rel=2e-3)


def test_any_direction_is_stable():
    """A slab across both coordinates is left as a line with noise of another scale."""
    plane = esc.landscapes.Quadratic(np.eye(2))
    slab = esc.Escape(plane, AlphaStableSGD(0.1, 1.5, 0.005), esc.Slab([3.0, -4.0], 0.1))
    scale = 0.005 * (0.6**1.5 + 0.8**1.5) ** (1 / 1.5)
    line = esc.Escape(LINE, AlphaStableSGD(0.1, 1.5, scale), esc.Ball(0.1))
    assert esc.solve(slab).mean == pytest.approx(esc.solve(line).mean, rel=1e-12)
    sample = esc.simulate(slab, 4000, max_steps=100_000, key=1)
    assert abs(sample.mean - esc.solve(slab).mean) < 3 * sample.standard_error


def test_what_does_not_apply():
    dynamics = AlphaStableSGD(0.1, 1.5, 0.02)
    with pytest.raises(Unsupported, match=r"stability 1\.5\) has no covariance"):
        dynamics.noise_covariance(PLANE, np.zeros(2))
    covariance = AlphaStableSGD(0.1, 2.0, 0.02).noise_covariance(PLANE, np.zeros(2))
    np.testing.assert_allclose(covariance * 0.1**2, 2 * 0.02**2 * np.eye(2))
    with pytest.raises(Unsupported, match="single jump"):
        esc.diagnose(esc.Escape(LINE, dynamics, esc.Ball(0.3)))
    with pytest.raises(Unsupported, match="never ends"):
        esc.solve(esc.Escape(LINE, dynamics, esc.HalfSpace([1.0], 0.3)))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 1.5, 0.1), "learning_rate"),
        ((0.1, 2.1, 0.1), "stability"),
        ((0.1, 0.3, 0.1), "stability"),
        ((0.1, 1.5, -1.0), "scale"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(InvalidArgument, match=name):
        AlphaStableSGD(*arguments)
