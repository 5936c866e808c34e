"""The covariance of SGD in a subspace and along a direction, against the dense equations."""

import numpy as np
import pytest

from escapade.errors import DegenerateNoise, InvalidArgument, NotConverged, Unstable
from escapade.minimum.krylov import (
    Estimate,
    largest_eigenpairs,
    orthonormal_basis,
    reduced_covariance,
    reduced_neighbourhood,
    variance_along,
)
from escapade.minimum.lyapunov import (
    horizon_covariance,
    stationary_covariance,
    stationary_covariance_discrete,
)

ETA = 0.08
CASES = [
    ({}, lambda H, C: stationary_covariance(H, C)),
    ({"learning_rate": ETA}, lambda H, C: stationary_covariance_discrete(H, C, ETA)),
    ({"horizon": 0.6}, lambda H, C: horizon_covariance(H, C, 0.6)),
    ({"horizon": 9, "learning_rate": ETA}, lambda H, C: horizon_covariance(H, C, 9, ETA)),
]


def reduced_to(hessian, covariance, basis):
    return reduced_neighbourhood(lambda v: hessian @ v, lambda v: covariance @ v, basis)


@pytest.fixture(scope="module")
def dominant(valley):
    hessian, covariance = valley
    basis = orthonormal_basis(
        largest_eigenpairs(lambda v: hessian @ v, 120, 3, tolerance=1e-8).vectors,
        largest_eigenpairs(lambda v: covariance @ v, 120, 3, tolerance=1e-8).vectors,
    )
    return reduced_to(hessian, covariance, basis)


def test_reduction(valley, dominant):
    hessian, covariance = valley
    U = dominant.basis
    outside = np.eye(120) - U @ U.T
    np.testing.assert_allclose(dominant.hessian, U.T @ hessian @ U, atol=1e-12)
    np.testing.assert_allclose(dominant.covariance, U.T @ covariance @ U, atol=1e-12)
    for found, matrix in (
        (dominant.hessian_residual, hessian),
        (dominant.noise_residual, covariance),
    ):
        assert found == pytest.approx(np.linalg.norm(outside @ matrix @ U, 2), rel=1e-9)
    assert dominant.products == 12
    left = dominant.left_out(Estimate(np.trace(covariance), 0.1, 9, 9, True))
    assert left.value == pytest.approx(np.trace(outside @ covariance), rel=1e-9)
    assert left.standard_error == 0.1


@pytest.mark.parametrize(("options", "exact"), CASES)
def test_whole_space_is_exact(valley, options, exact):
    hessian, covariance = valley
    basis = np.linalg.qr(np.random.default_rng(5).normal(size=(120, 120)))[0]
    found = reduced_covariance(reduced_to(hessian, covariance, basis), **options)
    S = exact(hessian, covariance)
    np.testing.assert_allclose(basis @ found.matrix @ basis.T, S, atol=1e-10 * np.abs(S).max())
    assert found.error == 0


@pytest.mark.parametrize(("options", "exact"), CASES)
def test_eigenvectors_of_the_hessian_are_exact(valley, options, exact):
    hessian, covariance = valley
    vectors = np.linalg.eigh(hessian)[1][:, [-1, -2, 10, 0]]
    reduced = reduced_to(hessian, covariance, vectors)
    found = reduced_covariance(
        reduced, complement_curvature=(0.5, 6.1), complement_noise=8.0, **options
    )
    S = exact(hessian, covariance)
    error = np.abs(found.matrix - vectors.T @ S @ vectors).max()
    assert error < 1e-12
    assert error < found.error + 1e-14 < 1e-9
    for vector in vectors.T:
        assert found.along(3 * vector) == pytest.approx(vector @ S @ vector, rel=1e-9)


