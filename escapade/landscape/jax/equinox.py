"""Equinox modules, and any other pytree that can be called on one example."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from escapade.errors import InvalidArgument
from escapade.landscape.jax._base import Network


def from_equinox(network: PyTree) -> Network:
    """A module of one example; a pair (module, state), as from `make_with_state`, keeps its state.

    Raises:
        InvalidArgument: when it is in training mode, or has state that was not given.
    """
    module, state = network if is_stateful_pair(network) else (network, None)
    training = sorted({type(layer).__name__ for layer in _training(module)})
    if training:
        raise InvalidArgument(
            f"the network is in training mode ({', '.join(training)}), so the loss of one example "
            "is random or depends on others; give equinox.nn.inference_mode(network)"
        )
    if state is None and any(_is_state_index(leaf) for leaf in _leaves(module, _is_state_index)):
        raise InvalidArgument(
            "the network keeps a state (such as BatchNorm's statistics) that was not given; give "
            "the pair (network, state)"
        )
    apply = _apply if state is None else _apply_with_state
    return Network(apply, module, state, False, f"Equinox {type(module).__name__}")


def is_stateful_pair(network: Any) -> bool:
    """Whether this is (module, state)."""
    return isinstance(network, tuple) and len(network) == 2 and isinstance(network[1], eqx.nn.State)


def _apply(module: Any, _: None, inputs: Any) -> Any:
    return module(inputs)


def _apply_with_state(module: Any, state: eqx.nn.State, inputs: Any) -> Any:
    return module(inputs, state)[0]


def _training(module: Any) -> Iterator[Any]:
    """Layers that behave as in training; a dropout of nothing is none."""
    if getattr(module, "inference", True) is False and getattr(module, "p", None) != 0:
        yield module

    def switched(node: Any) -> bool:
        return node is not module and hasattr(node, "inference")

    for node in _leaves(module, switched):
        if switched(node):
            yield from _training(node)


def _is_state_index(node: Any) -> bool:
    return isinstance(node, eqx.nn.StateIndex)


def _leaves(tree: PyTree, is_leaf: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=is_leaf)
