"""Small networks in Equinox."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from escapade.errors import InvalidArgument

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "identity": lambda x: x,
}

LOSSES = ("cross_entropy", "square")
"""Losses that every provider knows by name."""


class MLP(eqx.Module):
    """Fully connected network of any widths; ``MLP((10, 8, 2))`` has one hidden layer of 8."""

    layers: tuple[eqx.nn.Linear, ...]
    activation: str

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "tanh",
        bias: bool = False,
        *,
        key: PRNGKeyArray | int = 0,
    ):
        """Draw initial weights from a key.

        Raises:
            InvalidArgument: when there are fewer than two widths or the activation is unknown.
        """
        if len(widths) < 2 or any(width < 1 for width in widths):
            raise InvalidArgument(f"widths is {tuple(widths)}; give at least input and output")
        self.activation = _known_activation(activation)
        keys = jax.random.split(_as_key(key), len(widths) - 1)
        self.layers = tuple(
            eqx.nn.Linear(width_in, width_out, use_bias=bias, key=layer_key)
            for width_in, width_out, layer_key in zip(widths[:-1], widths[1:], keys, strict=True)
        )

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " classes"]:
        """Scores of one example."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class ConvolutionalNetwork(eqx.Module):
    """Strided 3x3 convolutions, a mean over positions and a linear read-out, for small images."""

    convolutions: tuple[eqx.nn.Conv2d, ...]
    readout: eqx.nn.Linear
    shape: tuple[int, int, int]
    activation: str

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        channels: Sequence[int] = (4, 8),
        activation: str = "tanh",
        *,
        key: PRNGKeyArray | int = 0,
    ):
        """Network for images of `shape` (channels, height, width) given as flat rows.

        Raises:
            InvalidArgument: when the activation is unknown.
        """
        self.shape = shape
        self.activation = _known_activation(activation)
        keys = jax.random.split(_as_key(key), len(channels) + 1)
        widths = (shape[0], *channels)
        self.convolutions = tuple(
            eqx.nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, key=layer_key)
            for width_in, width_out, layer_key in zip(widths[:-1], widths[1:], keys, strict=False)
        )
        self.readout = eqx.nn.Linear(widths[-1], classes, key=keys[-1])

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " classes"]:
        """Scores of one image given as a flat row."""
        image = jnp.reshape(x, self.shape)
        for convolution in self.convolutions:
            image = ACTIVATIONS[self.activation](convolution(image))
        return self.readout(jnp.mean(image, axis=(1, 2)))


def logistic_regression(
    features: int, classes: int, bias: bool = True, *, key: PRNGKeyArray | int = 0
) -> MLP:
    """Softmax regression: a network without hidden layer."""
    return MLP((features, classes), "identity", bias, key=key)


def _known_activation(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise InvalidArgument(
            f"activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}"
        )
    return activation


def _as_key(key: PRNGKeyArray | int) -> PRNGKeyArray:
    return jax.random.key(key) if isinstance(key, int) else key
