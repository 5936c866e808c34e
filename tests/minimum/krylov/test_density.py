"""Spectral densities: exact moments and known spectra, errors calibrated over repeats."""

import numpy as np
import pytest

from escapade.errors import Diverged, InvalidArgument, NotConverged
from escapade.minimum.krylov import (
    largest_eigenpairs,
    loss_excess,
    noise_weighted_density,
    position_trace,
    spectral_density,
)
from escapade.minimum.lyapunov import (
    horizon_covariance,
    stationary_covariance,
    stationary_covariance_discrete,
)


def gaussian(covariance):
    root = np.linalg.cholesky(covariance)
    return lambda rng: root @ rng.normal(size=len(root))


def noisy(valley, **options):
    hessian, covariance = valley
    return noise_weighted_density(lambda v: hessian @ v, gaussian(covariance), 120, **options)


def assert_calibrated(estimates, exact):
    """Standardised errors of n estimates from 32 probes: within 4 standard errors of (0, 1)."""
    scores = np.array([(e.value - exact) / e.standard_error for e in estimates])
    n = len(scores)
    assert abs(scores.mean()) < 4 / np.sqrt(n)
    assert abs(scores.std() - np.sqrt(31 / 29)) < 4 / np.sqrt(2 * n)


def test_every_probe_is_a_gauss_rule(valley):
    """``sum w p(node) = dim z.p(H)z`` for a polynomial of degree 11, from 6 products, exactly."""
    hessian, _ = valley
    starts = []

    def product(vector):
        starts.append(vector.copy())
        return hessian @ vector

    density = spectral_density(product, 120, probes=3, depth=6)
    for k in range(3):
        z = starts[6 * k]
        power = np.linalg.matrix_power(hessian / 20, 11)
        exact = 120 * z @ power @ z
        assert density.weights[k] @ (density.nodes[k] / 20) ** 11 == pytest.approx(exact, rel=1e-10)
    assert density.total.value == pytest.approx(120, rel=1e-12)
    assert density.total.standard_error == pytest.approx(0, abs=1e-10)
    assert density.products == 18


@pytest.mark.parametrize("known", [0, 3])
def test_integrals(valley, known):
    hessian, _ = valley
    values = np.linalg.eigvalsh(hessian)
    options = {"depth": 20, "probes": 32}
    if known:
        pairs = largest_eigenpairs(lambda v: hessian @ v, 120, known, tolerance=1e-9)
        options["eigenpairs"] = pairs
    densities = [spectral_density(lambda v: hessian @ v, 120, seed=s, **options) for s in range(12)]
    for function in (lambda x: x, np.log, lambda x: 1 / x, lambda x: np.exp(-x)):
        assert_calibrated([d.integral(function) for d in densities], function(values).sum())
        assert densities[0].quadrature_error(function) < 5e-3 * abs(function(values).sum())


def test_density_against_the_smoothed_spectrum(valley):
    hessian, _ = valley
    values = np.linalg.eigvalsh(hessian)
    pairs = largest_eigenpairs(lambda v: hessian @ v, 120, 3, tolerance=1e-9)
    density = spectral_density(
        lambda v: hessian @ v, 120, eigenpairs=pairs, probes=40, depth=40, seed=1
    )
    grid, width = np.linspace(-1, 22, 400), 0.3
    seen = density.density(grid, width)
    exact = np.exp(-(((grid[:, None] - values) / width) ** 2) / 2).sum(axis=1)
    exact /= np.sqrt(2 * np.pi) * width
    assert seen.value.shape == seen.standard_error.shape == grid.shape
    scores = (seen.value - exact) / np.maximum(seen.standard_error, 1e-6)
    # Neighbouring grid points are one sample: the largest of some ten independent ones.
    assert np.abs(scores).max() < 4.5
    assert np.trapezoid(seen.value, grid) == pytest.approx(120, rel=1e-6)
    # The outliers are given exactly: no error there.
    assert seen.standard_error[np.abs(grid - 20).argmin()] < 1e-9


def test_below_counts_negative_eigenvalues(matrix_with):
    matrix, _ = matrix_with(np.concatenate([np.full(30, -1.0), np.linspace(1, 2, 70)]))
    densities = [
        spectral_density(lambda v: matrix @ v, 100, probes=32, depth=10, seed=s) for s in range(20)
    ]
    assert_calibrated([d.below(0) for d in densities], 30)


def test_traces_of_positions_and_losses(valley):
    """tr S and tr(H S) / 2 against the dense Lyapunov equations, in all their forms."""
    hessian, covariance = valley
    eta = 0.08
    densities = [noisy(valley, seed=s, depth=20) for s in range(16)]
    cases = [
        ({}, stationary_covariance(hessian, covariance)),
        ({"learning_rate": eta}, stationary_covariance_discrete(hessian, covariance, eta)),
        ({"horizon": 0.4}, horizon_covariance(hessian, covariance, 0.4)),
        (
            {"horizon": 7, "learning_rate": eta},
            horizon_covariance(hessian, covariance, 7, eta),
        ),
    ]
    for options, S in cases:
        assert_calibrated([position_trace(d, **options) for d in densities], np.trace(S))
        excess = np.sum(hessian * S) / 2
        assert_calibrated([loss_excess(d, **options) for d in densities], excess)
    assert_calibrated([d.total for d in densities], np.trace(covariance))


