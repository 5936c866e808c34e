"""Ritz pairs followed from warm starts, on matrices of known spectrum."""

import numpy as np
import pytest

from escapade.training.sharpest import follow_sharpest

VALUES = np.array([10.0, 7.0, 3.0, *np.linspace(1, 0, 37)])


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    return (vectors * VALUES) @ vectors.T, vectors


def follow(matrix, start, max_products, hint=None, tolerance=1e-9, precision="float64"):
    hint = np.random.default_rng(1).standard_normal(40) if hint is None else hint
    return follow_sharpest(
        lambda v: (matrix @ v).astype(precision),
        np.atleast_2d(start),
        hint,
        tolerance=tolerance,
        max_products=max_products,
        precision=precision,
    )


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_cold_start_finds_the_top_and_bounds_its_error(matrix, precision):
    start = np.random.default_rng(2).standard_normal((1, 40))
    found = follow(matrix[0], start, 12, precision=precision)
    assert found.curvatures[0] == pytest.approx(10, rel=1e-3)
    assert found.rows.dtype == precision
    assert abs(found.curvatures[0] - 10) <= found.residuals[0]
    row = found.rows[0]
    missing = matrix[0] @ row - found.curvatures[0] * row
    assert np.linalg.norm(missing) == pytest.approx(found.residuals[0], rel=1e-2, abs=1e-4)


def test_a_turned_eigenvector_is_followed_with_four_products(matrix):
    hessian, vectors = matrix
    turned = vectors[:, 0] + 0.2 * np.random.default_rng(3).standard_normal(40) / np.sqrt(40)
    found = follow(hessian, turned, 4)
    assert found.products == 4
    assert found.curvatures[0] == pytest.approx(10, rel=1e-2)


def test_a_direction_that_has_become_sharper_is_found(matrix):
    hessian, vectors = matrix
    found = follow(hessian, vectors[:, 1], 4, hint=vectors[:, 0] + vectors[:, 2])
    assert found.curvatures[0] == pytest.approx(10, rel=1e-6)


def test_converged_vectors_cost_two_products_beyond_their_own(matrix):
    hessian, vectors = matrix
    assert follow(hessian, vectors[:, 0], 20, tolerance=0.05).products == 3


def test_several_directions(matrix):
    start = np.random.default_rng(4).standard_normal((3, 40))
    found = follow(matrix[0], start, 30)
    np.testing.assert_allclose(found.curvatures, VALUES[:3], rtol=1e-6)
    np.testing.assert_allclose(found.rows @ found.rows.T, np.eye(3), atol=1e-12)


def test_a_whole_space_ends_the_search():
    found = follow_sharpest(
        lambda v: np.array([2.0, 1.0]) * v,
        np.array([[1.0, 1.0]]),
        np.zeros(2),
        tolerance=1e-12,
        max_products=50,
        precision="float64",
    )
    assert found.products == 2
    assert found.curvatures[0] == pytest.approx(2, abs=1e-14)
