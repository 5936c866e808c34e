import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

from escapade.errors import DegenerateNoise, InvalidArgument, Unstable
from escapade.minimum.lyapunov import (
    equivalent_diffusion,
    horizon_covariance,
    stationary_covariance,
    stationary_covariance_discrete,
)

H2 = np.array([[2.0, 0.6], [0.6, 1.0]])
C2 = np.array([[1.0, -0.3], [-0.3, 0.5]])
ROTATING = H2 + np.array([[0.0, 0.7], [-0.7, 0.0]])
SINGULAR = np.outer([1.0, -2.0], [1.0, -2.0])


def random_problem(dim, seed, symmetric):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(dim, dim))
    A = A @ A.T / dim + 0.3 * np.eye(dim)
    if not symmetric:
        B = rng.normal(size=(dim, dim))
        A = A + 0.5 * (B - B.T)
    X = rng.normal(size=(dim, dim))
    return A, X @ X.T / dim


def steepness(S, x):
    return 0.5 * x @ np.linalg.solve(S, x)


def test_reference_values(oracle):
    for case, covariance in (
        ("Q03", lambda p: stationary_covariance(p["H"], p["C"])),
        ("Q04", lambda p: horizon_covariance(p["H"], p["C"], p["T"])),
        ("D01", lambda p: stationary_covariance_discrete(p["H"], p["C"], p["eta"])),
        ("D03", lambda p: horizon_covariance(p["H"], p["C"], p["K"], p["eta"])),
    ):
        reference = oracle(case)
        x = np.array(reference["params"]["x"])
        value = steepness(covariance(reference["params"]), x)
        assert value == pytest.approx(reference["value"], rel=1e-12)


