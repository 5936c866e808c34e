"""Banded saddle-point systems against dense linear algebra."""

import numpy as np
import pytest

from escapade.steepness.time_grid.newton import SaddleMatrix, damped_newton


def random_matrix(count, seed, overlap=2, size=6, last=3):
    rng = np.random.default_rng(seed)

    def symmetric(*shape):
        block = rng.standard_normal(shape)
        return block + np.swapaxes(block, -1, -2)

    window = overlap + size
    return SaddleMatrix(
        symmetric(2 * overlap, 2 * overlap),
        symmetric(count, window, window),
        symmetric(last, last),
        rng.standard_normal((last, overlap)),
    )


def dense(matrix):
    last, overlap = matrix.coupling.shape
    head = len(matrix.head)
    count, window = matrix.panels.shape[:2]
    size = window - overlap
    total = head + count * size + last
    whole = np.zeros((total, total))
    whole[:head, :head] += matrix.head
    for index, panel in enumerate(matrix.panels):
        here = slice(head + index * size - overlap, head + (index + 1) * size)
        whole[here, here] += panel
    end = total - last
    whole[end:, end:] += matrix.tail
    whole[end:, end - overlap : end] += matrix.coupling
    whole[end - overlap : end, end:] += matrix.coupling.T
    return whole


@pytest.mark.parametrize("count", [1, 2, 9])
def test_against_dense_algebra(count):
    matrix = random_matrix(count, seed=count)
    whole = dense(matrix)
    right = np.random.default_rng(0).standard_normal(len(whole))
    np.testing.assert_allclose(matrix.factored()(right), np.linalg.solve(whole, right), rtol=1e-8)
    assert matrix.negative_eigenvalues() == (np.linalg.eigvalsh(whole) < 0).sum()


def test_singular_matrix_has_no_solver():
    matrix = random_matrix(3, seed=0)
    empty = SaddleMatrix(
        np.zeros_like(matrix.head), 0 * matrix.panels, 0 * matrix.tail, 0 * matrix.coupling
    )
    assert empty.factored() is None


class Arctangent:
    """Undamped, Newton's method diverges from beyond 1.39."""

    def __init__(self, z):
        self.residual = np.arctan(z)
        self.slope = 1 / (1 + z**2)

    def matrix(self):
        one = np.diag(self.slope)
        return SaddleMatrix(one[:2, :2], one[None, 1:3, 1:3] * [[0, 0], [0, 1]], one[3:, 3:], Z)


Z = np.zeros((1, 1))


def test_damping_reaches_a_zero_where_plain_newton_diverges():
    found = damped_newton(Arctangent, np.array([20.0, -3.0, 1.0, 0.5]), 60)
    np.testing.assert_allclose(found.residual, 0, atol=1e-10)
    assert damped_newton(Arctangent, np.array([20.0, -3.0, 1.0, 0.5]), 2) is None
