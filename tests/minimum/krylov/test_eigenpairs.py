"""Extreme eigenvalues against known spectra, dense linear algebra and ARPACK."""

import numpy as np
import pytest
import scipy.sparse.linalg

from escapade.errors import Diverged, InvalidArgument, NotConverged
from escapade.minimum.krylov import (
    extreme_eigenpairs,
    largest_eigenpairs,
    lowest_eigenpairs,
    seconds_from_now,
)


def true_residuals(matrix, pairs):
    return np.linalg.norm(matrix @ pairs.vectors - pairs.vectors * pairs.values, axis=0)


DECAY = 1 / np.arange(1, 301.0)
SADDLE = np.concatenate([[-30.0, -3.0], np.linspace(-1, 1, 296), [4.0, 10.0]])
CLUSTER = np.concatenate([np.linspace(0, 1, 190), 5 + 1e-3 * np.arange(10)])


@pytest.mark.parametrize("values", [DECAY, SADDLE, CLUSTER], ids=["decay", "saddle", "cluster"])
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("block_size", [1, 3])
def test_known_spectra(matrix_with, counted, values, count, block_size):
    matrix, values = matrix_with(values)[0], np.sort(values)[::-1]
    scale = np.abs(values).max()
    for find, sign in ((largest_eigenpairs, 1), (lowest_eigenpairs, -1)):
        product, exact = counted(sign * matrix), sign * values
        pairs = find(product, len(values), count, tolerance=1e-6, block_size=block_size)
        assert pairs.converged
        assert pairs.products == product.calls
        np.testing.assert_allclose(pairs.values, exact[:count], rtol=0, atol=1e-8 * scale)
        assert np.all(pairs.residuals <= 1e-6 * scale)
        assert np.all(true_residuals(product.matrix, pairs) <= pairs.residuals)
        np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(count), atol=1e-12)


def test_largest_is_not_largest_in_magnitude(matrix_with):
    matrix = matrix_with(SADDLE)[0]
    assert largest_eigenpairs(lambda v: matrix @ v, 300).values[0] == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize(("values", "count"), [(DECAY, 4), (SADDLE, 2)])
def test_values_are_more_exact_than_vectors(matrix_with, values, count):
    product = matrix_with(values)[0].__matmul__
    exact = np.sort(values)[::-1][:count]
    for seed in range(10):
        options = {"tolerance": 1e-3, "seed": seed}
        pairs = largest_eigenpairs(product, 300, count, of="values", **options)
        assert pairs.converged
        errors = np.abs(pairs.values - exact)
        assert np.all(errors <= pairs.value_errors)
        assert np.all(pairs.value_errors <= 1e-3 * np.abs(values).max())
        assert pairs.residuals.max() > 5 * pairs.value_errors.max()
        assert pairs.products < largest_eigenpairs(product, 300, count, **options).products


def test_restarts_within_the_memory_cap(matrix_with):
    matrix, _ = matrix_with(np.arange(1, 401.0))
    long = largest_eigenpairs(lambda v: matrix @ v, 400, 3, basis_size=200)
    short = largest_eigenpairs(lambda v: matrix @ v, 400, 3, basis_size=12, max_products=None)
    assert long.converged
    assert short.converged
    assert short.products > long.products
    assert np.all(true_residuals(matrix, short) <= short.residuals)
    np.testing.assert_allclose(short.values, [400, 399, 398], rtol=1e-6)


def test_both_ends_in_one_run(matrix_with, counted):
    product = counted(matrix_with(SADDLE)[0])
    both = extreme_eigenpairs(product, 300, 2, 2, basis_size=20, tolerance=1e-6)
    np.testing.assert_allclose(both.largest.values, [10, 4], rtol=1e-9)
    np.testing.assert_allclose(both.lowest.values, [-30, -3], rtol=1e-9)
    together = product.calls
    product.calls = 0
    largest_eigenpairs(product, 300, 2, tolerance=1e-6)
    lowest_eigenpairs(product, 300, 2, tolerance=1e-6)
    assert together < product.calls


