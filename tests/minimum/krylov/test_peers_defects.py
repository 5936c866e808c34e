"""What goes wrong elsewhere: defects and complaints of curvature packages, as tests of this one.

Each test names the package where it was met. Elsewhere in the tests: batches of unequal size,
building twice and training mode (landscape/torch), the largest against the largest in magnitude and
budgets (test_eigenpairs.py), densities (test_density.py).
"""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import escapade as esc  # noqa: E402
from escapade.errors import InvalidArgument, NotConverged  # noqa: E402
from escapade.minimum.krylov import (  # noqa: E402
    extreme_eigenpairs,
    largest_eigenpairs,
    trace,
)

GENERATOR = np.random.default_rng(5)
ROWS, LABELS = GENERATOR.standard_normal((60, 6)), GENERATOR.integers(0, 3, 60)


def network(*before, activation=nn.Tanh):
    torch.manual_seed(2)
    layers = nn.Sequential(nn.Linear(6, 8), *before, activation(), nn.Linear(8, 3))
    return layers.eval()


def landscape(model=None, data=(ROWS, LABELS), weight_decay=0.0):
    model = network() if model is None else model
    return esc.landscapes.network_landscape(model, data, weight_decay=weight_decay)


def dense(product, dim):
    return np.stack([product(row) for row in np.eye(dim)])


def trace_of(case):
    around = case.expand(case.initial)
    return trace(around.hessian_product, around.dim, seed=1).value


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_left_in_the_module_change_nothing():
    """PyHessian: the trace doubled when the object was built again on gradients left behind."""
    model = network()
    clean = trace_of(landscape(model))
    nn.functional.cross_entropy(model(torch.tensor(ROWS).float()), torch.tensor(LABELS)).backward(
        create_graph=True
    )
    assert trace_of(landscape(model)) == clean
    assert trace_of(landscape(model)) == clean
    model.zero_grad()


def test_no_verb_touches_the_module():
    """hessian-eigenthings: parameters moved in place, and running statistics drifted."""
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[0].weight.grad = torch.ones(8, 6)
    before = copy.deepcopy(model.state_dict())
    case = landscape(model, weight_decay=0.05)
    minimum = esc.find_minimum(case)
    region = esc.Sublevel(0.05)
    escape = esc.Escape(case, esc.MinibatchSGD(0.1, 8), region, minimum=minimum.theta)
    esc.simulate(escape, 4, 50, key=0)
    around = case.expand(minimum.theta)
    extreme_eigenpairs(around.hessian_product, around.dim, 2, 1)
    around.noise_product(around.gradient)
    monitor = esc.Monitor(case, learning_rate=0.1, batch_size=8, every=1)
    monitor.step(model)
    monitor.close()
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones(8, 6))
    assert model[0].bias.grad is None
    assert all(value.requires_grad for value in model.parameters())


def test_the_order_of_the_examples_does_not_matter():
    """hessian-eigenthings #17, PyHessian #5: other numbers whenever the loader shuffles."""
    order = np.random.default_rng(0).permutation(60)
    one, other = landscape(), landscape(data=(ROWS[order], LABELS[order]))
    vector = np.random.default_rng(1).standard_normal(one.dim)
    for name in ("hessian_product", "noise_product"):
        first, second = (getattr(case.expand(case.initial), name)(vector) for case in (one, other))
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-14)


def test_seeds_agree_within_the_stated_error():
    """PyHessian #5: sharpness between 159 and 1587 in ten runs."""
    around = landscape().expand(landscape().initial)
    exact = np.linalg.eigvalsh(dense(around.hessian_product, around.dim))[::-1]
    for seed in range(5):
        found = largest_eigenpairs(around.hessian_product, around.dim, 3, tolerance=1e-3, seed=seed)
        assert found.converged
        assert np.all(np.abs(found.values - exact[:3]) <= found.residuals)


def test_negative_curvature_is_found():
    """Power iteration (PyHessian) finds the largest magnitude, of whatever sign."""
    case = landscape(blind_to_its_inputs())
    around = case.expand(case.initial)
    spectrum = np.linalg.eigvalsh(dense(around.hessian_product, around.dim))
    assert spectrum[0] < 0
    found = extreme_eigenpairs(around.hessian_product, around.dim, 1, 1, tolerance=1e-8)
    assert found.largest.values[0] == pytest.approx(spectrum[-1], rel=1e-8)
    assert found.lowest.values[0] == pytest.approx(spectrum[0], rel=1e-6)


def blind_to_its_inputs():
    """The read-out vanishes, so the loss curves both ways in the two layers' weights."""
    model = network()
    with torch.no_grad():
        model[2].weight.zero_()
    return model


def test_too_few_products_raise_or_say_so():
    """hessian-eigenthings returns 0.51 for a sharpness of 1 after two products, without a word."""
    around = landscape().expand(landscape().initial)
    exact = np.linalg.eigvalsh(dense(around.hessian_product, around.dim))[-1]
    found = largest_eigenpairs(around.hessian_product, around.dim, tolerance=1e-6, max_products=3)
    assert not found.converged
    assert abs(found.values[0] - exact) <= exact
    assert found.residuals[0] > 1e-6 * exact
    with pytest.raises(NotConverged, match=r"max_products"):
        largest_eigenpairs(around.hessian_product, around.dim, 4, max_products=3)


def test_single_precision_on_kinks_is_exact():
    """hessian-eigenthings: finite differences in single precision were 5 to 130 % wrong (ReLU)."""
    case = landscape(network(activation=nn.ReLU))
    vector = np.random.default_rng(3).standard_normal(case.dim)
    double = case.expand(case.initial).hessian_product(vector)
    single = case.expand(case.initial, precision="float32").hessian_product(vector)
    assert np.linalg.norm(single - double) < 1e-5 * np.linalg.norm(double)


def test_the_covariance_is_centred():
    """curvlinops #17 has the uncentred one; away from a minimum they differ by g g^T."""
    case = landscape(weight_decay=0.1)
    around = case.expand(case.initial)
    each = np.asarray(case.example_gradients(case.initial))
    mean = each.mean(axis=0)
    assert np.linalg.norm(mean) > 0.1
    covariance = dense(around.noise_product, around.dim)
    uncentred = each.T @ each / len(each)
    np.testing.assert_allclose(covariance, uncentred - np.outer(mean, mean), atol=1e-12)


def test_weight_decay_is_in_the_hessian_and_not_in_the_noise():
    """PyHessian, pull request 24: left out."""
    plain, decayed = (
        case.expand(case.initial) for case in (landscape(), landscape(weight_decay=0.3))
    )
    vector = np.random.default_rng(4).standard_normal(plain.dim)
    moved = decayed.hessian_product(vector) - plain.hessian_product(vector)
    np.testing.assert_allclose(moved, 0.3 * vector, atol=1e-12)
    np.testing.assert_allclose(
        decayed.noise_product(vector), plain.noise_product(vector), atol=1e-12
    )


def test_what_does_not_fit_the_memory_is_said_before():
    """Laplace #69, #81: killed without a word. Here a Hessian of 36 billion numbers is refused."""
    wide = nn.Sequential(nn.Linear(6, 19_000), nn.Tanh(), nn.Linear(19_000, 3)).eval()
    case = landscape(wide, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"190,003 parameters.*289 GB.*escapade\.inspect"):
        esc.find_minimum(case)