def test_proportional_noise_reference_values(oracle):
    for case in ("Q02", "D02"):
        p = oracle(case)["params"]
        S = (
            stationary_covariance(p["H"], p["H"])
            if case == "Q02"
            else stationary_covariance_discrete(p["H"], p["H"], p["eta"])
        )
        assert steepness(S, np.array(p["x"])) == pytest.approx(oracle(case)["value"], rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_residuals_vanish(dim, symmetric):
    A, C = random_problem(dim, dim, symmetric)
    S = stationary_covariance(A, C)
    np.testing.assert_allclose(A @ S + S @ A.T, C, atol=1e-11)
    eta = 0.02
    D = stationary_covariance_discrete(A, C, eta)
    np.testing.assert_allclose(A @ D + D @ A.T - eta * A @ D @ A.T, C, atol=1e-11)
    np.testing.assert_array_equal(S, S.T)
    np.testing.assert_array_equal(D, D.T)


@pytest.mark.parametrize("A", [H2, ROTATING])
@pytest.mark.parametrize("C", [C2, SINGULAR])
def test_horizon_is_the_integral_of_the_propagated_noise(A, C):
    def integrand(s):
        decay = scipy.linalg.expm(-A * s)
        return decay @ C @ decay.T

    expected, _ = scipy.integrate.quad_vec(integrand, 0, 0.9, epsrel=1e-12)
    np.testing.assert_allclose(horizon_covariance(A, C, 0.9), expected, rtol=1e-10)


@pytest.mark.parametrize("A", [H2, ROTATING])
@pytest.mark.parametrize("steps", [1, 6, 13])
def test_discrete_horizon_is_the_sum_over_steps(A, steps):
    M = np.eye(2) - 0.3 * A
    powers = [np.linalg.matrix_power(M, j) for j in range(steps)]
    expected = 0.3 * sum(P @ C2 @ P.T for P in powers)
    np.testing.assert_allclose(horizon_covariance(A, C2, steps, 0.3), expected, rtol=1e-13)


@pytest.mark.parametrize("A", [H2, ROTATING])
def test_horizon_grows_to_the_stationary_covariance(A):
    previous = np.zeros((2, 2))
    for horizon in (0.1, 0.5, 2.0, 8.0):
        current = horizon_covariance(A, C2, horizon)
        assert np.linalg.eigvalsh(current - previous)[0] > 0
        previous = current
    S, D = stationary_covariance(A, C2), stationary_covariance_discrete(A, C2, 0.3)
    np.testing.assert_allclose(horizon_covariance(A, C2, 60.0), S, rtol=1e-12)
    np.testing.assert_allclose(horizon_covariance(A, C2, 400, 0.3), D, rtol=1e-12)


@pytest.mark.parametrize("A", [H2, ROTATING])
def test_short_horizons_keep_all_digits(A):
    T = 1e-9
    expected = T * C2 - T**2 / 2 * (A @ C2 + C2 @ A.T)
    np.testing.assert_allclose(horizon_covariance(A, C2, T), expected, rtol=1e-14)


def test_horizon_needs_no_stability():
    saddle = np.diag([1.0, -0.5])
    expected = np.diag([(1 - np.exp(-4)) / 2, np.exp(2) - 1])
    np.testing.assert_allclose(horizon_covariance(saddle, np.eye(2), 2.0), expected, rtol=1e-13)


@pytest.mark.parametrize("A", [H2, ROTATING])
def test_discrete_tends_to_continuous_at_first_order(A):
    S = stationary_covariance(A, C2)
    errors = [
        np.linalg.norm(stationary_covariance_discrete(A, C2, eta) - S) for eta in (1e-3, 5e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("A", [H2, ROTATING])
def test_equivalent_diffusion_has_the_stationary_law_of_the_chain(A):
    drift, noise = equivalent_diffusion(A, C2, 0.3)
    np.testing.assert_allclose(
        stationary_covariance(drift, noise), stationary_covariance_discrete(A, C2, 0.3), rtol=1e-12
    )


def test_invariance_under_loss_scaling_and_rotation():
    S = stationary_covariance_discrete(ROTATING, C2, 0.3)
    scaled = stationary_covariance_discrete(5 * ROTATING, 25 * C2, 0.3 / 5)
    np.testing.assert_allclose(scaled, 5 * S, rtol=1e-12)
    R = scipy.linalg.expm(np.array([[0.0, 0.4], [-0.4, 0.0]]))
    turned = stationary_covariance_discrete(R @ ROTATING @ R.T, R @ C2 @ R.T, 0.3)
    np.testing.assert_allclose(turned, R @ S @ R.T, rtol=1e-11)


def test_unstable_learning_rate_names_the_largest_stable_one():
    with pytest.raises(Unstable, match=r"largest stable learning rate is 0\.8"):
        stationary_covariance_discrete(np.diag([1.0, 2.5]), np.eye(2), 0.9)
    eigenvalues = np.linalg.eigvals(ROTATING)
    limit = np.min(2 * eigenvalues.real / np.abs(eigenvalues) ** 2)
    stationary_covariance_discrete(ROTATING, C2, 0.999 * limit)
    with pytest.raises(Unstable, match=f"{limit:.6g}"):
        stationary_covariance_discrete(ROTATING, C2, 1.001 * limit)


@pytest.mark.parametrize("A", [np.diag([1.0, -0.1]), [[0.0, 1.0], [-1.0, 0.0]]])
def test_unstable_drift(A):
    with pytest.raises(Unstable, match="no stable minimum"):
        stationary_covariance(np.array(A), np.eye(2))
    with pytest.raises(Unstable, match="no stable minimum"):
        stationary_covariance_discrete(np.array(A), np.eye(2), 0.1)


@pytest.mark.parametrize(
    ("C", "message"),
    [
        (np.zeros((2, 2)), "without positive"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
        (np.diag([1.0, -0.1]), "negative eigenvalue -0.1"),
        (np.diag([1.0, np.nan]), "without positive finite"),
    ],
)
def test_degenerate_noise(C, message):
    with pytest.raises(DegenerateNoise, match=message):
        stationary_covariance(H2, C)


def test_singular_noise_and_rounding_are_accepted():
    S = stationary_covariance(H2, SINGULAR)
    np.testing.assert_allclose(H2 @ S + S @ H2, SINGULAR, atol=1e-14)
    S = stationary_covariance(H2, SINGULAR - 1e-9 * np.eye(2))
    assert np.all(np.isfinite(S))


def test_invalid_arguments():
    with pytest.raises(InvalidArgument, match="shape"):
        stationary_covariance(H2, np.eye(3))
    with pytest.raises(InvalidArgument, match="learning_rate is -1"):
        stationary_covariance_discrete(H2, C2, -1)
    with pytest.raises(InvalidArgument, match=r"horizon is 2\.5"):
        horizon_covariance(H2, C2, 2.5, 0.1)
    with pytest.raises(InvalidArgument, match="horizon is 0"):
        horizon_covariance(H2, C2, 0)
