"""The examples a network is evaluated on: read from whatever holds them, kept as tensors."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from escapade.data import Dataset
from escapade.errors import InvalidArgument

TARGETS = ("labels", "label", "targets", "target", "y")
"""Keys under which a batch that is a mapping holds what is to be predicted."""


class Examples:
    """Inputs and targets of all examples: trees of tensors that share one leading axis.

    Attributes:
        count: number of examples N.
    """

    def __init__(self, inputs: Any, targets: Any, device: torch.device):
        """Copy the data to the device of the network.

        Raises:
            InvalidArgument: when they are empty, ragged or not finite.
        """
        leaves, self._structure = pytree.tree_flatten((inputs, targets))
        self._leaves = [_tensor(leaf).to(device) for leaf in leaves]
        sizes = {leaf.shape[:1] for leaf in self._leaves}
        if len(sizes) != 1 or sizes <= {(), (0,)}:
            raise InvalidArgument(
                f"data has tensors of shapes {[tuple(leaf.shape) for leaf in self._leaves]}; give "
                "inputs and targets that share one leading axis of at least one example"
            )
        for leaf in self._leaves:
            bad = (~torch.isfinite(leaf)).reshape(len(leaf), -1).any(1)
            if bad.any():
                raise InvalidArgument(
                    f"data is NaN or infinite in {int(bad.sum())} examples (the first is number "
                    f"{int(bad.nonzero()[0])}); remove or impute them"
                )
        self.count = len(self._leaves[0])
        self._cast: dict[torch.dtype, list[torch.Tensor]] = {}

    @property
    def numbers(self) -> int:
        """Numbers in one example."""
        return sum(leaf[0].numel() for leaf in self._leaves)

    def take(self, index: torch.Tensor | slice, dtype: torch.dtype) -> list[torch.Tensor]:
        """Tensors of some examples, floating ones in a precision; an index of any shape."""
        if dtype not in self._cast:
            self._cast[dtype] = [
                leaf.to(dtype) if leaf.is_floating_point() else leaf for leaf in self._leaves
            ]
        if isinstance(index, slice):
            return [leaf[index] for leaf in self._cast[dtype]]
        flat = index.reshape(-1)
        return [
            leaf.index_select(0, flat).view(*index.shape, *leaf.shape[1:])
            for leaf in self._cast[dtype]
        ]

    def arranged(self, leaves: Sequence[torch.Tensor]) -> tuple[Any, Any]:
        """Inputs and targets as the network and the loss expect them."""
        inputs, targets = pytree.tree_unflatten(list(leaves), self._structure)
        return inputs, targets


def read(data: Any, max_examples: int | None, device: torch.device) -> Examples:
    """The examples in any of the forms users have them.

    Args:
        data: a pair (inputs, targets) of tensors, arrays or trees of them; a data set of Escapade
            or PyTorch; a `DataLoader`; a list of batches.
        max_examples: keep this many; needed where the data tell no length.
        device: of the network.

    Raises:
        InvalidArgument: when they are no examples, or not the same examples at each reading.
    """
    if isinstance(data, Dataset):
        inputs, targets = data.inputs, data.labels
    elif isinstance(data, tuple) and len(data) == 2:
        inputs, targets = data
    else:
        inputs, targets = _gathered(_repeatable(data, max_examples), max_examples)
    if max_examples is not None:
        inputs, targets = pytree.tree_map(lambda leaf: leaf[:max_examples], (inputs, targets))
    return Examples(inputs, targets, device)


def _tensor(leaf: Any) -> torch.Tensor:
    if isinstance(leaf, np.ndarray):
        leaf = leaf.copy()  # PyTorch warns of arrays that are read-only
    try:
        tensor = torch.as_tensor(leaf).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgument(
            f"data holds {type(leaf).__name__}; give tensors or arrays ({error})"
        ) from error
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return tensor.long() if whole else tensor


def _repeatable(data: Any, max_examples: int | None) -> Iterable[Any]:
    if isinstance(data, TorchDataset) and not isinstance(data, DataLoader):
        data = DataLoader(data, batch_size=256)
    if isinstance(data, DataLoader):
        _check_loader(data)
    if not isinstance(data, Iterable) or isinstance(data, (str, Mapping, torch.Tensor, np.ndarray)):
        raise InvalidArgument(
            f"data is a {type(data).__name__}; give (inputs, targets), a Dataset, a DataLoader or "
            "a list of batches"
        )
    if max_examples is None:
        try:
            len(data)  # type: ignore[arg-type]
        except TypeError as error:
            raise InvalidArgument(
                f"data is a {type(data).__name__} without a length; say how much of it to read "
                "(max_examples=10_000), or give a list of batches"
            ) from error
    return data


def _check_loader(loader: DataLoader) -> None:
    try:
        held, size = len(loader.dataset), loader.batch_size  # type: ignore[arg-type]
    except TypeError:
        return
    if loader.drop_last and size and held % size:
        raise InvalidArgument(
            f"data is a DataLoader with drop_last=True: it leaves out {held % size} of {held} "
            "examples, and with shuffling others each time; build it with drop_last=False"
        )


def _gathered(batches: Iterable[Any], max_examples: int | None) -> tuple[Any, Any]:
    """All batches in a row, after making sure that a second reading gives the same."""
    # Loaders draw from the global generator; the user's stream stays where it was.
    with torch.random.fork_rng(devices=[]):
        first = iter(batches)
        pairs = list(_pairs(first, max_examples))
        if not pairs:
            raise InvalidArgument("data holds no batch; give at least one example")
        if first is not batches:
            _check_second_reading(pairs, _pairs(iter(batches), max_examples))
    trees = [pytree.tree_flatten(pair) for pair in pairs]
    structure = trees[0][1]
    if any(other != structure for _, other in trees):
        raise InvalidArgument("data has batches of different structures; give them all one")
    try:
        leaves = [torch.cat(parts) for parts in zip(*(leaves for leaves, _ in trees), strict=True)]
    except RuntimeError as error:
        raise InvalidArgument(
            f"data has batches that do not join ({error}); pad the examples to one shape"
        ) from error
    inputs, targets = pytree.tree_unflatten(leaves, structure)
    return inputs, targets


def _pairs(batches: Iterator[Any], max_examples: int | None) -> Iterator[tuple[Any, Any]]:
    seen = 0
    for batch in batches:
        pair = pytree.tree_map(_tensor, _pair(batch))
        yield pair
        seen += len(pytree.tree_leaves(pair)[0])
        if max_examples is not None and seen >= max_examples:
            return


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        key = next((name for name in TARGETS if name in batch), None)
        if key is not None:
            return {name: batch[name] for name in batch if name != key}, batch[key]
        raise InvalidArgument(
            f"data has batches with keys {', '.join(map(str, batch))}; one of them must be "
            f"{', '.join(TARGETS)}, or give batches (inputs, targets)"
        )
    if isinstance(batch, (tuple, list)) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    raise InvalidArgument(
        f"data has batches of type {type(batch).__name__}; each must be (inputs, targets)"
    )


def _check_second_reading(first: list[tuple[Any, Any]], second: Iterator[tuple[Any, Any]]) -> None:
    for one, other in itertools.zip_longest(first, second):
        same = (
            one is not None
            and other is not None
            and all(
                a.shape == b.shape and torch.equal(a, b)
                for a, b in zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=False)
            )
        )
        if not same:
            raise InvalidArgument(
                "data differs between two readings: the loader shuffles or augments at random, so "
                "the loss would be another one each time; give a DataLoader with shuffle=False "
                "over a data set without random transforms, or a list of batches"
            )
