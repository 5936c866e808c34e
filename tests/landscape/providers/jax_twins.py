"""The twins in Equinox, Flax linen, Flax nnx, and as plain functions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from landscape.providers.twins import CLASSES, TWINS, Built, builds

KEY = jax.random.key(0)
SWAP = (1, 0)


# Plain functions: the formula itself, weights that do not move frozen by name.


def plain(twin):
    names = {name: name for name in twin.weights}
    keywords = {"parameters": twin.weights}
    if twin.moving:
        keywords["only"] = twin.moving
    return Built(twin.formula, names, keywords)


for _name in TWINS:
    builds("function", _name)(plain)


# Equinox.


class Dense(eqx.Module):
    layers: list

    def __call__(self, x):
        return self.layers[1](jnp.tanh(self.layers[0](x)))


def linear(weight, bias=None):
    layer = eqx.nn.Linear(weight.shape[1], weight.shape[0], use_bias=bias is not None, key=KEY)
    layer = eqx.tree_at(lambda leaf: leaf.weight, layer, jnp.asarray(weight))
    return layer if bias is None else eqx.tree_at(lambda leaf: leaf.bias, layer, jnp.asarray(bias))


def in_double(builder):
    """Build under float64, so that weights are not rounded."""

    def build(twin):
        with jax.enable_x64(True):
            return builder(twin)

    return build


@builds("equinox", "mlp")
@builds("equinox", "scaled")
@builds("equinox", "frozen")
@in_double
def dense(twin):
    w = twin.weights
    network = Dense([linear(w["w1"], w["b1"]), linear(w["w2"], w["b2"])])
    names = {
        "layers[0].weight": "w1",
        "layers[0].bias": "b1",
        "layers[1].weight": "w2",
        "layers[1].bias": "b2",
    }
    return Built(network, names, {"only": "layers[1]"} if twin.moving else {})


class Convolutional(eqx.Module):
    convolution: eqx.nn.Conv2d
    readout: eqx.nn.Linear

    def __call__(self, x):
        return self.readout(jax.nn.softplus(self.convolution(x)).mean(axis=(1, 2)))


@builds("equinox", "convolutional")
@in_double
def convolutional(twin):
    w = twin.weights
    convolution = eqx.nn.Conv2d(2, 3, 3, stride=2, padding=1, key=KEY)
    convolution = eqx.tree_at(
        lambda layer: (layer.weight, layer.bias),
        convolution,
        (jnp.asarray(w["k"]), jnp.asarray(w["c"][:, None, None])),
    )
    names = {"convolution.weight": "k", "convolution.bias": "c"}
    names |= {"readout.weight": "w", "readout.bias": "b"}
    return Built(Convolutional(convolution, linear(w["w"], w["b"])), names)


class Tied(eqx.Module):
    shared: eqx.nn.Shared
    bias: jax.Array

    def __init__(self, weight, bias):
        down, up = linear(weight), eqx.nn.Linear(2, 4, use_bias=False, key=KEY)
        self.shared = eqx.nn.Shared(
            (down, up), where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight.T
        )
        self.bias = bias

    def __call__(self, x):
        down, up = self.shared()
        return up(jnp.tanh(down(x))) + self.bias


@builds("equinox", "tied")
@in_double
def tied(twin):
    network = Tied(twin.weights["w"], jnp.asarray(twin.weights["b"]))
    return Built(network, {"shared.pytree[0].weight": "w", "bias": "b"})


class Normalised(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, first, last):
        self.first, self.last = first, last
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, state):
        hidden, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jnp.tanh(hidden))), state


def normalised_in_training(twin):
    w = twin.weights
    network, state = eqx.nn.make_with_state(Normalised)(linear(w["w1"]), linear(w["w2"]))
    network = eqx.tree_at(
        lambda tree: (tree.norm.weight, tree.norm.bias),
        network,
        (jnp.asarray(w["gain"]), jnp.asarray(w["shift"])),
    )
    index = network.norm.batch_state_index
    return network, state.set(index, (jnp.asarray(w["mean"]), jnp.asarray(w["variance"])))


@builds("equinox", "batch_norm")
@in_double
def normalised(twin):
    network, state = normalised_in_training(twin)
    names = {"first.weight": "w1", "norm.weight": "gain", "norm.bias": "shift", "last.weight": "w2"}
    return Built((eqx.nn.inference_mode(network), state), names)


# Flax linen: NHWC, kernels (in, out), a leading axis of examples.


@builds("linen", "mlp")
@builds("linen", "scaled")
@builds("linen", "frozen")
def linen_dense(twin):
    nn = pytest.importorskip("flax.linen")
    w = twin.weights
    network = nn.Sequential([nn.Dense(4), jnp.tanh, nn.Dense(CLASSES)])
    params = {
        "layers_0": {"kernel": w["w1"].T, "bias": w["b1"]},
        "layers_2": {"kernel": w["w2"].T, "bias": w["b2"]},
    }
    names = {
        "layers_0.kernel": ("w1", SWAP),
        "layers_0.bias": "b1",
        "layers_2.kernel": ("w2", SWAP),
        "layers_2.bias": "b2",
    }
    keywords = {"parameters": {"params": params}}
    return Built(network, names, keywords | ({"only": "layers_2.*"} if twin.moving else {}))


@builds("linen", "convolutional")
def linen_convolutional(twin):
    nn = pytest.importorskip("flax.linen")
    w = twin.weights
    network = nn.Sequential(
        [
            lambda x: jnp.moveaxis(x, 1, -1),
            nn.Conv(3, (3, 3), strides=2, padding=1),
            nn.softplus,
            lambda x: x.mean(axis=(1, 2)),
            nn.Dense(CLASSES),
        ]
    )
    params = {
        "layers_1": {"kernel": w["k"].transpose(2, 3, 1, 0), "bias": w["c"]},
        "layers_4": {"kernel": w["w"].T, "bias": w["b"]},
    }
    names = {
        "layers_1.kernel": ("k", (2, 3, 1, 0)),
        "layers_1.bias": "c",
        "layers_4.kernel": ("w", SWAP),
        "layers_4.bias": "b",
    }
    return Built(network, names, {"parameters": {"params": params}})


@builds("linen", "tied")
def linen_tied(twin):
    nn = pytest.importorskip("flax.linen")

    class LinenTied(nn.Module):
        @nn.compact
        def __call__(self, x):
            weight = self.param("weight", nn.initializers.zeros, (2, 4))
            return jnp.tanh(x @ weight.T) @ weight + self.param("bias", nn.initializers.zeros, (4,))

    params = {"weight": twin.weights["w"], "bias": twin.weights["b"]}
    names = {"weight": "w", "bias": "b"}
    return Built(LinenTied(), names, {"parameters": {"params": params}})


@builds("linen", "batch_norm")
def linen_normalised(twin):
    nn = pytest.importorskip("flax.linen")
    w = twin.weights

    class LinenNormalised(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool = True):
            x = nn.Dense(4, use_bias=False)(x)
            x = jnp.tanh(nn.BatchNorm(use_running_average=not train)(x))
            return nn.Dense(CLASSES, use_bias=False)(nn.Dropout(0.5, deterministic=not train)(x))

    params = {
        "Dense_0": {"kernel": w["w1"].T},
        "BatchNorm_0": {"scale": w["gain"], "bias": w["shift"]},
        "Dense_1": {"kernel": w["w2"].T},
    }
    statistics = {"BatchNorm_0": {"mean": w["mean"], "var": w["variance"]}}
    names = {
        "Dense_0.kernel": ("w1", SWAP),
        "BatchNorm_0.scale": "gain",
        "BatchNorm_0.bias": "shift",
        "Dense_1.kernel": ("w2", SWAP),
    }
    variables = {"params": params, "batch_stats": statistics}
    return Built(LinenNormalised(), names, {"parameters": variables})


# Flax nnx.


def nnx_network(twin):
    """The module of a twin, in training mode where that is another one."""
    nnx = pytest.importorskip("flax.nnx")
    w, rngs = twin.weights, nnx.Rngs(0)

    def put(variable, weights):
        variable.set_value(jnp.asarray(weights))

    class NnxDense(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(3, 4, rngs=rngs)
            self.last = nnx.Linear(4, CLASSES, rngs=rngs)
            put(self.first.kernel, w["w1"].T)
            put(self.first.bias, w["b1"])
            put(self.last.kernel, w["w2"].T)
            put(self.last.bias, w["b2"])

        def __call__(self, x):
            return self.last(jnp.tanh(self.first(x)))

    class NnxConvolutional(nnx.Module):
        def __init__(self):
            self.convolution = nnx.Conv(2, 3, (3, 3), strides=2, padding=1, rngs=rngs)
            self.readout = nnx.Linear(3, CLASSES, rngs=rngs)
            put(self.convolution.kernel, w["k"].transpose(2, 3, 1, 0))
            put(self.convolution.bias, w["c"])
            put(self.readout.kernel, w["w"].T)
            put(self.readout.bias, w["b"])

        def __call__(self, x):
            hidden = nnx.softplus(self.convolution(jnp.moveaxis(x, 1, -1)))
            return self.readout(hidden.mean(axis=(1, 2)))

    class NnxTied(nnx.Module):
        def __init__(self):
            self.weight = self.again = nnx.Param(jnp.asarray(w["w"]))
            self.bias = nnx.Param(jnp.asarray(w["b"]))

        def __call__(self, x):
            return jnp.tanh(x @ self.weight[...].T) @ self.again[...] + self.bias[...]

    class NnxNormalised(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(3, 4, use_bias=False, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(4, CLASSES, use_bias=False, rngs=rngs)
            put(self.first.kernel, w["w1"].T)
            put(self.last.kernel, w["w2"].T)
            put(self.norm.scale, w["gain"])
            put(self.norm.bias, w["shift"])
            put(self.norm.mean, w["mean"])
            put(self.norm.var, w["variance"])

        def __call__(self, x):
            return self.last(self.dropout(jnp.tanh(self.norm(self.first(x)))))

    kinds = {"convolutional": NnxConvolutional, "tied": NnxTied, "batch_norm": NnxNormalised}
    with jax.enable_x64(True):
        return kinds.get(twin.name, NnxDense)()


NNX_NAMES = {
    "convolutional": {
        "convolution.kernel": ("k", (2, 3, 1, 0)),
        "convolution.bias": "c",
        "readout.kernel": ("w", SWAP),
        "readout.bias": "b",
    },
    "tied": {"again": "w", "bias": "b"},
    "batch_norm": {
        "first.kernel": ("w1", SWAP),
        "norm.scale": "gain",
        "norm.bias": "shift",
        "last.kernel": ("w2", SWAP),
    },
}
NNX_DENSE = {
    "first.kernel": ("w1", SWAP),
    "first.bias": "b1",
    "last.kernel": ("w2", SWAP),
    "last.bias": "b2",
}


def nnx_twin(twin):
    network = nnx_network(twin)
    network.eval()
    keywords = {"only": lambda name: name.startswith("last")} if twin.moving == ("w2", "b2") else {}
    return Built(network, NNX_NAMES.get(twin.name, NNX_DENSE), keywords)


for _name in TWINS:
    builds("nnx", _name)(nnx_twin)
