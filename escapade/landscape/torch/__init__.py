"""PyTorch networks, evaluated and differentiated by PyTorch itself.

Import this folder only when a PyTorch network is at hand: it needs the extra ``escapade[torch]``.
"""

from typing import Any

from escapade.errors import InvalidArgument

try:
    import torch
except ImportError as error:
    raise InvalidArgument(
        "networks of PyTorch need it installed: pip install 'escapade[torch]'"
    ) from error

from escapade.landscape.selection import Choice
from escapade.landscape.torch.checkpoint import load_checkpoint
from escapade.landscape.torch.checks import probe, refuse_training_mode
from escapade.landscape.torch.examples import read
from escapade.landscape.torch.expansion import TorchExpansion
from escapade.landscape.torch.landscape import TorchEmpirical
from escapade.landscape.torch.loss import Loss
from escapade.landscape.torch.network import Network

__all__ = ["TorchEmpirical", "TorchExpansion", "load_checkpoint", "torch_network"]


def torch_network(
    model: torch.nn.Module,
    loss: Loss,
    data: Any,
    *,
    weight_decay: float = 0.0,
    only: Choice = None,
    max_examples: int | None = None,
    frozen_statistics: bool = False,
) -> TorchEmpirical:
    """Landscape of a PyTorch network on data; the module itself is never changed.

    Parameters move that have ``requires_grad=True`` and are chosen by `only`; all others, and the
    buffers, stay as they are now. Tied parameters count once.

    Args:
        model: a module that maps a batch of inputs to outputs; inputs that are a tuple go in as
            several arguments, a dictionary as keywords.
        loss: ``"cross_entropy"`` of the softmax over the last axis, ``"square"`` (half the squared
            distance to the targets, or to one-hot classes), a loss module of PyTorch, or a function
            (outputs, targets) that returns the loss of each example, or of a batch of one.
        data: (inputs, targets), a `Dataset` of Escapade or PyTorch, a `DataLoader` (read once, in
            its order), or a list of batches.
        weight_decay: coefficient of ``|theta|^2 / 2`` in every example's loss.
        only: names of parameters that move: a glob (``"head.*"``), several, or a predicate.
        max_examples: read no more than this many.
        frozen_statistics: evaluate a module in training mode as in evaluation mode: running
            statistics in batch normalisation, no dropout.

    Raises:
        InvalidArgument: when model, loss and data do not fit, are random, or mix examples.
    """
    if not isinstance(model, torch.nn.Module):
        raise InvalidArgument(f"model is {type(model).__name__}; give a torch.nn.Module")
    if not frozen_statistics:
        refuse_training_mode(model)
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    examples = read(data, max_examples, device)
    network = Network(model, loss, examples, only, evaluation=frozen_statistics)
    probe(network)
    network.check_derivatives()
    return TorchEmpirical(network, weight_decay)
