"""The local model of a network: what it must not depend on."""

import numpy as np
import pytest

import escapade as esc
from escapade.inspection.fluctuations import Fluctuations
from escapade.minimum.local_model import LocalModel, local_model


@pytest.fixture(scope="module")
def expansion():
    """Two classes with opposite weights: components of eigenvectors come in pairs +a, -a."""
    data = esc.data.breast_cancer()
    network = esc.landscapes.logistic_regression(30, 2, bias=False)
    landscape = esc.landscapes.network_landscape(network, data, weight_decay=1e-2)
    return landscape.expand(landscape.initial)


def test_the_basis_has_one_sign_however_its_span_is_given(expansion):
    values, vectors = np.linalg.eigh([expansion.hessian_product(row) for row in np.eye(60)])
    top = vectors[:, :-7:-1]
    np.testing.assert_allclose(top[:30], -top[30:], atol=1e-10)
    plain = local_model(expansion, top)
    np.testing.assert_allclose(plain.curvatures, values[:-7:-1], rtol=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(5):
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        other = local_model(expansion, top @ turn)
        np.testing.assert_allclose(other.basis, plain.basis, atol=1e-8)
        np.testing.assert_allclose(other.slopes, plain.slopes, atol=1e-8)


def test_fluctuations_are_those_of_the_network_not_of_a_basis(expansion):
    """Weight decay alone curves half of the directions: which eigenvectors are found is chance."""
    model = local_model(expansion, np.eye(60))
    plain = Fluctuations(expansion, model, 0.1, 8).draw(100, 4)
    rng = np.random.default_rng(1)
    turn = np.diag(rng.choice([-1.0, 1.0], 60))
    flat = np.abs(model.curvatures - 1e-2) < 1e-9
    assert flat.sum() >= 30
    turn[np.ix_(flat, flat)] = np.linalg.qr(rng.normal(size=(flat.sum(), flat.sum())))[0]
    turned = LocalModel(
        model.basis @ turn, model.curvatures, model.residuals, model.slopes @ turn, None, 60
    )
    other = Fluctuations(expansion, turned, 0.1, 8).draw(100, 4)
    np.testing.assert_allclose(other, plain, atol=1e-9 * np.abs(plain).max())
    # And of the right spread: that of the chain, step by step.
    covariance = turned.basis @ turned.covariance @ turned.basis.T
    hessian = model.basis @ np.diag(model.curvatures) @ model.basis.T
    spread = np.zeros((60, 60))
    for _ in range(100):
        step = np.eye(60) - 0.1 * hessian
        spread = step @ spread @ step.T + 0.1**2 / 8 * covariance
    many = Fluctuations(expansion, model, 0.1, 8).draw(100, 20_000)
    error = np.linalg.norm(np.cov(many.T) - spread) / np.linalg.norm(spread)
    assert error < 5 * np.trace(spread) / np.linalg.norm(spread) / np.sqrt(20_000)