@pytest.mark.parametrize(("options", "exact"), CASES)
@pytest.mark.parametrize("mixing", [0.002, 0.02, 0.1])
def test_error_bounds_hold_and_are_of_second_order(valley, options, exact, mixing):
    """A subspace turned away from an invariant one by an angle: errors fall as its square."""
    hessian, covariance = valley
    exact_vectors = np.linalg.eigh(hessian)[1][:, -6:]
    noise = np.random.default_rng(7).normal(size=(120, 6)) / np.sqrt(120)
    basis = np.linalg.qr(exact_vectors + mixing * noise)[0]
    reduced = reduced_to(hessian, covariance, basis)
    outside = np.eye(120) - basis @ basis.T
    values = np.linalg.eigvalsh(hessian)
    found = reduced_covariance(
        reduced,
        complement_curvature=(values[0], values[-1]),
        complement_noise=np.linalg.norm(outside @ covariance @ outside, 2),
        **options,
    )
    S = exact(hessian, covariance)
    error = np.linalg.norm(found.matrix - basis.T @ S @ basis, 2)
    assert error <= found.error
    if mixing <= 0.02:
        assert found.error < 60 * mixing * np.linalg.norm(S, 2)
    if "horizon" not in options:
        approximate = basis @ found.matrix @ basis.T
        eta = options.get("learning_rate", 0.0)
        residual = (
            hessian @ approximate
            + approximate @ hessian
            - eta * hessian @ approximate @ hessian
            - basis @ (basis.T @ covariance @ basis) @ basis.T
            - basis @ (basis.T @ covariance @ outside)
            - outside @ covariance @ basis @ basis.T
        )
        assert np.linalg.norm(residual, 2) <= found.residual * (1 + 1e-9)


@pytest.mark.parametrize("eta", [None, 0.3])
def test_error_bound_is_sharp_in_the_plane(eta):
    """One direction inside and one outside: to leading order the bound is the error."""
    hessian, covariance = np.array([[2.0, 1e-3], [1e-3, 0.5]]), np.diag([1.0, 3.0])
    reduced = reduced_to(hessian, covariance, np.eye(2)[:, :1])
    found = reduced_covariance(
        reduced, learning_rate=eta, complement_curvature=(0.5, 0.5), complement_noise=3.0
    )
    S = (
        stationary_covariance(hessian, covariance)
        if eta is None
        else stationary_covariance_discrete(hessian, covariance, eta)
    )
    assert found.error == pytest.approx(abs(found.matrix[0, 0] - S[0, 0]), rel=1e-4)


def test_dominant_subspace(valley, dominant):
    """Top eigenvectors of H and C: what the subspace misses is bounded, its trace put back."""
    hessian, covariance = valley
    S = stationary_covariance(hessian, covariance)
    trace = Estimate(float(np.trace(S)), 0.0, 1, 1, True)
    found = reduced_covariance(
        dominant, complement_curvature=(0.5, 20.0), complement_noise=0.02, whole_trace=trace
    )
    U = dominant.basis
    assert np.linalg.norm(found.matrix - U.T @ S @ U, 2) <= found.error
    approximate = U @ found.matrix @ U.T + found.outside * (np.eye(120) - U @ U.T)
    assert np.trace(approximate) == pytest.approx(np.trace(S), rel=1e-10)
    n = np.random.default_rng(0).normal(size=120)
    n /= np.linalg.norm(n)
    assert found.along(n) == pytest.approx(n @ approximate @ n, rel=1e-10)


def test_no_bound_is_not_a_small_bound(dominant):
    assert reduced_covariance(dominant).error == np.inf
    # Noise or curvature outside so bad that the estimate's own series diverges.
    worst = reduced_covariance(dominant, complement_curvature=(1e-6, 20.0), complement_noise=1.0)
    assert worst.error == np.inf


def test_single_precision_noise_is_clipped(valley):
    hessian, covariance = (m.astype(np.float32) for m in valley)
    flat = covariance - 1e-6 * np.eye(120, dtype=np.float32)  # the bulk of C is 0.01
    low_rank = flat @ flat.T / 8 - 2e-5 * np.eye(120, dtype=np.float32)
    basis = np.linalg.eigh(valley[1])[1][:, [-1, -2, 0]].astype(np.float32)
    reduced = reduced_neighbourhood(
        lambda v: hessian @ v, lambda v: low_rank @ v, basis, precision="float32"
    )
    assert reduced.basis.dtype == np.float32
    assert np.linalg.eigvalsh(reduced.covariance)[0] > -1e-12
    assert np.all(np.isfinite(reduced_covariance(reduced).matrix))
    with pytest.raises(DegenerateNoise, match="noise_product"):
        reduced_neighbourhood(lambda v: hessian @ v, lambda v: -v, basis, precision="float32")


