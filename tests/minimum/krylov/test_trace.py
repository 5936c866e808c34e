"""Traces and alignment: exact where the subspace is everything, unbiased in many repeats."""

import numpy as np
import pytest

from escapade.errors import InvalidArgument, NotConverged
from escapade.minimum.krylov import (
    estimate_alignment,
    largest_eigenpairs,
    orthonormal_basis,
    trace,
)
from escapade.minimum.krylov.estimate import jackknife, mean
from escapade.minimum.neighbourhood import Neighbourhood


def scores(estimates, exact):
    return np.array([(e.value - exact) / e.standard_error for e in estimates])


def assert_calibrated(scores):
    """Means and spreads of standardised errors: within 4 standard errors of 0 and 1."""
    n = len(scores)
    assert abs(scores.mean()) < 4 / np.sqrt(n)
    # 30 probes: Student's t has variance 29 / 27, and the spread of n scores is 1 / sqrt(2 n).
    assert abs(scores.std() - np.sqrt(29 / 27)) < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize("kind", ["plain", "sketch", "eigenpairs", "rough eigenpairs"])
def test_trace_is_unbiased_and_its_error_right(valley, kind):
    hessian, _ = valley
    options = {}
    if kind == "sketch":
        options = {"sketch": 5}
    elif kind != "plain":
        tolerance = 1e-6 if kind == "eigenpairs" else 0.3
        pairs = largest_eigenpairs(lambda v: hessian @ v, 120, 3, tolerance=tolerance)
        options = {"eigenpairs": pairs}
    estimates = [
        trace(lambda v: hessian @ v, 120, tolerance=1e-9, max_probes=30, seed=s, **options)
        for s in range(200)
    ]
    assert_calibrated(scores(estimates, np.trace(hessian)))


def test_known_eigenpairs_and_sketches_cut_the_error(matrix_with):
    matrix = matrix_with(np.concatenate([[100.0, 60.0, 30.0], np.full(197, 0.1)]))[0]
    pairs = largest_eigenpairs(lambda v: matrix @ v, 200, 3, tolerance=1e-8)
    plain = trace(lambda v: matrix @ v, 200, max_probes=20, tolerance=1e-9)
    known = trace(lambda v: matrix @ v, 200, max_probes=20, tolerance=1e-9, eigenpairs=pairs)
    sketched = trace(lambda v: matrix @ v, 200, max_probes=20, tolerance=1e-9, sketch=6)
    # What is left is a multiple of the identity, which random signs see almost exactly.
    assert known.standard_error < 1e-2 * plain.standard_error
    assert sketched.standard_error < 1e-1 * plain.standard_error
    assert known.products == 20
    assert sketched.products == 32
    assert known.value == pytest.approx(209.7, rel=1e-3)


def test_exact_on_the_whole_space(valley):
    hessian, _ = valley
    whole = trace(lambda v: hessian @ v, 120, sketch=120)
    assert whole.value == pytest.approx(np.trace(hessian), rel=1e-10)
    assert (whole.standard_error, whole.probes, whole.converged) == (0.0, 0, True)
    # Random signs see the diagonal of a diagonal matrix exactly.
    diagonal = trace(lambda v: np.arange(7.0) * v, 7)
    assert diagonal.value == pytest.approx(21, rel=1e-12)


def test_stops_at_its_tolerance(valley, counted):
    hessian, _ = valley
    product = counted(hessian)
    loose = trace(product, 120, tolerance=0.05, max_probes=1000)
    assert loose.converged
    assert loose.standard_error <= 0.05 * loose.value
    assert loose.products == product.calls == loose.probes
    tight = trace(product, 120, tolerance=0.01, max_probes=1000)
    assert tight.converged
    assert tight.probes > loose.probes
    cut = trace(product, 120, tolerance=0.001, max_products=20)
    assert not cut.converged
    assert cut.products == 20
    with pytest.raises(NotConverged, match="trace"):
        trace(product, 120, max_products=1)


