"""Any network of the JAX world on data, as a loss over examples."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from escapade.data import Dataset
from escapade.errors import InvalidArgument, in_one_line
from escapade.landscape.empirical import Empirical
from escapade.landscape.jax._base import Network
from escapade.landscape.jax.equinox import from_equinox, is_stateful_pair
from escapade.landscape.jax.losses import cross_entropy, loss_named, square
from escapade.landscape.pytrees import number_of_examples
from escapade.landscape.selection import Choice
from escapade.precision import float64


class NetworkLoss(eqx.Module):
    """Loss of one example: a network's outputs, against the target."""

    apply: Callable[[PyTree, PyTree, Any], Any]
    buffers: PyTree
    loss: Callable[[Any, Any], Array]
    title: str = eqx.field(static=True)

    def __call__(self, parameters: PyTree, example: tuple[Any, Any]) -> Float[Array, ""]:
        """Loss of ``(inputs, target)``."""
        inputs, target = example
        return self.loss(self.apply(parameters, self.buffers, inputs), target)


def jax_network(
    network: Any,
    loss: str | Callable[[Any, Any], Array],
    data: Any,
    *,
    parameters: PyTree = None,
    weight_decay: float = 0.0,
    only: Choice = None,
    batched: bool | None = None,
) -> Empirical:
    """A network of the JAX world as a landscape; see `escapade.landscape.network_landscape`."""
    parts = _taken_apart(network, parameters)
    takes_batch = parts.batched if batched is None else batched
    apply = _OneByOne(parts.apply) if takes_batch else parts.apply
    inputs, targets = pair_of(data)
    each = loss_named(loss) if isinstance(loss, str) else loss
    number_of_examples((inputs, targets))
    _check_outputs(_outputs(apply, parts, inputs), each, targets, data)
    example_loss = NetworkLoss(apply, parts.buffers, each, parts.title)
    return Empirical(example_loss, parts.parameters, (inputs, targets), weight_decay, only=only)


def pair_of(data: Any) -> tuple[PyTree, PyTree]:
    """Inputs and targets of a data set or a pair.

    Raises:
        InvalidArgument: when the data are neither.
    """
    if isinstance(data, Dataset):
        return data.inputs, data.labels
    if isinstance(data, tuple | list) and len(data) == 2:
        return jax.tree.map(np.asarray, data[0]), jax.tree.map(np.asarray, data[1])
    raise InvalidArgument(
        f"data is a {type(data).__name__}; give a Dataset or a pair (inputs, targets) of arrays, "
        "or pytrees of arrays, whose first axis is that of the examples"
    )


class _OneByOne(eqx.Module):
    """A network of batches, on a batch of one.

    Under `vmap` XLA sees the whole batch again: products of a dense and a convolutional network of
    Flax cost between 0.87 and 1.09 times those of the network on whole batches.
    """

    apply: Callable[[PyTree, PyTree, Any], Any]

    def __call__(self, parameters: PyTree, buffers: PyTree, inputs: Any) -> Any:
        batch = jax.tree.map(lambda leaf: leaf[None], inputs)
        return jax.tree.map(lambda leaf: leaf[0], self.apply(parameters, buffers, batch))


def _taken_apart(network: Any, parameters: PyTree) -> Network:
    if _is_a(network, "flax.linen", "Module"):
        from escapade.landscape.jax.linen import from_linen

        return from_linen(network, parameters)
    has_arrays = bool(jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    if parameters is not None:
        if has_arrays or not callable(network) or _is_a(network, "flax.nnx", "Module"):
            raise InvalidArgument(
                f"parameters was given beside a {type(network).__name__}, which holds its own; "
                "leave it out"
            )
        title = f"function {getattr(network, '__name__', type(network).__name__)}"
        return Network(_Function(network), parameters, None, False, title)
    if _is_a(network, "flax.nnx", "Module"):
        from escapade.landscape.jax.nnx import from_nnx

        return from_nnx(network)
    if not callable(network) and not is_stateful_pair(network):
        raise InvalidArgument(
            f"network is a {type(network).__name__}; give an Equinox, Flax or PyTorch module, or a "
            "function (parameters, inputs) -> outputs with parameters="
        )
    if not has_arrays:
        raise InvalidArgument(
            f"{getattr(network, '__name__', type(network).__name__)} holds no parameters; give "
            "them apart: network_landscape(function, data, parameters=...)"
        )
    return from_equinox(network)


class _Function(eqx.Module):
    function: Callable[[PyTree, Any], Any]

    def __call__(self, parameters: PyTree, _: None, inputs: Any) -> Any:
        return self.function(parameters, inputs)


def _is_a(network: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of an optional package, which is never imported here."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(network, getattr(loaded, name))


def _outputs(apply: Callable[..., Any], parts: Network, inputs: PyTree) -> PyTree:
    """Shapes of the outputs for one example, computed in float64."""
    with float64():
        parameters, buffers, batch = jax.tree.map(
            _double, (parts.parameters, parts.buffers, inputs)
        )
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
        try:
            outputs = eqx.filter_eval_shape(apply, parameters, buffers, one)
        except Exception as error:
            shapes = ", ".join(map(str, _shapes(inputs)))
            raise InvalidArgument(
                f"the network does not accept one example of {shapes} features, or the parameters "
                f"do not fit it ({in_one_line(error)})"
            ) from error
    low = {leaf.dtype.name for leaf in jax.tree.leaves(outputs)} - {"float64"}
    if low:
        warnings.warn(
            f"the network computes in {low.pop()} whatever it is given, so its losses have only "
            "that precision; build it without dtype= to have float64 where it matters",
            stacklevel=4,
        )
    return outputs


def _double(leaf: Any) -> Any:
    if not eqx.is_array(leaf) or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(leaf.shape, jnp.float64 if real else leaf.dtype)


def _shapes(inputs: PyTree) -> list[Any]:
    """Shape of one example; the number of features where it is a row."""
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(inputs)]
    return [shape[0] if len(shape) == 1 else shape for shape in shapes]


def _check_outputs(outputs: PyTree, loss: Any, targets: PyTree, data: Any) -> None:
    """Whether a named loss can compare outputs with targets."""
    if loss not in (cross_entropy, square):
        return
    name = loss.__name__
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        raise InvalidArgument(
            f"the network returns a {type(outputs).__name__}; loss={name!r} needs one array, a "
            "function (outputs, target) -> loss takes anything"
        )
    if isinstance(data, Dataset) and outputs.shape != (data.classes,):
        raise InvalidArgument(
            f"the network maps {data.features} features to shape {outputs.shape}; the data set has "
            f"{data.classes} classes, so it must return ({data.classes},)"
        )
    shape, labels = targets.shape[1:], np.issubdtype(targets.dtype, np.integer)
    if not labels and (loss is cross_entropy or shape != outputs.shape):
        wanted = "" if loss is cross_entropy else f", or real targets of shape {outputs.shape}"
        raise InvalidArgument(
            f"targets hold {targets.dtype} numbers of shape {shape} per example; loss={name!r} on "
            f"outputs of shape {outputs.shape} needs integer labels{wanted}"
        )
    if labels and (not outputs.shape or shape != outputs.shape[:-1]):
        raise InvalidArgument(
            f"targets hold labels of shape {shape} per example but the outputs have shape "
            f"{outputs.shape}; give one label for each row of class scores"
        )
    if labels and (targets.min() < 0 or targets.max() >= outputs.shape[-1]):
        raise InvalidArgument(
            f"targets run from {targets.min()} to {targets.max()} but the network returns "
            f"{outputs.shape[-1]} classes; number the classes from 0"
        )