@pytest.mark.parametrize("copies", [2, 3])
def test_repeated_eigenvalues_need_a_block(matrix_with, copies):
    values = np.repeat(np.arange(40, 0, -1.0) ** 2, copies)
    matrix, _ = matrix_with(values)
    pairs = largest_eigenpairs(
        lambda v: matrix @ v, len(values), 2 * copies, block_size=copies, tolerance=1e-6
    )
    np.testing.assert_allclose(pairs.values, values[: 2 * copies], rtol=1e-10)


def test_invariant_subspaces_are_left(counted):
    # Two distinct eigenvalues span each Krylov space with two vectors; the rest needs new starts.
    product = counted(np.diag([3.0] * 5 + [1.0] * 45))
    pairs = largest_eigenpairs(product, 50, 5)
    np.testing.assert_allclose(pairs.values, np.full(5, 3.0), rtol=1e-12)
    assert np.all(true_residuals(product.matrix, pairs) <= 1e-12)


@pytest.mark.parametrize("scale", [0.0, 1.0, -2.0])
def test_multiples_of_the_identity(scale):
    pairs = largest_eigenpairs(lambda v: scale * v, 30, 4)
    assert pairs.converged
    assert pairs.products == 5
    np.testing.assert_allclose(pairs.values, np.full(4, scale), atol=1e-14)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(4), atol=1e-12)


def test_product_that_returns_its_argument_or_a_reused_buffer(matrix_with):
    same = largest_eigenpairs(lambda v: v, 10, 2)
    assert same.values == pytest.approx([1, 1])
    np.testing.assert_allclose(same.vectors.T @ same.vectors, np.eye(2), atol=1e-12)
    matrix, buffer = matrix_with(DECAY)[0], np.empty(300)
    pairs = largest_eigenpairs(lambda v: np.matmul(matrix, v, out=buffer), 300, 2)
    np.testing.assert_allclose(pairs.values, [1, 0.5], rtol=1e-6)


def test_fewer_dimensions_than_asked_for():
    pairs = largest_eigenpairs(lambda v: np.array([3.0, -1.0, 2.0]) * v, 3, 10)
    np.testing.assert_allclose(pairs.values, [3, 2, -1], rtol=1e-12)
    assert pairs.vectors.shape == (3, 3)
    assert pairs.converged
    assert largest_eigenpairs(lambda v: v, 3, 10).converged
    one = extreme_eigenpairs(lambda v: 7 * v, 1, 1, 1)
    assert one.largest.values[0] == one.lowest.values[0] == pytest.approx(7)


def test_low_rank(matrix_with):
    matrix, _ = matrix_with([4.0, 2.0, 1.0] + [0.0] * 97)
    pairs = largest_eigenpairs(lambda v: matrix @ v, 100, 6)
    np.testing.assert_allclose(pairs.values, [4, 2, 1, 0, 0, 0], atol=1e-10)
    assert pairs.products <= 20


def test_single_precision(matrix_with):
    matrix = matrix_with(DECAY)[0]
    single = matrix.astype(np.float32)
    pairs = largest_eigenpairs(lambda v: single @ v, 300, 5, precision="float32", tolerance=1e-5)
    assert pairs.converged
    assert pairs.vectors.dtype == np.float32
    assert pairs.values.dtype == np.float64
    np.testing.assert_allclose(pairs.values, DECAY[:5], atol=2e-6)
    assert np.all(true_residuals(matrix, pairs) <= pairs.residuals + 1e-6)


def test_errors_of_the_products_are_in_the_residuals(matrix_with):
    """A product off by 1e-3 in a direction of its own: the residual cannot claim less."""
    matrix = matrix_with(DECAY)[0]
    wrong = 1e-3 * np.random.default_rng(3).normal(size=(300, 300)) / np.sqrt(300)
    pairs = largest_eigenpairs(lambda v: (matrix + wrong) @ v, 300, 3, max_products=40)
    assert not pairs.converged
    assert np.all(pairs.residuals > 1e-4)
    assert np.all(np.abs(pairs.values - DECAY[:3]) <= 2 * pairs.residuals)