def test_saddles_need_a_horizon(matrix_with):
    hessian, vectors = matrix_with([-1.0, 1.0, 2.0, 3.0])
    reduced = reduced_to(hessian, np.eye(4), vectors[:, :2])
    with pytest.raises(Unstable):
        reduced_covariance(reduced)
    found = reduced_covariance(reduced, horizon=1.0)
    np.testing.assert_allclose(
        np.diag(found.matrix), [np.expm1(2) / 2, -np.expm1(-2) / 2], rtol=1e-10
    )
    with pytest.raises(InvalidArgument, match="whole_trace"):
        reduced_covariance(reduced, horizon=1.0, whole_trace=Estimate(np.inf, 0.0, 1, 1, True))


def test_budget(valley):
    hessian, covariance = valley
    with pytest.raises(NotConverged, match="reduction"):
        reduced_neighbourhood(
            lambda v: hessian @ v, lambda v: covariance @ v, np.eye(120), max_products=100
        )
    with pytest.raises(InvalidArgument, match="orthonormal"):
        reduced_to(hessian, covariance, np.ones((120, 2)))


@pytest.mark.parametrize(("options", "exact"), CASES)
def test_variance_along_any_direction(valley, options, exact):
    hessian, covariance = valley
    S = exact(hessian, covariance)
    bounds = {"curvature": (0.5, 20.0), "largest_noise": 8.0}
    directions = np.random.default_rng(11).normal(size=(3, 120))
    products = []
    for tolerance in (1e-1, 1e-3, 1e-6):
        for n in directions:
            found = variance_along(
                lambda v: hessian @ v,
                lambda v: covariance @ v,
                n,
                tolerance=tolerance,
                **bounds,
                **options,
            )
            value = n @ S @ n / (n @ n)
            assert found.converged
            assert abs(found.value - value) <= found.error + 1e-12 * value
            assert found.error < 40 * tolerance * np.linalg.norm(S, 2)
        products.append(found.products)
    assert products[0] < products[1] < products[2] <= 120


def test_variance_along_an_eigenvector(valley):
    hessian, covariance = valley
    values, vectors = np.linalg.eigh(hessian)
    for k in (0, 60, 119):
        n = vectors[:, k]
        found = variance_along(
            lambda v: hessian @ v,
            lambda v: covariance @ v,
            -2 * n,
            curvature=(0.5, 20.0),
            largest_noise=8.0,
            learning_rate=ETA,
        )
        exact = n @ covariance @ n / (2 * values[k] - ETA * values[k] ** 2)
        assert found.value == pytest.approx(exact, rel=1e-9)
        assert found.products == 2


def test_variance_along_says_when_it_is_not_known(valley):
    hessian, covariance = valley
    products = (lambda v: hessian @ v), (lambda v: covariance @ v)
    n = np.random.default_rng(0).normal(size=120)
    cut = variance_along(*products, n, curvature=(0.5, 20.0), largest_noise=8.0, max_products=6)
    assert not cut.converged
    assert cut.products == 6
    S = stationary_covariance(hessian, covariance)
    assert abs(cut.value - n @ S @ n / (n @ n)) <= cut.error
    with pytest.raises(Unstable, match="finite horizon"):
        variance_along(*products, n, curvature=(-0.1, 20.0), largest_noise=8.0)
    with pytest.raises(Unstable, match="learning_rate"):
        variance_along(*products, n, curvature=(0.5, 20.0), largest_noise=8.0, learning_rate=0.11)
    with pytest.raises(InvalidArgument, match="direction"):
        variance_along(*products, np.zeros(120), curvature=(0.5, 20.0), largest_noise=8.0)
