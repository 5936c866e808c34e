"""One door for the user's own network, whatever framework it is written in."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from escapade.errors import InvalidArgument
from escapade.landscape.examples import AbstractEmpirical
from escapade.landscape.jax import jax_network
from escapade.landscape.selection import Choice


def network_landscape(
    network: Any,
    data: Any,
    weight_decay: float = 1e-3,
    loss: str | Callable[[Any, Any], Any] = "cross_entropy",
    *,
    parameters: PyTree = None,
    only: Choice = None,
    **options: Any,
) -> AbstractEmpirical:
    """Landscape of a network on data.

    Args:
        network: one of

            * an Equinox module, or any pytree that can be called on one example; the pair (module,
              state) of one that keeps a state. In inference mode;
            * a Flax linen module, with `parameters` its variables: ``params`` move, the other
              collections stay, and arguments of its ``__call__`` named ``train``, ``training``,
              ``is_training``, ``deterministic`` or ``use_running_average`` are set to evaluation;
            * a Flax nnx module, in evaluation mode: its ``Param`` variables move;
            * a function ``(parameters, inputs) -> outputs``, with `parameters` any pytree;
            * a PyTorch module, in evaluation mode, evaluated by PyTorch itself.
        data: a `Dataset`, or a pair (inputs, targets) of arrays (pytrees of arrays, where the
            network takes them) whose first axis is that of the examples; for a PyTorch module also
            its data sets and loaders.
        weight_decay: coefficient of ``|theta|^2 / 2`` in every example's loss.
        loss: ``"cross_entropy"`` of the softmax, or ``"square"``: half the squared distance to the
            target or the one-hot label; or a function ``(outputs, target) -> loss`` of one example
            (for a PyTorch module, of a batch: the losses of its examples; or a loss module).
        parameters: of a linen module or a function; other networks hold their own.
        only: which parameters move, by name: a glob such as ``"head*"``, several, or a predicate;
            the others are frozen.
        options: of one framework: ``batched`` says whether a network of the JAX world wants a
            leading axis of examples (unless given, Flax modules do, everything else takes one
            example); for a PyTorch module ``max_examples`` and ``frozen_statistics``, see
            `escapade.landscape.torch.torch_network`.

    Raises:
        InvalidArgument: when the network does not fit the data or the loss, is in training mode,
            or an argument does not apply to it.
    """
    torch = sys.modules.get("torch")
    provider: Callable[..., AbstractEmpirical] = jax_network
    if torch is not None and isinstance(network, torch.nn.Module):
        from escapade.landscape.torch import torch_network

        provider = torch_network
    if parameters is not None:
        options["parameters"] = parameters
    accepted = inspect.signature(provider).parameters
    unknown = [name for name in options if name not in accepted]
    if unknown:
        known = [name for name, one in accepted.items() if one.kind is one.KEYWORD_ONLY]
        raise InvalidArgument(
            f"{unknown[0]} does not apply to a {type(network).__name__}; beside network, loss and "
            f"data it takes {', '.join(known)}"
        )
    return provider(network, loss, data, weight_decay=weight_decay, only=only, **options)
