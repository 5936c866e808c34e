"""The loss of each example, from the losses users have."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from escapade.errors import InvalidArgument

Loss = str | torch.nn.Module | Callable[[Any, Any], torch.Tensor]
ExampleLoss = Callable[[Any, Any], torch.Tensor]
"""Outputs and targets of n examples to n losses."""


def example_loss(loss: Loss, outputs: Any, targets: Any, dtype: torch.dtype) -> ExampleLoss:
    """What computes the loss of each example.

    Args:
        loss: ``"cross_entropy"`` of the softmax over the last axis, averaged over positions;
            ``"square"``, half the squared distance of the outputs to the targets (one-hot, where
            these are classes); a loss module of PyTorch, taken example by example; or a function
            of (outputs, targets).
        outputs: of two or more examples, to try it on.
        targets: theirs.
        dtype: precision of the outputs.

    Raises:
        InvalidArgument: when the loss is unknown, does not fit, or mixes the examples.
    """
    if isinstance(loss, str):
        if loss not in _NAMED:
            raise InvalidArgument(
                f"loss is {loss!r}; choose one of {', '.join(_NAMED)}, or give a loss module or a "
                "function (outputs, targets) -> loss of each example"
            )
        function = _NAMED[loss]
    elif isinstance(loss, torch.nn.Module) and isinstance(getattr(loss, "reduction", None), str):
        function = _unreduced(loss, outputs, targets, dtype)
    elif callable(loss):
        function = copy.deepcopy(loss).to(dtype) if isinstance(loss, torch.nn.Module) else loss
    else:
        raise InvalidArgument(
            f"loss is {loss!r}; give {' or '.join(map(repr, _NAMED))}, a loss module, or a "
            "function of (outputs, targets)"
        )
    count = len(targets) if isinstance(targets, torch.Tensor) else None
    try:
        value = function(outputs, targets)
    except Exception as error:
        raise InvalidArgument(
            f"loss cannot be computed on outputs and targets ({error})"
        ) from error
    if not isinstance(value, torch.Tensor) or value.ndim > 1:
        raise InvalidArgument(
            f"loss returns {_described(value)}; it must return one number for each example, "
            "shape (n,), or one number"
        )
    if value.ndim == 1 and count is not None and len(value) != count:
        raise InvalidArgument(
            f"loss returns {len(value)} numbers for {count} examples; it must return one each"
        )
    return function if value.ndim == 1 else _one_by_one(function)


def _cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    # Faster than functional.cross_entropy in ensembles, which guards against an ignored class.
    losses = -functional.log_softmax(scores, -1).gather(-1, labels[..., None])[..., 0]
    return losses if losses.ndim == 1 else losses.reshape(len(losses), -1).mean(1)


def _square(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if not targets.is_floating_point():
        targets = functional.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    difference = outputs - targets.view_as(outputs)
    return 0.5 * difference.square().reshape(len(difference), -1).sum(1)


_NAMED: dict[str, ExampleLoss] = {"cross_entropy": _cross_entropy, "square": _square}


def _unreduced(
    loss: torch.nn.Module, outputs: Any, targets: Any, dtype: torch.dtype
) -> ExampleLoss:
    """A loss module that does not reduce over the examples, checked against one that does."""
    reduced = copy.deepcopy(loss).to(dtype)
    single = copy.deepcopy(reduced)
    setattr(single, "reduction", "none")  # noqa: B010 -- an attribute of some modules only
    over_rest = torch.sum if loss.reduction == "batchmean" else torch.mean
    if loss.reduction == "sum":
        raise InvalidArgument(
            f"loss is {type(loss).__name__}(reduction='sum'): SGD on it steps by the batch's sum, "
            "not its mean; use reduction='mean' and multiply the learning rate by the batch size"
        )

    def losses(outputs: Any, targets: Any) -> torch.Tensor:
        values = single(outputs, targets)
        return over_rest(values.reshape(values.shape[0], -1), dim=1)

    if loss.reduction != "none":
        whole, mean = reduced(outputs, targets), losses(outputs, targets).mean()
        if not torch.allclose(whole, mean, rtol=1e-4, atol=1e-12):
            raise InvalidArgument(
                f"loss is a {type(loss).__name__} whose mean over a batch ({float(whole):.6g}) is "
                f"not the mean over its examples ({float(mean):.6g}): class weights or an ignored "
                "index make one example's share depend on the others; give a function of (outputs, "
                "targets) that returns the loss of each example"
            )
    return losses


def _one_by_one(function: Callable[[Any, Any], torch.Tensor]) -> ExampleLoss:
    """A loss that returns one number, applied to batches of one example."""

    def one(outputs: Any, targets: Any) -> torch.Tensor:
        batch = torch.utils._pytree.tree_map(lambda leaf: leaf[None], (outputs, targets))
        return function(*batch)

    def losses(outputs: Any, targets: Any) -> torch.Tensor:
        leaves, structure = torch.utils._pytree.tree_flatten((outputs, targets))
        try:
            return torch.func.vmap(one)(outputs, targets)
        except RuntimeError:  # branches on values, .item(), ...
            rows = [[leaf[i] for leaf in leaves] for i in range(len(leaves[0]))]
            trees = [torch.utils._pytree.tree_unflatten(row, structure) for row in rows]
            return torch.stack([one(*tree) for tree in trees])

    return losses


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