def test_warm_start_saves_products(matrix_with):
    matrix, vectors = matrix_with(DECAY)
    cold = largest_eigenpairs(lambda v: matrix @ v, 300, 3)
    warm = largest_eigenpairs(lambda v: matrix @ v, 300, 3, start=vectors[:, :3].sum(axis=1))
    assert warm.products <= cold.products // 2
    np.testing.assert_allclose(warm.values, DECAY[:3], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("values", "counts"), [(DECAY, (1, 5, 10)), (SADDLE, (1, 2))])
def test_no_more_products_than_arpack(matrix_with, counted, values, counts, seed):
    product = counted(matrix_with(values)[0])
    operator = scipy.sparse.linalg.LinearOperator((300, 300), matvec=product, dtype=float)
    start = np.random.default_rng(seed).normal(size=300)
    for count in counts:
        product.calls = 0
        scipy.sparse.linalg.eigsh(operator, count, which="LA", tol=1e-4, v0=start)
        arpack = product.calls
        pairs = largest_eigenpairs(product, 300, count, seed=seed)
        assert pairs.converged
        assert pairs.products <= arpack


def test_a_network(network):
    expansion, hessian, covariance, _ = network
    for product, dense in (
        (expansion.hessian_product, hessian),
        (expansion.noise_product, covariance),
    ):
        exact = np.linalg.eigvalsh(dense)[::-1]
        pairs = largest_eigenpairs(product, len(dense), 5, tolerance=1e-6)
        np.testing.assert_allclose(pairs.values, exact[:5], rtol=1e-8)
    both = extreme_eigenpairs(expansion.hessian_product, len(hessian), 1, 1, tolerance=1e-3)
    exact = np.linalg.eigvalsh(hessian)
    assert both.largest.values[0] == pytest.approx(exact[-1], rel=1e-6)
    assert both.lowest.values[0] == pytest.approx(exact[0], abs=1e-3 * exact[-1])
    quick = largest_eigenpairs(expansion.hessian_product, len(hessian), tolerance=1e-4)
    assert quick.products <= 20


def test_budgets(matrix_with):
    matrix = matrix_with(np.arange(1, 301.0))[0]
    pairs = largest_eigenpairs(lambda v: matrix @ v, 300, 2, max_products=15)
    assert not pairs.converged
    assert pairs.products == 15
    assert np.all(true_residuals(matrix, pairs) <= pairs.residuals)
    asked = iter(range(100))
    stopped = largest_eigenpairs(lambda v: matrix @ v, 300, 2, deadline=lambda: next(asked) >= 10)
    assert not stopped.converged
    assert stopped.products < 12
    with pytest.raises(NotConverged, match="after 0 products"):
        largest_eigenpairs(lambda v: v, 5, deadline=seconds_from_now(0))
    with pytest.raises(NotConverged, match="max_products"):
        largest_eigenpairs(lambda v: v, 300, 5, max_products=3)


def test_bad_input(matrix_with):
    with pytest.raises(Diverged, match="NaN or infinite"):
        largest_eigenpairs(lambda v: v * np.nan, 5)
    with pytest.raises(InvalidArgument, match="shape"):
        largest_eigenpairs(lambda v: v[:-1], 5)
    lopsided = np.random.default_rng(0).normal(size=(50, 50))
    with pytest.raises(InvalidArgument, match="dropout"):
        largest_eigenpairs(lambda v: lopsided @ v, 50)
    with pytest.raises(InvalidArgument, match="1 or more"):
        largest_eigenpairs(lambda v: v, 5, 0)
    with pytest.raises(InvalidArgument, match="basis_size"):
        largest_eigenpairs(lambda v: v, 50, 5, basis_size=5)
    with pytest.raises(InvalidArgument, match="start"):
        largest_eigenpairs(lambda v: v, 5, start=np.zeros(5))
    with pytest.raises(InvalidArgument, match="of is"):
        largest_eigenpairs(lambda v: v, 5, of="residuals")
    with pytest.raises(InvalidArgument, match="precision"):
        largest_eigenpairs(lambda v: v, 5, precision="half")
    with pytest.raises(InvalidArgument, match="tolerance"):
        largest_eigenpairs(lambda v: v, 5, tolerance=0.0)
