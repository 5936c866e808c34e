"""The door `network_landscape`: what it takes apart, what it refuses, and what it says then."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from landscape.providers.jax_twins import nnx_network, normalised_in_training
from landscape.providers.twins import TWINS

from escapade.errors import Diverged, InvalidArgument
from escapade.landscape import MLP, Empirical, network_landscape
from escapade.landscape.convolutions import convolves
from escapade.landscape.selection import chosen

ROWS, LABELS = TWINS["mlp"].inputs, TWINS["mlp"].targets
DATA = (ROWS, LABELS)
NAMES = ["layers[0].weight", "layers[0].bias", "layers[10].weight", "head.weight"]


def linear(parameters, x):
    return parameters["w"] @ x


WEIGHTS = {"w": np.arange(9.0).reshape(3, 3) / 10}


def test_optional_packages_are_not_imported():
    code = "import sys, escapade; print({'torch', 'flax', 'optax'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (None, [1, 1, 1, 1]),
        ("head", [0, 0, 0, 1]),
        ("layers[0]", [1, 1, 0, 0]),
        ("layers[?].*", [1, 1, 0, 0]),
        ("*.weight", [1, 0, 1, 1]),
        (("head", "*.bias"), [0, 1, 0, 1]),
        (lambda name: "10" in name, [0, 0, 1, 0]),
    ],
)
def test_parameters_are_chosen_by_name(only, expected):
    assert chosen(NAMES, only) == [bool(moves) for moves in expected]


@pytest.mark.parametrize("only", ["lay", ["head", "tail"], lambda name: False])
def test_a_choice_of_nothing_is_refused(only):
    with pytest.raises(InvalidArgument, match=r"only.*head\.weight"):
        chosen(NAMES, only)


def test_frozen_parameters_are_arguments_of_compiled_code():
    # Constants inside it would be folded by the compiler: minutes for a large backbone.
    landscape = network_landscape(MLP((3, 4, 3), bias=True, key=0), DATA, only="layers[1]")
    shapes = [leaf.shape for leaf in jax.tree.leaves(eqx.filter(landscape.frozen, eqx.is_array))]
    assert shapes == [(4, 3), (4,)]
    assert landscape.dim == 15
    jaxpr = eqx.filter_make_jaxpr(lambda tree, at: tree._loss(at))(landscape, jnp.ones(15))[0]
    assert not [constant for constant in jaxpr.consts if np.size(constant) > 1]


def test_loss_and_inputs_can_be_anything():
    def apply(parameters, inputs):
        return {"scores": parameters["w"] @ inputs["x"] + inputs["shift"]}

    def loss(outputs, target):
        return jnp.sum((outputs["scores"] - target["y"]) ** 2)

    generator = np.random.default_rng(0)
    x, shift, y = generator.standard_normal((3, 5, 3))
    data = ({"x": x, "shift": shift}, {"y": y})
    landscape = network_landscape(apply, data, 0.5, loss, parameters=WEIGHTS)
    errors = x @ WEIGHTS["w"].T + shift - y
    expected = (errors**2).sum(axis=1) + 0.25 * (WEIGHTS["w"] ** 2).sum()
    np.testing.assert_allclose(landscape.example_losses(landscape.initial), expected, rtol=1e-13)
    assert landscape.parameter_names == ["w (3, 3)"]


def test_sequences_are_averaged_over_positions():
    tokens = np.random.default_rng(1).integers(0, 3, (4, 6))
    landscape = network_landscape(
        lambda table, row: table[row], (tokens, tokens[:, ::-1]), 0.0, parameters=WEIGHTS["w"]
    )
    scores = WEIGHTS["w"][tokens]
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logs, tokens[:, ::-1, None], axis=-1)[..., 0].mean(axis=1)
    np.testing.assert_allclose(landscape.example_losses(landscape.initial), expected, rtol=1e-13)


def test_a_network_of_batches():
    def apply(parameters, rows):
        assert rows.ndim == 2
        return rows @ parameters["w"].T

    one, other = (
        network_landscape(function, DATA, parameters=WEIGHTS, **options)
        for function, options in ((linear, {}), (apply, {"batched": True}))
    )
    theta = one.initial
    np.testing.assert_allclose(one.example_losses(theta), other.example_losses(theta), rtol=1e-14)


def test_single_precision_data_and_weights_are_evaluated_in_double():
    # `lax.mul` refuses arrays of two precisions: data and frozen weights follow theta.
    def stretched(weights, x):
        return jax.lax.mul(x, weights["frozen"]) + weights["w"]

    weights = {"frozen": np.float32([0.5, 0.25, 1]), "w": np.float32(0.1)}
    rows = ROWS.astype(np.float32)
    data = (rows, np.zeros_like(rows))
    landscape = network_landscape(stretched, data, 0.0, "square", parameters=weights, only="w")
    exact = rows.astype(np.float64) * weights["frozen"] + 0.2
    expected = 0.5 * np.mean(np.sum(exact**2, axis=1))
    assert landscape.loss(np.array([0.2])) == pytest.approx(expected, rel=1e-14)
    assert landscape.expand([0.2]).loss == pytest.approx(expected, rel=1e-14)


def test_a_network_that_insists_on_single_precision_is_told():
    with pytest.warns(UserWarning, match="float32"):
        network_landscape(
            lambda w, x: jnp.float32(w["w"]) @ jnp.float32(x), DATA, parameters=WEIGHTS
        )


def test_convolutions_are_found():
    def convolved(x):
        return jax.jit(lambda y: jax.lax.conv(y[None, None], y[None, None], (1,), "SAME"))(x)

    assert convolves(convolved, ROWS)
    assert not convolves(lambda x: jnp.tanh(x @ x), ROWS)


def test_examples_without_finite_gradient_are_named():
    rows = ROWS.copy()
    rows[[2, 5]] = 0.0
    landscape = Empirical(lambda w, x: jnp.sqrt(jnp.sum((w * x) ** 2)), np.ones(3), rows)
    with pytest.raises(Diverged, match=r"gradient is NaN.*examples 2, 5 \("):
        landscape.expand(np.ones(3))
    rows = np.zeros((9, 3))
    rows[[1, 6]] = 400.0
    overflowing = Empirical(lambda w, x: jnp.exp(jnp.sum(w * x)), np.ones(3), rows)
    with pytest.raises(Diverged, match=r"loss is NaN.*examples 1, 6 \("):
        overflowing.expand(np.ones(3))


def equinox_in_training():
    return normalised_in_training(TWINS["batch_norm"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: network_landscape(equinox_in_training(), DATA), "inference_mode"),
        (
            lambda: network_landscape(eqx.nn.inference_mode(equinox_in_training()[0]), DATA),
            r"\(network, state\)",
        ),
        (lambda: network_landscape(linear, DATA), "parameters="),
        (lambda: network_landscape("resnet", DATA), "network is a str"),
        (lambda: network_landscape(MLP((3, 3)), DATA, parameters=WEIGHTS), "parameters"),
        (lambda: network_landscape(MLP((3, 3)), DATA, max_examples=3), "max_examples.*batched"),
        (lambda: network_landscape(MLP((3, 3)), DATA, only="head"), r"only.*layers\[0\]\.weight"),
        (lambda: network_landscape(MLP((3, 3)), DATA, loss="hinge"), "loss is 'hinge'"),
        (lambda: network_landscape(MLP((3, 3)), ROWS), "data is a ndarray"),
        (lambda: network_landscape(MLP((3, 3)), (ROWS, LABELS[:-1])), "leading sizes"),
        (lambda: network_landscape(MLP((4, 3)), DATA), "one example of 3 features"),
        (lambda: network_landscape(MLP((3, 2)), (ROWS, [3, 0, 0, 0, 0, 0, 0])), "leading sizes"),
        (lambda: network_landscape(MLP((3, 3)), (ROWS, 0 * LABELS + 3)), "from 3 to 3.*3 classes"),
        (lambda: network_landscape(MLP((3, 3)), (ROWS, LABELS - 3)), "number the classes from 0"),
        (lambda: network_landscape(MLP((3, 3)), (ROWS, ROWS)), "targets hold float64"),
        (lambda: network_landscape(MLP((3, 2)), (ROWS, ROWS), 0.0, "square"), r"shape \(2,\)"),
        (lambda: network_landscape(MLP((3, 3)), (ROWS, LABELS[:, None])), "one label for each"),
        (
            lambda: network_landscape(lambda w, x: (w["w"] @ x,), DATA, parameters=WEIGHTS),
            "returns a tuple",
        ),
        (
            lambda: network_landscape(MLP((3, 3)), DATA, loss=lambda scores, label: scores),
            "one number",
        ),
    ],
)
def test_what_does_not_fit_is_refused(build, message):
    with pytest.raises(InvalidArgument, match=message):
        build()


def test_flax_in_training_or_without_variables_is_refused():
    pytest.importorskip("flax")
    from flax import linen

    network = nnx_network(TWINS["batch_norm"])
    with pytest.raises(InvalidArgument, match=r"BatchNorm, Dropout.*network\.eval\(\)"):
        network_landscape(network, DATA)
    network.eval()
    network_landscape(network, DATA)
    with pytest.raises(InvalidArgument, match="holds its own"):
        network_landscape(network, DATA, parameters=WEIGHTS)
    for variables, shown in ((None, "missing"), (WEIGHTS, "a mapping of w")):
        with pytest.raises(InvalidArgument, match=f"{shown}.*module.init"):
            network_landscape(linen.Dense(3), DATA, parameters=variables)
    with pytest.raises(InvalidArgument, match="parameters do not fit"):
        network_landscape(
            linen.Dense(4),
            DATA,
            parameters={"params": {"kernel": np.ones((3, 3)), "bias": np.ones(3)}},
        )
