"""The Newton step against dense solutions, and what it says where there is no minimum."""

import numpy as np
import pytest

from escapade.errors import InvalidArgument, NotConverged
from escapade.minimum.krylov import newton_step


def test_against_the_dense_solution(valley):
    hessian, _ = valley
    g = np.random.default_rng(0).normal(size=120)
    found = newton_step(lambda v: hessian @ v, g, tolerance=1e-10)
    exact = -np.linalg.solve(hessian, g)
    assert found.converged
    assert not found.flat
    np.testing.assert_allclose(found.step, exact, rtol=1e-8, atol=1e-10)
    assert found.decrement == pytest.approx(-g @ exact, rel=1e-12)
    assert found.lowest_curvature == pytest.approx(0.5, rel=1e-3)
    assert found.lowest_curvature >= 0.5 - 1e-12
    assert found.residual == pytest.approx(
        np.linalg.norm(hessian @ found.step + g) / np.linalg.norm(g), rel=1e-6
    )


def test_few_distinct_eigenvalues_need_as_many_products(counted):
    product = counted(np.diag(np.repeat([1.0, 3.0, 9.0], 20)))
    found = newton_step(product, np.random.default_rng(1).normal(size=60))
    assert found.converged
    assert found.products == product.calls == 4
    assert found.lowest_curvature == pytest.approx(1, rel=1e-9)


def test_the_decrement_grows_from_below(valley):
    hessian, _ = valley
    g = np.random.default_rng(2).normal(size=120)
    exact = g @ np.linalg.solve(hessian, g)
    decrements = [
        newton_step(lambda v: hessian @ v, g, max_products=n, tolerance=1e-12).decrement
        for n in (2, 4, 8, 16, 32)
    ]
    assert np.all(np.diff(decrements) > 0)
    assert exact * (1 - 1e-6) < decrements[-1] <= exact * (1 + 1e-12)


def test_damping(valley):
    hessian, _ = valley
    g = np.random.default_rng(3).normal(size=120)
    found = newton_step(lambda v: hessian @ v, g, damping=2.0, tolerance=1e-10)
    np.testing.assert_allclose(
        found.step, -np.linalg.solve(hessian + 2 * np.eye(120), g), rtol=1e-7, atol=1e-10
    )
    assert found.lowest_curvature >= 2.5 - 1e-12


def test_a_saddle_shows_itself(matrix_with):
    hessian, vectors = matrix_with(np.concatenate([[-0.3], np.linspace(1, 5, 59)]))
    g = np.random.default_rng(4).normal(size=60)
    found = newton_step(lambda v: hessian @ v, g)
    assert found.flat
    assert not found.converged
    assert found.lowest_curvature < 0
    along = found.direction
    assert np.linalg.norm(along) == pytest.approx(1, rel=1e-12)
    assert along @ hessian @ along < 0
    # A gradient without a component along the saddle cannot show it.
    blind = newton_step(lambda v: hessian @ v, vectors[:, 1:] @ np.ones(59), tolerance=1e-8)
    assert blind.converged
    assert blind.lowest_curvature >= 1 - 1e-9


def test_flat_directions(matrix_with):
    hessian, vectors = matrix_with(np.concatenate([np.zeros(20), np.linspace(1, 5, 40)]))
    inside = vectors[:, 20:] @ np.ones(40)
    found = newton_step(lambda v: hessian @ v, inside, tolerance=1e-8)
    assert found.converged
    assert found.decrement == pytest.approx(np.sum(1 / np.linspace(1, 5, 40)), rel=1e-10)
    # Pushed along a flat direction there is no minimum to step to, and it says so.
    pushed = newton_step(lambda v: hessian @ v, inside + vectors[:, 0], tolerance=1e-8)
    assert pushed.flat
    assert not pushed.converged
    assert abs(pushed.direction @ vectors[:, :20]).max() > 0.9
    floor = newton_step(lambda v: hessian @ v, inside, curvature_floor=6.0)
    assert floor.flat
    assert np.all(floor.step == 0)


def test_single_precision(valley):
    hessian = valley[0].astype(np.float32)
    g = np.random.default_rng(0).normal(size=120)
    found = newton_step(lambda v: hessian @ v, g, precision="float32", tolerance=1e-5)
    assert found.converged
    assert found.step.dtype == np.float32
    assert found.decrement == pytest.approx(g @ np.linalg.solve(valley[0], g), rel=1e-4)


def test_a_network(network):
    expansion, hessian, _, _ = network
    found = newton_step(expansion.hessian_product, expansion.gradient, damping=1.0, tolerance=1e-10)
    exact = -np.linalg.solve(hessian + np.eye(len(hessian)), expansion.gradient)
    np.testing.assert_allclose(found.step, exact, atol=1e-8 * np.abs(exact).max())
    # Part of the way down there is negative curvature, and without damping it is met.
    assert np.linalg.eigvalsh(hessian)[0] < 0
    undamped = newton_step(expansion.hessian_product, expansion.gradient)
    assert undamped.flat
    assert undamped.lowest_curvature <= 0


def test_edges():
    zero = newton_step(lambda v: v, np.zeros(4))
    assert zero.converged
    assert (zero.decrement, zero.residual, zero.products) == (0.0, 0.0, 0)
    with pytest.raises(InvalidArgument, match="gradient"):
        newton_step(lambda v: v, np.array([1.0, np.nan]))
    with pytest.raises(InvalidArgument, match="damping"):
        newton_step(lambda v: v, np.ones(3), damping=-1.0)
    with pytest.raises(NotConverged, match="Newton"):
        newton_step(lambda v: v, np.ones(3), deadline=lambda: True)
