import numpy as np
import pytest

from escapade import landscapes, noise
from escapade.errors import InvalidArgument
from escapade.steepness.continuous.path_descent import geometric_minimum_action, string_method
from escapade.steepness.hamiltonian import GaussianHamiltonian


def maier_stein(beta):
    return GaussianHamiltonian(landscapes.MaierStein(beta), noise.Isotropic(), None)


def arc(points, stop=0.0):
    x = np.linspace(-1.0, stop, points)
    return np.stack([x, 0.3 * (1 - x**2) * (x - stop) ** 2], axis=1)


def test_minimum_action_converges_to_the_orbit(oracle):
    exact = oracle("X01")["value"]
    errors = []
    for points in (26, 51, 101):
        relaxed = geometric_minimum_action(maier_stein(10.0), arc(points), 0.3, 6000)
        errors.append(abs(relaxed.value - exact))
        lengths = np.linalg.norm(np.diff(relaxed.path, axis=0), axis=1)
        assert lengths.max() < 1.01 * lengths.min()
    assert errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


def test_minimum_action_with_dense_noise():
    hessian, covariance = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    hamiltonian = GaussianHamiltonian(
        landscapes.Quadratic(hessian), noise.Constant(covariance), None
    )
    line = np.linspace([0.0, 0.0], [0.6, 0.3], 101)
    relaxed = geometric_minimum_action(hamiltonian, line, 0.1, 2000)
    assert relaxed.value == pytest.approx(1.892, rel=1e-3)


def test_string_finds_the_descent_paths_between_minima():
    """Through the saddle of Mueller-Brown; what it climbs costs twice the loss."""
    landscape = landscapes.MuellerBrown()
    hamiltonian = GaussianHamiltonian(landscape, noise.Isotropic(), None)
    ends = landscape.minima[[1, 2]]
    line = np.linspace(*ends, 101)
    relaxed = string_method(hamiltonian, line, 1e-4, 8000)
    losses = np.array([landscape.loss(point) for point in relaxed.path])
    top = losses.max()
    assert top == pytest.approx(landscape.loss(np.array([0.21248658, 0.29298832])), abs=0.05)
    assert relaxed.value == pytest.approx(2 * (top - losses[0]), rel=0.01)


def test_a_path_has_three_points():
    with pytest.raises(InvalidArgument, match="three points"):
        string_method(maier_stein(1.0), np.zeros((2, 2)), 0.1, 10)
