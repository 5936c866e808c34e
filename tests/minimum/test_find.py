"""Minima found, and points that are none refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from escapade.data import Dataset, avila
from escapade.dynamics import MinibatchSGD
from escapade.errors import Diverged, InvalidArgument, NotAMinimum
from escapade.escape import Escape
from escapade.landscape import (
    MLP,
    DoubleWell,
    Drift,
    Empirical,
    Function,
    MaierStein,
    MuellerBrown,
    Quadratic,
    StyblinskiTang,
    logistic_regression,
    network_landscape,
)
from escapade.minimum import find_minimum, neighbourhood, train
from escapade.region import Ball


def drawn(examples=40, features=3, classes=2, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((examples, features))
    labels = (inputs[:, 0] + generator.standard_normal(examples) > 0).astype(int)
    return Dataset("random", inputs, labels, classes, "none", "drawn here")


@pytest.mark.parametrize(
    ("near", "expected"), [([-0.3], -1.0), ([0.01], 1.0), ([3.0], 1.0), ([-1.0], -1.0)]
)
def test_double_well(near, expected):
    minimum = find_minimum(DoubleWell(), near)
    assert minimum.theta == pytest.approx(expected, abs=1e-15)
    assert minimum.loss == pytest.approx(-0.25, abs=1e-15)
    assert minimum.jacobian == pytest.approx(2.0)
    assert minimum.flat_directions == 0


def test_mueller_brown():
    landscape = MuellerBrown()
    starts = {0: [-0.7, 1.5], 1: [0.5, 0.1], 2: [-0.1, 0.5]}
    energies = (-146.69951721, -108.16672412, -80.76781813)
    for which, near in starts.items():
        minimum = find_minimum(landscape, near)
        np.testing.assert_allclose(minimum.theta, landscape.minima[which], atol=1e-12)
        assert minimum.loss == pytest.approx(energies[which], abs=1e-7)
        assert minimum.gradient_norm < 1e-10
        assert np.linalg.eigvalsh(minimum.jacobian).min() > 200


def test_shallow_minimum_of_styblinski_tang():
    minimum = find_minimum(StyblinskiTang(2), [2.0, -2.0])
    np.testing.assert_allclose(minimum.theta, [2.7468027709908376, -2.903534027771177], atol=1e-13)


def test_a_quadratic_of_condition_1e6():
    exact = np.arange(4.0)
    found = find_minimum(Quadratic([1e3, 1.0, 0.1, 1e-3], minimum=exact), near=np.ones(4))
    np.testing.assert_allclose(found.theta, exact, atol=1e-10)


def test_the_default_start():
    assert find_minimum(DoubleWell()).theta == -1.0
    with pytest.raises(InvalidArgument, match="near"):
        find_minimum(Function(lambda t: t @ t, 2))
    with pytest.raises(InvalidArgument, match="near"):
        find_minimum(DoubleWell(), [0.0, 0.0])


def test_the_attractor_of_a_drift():
    for near in ([0.98, 0.01], [0.9, 0.1], [0.5, 0.5]):
        minimum = find_minimum(MaierStein(10.0), near)
        np.testing.assert_allclose(minimum.theta, [1.0, 0.0], atol=1e-14)
        assert np.isnan(minimum.loss)
    with pytest.raises(NotAMinimum, match="saddle"):
        find_minimum(MaierStein(10.0), [0.0, 0.0])
    with pytest.raises((NotAMinimum, Diverged)):
        find_minimum(Drift(lambda t: jnp.exp(t), 1), [0.0])


@pytest.mark.parametrize(
    ("landscape", "near"),
    [
        (DoubleWell(), [0.0]),
        (Quadratic([1.0, -1.0]), [1.0, 0.0]),
        (Function(lambda t: jnp.sum(t**2) * 0.0, 2), [1.0, 0.0]),
        (Function(lambda t: jnp.sum(jnp.exp(-t)), 1), [0.0]),
        (Function(lambda t: jnp.sum(jnp.abs(t)) + t[0] / 2, 2), [1.0, 0.5]),
    ],
    ids=["maximum", "saddle", "constant", "at infinity", "kink"],
)
def test_what_is_no_minimum_is_refused(landscape, near):
    with pytest.raises(NotAMinimum):
        find_minimum(landscape, near)


def test_a_loss_that_is_nan_is_reported():
    with pytest.raises(Diverged, match="loss"):
        find_minimum(Function(lambda t: jnp.log(t[0]), 1), [-1.0])


def test_flat_directions_are_counted():
    minimum = find_minimum(Function(lambda t: (t[0] + t[1] - 1) ** 2 + t[2] ** 2, 3), np.zeros(3))
    assert minimum.flat_directions == 1
    assert "1 flat direction" in str(minimum)


def test_rectified_networks_end_at_a_true_minimum_or_say_so():
    network = MLP((3, 4, 2), "relu", key=0)
    landscape = network_landscape(network, drawn(), weight_decay=0.05)
    try:
        minimum = find_minimum(landscape)
    except NotAMinimum as error:
        message = str(error)
        assert "ReLU" in message or "saddle" in message
    else:
        # A true minimum: no small step in any of many directions lowers the loss.
        directions = np.random.default_rng(0).standard_normal((50, landscape.dim))
        for step in 1e-4 * directions:
            assert landscape.loss(minimum.theta + step) >= minimum.loss - 1e-15


def test_logistic_regression_is_the_one_of_scikit_learn():
    dataset, decay = drawn(), 0.02
    landscape = network_landscape(
        logistic_regression(3, 2, bias=False), dataset, weight_decay=decay
    )
    minimum = find_minimum(landscape)
    # Two scores with opposite weights: |theta|^2 = |w|^2 / 2 for the difference w of the two, so
    # decay / 2 |theta|^2 = decay / 4 |w|^2, against sklearn's |w|^2 / (2 C N).
    model = LogisticRegression(
        C=2 / (decay * dataset.examples), fit_intercept=False, tol=1e-12, max_iter=10_000
    ).fit(dataset.inputs, dataset.labels)
    weights = minimum.theta.reshape(2, 3)
    np.testing.assert_allclose(weights[1] - weights[0], model.coef_[0], atol=1e-7)
    np.testing.assert_allclose(weights[0], -weights[1], atol=1e-13)


def test_training_ends_at_a_minimum():
    landscape = network_landscape(MLP((3, 4, 2), key=0), drawn(), weight_decay=0.05)
    minimum = train(landscape, learning_rate=0.2, batch_size=5, steps=300, key=3)
    assert minimum.gradient_norm < 1e-12
    assert np.linalg.eigvalsh(minimum.jacobian).min() > 0
    assert minimum.loss < landscape.loss(landscape.initial)
    again = train(landscape, learning_rate=0.2, batch_size=5, steps=300, key=3)
    np.testing.assert_array_equal(again.theta, minimum.theta)


def test_training_that_diverges_says_so():
    data = np.array([1.0, 2.0])
    quartic = Empirical(lambda p, x: (p[0] - x) ** 4, np.full(1, 5.0), data)
    with pytest.raises(Diverged, match="learning_rate"):
        train(quartic, learning_rate=10.0, batch_size=1, steps=50)


def test_the_network_on_avila(avila_archive):
    # Values from an independent prototype, in another framework.
    landscape = network_landscape(MLP((10, 8, 2)), avila(avila_archive), weight_decay=1e-3)
    assert (landscape.dim, landscape.examples) == (96, 10430)
    minimum = find_minimum(landscape)
    assert minimum.loss == pytest.approx(0.616965, abs=5e-7)
    assert minimum.gradient_norm <= 1e-15
    assert minimum.flat_directions == 0
    spectrum = np.linalg.eigvalsh(minimum.jacobian)
    assert spectrum[0] == pytest.approx(4.32e-4, rel=2e-3)
    assert spectrum[-1] == pytest.approx(2.188, rel=1e-3)
    escape = Escape(landscape, MinibatchSGD(0.1, 8), Ball(0.5), minimum=minimum.theta)
    around = neighbourhood(escape)
    assert around.sharpness == pytest.approx(spectrum[-1], rel=1e-12)
    assert around.alignment.cosine == pytest.approx(0.9991, abs=5e-5)
    # One JAX state for all this: nothing was switched on.
    assert not jax.config.jax_enable_x64
