"""Checkpoints: the numbers of a network from a file, checked to fit."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from escapade.errors import InvalidArgument, in_one_line
from escapade.landscape.pytrees import name_of

Arrays = Mapping[str, np.ndarray]

_SHOWN = 6


def restored(network: Any, parameters: PyTree, path: Path) -> tuple[Any, PyTree]:
    """A network, and its parameters where they are apart, with the numbers of a file.

    The file is one of ``torch.save`` (a PyTorch module), ``.eqx`` of
    ``equinox.tree_serialise_leaves``, ``.msgpack`` of Flax, or ``.npz`` with one array for each
    parameter, named by its path (``layers/0/weight``, ``params.Dense_0.kernel``).

    Raises:
        InvalidArgument: when the file is missing, of an unknown kind, or does not fit.
    """
    if not path.is_file():
        raise InvalidArgument(f"checkpoint {path} does not exist; check the path")
    if is_torch(network):
        from escapade.landscape.torch import load_checkpoint

        return load_checkpoint(network, _tensors(path) if path.suffix == ".npz" else path), None
    match path.suffix:
        case ".eqx":
            return _deserialised(network, parameters, path)
        case ".npz" | ".msgpack":
            arrays = _npz(path) if path.suffix == ".npz" else _msgpack(path)
            return _filled(network, parameters, arrays, path)
    raise InvalidArgument(
        f"checkpoint {path} is of no known kind for a {type(network).__name__}; give an .eqx, "
        ".msgpack or .npz file (a .pt file belongs to a torch.nn.Module), or write a Python file "
        "with a function landscape() that loads it"
    )


def in_evaluation_mode(network: Any) -> Any:
    """The network without dropout and without statistics of the batch: how it is inspected."""
    if is_torch(network) or _is_nnx(network):
        network.eval()
        return network
    return eqx.nn.inference_mode(network) if isinstance(network, eqx.Module | tuple) else network


def is_torch(network: Any) -> bool:
    """Whether this is a PyTorch module, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)


def _is_nnx(network: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(network, nnx.Module)


def _deserialised(network: Any, parameters: PyTree, path: Path) -> tuple[Any, PyTree]:
    try:
        if parameters is None:
            return eqx.tree_deserialise_leaves(path, network), None
        return network, eqx.tree_deserialise_leaves(path, parameters)
    except Exception as error:  # of many kinds: whatever does not fit
        raise InvalidArgument(
            f"checkpoint {path} does not fit the {type(network).__name__} ({in_one_line(error)}); "
            "build it with the arguments it was trained with"
        ) from error


def _filled(network: Any, parameters: PyTree, arrays: Arrays, path: Path) -> tuple[Any, PyTree]:
    if _is_nnx(network):
        from flax import nnx

        state = nnx.state(network, nnx.Not(nnx.RngState))
        filled = _fill(nnx.to_pure_dict(state), arrays, path)
        nnx.replace_by_pure_dict(state, filled)
        nnx.update(network, state)
        return network, None
    if parameters is not None:
        return network, _fill(parameters, arrays, path)
    if jax.tree.leaves(eqx.filter(network, eqx.is_array)):
        return _fill(network, arrays, path), None
    return network, _nested(arrays)


def _fill(tree: PyTree, arrays: Arrays, path: Path) -> PyTree:
    """The tree with each of its arrays replaced by the one of its name.

    Raises:
        InvalidArgument: when names or shapes do not fit.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    wanted = {_parts(name_of(place)): leaf for place, leaf in leaves if eqx.is_array(leaf)}
    given = _beside(wanted, {_parts(name): array for name, array in arrays.items()})
    problems = {
        "missing": wanted.keys() - given.keys(),
        "unexpected": given.keys() - wanted.keys(),
        "of another shape": {
            name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape
        },
    }
    if any(problems.values()):
        told = "; ".join(f"{what}: {_listed(names)}" for what, names in problems.items() if names)
        raise InvalidArgument(
            f"checkpoint {path} does not fit; {told}. Build the network with the arguments it was "
            "trained with, or give another checkpoint"
        )
    new = [
        given[_parts(name_of(place))].astype(leaf.dtype) if eqx.is_array(leaf) else leaf
        for place, leaf in leaves
    ]
    return jax.tree.unflatten(structure, new)


def _parts(name: str) -> tuple[str, ...]:
    """Parts of a name, however they are joined: "a/b", "a.b" and "a['b']" are one."""
    return tuple(part for part in re.split(r"[/.\[\]'\"]+", name) if part)


def _beside(
    wanted: Mapping[tuple[str, ...], Any], given: Mapping[tuple[str, ...], np.ndarray]
) -> Mapping[tuple[str, ...], np.ndarray]:
    """Names with "params" in front where only one of the two sides has it."""
    if wanted.keys() & given.keys():
        return given
    if any(name[:1] == ("params",) for name in wanted):
        return {("params", *name): array for name, array in given.items()}
    kept = {name[1:]: array for name, array in given.items() if name[:1] == ("params",)}
    return kept or given


def _listed(names: Iterable[tuple[str, ...]]) -> str:
    shown = sorted("/".join(name) for name in names)
    return ", ".join(shown[:_SHOWN]) + (" ..." if len(shown) > _SHOWN else "")


def _nested(arrays: Arrays) -> dict[str, Any]:
    """Variables of a Flax linen module, from names with their paths."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = _parts(name)
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = array
    return tree if "params" in tree else {"params": tree}


def _npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument(f"checkpoint {path} cannot be read ({error})") from error


def _tensors(path: Path) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in _npz(path).items()}


def _msgpack(path: Path) -> Arrays:
    try:
        from flax import serialization
    except ImportError as error:
        raise InvalidArgument(
            f"checkpoint {path} needs Flax to be read: pip install 'escapade[flax]'"
        ) from error
    try:
        content = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:
        raise InvalidArgument(
            f"checkpoint {path} is no msgpack file of Flax, or is damaged ({in_one_line(error)}); "
            "write it with flax.serialization.to_bytes(variables)"
        ) from error
    # A training state holds more than its parameters and statistics.
    if "opt_state" in content:
        content = {name: content[name] for name in ("params", "batch_stats") if name in content}
    leaves = jax.tree_util.tree_flatten_with_path(content)[0]
    return {name_of(place): np.asarray(leaf) for place, leaf in leaves}
