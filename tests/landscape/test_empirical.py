"""Losses over examples, compared with a NumPy network written here."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapade.data import Dataset
from escapade.errors import InvalidArgument
from escapade.landscape import (
    MLP,
    ConvolutionalNetwork,
    Empirical,
    logistic_regression,
    network_landscape,
    rescale,
)
from escapade.landscape.descent import jacobian

EXAMPLES, FEATURES, CLASSES = 12, 5, 3
WEIGHT_DECAY = 0.03


def make_dataset(features=FEATURES):
    generator = np.random.default_rng(3)
    return Dataset(
        "random",
        generator.standard_normal((EXAMPLES, features)),
        generator.integers(0, CLASSES, EXAMPLES),
        CLASSES,
        "none",
        "drawn here",
    )


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


@pytest.fixture(scope="module", params=["cross_entropy", "square"])
def landscape(request, dataset):
    network = MLP((FEATURES, 4, CLASSES), "tanh", key=1)
    return network_landscape(network, dataset, WEIGHT_DECAY, request.param)


@pytest.fixture(scope="module")
def theta(landscape):
    return np.random.default_rng(0).standard_normal(landscape.dim)


def numpy_example_losses(theta, dataset, loss):
    """The network in NumPy: first layer (4, features), then (classes, 4), rows first."""
    first, second = np.split(theta, [4 * FEATURES])
    hidden = np.tanh(dataset.inputs @ first.reshape(4, FEATURES).T)
    scores = hidden @ second.reshape(CLASSES, 4).T
    if loss == "cross_entropy":
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances = exponentials / exponentials.sum(axis=1, keepdims=True)
        each = -np.log(chances[np.arange(EXAMPLES), dataset.labels])
    else:
        each = 0.5 * ((scores - np.eye(CLASSES)[dataset.labels]) ** 2).sum(axis=1)
    return each + 0.5 * WEIGHT_DECAY * theta @ theta


def name_of(landscape):
    return landscape.example_loss.loss.__name__


def test_losses_agree_with_numpy_to_rounding(landscape, dataset, theta):
    expected = numpy_example_losses(theta, dataset, name_of(landscape))
    losses = landscape.example_losses(theta)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, expected, rtol=1e-13)
    assert landscape.loss(theta) == pytest.approx(expected.mean(), rel=1e-13)
    np.testing.assert_allclose(
        landscape.example_losses(theta, np.array([7, 0, 7])), expected[[7, 0, 7]], rtol=1e-13
    )


def test_gradients_agree_with_finite_differences(landscape, dataset, theta):
    steps = 1e-5 * np.eye(theta.size)
    kind = name_of(landscape)
    expected = (
        np.stack(
            [
                numpy_example_losses(theta + h, dataset, kind)
                - numpy_example_losses(theta - h, dataset, kind)
                for h in steps
            ],
            axis=1,
        )
        / 2e-5
    )
    gradients = landscape.example_gradients(theta)
    assert (gradients.dtype, gradients.shape) == (np.float64, (EXAMPLES, theta.size))
    np.testing.assert_allclose(gradients, expected, atol=1e-8)
    np.testing.assert_allclose(landscape.gradient(theta), gradients.mean(axis=0), atol=1e-15)
    batch = np.array([3, 3, 8])
    np.testing.assert_allclose(
        landscape.batch_gradient(theta, batch), gradients[batch].mean(axis=0), atol=1e-15
    )


def test_weight_decay_moves_every_example_alike(landscape, theta):
    # With and without weight decay the centred gradients, hence the noise, are the same.
    bare = eqx.tree_at(lambda tree: tree.weight_decay, landscape, 0.0)
    difference = landscape.example_gradients(theta) - bare.example_gradients(theta)
    np.testing.assert_allclose(difference, np.tile(WEIGHT_DECAY * theta, (EXAMPLES, 1)), atol=1e-14)


def test_single_precision_in_single_precision_out(landscape, theta):
    point = jnp.asarray(theta)
    assert point.dtype == jnp.float32
    value, gradient = jax.jit(lambda t: (landscape.loss(t), landscape.gradient(t)))(point)
    assert value.dtype == gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, landscape.gradient(theta), atol=1e-5)


def test_order_of_the_parameters_is_recorded(landscape):
    assert landscape.dim == 4 * FEATURES + CLASSES * 4
    assert landscape.parameter_names == [
        f"layers[0].weight (4, {FEATURES})",
        f"layers[1].weight ({CLASSES}, 4)",
    ]


def test_model_round_trip(landscape, theta):
    model = landscape.model(theta)
    leaves = [leaf for leaf in jax.tree.leaves(model) if eqx.is_array(leaf)]
    # float64 in, float64 out, without any setting.
    np.testing.assert_array_equal(np.concatenate([np.ravel(leaf) for leaf in leaves]), theta)
    assert model.layers[0].weight.shape == (4, FEATURES)
    assert model.activation == "tanh"
    rebuilt = landscape.model(landscape.initial)
    for before, after in zip(
        jax.tree.leaves(landscape.parameters), jax.tree.leaves(rebuilt), strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_minima_are_recorded_not_changed(landscape, theta):
    assert landscape.minima.shape == (0, landscape.dim)
    known = landscape.at_minimum(theta).at_minimum(2 * theta)
    np.testing.assert_array_equal(known.minima, [theta, 2 * theta])
    assert landscape.minima.shape == (0, landscape.dim)


def test_rescaling_is_an_exact_identity(landscape, theta):
    alpha = 4.0
    sharper = rescale(landscape.at_minimum(theta), alpha)
    assert sharper.loss(theta) == pytest.approx(landscape.loss(2 * theta), rel=1e-15)
    np.testing.assert_allclose(sharper.minima, [theta / 2])
    np.testing.assert_allclose(sharper.initial, landscape.initial / 2)
    np.testing.assert_allclose(
        sharper.example_gradients(theta / 2), 2 * landscape.example_gradients(theta), atol=1e-14
    )
    hessian = jacobian(landscape, theta)
    np.testing.assert_allclose(jacobian(sharper, theta / 2), alpha * hessian, atol=1e-13)
    twice = rescale(sharper, alpha)
    assert twice.loss(theta / 4) == pytest.approx(landscape.loss(theta), rel=1e-15)


def test_any_pytree_of_parameters_and_data():
    def example_loss(parameters, example):
        error = parameters["slope"] @ example["x"] + parameters["shift"] - example["y"]
        return 0.5 * error**2

    generator = np.random.default_rng(1)
    x, y = generator.standard_normal((7, 2)), generator.standard_normal(7)
    parameters = {"slope": np.zeros(2), "shift": np.zeros(()), "frozen": np.arange(3)}
    landscape = Empirical(example_loss, parameters, {"x": x, "y": y})
    assert (landscape.dim, landscape.examples, landscape.example_size) == (3, 7, 3)
    assert landscape.parameter_names == ["shift ()", "slope (2,)"]
    theta = np.array([0.5, -1.0, 2.0])
    errors = x @ theta[1:] + theta[0] - y
    assert landscape.loss(theta) == pytest.approx(0.5 * np.mean(errors**2), rel=1e-14)
    np.testing.assert_array_equal(landscape.model(theta)["frozen"], [0, 1, 2])


@pytest.mark.parametrize(
    ("network", "features"),
    [
        (logistic_regression(4, CLASSES), 4),
        (MLP((4, 3, CLASSES), "softplus", bias=True), 4),
        (ConvolutionalNetwork((1, 6, 6), CLASSES, channels=(2, 3)), 36),
    ],
    ids=["logistic regression", "MLP with bias", "convolutional"],
)
def test_networks_have_the_right_gradient(network, features):
    landscape = network_landscape(network, make_dataset(features), 0.01)
    theta = landscape.initial + 0.1
    direction = np.random.default_rng(2).standard_normal(landscape.dim)
    step = 1e-5 * direction
    slope = (landscape.loss(theta + step) - landscape.loss(theta - step)) / 2e-5
    assert landscape.gradient(theta) @ direction == pytest.approx(slope, rel=1e-7)


def test_logistic_regression_is_softmax_regression(dataset):
    landscape = network_landscape(logistic_regression(FEATURES, CLASSES), dataset, 0.0)
    theta = np.random.default_rng(4).standard_normal(landscape.dim)
    assert landscape.parameter_names == [
        f"layers[0].weight ({CLASSES}, {FEATURES})",
        f"layers[0].bias ({CLASSES},)",
    ]
    weight = theta[: CLASSES * FEATURES].reshape(CLASSES, FEATURES)
    scores = dataset.inputs @ weight.T + theta[CLASSES * FEATURES :]
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(EXAMPLES), dataset.labels]
    np.testing.assert_allclose(landscape.example_losses(theta), losses, rtol=1e-12)


def linear(parameters, x):
    return parameters[0] * x


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: Empirical(linear, np.ones(1), np.ones(0)), "data"),
        (lambda: Empirical(linear, np.ones(1), None), "data"),
        (lambda: Empirical(linear, np.ones(1), 3.0), "data"),
        (lambda: Empirical(linear, np.ones(1), (np.ones(3), np.ones(4))), "data"),
        (lambda: Empirical(linear, np.ones(1), np.array([1.0, np.nan, np.inf])), "2 values"),
        (lambda: Empirical(lambda p, x: x, np.arange(3), np.ones(2)), "parameters"),
        (lambda: Empirical(linear, np.ones(1) * 1j, np.ones(2)), "parameters"),
        (lambda: Empirical(lambda p, x: p * x, np.ones(2), np.ones(3)), "example_loss"),
        (lambda: Empirical(lambda p, x: p[0] @ x, np.ones(2), np.ones(3)), "example_loss"),
        (lambda: Empirical(linear, np.ones(1), np.ones(2), weight_decay=-1.0), "weight_decay"),
        (lambda: Empirical(linear, np.ones(1), np.ones(2), weight_decay=np.nan), "weight_decay"),
        (lambda: Empirical(linear, np.ones(1), np.ones(2), scale=0.0), "scale"),
        (lambda: Empirical(linear, np.ones(1), np.ones(2), minima=[0.0, 0.0]), "minima"),
        (lambda: Empirical(linear, np.ones(1), np.ones(2)).loss(np.zeros(2)), "theta"),
        (lambda: MLP((5,)), "widths"),
        (lambda: MLP((5, 0, 2)), "widths"),
        (lambda: MLP((5, 2), "cubic"), "activation"),
        (lambda: ConvolutionalNetwork((1, 4, 4), 2, activation="cubic"), "activation"),
        (lambda: network_landscape(MLP((5, 3)), make_dataset(), loss="hinge"), "loss"),
        (lambda: network_landscape(MLP((4, 3)), make_dataset()), "5 features"),
        (lambda: network_landscape(MLP((5, 2)), make_dataset()), "3 classes"),
    ],
)
def test_bad_arguments_are_named(build, argument):
    with pytest.raises(InvalidArgument, match=argument):
        build()


def test_sizes_are_found_once_however_many_points_are_expanded_around(monkeypatch):
    found = []

    def counted(function, *arguments):
        found.append(function)
        return evaluate(function, *arguments)

    evaluate = eqx.filter_eval_shape
    monkeypatch.setattr(eqx, "filter_eval_shape", counted)

    def example_loss(parameters, example):
        return jnp.sum(jnp.tanh(parameters) * example) ** 2

    data = np.random.default_rng(0).normal(size=(50, 3))
    landscape = Empirical(example_loss, np.ones(3), data)
    found.clear()
    landscape.expand(np.ones(3), memory=1e4)
    before = len(found)
    assert before > 0
    again = landscape.at_minimum(np.zeros(3)).expand(np.full(3, 0.3), memory=1e4)
    assert len(found) == before
    np.testing.assert_allclose(again.example_losses, (np.tanh(0.3) * data.sum(axis=1)) ** 2)
    # In another precision, and of other shapes, as much is kept as there.
    landscape.expand(np.ones(3), precision="float32", memory=1e4)
    assert len(found) > before
    other = Empirical(example_loss, np.ones(4), np.ones((50, 4)))
    found.clear()
    other.expand(np.ones(4), memory=1e4)
    assert found
