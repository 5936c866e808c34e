"""Hessian, noise and their alignment on matrices small enough for a pencil."""

import numpy as np
import pytest

from escapade import noise
from escapade.dynamics import ContinuousSGD, GaussianSGD, MinibatchSGD
from escapade.errors import NotAMinimum, Unstable
from escapade.escape import Escape
from escapade.landscape import DoubleWell, Empirical, MaierStein, Quadratic
from escapade.minimum import Neighbourhood, effective_dimension, neighbourhood
from escapade.region import Ball

HESSIAN = np.array([[2.0, 0.6], [0.6, 1.0]])
COVARIANCE = np.array([[1.0, -0.3], [-0.3, 0.5]])


def test_alignment_by_hand():
    # C . H = 3, |H|^2 = 5, |C|^2 = 2, [C, H] = [[0, 1 - 2], [2 - 1, 0]] for C = [[1, 0], [0, 1]]
    # turned into C = [[0, 1], [1, 0]]: C . H = 0.
    diagonal = np.diag([2.0, 1.0])
    even = Neighbourhood(diagonal, np.eye(2)).alignment
    assert even.c == pytest.approx(3 / 5)
    assert even.cosine == pytest.approx(3 / np.sqrt(10))
    assert even.relative_residual == pytest.approx(np.sqrt(1 / 10))
    assert even.commutator == 0
    # C = 1 + [[0, 1/2], [1/2, 0]]: [C, H] = 1/2 [[0, -1], [1, 0]], of norm 1 / sqrt(2).
    tilted = Neighbourhood(diagonal, np.array([[1.0, 0.5], [0.5, 1.0]])).alignment
    assert tilted.c == pytest.approx(3 / 5)
    assert tilted.cosine == pytest.approx(3 / np.sqrt(5 * 2.5))
    assert tilted.commutator == pytest.approx(np.sqrt(0.5) / np.sqrt(5 * 2.5))


def test_proportional_noise_is_aligned():
    alignment = Neighbourhood(HESSIAN, 0.3 * HESSIAN).alignment
    assert alignment.c == pytest.approx(0.3, rel=1e-15)
    assert alignment.cosine == pytest.approx(1.0, abs=1e-15)
    assert alignment.relative_residual == pytest.approx(0.0, abs=1e-15)
    assert alignment.commutator == pytest.approx(0.0, abs=1e-15)


def test_residual_and_cosine_are_one_number():
    # c minimises |C - c H|, so the residual is the sine of the angle between C and H.
    alignment = Neighbourhood(HESSIAN, COVARIANCE).alignment
    assert alignment.relative_residual**2 + alignment.cosine**2 == pytest.approx(1.0, rel=1e-14)


def test_spectrum():
    around = Neighbourhood(HESSIAN, COVARIANCE)
    root = np.sqrt(0.25 + 0.36)
    np.testing.assert_allclose(around.eigenvalues, [1.5 + root, 1.5 - root], rtol=1e-14)
    assert (around.dim, around.sharpness, around.trace) == (2, around.eigenvalues[0], 3.0)
    v = around.sharpest_direction
    np.testing.assert_allclose(HESSIAN @ v, around.sharpness * v, atol=1e-14)
    assert around.noise_along[0] == pytest.approx(v @ COVARIANCE @ v, rel=1e-14)
    assert around.noise_along.sum() == pytest.approx(np.trace(COVARIANCE), rel=1e-14)


def test_stationary_covariance_solves_its_equation():
    around = Neighbourhood(HESSIAN, COVARIANCE)
    S = around.stationary_covariance()
    np.testing.assert_allclose(HESSIAN @ S + S @ HESSIAN, COVARIANCE, atol=1e-14)
    rate = 0.3
    S = around.stationary_covariance(rate)
    step = np.eye(2) - rate * HESSIAN
    # The chain's own fixed point: S = M S M + eta C.
    np.testing.assert_allclose(step @ S @ step + rate * COVARIANCE, S, atol=1e-14)
    with pytest.raises(Unstable):
        around.stationary_covariance(1.0)


def test_effective_dimension():
    assert effective_dimension(np.diag([2.0, 1.0, 1.0])) == 2.0
    assert effective_dimension(np.eye(5)) == pytest.approx(5.0)


def test_of_an_escape():
    escape = Escape(DoubleWell(), GaussianSGD(0.1, 1.0, noise.Isotropic(0.7)), Ball(0.5))
    around = neighbourhood(escape)
    assert around.drift_matrix == pytest.approx(2.0)
    assert around.covariance == pytest.approx(0.7)
    dense = ContinuousSGD(0.1, 1.0, noise.Constant(COVARIANCE))
    around = neighbourhood(Escape(Quadratic(HESSIAN), dense, Ball(0.5)))
    np.testing.assert_allclose(around.drift_matrix, HESSIAN)
    np.testing.assert_allclose(around.covariance, COVARIANCE)


def test_of_minibatches():
    x = np.array([-3.0, 1.0, 2.0])
    landscape = Empirical(lambda p, x: 0.5 * (p[0] - x) ** 2, np.zeros(1), x)
    for sampling, factor in (("with_replacement", 1.0), ("without_replacement", 0.5)):
        dynamics = MinibatchSGD(0.1, 2, sampling)
        around = neighbourhood(Escape(landscape, dynamics, Ball(0.5), minimum=[0.0]))
        assert around.drift_matrix == pytest.approx(1.0)
        assert around.covariance == pytest.approx(factor * 14 / 3)


def test_a_drift_that_is_no_gradient_keeps_its_matrix():
    escape = Escape(MaierStein(10.0), GaussianSGD(0.1, 1.0, noise.Isotropic()), Ball(0.5))
    around = neighbourhood(escape)
    np.testing.assert_allclose(around.drift_matrix, [[2.0, 0.0], [0.0, 2.0]], atol=1e-14)
    rotating = np.array([[1.0, 4.0], [-4.0, 1.0]])
    around = Neighbourhood(rotating, np.eye(2))
    np.testing.assert_array_equal(around.drift_matrix, rotating)
    np.testing.assert_allclose(around.eigenvalues, [1.0, 1.0])


@pytest.mark.parametrize(
    "matrix",
    [np.diag([1.0, -0.1]), np.diag([1.0, 0.0]), np.array([[0.0, 1.0], [-1.0, 0.0]])],
    ids=["saddle", "flat", "centre"],
)
def test_what_does_not_attract_is_refused(matrix):
    with pytest.raises(NotAMinimum, match="attracting"):
        Neighbourhood(matrix, np.eye(2))
