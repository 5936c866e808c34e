"""PyTorch modules in training: parameters and buffers read."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.landscape.torch import TorchEmpirical


def is_module(model: Any) -> bool:
    """Whether it is a PyTorch module."""
    return isinstance(model, torch.nn.Module)


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
    state = model.state_dict(keep_vars=True)
    network.follow(
        {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    )
    return torch.cat(parts).numpy() / landscape.scale


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