def test_all_examples_give_the_trace_exactly(network):
    """With every example drawn once there is no statistical error: only quadrature."""
    _, hessian, _, gradients = network
    some = gradients[:40] - gradients[:40].mean(axis=0)
    order = iter(range(40))
    density = noise_weighted_density(
        lambda v: hessian @ v, lambda rng: some[next(order)], len(hessian), probes=40, depth=40
    )
    exact = horizon_covariance(hessian, some.T @ some / 40, 3.0)
    traced = position_trace(density, horizon=3.0)
    assert traced.value == pytest.approx(np.trace(exact), rel=1e-6)
    assert density.total.value == pytest.approx((some**2).sum() / 40, rel=1e-10)


def test_a_network(network):
    expansion, hessian, covariance, gradients = network
    density = noise_weighted_density(
        expansion.hessian_product,
        lambda rng: gradients[rng.integers(len(gradients))],
        len(hessian),
        probes=24,
        depth=20,
    )
    traced = position_trace(density, horizon=5.0)
    exact = np.trace(horizon_covariance(hessian, covariance, 5.0))
    assert abs(traced.value - exact) < 4 * traced.standard_error


def test_directions_that_do_not_hold_sgd(matrix_with):
    values = np.concatenate([[-0.5, 0.0], np.linspace(0.5, 2, 38)])
    hessian, vectors = matrix_with(values)
    everywhere = noise_weighted_density(
        lambda v: hessian @ v, lambda rng: rng.normal(size=40), 40, probes=4, depth=40
    )
    assert position_trace(everywhere).value == np.inf
    assert loss_excess(everywhere).value == -np.inf
    assert 0 < everywhere.below(0).value < 40
    finite = position_trace(everywhere, horizon=2.0)
    weights = np.sum((vectors.T @ np.eye(40)) ** 2, axis=1)
    exact = weights @ np.where(values == 0, 2.0, -np.expm1(-4 * values) / (2 * values + 1e-300))
    assert finite.value == pytest.approx(exact, abs=4 * finite.standard_error)
    # Noise in the stable directions only, as near interpolation: finite, the flat ones unseen.
    inside = vectors[:, 2:]
    stable = noise_weighted_density(
        lambda v: hessian @ v, lambda rng: inside @ rng.normal(size=38), 40, probes=8, depth=40
    )
    traced = position_trace(stable)
    assert traced.value == pytest.approx(
        np.sum(1 / (2 * values[2:])), abs=4 * traced.standard_error
    )
    # Too large a learning rate along the sharpest one.
    assert position_trace(stable, learning_rate=1.01).value == np.inf
    assert np.isfinite(position_trace(stable, learning_rate=0.99).value)


def test_low_rank_ends_early(matrix_with):
    matrix, _ = matrix_with([4.0, 2.0, 1.0] + [0.0] * 57)
    density = spectral_density(lambda v: matrix @ v, 60, probes=3, depth=30)
    assert 12 <= density.products <= 15
    assert np.all(np.isfinite(density.integral(lambda x: x).value))
    assert density.quadrature_error(np.exp) == 0


def test_silent_noise_counts(matrix_with):
    matrix, _ = matrix_with(np.arange(1, 11.0))
    draws = iter([0.0, 1.0] * 4)
    density = noise_weighted_density(
        lambda v: matrix @ v, lambda rng: next(draws) * np.eye(10)[0], 10, probes=8, depth=10
    )
    assert density.total.value == pytest.approx(0.5, rel=1e-12)


def test_budget_and_bad_input(valley):
    hessian, _ = valley
    cut = spectral_density(lambda v: hessian @ v, 120, probes=5, depth=10, max_products=25)
    assert not cut.converged
    assert cut.total.probes == 2
    assert cut.products == 25
    assert not cut.integral(np.log).converged
    with pytest.raises(NotConverged, match="spectral density"):
        spectral_density(lambda v: hessian @ v, 120, depth=10, max_products=9)
    with pytest.raises(InvalidArgument, match="depth"):
        spectral_density(lambda v: hessian @ v, 120, depth=1)
    with pytest.raises(InvalidArgument, match="width"):
        cut.density(np.zeros(3), 0.0)
    with pytest.raises(InvalidArgument, match="horizon"):
        position_trace(cut, horizon=0.0)
    with pytest.raises(Diverged, match="sample"):
        noise_weighted_density(lambda v: v, lambda rng: np.full(4, np.nan), 4)
    with pytest.raises(InvalidArgument, match="sample returned shape"):
        noise_weighted_density(lambda v: v, lambda rng: np.zeros(3), 4)