def test_jackknife_of_a_ratio():
    """Against the delta method, to the order both are right."""
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, size=4000)
    y = 2 * x + rng.normal(0, 0.5, size=4000)
    value, error = jackknife(np.stack([y, x], 1), lambda m: m[..., :1] / m[..., 1:])
    ratio = y.mean() / x.mean()
    assert value[0] == pytest.approx(ratio, rel=1e-12)
    delta = np.std(y - ratio * x, ddof=1) / x.mean() / np.sqrt(4000)
    assert error[0] == pytest.approx(delta, rel=1e-2)


FIGURES = ("hessian_trace", "noise_trace", "inner_product", "c", "cosine", "relative_residual")


def exact_figures(hessian, covariance):
    dense = Neighbourhood(hessian, covariance).alignment
    return {
        "hessian_trace": np.trace(hessian),
        "noise_trace": np.trace(covariance),
        "hessian_size": np.linalg.norm(hessian),
        "noise_size": np.linalg.norm(covariance),
        "inner_product": np.sum(hessian * covariance),
        "c": dense.c,
        "cosine": dense.cosine,
        "relative_residual": dense.relative_residual,
    }


def test_alignment_against_dense(valley):
    hessian, covariance = valley
    exact = exact_figures(hessian, covariance)
    basis = orthonormal_basis(
        largest_eigenpairs(lambda v: hessian @ v, 120, 3).vectors,
        largest_eigenpairs(lambda v: covariance @ v, 120, 3).vectors,
    )
    products = (lambda v: hessian @ v), (lambda v: covariance @ v)
    for options in ({}, {"basis": basis}):
        repeats = [
            estimate_alignment(*products, 120, tolerance=1e-9, max_probes=30, seed=s, **options)
            for s in range(60)
        ]
        for name in FIGURES:
            estimates = [getattr(r, name) for r in repeats]
            values = np.array([e.value for e in estimates])
            errors = np.array([e.standard_error for e in estimates])
            # Ratios are biased by O(1 / probes), less than half of one estimate's error.
            assert abs(values.mean() - exact[name]) < 0.5 * values.std()
            # The jackknife's errors, against the spread of 60 repeats (known to 9 %).
            assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.36)


def test_alignment_is_exact_on_the_whole_space(valley):
    hessian, covariance = valley
    whole = estimate_alignment(
        lambda v: hessian @ v, lambda v: covariance @ v, 120, basis=np.eye(120)
    )
    for name, value in exact_figures(hessian, covariance).items():
        estimate = getattr(whole, name)
        assert estimate.value == pytest.approx(value, rel=1e-10)
        assert estimate.standard_error == 0
        assert estimate.converged


def test_alignment_of_a_network(network):
    expansion, hessian, covariance, _ = network
    basis = orthonormal_basis(
        largest_eigenpairs(expansion.hessian_product, len(hessian), 8, tolerance=1e-2).vectors,
        largest_eigenpairs(expansion.noise_product, len(hessian), 8, tolerance=1e-2).vectors,
    )
    found = estimate_alignment(
        expansion.hessian_product, expansion.noise_product, len(hessian), basis=basis
    )
    for name, value in {
        "hessian_trace": np.trace(hessian),
        "noise_trace": np.trace(covariance),
        "c": np.sum(hessian * covariance) / np.sum(hessian**2),
        "cosine": np.sum(hessian * covariance)
        / np.linalg.norm(hessian)
        / np.linalg.norm(covariance),
    }.items():
        estimate = getattr(found, name)
        assert abs(estimate.value - value) < 4 * estimate.standard_error
        assert estimate.standard_error < 0.05 * abs(value)


def test_bad_input():
    with pytest.raises(InvalidArgument, match="orthonormal"):
        estimate_alignment(lambda v: v, lambda v: v, 5, basis=np.ones((5, 2)))
    with pytest.raises(InvalidArgument, match="max_probes"):
        trace(lambda v: v, 5, max_probes=1)
    with pytest.raises(InvalidArgument, match="tolerance"):
        trace(lambda v: v, 5, tolerance=-1.0)


def test_samples_near_the_largest_number_have_an_infinite_error():
    found = mean(np.array([1e300, 2e300]), 2)
    assert found.value == pytest.approx(1.5e300)
    assert found.standard_error == np.inf
