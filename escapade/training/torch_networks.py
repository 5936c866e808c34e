"""PyTorch networks in training: examples taken out, parameters and buffers read."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from escapade.errors import InvalidArgument
from escapade.landscape.torch import TorchEmpirical
from escapade.landscape.torch.examples import Examples
from escapade.landscape.torch.network import Network


def is_module(model: Any) -> bool:
    """Whether it is a PyTorch module."""
    return isinstance(model, torch.nn.Module)


def taken_out(landscape: TorchEmpirical, index: Int[np.ndarray, " examples"]) -> TorchEmpirical:
    """The loss over some examples, with private copies of the module."""
    network = copy.copy(landscape.network)
    rows = torch.from_numpy(index).to(network.device)
    inputs, targets = network.data.arranged(network.data.take(rows, torch.float64))
    network.data = Examples(inputs, targets, network.device)
    # The copies in each precision are made anew: their buffers will follow the training.
    network._modules, network._losses, network._footprints = {}, {}, {}
    return TorchEmpirical(network, landscape.weight_decay, landscape.scale)


def read(landscape: TorchEmpirical, model: torch.nn.Module) -> Float[np.ndarray, " dim"]:
    """Flat parameters of a module that is, wraps or holds the landscape's; all else follows.

    Raises:
        InvalidArgument: when a parameter is missing or of another shape.
    """
    network = landscape.network
    parameters = dict(model.named_parameters(remove_duplicate=False))
    prefix = _prefix(network.names, list(parameters))
    parts = []
    for name, shape in zip(network.names, network.shapes, strict=True):
        value = parameters[prefix + name]
        if tuple(value.shape) != shape:
            raise InvalidArgument(
                f"parameter {name} has shape {tuple(value.shape)}, the landscape's {shape}; give "
                "the module the landscape was built with"
            )
        parts.append(value.detach().reshape(-1).double().cpu())
    _follow(network, model, prefix)
    return torch.cat(parts).numpy() / landscape.scale


def _follow(network: Network, model: torch.nn.Module, prefix: str) -> None:
    """Give the private copies the buffers, and the parameters that the landscape holds fixed."""
    current = model.state_dict(keep_vars=True)
    moving = set(network.names)
    with torch.no_grad():
        for private in network._modules.values():
            for name, value in private.state_dict(keep_vars=True).items():
                if name not in moving and prefix + name in current:
                    value.copy_(current[prefix + name])


def _prefix(names: list[str], available: list[str]) -> str:
    """What stands before the landscape's names: the module may be wrapped, or part of another."""
    first = names[0]
    for candidate in available:
        if candidate.endswith(first):
            prefix = candidate[: len(candidate) - len(first)]
            if (not prefix or prefix.endswith(".")) and all(prefix + n in available for n in names):
                return prefix
    raise InvalidArgument(
        f"the module has no parameters {first}, ...; give the one the landscape was built with, "
        "or one that holds it"
    )
