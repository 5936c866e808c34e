import numpy as np
import pytest

from escapade.data import digits
from escapade.landscape import MLP, network_landscape


def with_spectrum(values, seed=0):
    """A dense symmetric matrix with these eigenvalues, and its eigenvectors."""
    values = np.asarray(values, float)
    vectors = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    return (vectors * values) @ vectors.T, vectors


@pytest.fixture(scope="session")
def matrix_with():
    return with_spectrum


class Counted:
    """A product that counts itself, to compare with what a result claims."""

    def __init__(self, matrix):
        self.matrix, self.calls = matrix, 0

    def __call__(self, vector):
        self.calls += 1
        return self.matrix @ vector


@pytest.fixture(scope="session")
def counted():
    return Counted


@pytest.fixture(scope="session")
def valley():
    """H with outliers and a bulk above 0.5, C of low rank and a little everywhere: 120 x 120."""
    hessian, _ = with_spectrum(np.concatenate([[20.0, 11.0, 6.0], np.linspace(3, 0.5, 117)]), 1)
    covariance, _ = with_spectrum(np.concatenate([[8.0, 5.0, 2.0], np.full(117, 0.01)]), 2)
    return hessian, covariance


@pytest.fixture(scope="session")
def network():
    """A small network part of the way to a minimum: its products, and the same matrices dense."""
    landscape = network_landscape(MLP((64, 8, 10)), digits())
    theta = np.asarray(landscape.initial, float)
    for _ in range(40):
        theta = theta - 0.3 * landscape.gradient(theta)
    expansion = landscape.expand(theta)
    unit = np.eye(landscape.dim)
    hessian = np.array([expansion.hessian_product(row) for row in unit])
    gradients = np.asarray(landscape.example_gradients(theta))
    gradients = gradients - gradients.mean(axis=0)
    return expansion, (hessian + hessian.T) / 2, gradients.T @ gradients / len(gradients), gradients
