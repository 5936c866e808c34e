"""Small networks that every provider builds with the same weights.

A `Twin` is a formula in JAX with its weights, in PyTorch's layout: (out, in) for dense layers,
(out, in, height, width) for convolutions. A provider builds it with a function registered by

    @builds("torch", "mlp")
    def mlp(twin):
        return Built(module, {"layers.0.weight": "w1", ...})

`Built.names` maps the provider's parameter names (without shape) to those of the formula; where
the layout differs it gives the name and the axes to transpose, ``("w1", (1, 0))``. `Built.keywords`
go to `network_landscape` beside data, weight decay and loss. Builders live in one file per
framework, listed in `test_conformance.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import escapade as esc

EXAMPLES, CLASSES = 7, 3


@dataclass(frozen=True)
class Twin:
    name: str
    formula: Callable[[dict[str, Any], Any], Any]
    weights: dict[str, np.ndarray]
    inputs: np.ndarray
    targets: np.ndarray
    loss: str = "cross_entropy"
    moving: tuple[str, ...] = ()
    weight_decay: float = 0.0
    scale: float = 1.0

    @property
    def names(self):
        """Weights that move, in the order of the flat vector of the formula."""
        return self.moving or tuple(self.weights)

    @property
    def theta(self):
        flat = np.concatenate([self.weights[name].ravel() for name in self.names])
        return flat / self.scale

    def example_loss(self, theta, x, target):
        """Raw formula of one example's loss, weight decay included."""
        flat, weights = self.scale * theta, dict(self.weights)
        for name in self.names:
            size, shape = weights[name].size, weights[name].shape
            weights[name], flat = flat[:size].reshape(shape), flat[size:]
        outputs = self.formula(weights, x)
        if self.loss == "cross_entropy":
            value = -jax.nn.log_softmax(outputs)[target]
        else:
            value = 0.5 * jnp.sum((outputs - target) ** 2)
        return value + 0.5 * self.weight_decay * self.scale**2 * theta @ theta


@dataclass(frozen=True)
class Built:
    network: Any
    names: dict[str, str | tuple[str, tuple[int, ...]]]
    keywords: dict[str, Any] = field(default_factory=dict)


BUILDERS: dict[tuple[str, str], Callable[[Twin], Built]] = {}


def builds(provider, twin):
    def register(builder):
        BUILDERS[provider, twin] = builder
        return builder

    return register


def landscape_of(provider, twin):
    """The provider's landscape, and the order that takes a vector of the formula to its own."""
    built = BUILDERS[provider, twin.name](twin)
    landscape = esc.landscapes.network_landscape(
        built.network, (twin.inputs, twin.targets), twin.weight_decay, twin.loss, **built.keywords
    )
    if twin.scale != 1.0:
        landscape = esc.landscapes.rescale(landscape, twin.scale**2)
    return landscape, _order(landscape, built, twin)


def _order(landscape, built, twin):
    positions, used = {}, 0
    for name in twin.names:
        size = twin.weights[name].size
        positions[name] = used + np.arange(size).reshape(twin.weights[name].shape)
        used += size
    order = []
    for entry in landscape.parameter_names:
        name = entry.split(" ", 1)[0]
        source = built.names[name]
        source, axes = source if isinstance(source, tuple) else (source, None)
        block = positions.pop(source)
        block = block if axes is None else block.transpose(axes)
        order.append(block.ravel())
    assert not positions, f"{sorted(positions)} do not move"
    order = np.concatenate(order)
    assert order.size == landscape.dim
    return order


def _draw(seed, **shapes):
    generator = np.random.default_rng(seed)
    return {name: 0.6 * generator.standard_normal(shape) for name, shape in shapes.items()}


def _data(seed, shape):
    generator = np.random.default_rng(100 + seed)
    inputs = generator.standard_normal((EXAMPLES, *shape))
    return inputs, generator.integers(0, CLASSES, EXAMPLES)


def _mlp(w, x):
    return w["w2"] @ jnp.tanh(w["w1"] @ x + w["b1"]) + w["b2"]


def _convolutional(w, x):
    image = jax.lax.conv_general_dilated(
        x[None],
        jnp.asarray(w["k"], x.dtype),
        (2, 2),
        ((1, 1), (1, 1)),
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )[0]
    hidden = jax.nn.softplus(image + w["c"][:, None, None])
    return w["w"] @ hidden.mean(axis=(1, 2)) + w["b"]


def _autoencoder(w, x):
    return jnp.tanh(x @ w["w"].T) @ w["w"] + w["b"]


def _normalised(w, x):
    hidden = w["w1"] @ x
    normal = (hidden - w["mean"]) / jnp.sqrt(w["variance"] + 1e-5)
    return w["w2"] @ jnp.tanh(normal * w["gain"] + w["shift"])


DENSE = {"w1": (4, 3), "b1": (4,), "w2": (CLASSES, 4), "b2": (CLASSES,)}
_rows = _data(1, (3,))
_statistics = {"mean": np.array([0.3, -0.2, 0.1, 0.0]), "variance": np.array([0.5, 2.0, 1.0, 0.8])}

TWINS = {
    twin.name: twin
    for twin in (
        Twin("mlp", _mlp, _draw(1, **DENSE), *_rows),
        Twin(
            "convolutional",
            _convolutional,
            _draw(2, k=(3, 2, 3, 3), c=(3,), w=(CLASSES, 3), b=(CLASSES,)),
            *_data(2, (2, 4, 4)),
            weight_decay=0.01,
        ),
        Twin(
            "tied",
            _autoencoder,
            _draw(3, w=(2, 4), b=(4,)),
            *2 * (_data(3, (4,))[0],),
            loss="square",
        ),
        Twin("frozen", _mlp, _draw(4, **DENSE), *_rows, moving=("w2", "b2"), weight_decay=0.02),
        Twin(
            "batch_norm",
            _normalised,
            {**_draw(5, w1=(4, 3), gain=(4,), shift=(4,), w2=(CLASSES, 4)), **_statistics},
            *_rows,
            moving=("w1", "gain", "shift", "w2"),
        ),
        Twin("scaled", _mlp, _draw(6, **DENSE), *_rows, weight_decay=0.03, scale=1.7),
    )
}
