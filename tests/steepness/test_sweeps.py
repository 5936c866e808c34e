"""Sweeps against closed forms, the path solvers of low dimension, and the action of their paths."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import DegenerateNoise, Unsupported
from escapade.steepness.action.steepness import steepness
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.sweeps import swept_orbits
from escapade.steepness.time_grid.chain import chain_orbits


def swept(escape, **options):
    return swept_orbits(
        hamiltonian(escape), escape.minimum, esc.neighbourhood(escape), escape.region, **options
    )


def matrices(dim, seed=0):
    rng = np.random.default_rng(seed)
    orthogonal = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    hessian = orthogonal * np.geomspace(3.0, 0.03, dim) @ orthogonal.T
    factor = rng.standard_normal((dim, dim)) / dim**0.5
    return (hessian + hessian.T) / 2, factor @ factor.T + 0.1 * np.eye(dim)


@pytest.mark.parametrize("dynamics", [esc.GaussianSGD, esc.ContinuousSGD])
@pytest.mark.parametrize("region", [esc.Ball(1.0), esc.Sublevel(0.4), esc.Slab([1.0] * 40, 0.3)])
def test_quadratic_problems_are_exact(dynamics, region):
    hessian, covariance = matrices(40)
    noise = esc.noise.Constant(covariance)
    problem = esc.Escape(esc.landscapes.Quadratic(hessian), dynamics(0.3, 8, noise), region)
    found = swept(problem)[0]
    assert found.value == pytest.approx(esc.minimum_steepness(problem).value, rel=1e-10)
    assert found.converged


def bent(theta):
    """A valley that bends and stiffens."""
    x, y = theta[0], theta[1] - 0.3 * theta[0] ** 2
    return 0.5 * x**2 + 1.5 * y**2 + 0.1 * x**3


def test_agrees_with_newton_on_whole_paths():
    landscape = esc.landscapes.Function(bent, 2, minima=[[0.0, 0.0]])
    noise = esc.noise.Function(
        lambda theta: jnp.array([[1.0, 0.2], [0.2, 0.5]]) * (1 + 0.3 * theta[0] ** 2)
    )
    for region in (esc.Ball(0.8), esc.HalfSpace([1.0, 0.5], 0.7)):
        problem = esc.Escape(landscape, esc.GaussianSGD(0.1, 10, noise), region)
        law = hamiltonian(problem)
        known = chain_orbits(law, problem.start, problem.minimum, region=problem.region)
        values = [orbit.value for orbit in known]
        for orbit in swept(problem, tolerance=1e-7):
            nearest = min(values, key=lambda value: abs(value - orbit.value))
            assert orbit.value == pytest.approx(nearest, rel=1e-7)


def examples_landscape():
    rng = np.random.default_rng(3)
    data = (rng.standard_normal((24, 6)) * [1.5, 1.2, 1.0, 0.8, 0.7, 0.6], rng.choice([-1, 1], 24))

    def loss(theta, example):
        x, y = example
        return jnp.logaddexp(0.0, -y * jnp.dot(x, theta)) + 0.05 * jnp.vdot(theta, theta)

    landscape = esc.landscapes.Empirical(loss, np.zeros(6), data)
    return landscape.at_minimum(esc.find_minimum(landscape, np.zeros(6)).theta)


@pytest.mark.parametrize(
    "sampling",
    ["with_replacement", pytest.param("without_replacement", marks=pytest.mark.slow)],
)
def test_minibatch_path_costs_what_is_said(sampling):
    # A chain so stiff that every block is one step: its path is a path of the chain.
    landscape = examples_landscape()
    problem = esc.Escape(landscape, esc.MinibatchSGD(1.0, 6, sampling), esc.Ball(0.5))
    found = swept(problem, tolerance=1e-7)[0]
    steps = np.rint(np.diff(found.times))
    tail = int(np.argmax(np.cumsum((steps != 1)[::-1])[::-1] == 0))
    spent = found.value - found.actions[tail]
    assert spent > 0.2 * found.value
    assert steepness(problem, found.path[tail:]) == pytest.approx(spent, rel=2e-4)
    np.testing.assert_allclose(np.linalg.norm(found.end - problem.minimum), 0.5, rtol=1e-6)


@pytest.mark.slow
def test_learning_rate_to_zero_is_continuous():
    landscape = examples_landscape()
    noise = esc.noise.Empirical()
    limit = swept(
        esc.Escape(landscape, esc.ContinuousSGD(0.1, 6, noise), esc.Ball(0.5)), tolerance=1e-5
    )[0].value
    values = [
        swept(
            esc.Escape(landscape, esc.GaussianSGD(rate, 6, noise), esc.Ball(0.5)), tolerance=1e-5
        )[0].value
        for rate in (0.1, 0.05)
    ]
    assert abs(values[0] - limit) > 1e-3 * limit
    assert 2 * values[1] - values[0] == pytest.approx(limit, rel=2e-4)


def test_what_cannot_be_swept():
    line = esc.landscapes.Quadratic([1.0, 1.0])
    flat = esc.GaussianSGD(0.1, 1.0, esc.noise.Constant([1.0, 0.0]))
    with pytest.raises(DegenerateNoise):
        swept(esc.Escape(line, flat, esc.HalfSpace([0.0, 1.0], 1.0)))
    spiral = esc.landscapes.Drift(
        lambda theta: jnp.stack([-theta[0] - theta[1], theta[0] - theta[1]]), 2, [[0.0, 0.0]]
    )
    with pytest.raises(Unsupported, match="loss"):
        swept(esc.Escape(spiral, esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()), esc.Ball(1.0)))
