"""What is to be inspected: a built-in study, or a TOML or Python file about the user's network."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from escapade import data
from escapade.errors import InvalidArgument
from escapade.inspection.checkpoint import in_evaluation_mode, is_torch, restored
from escapade.inspection.user_code import call, function_named, importing_from, run_file
from escapade.landscape import AbstractEmpirical, network_landscape
from escapade.landscape.jax.equinox import is_stateful_pair
from escapade.study import load_specification
from escapade.study.problem import build_landscape, find_study_minimum

Table = dict[str, Any]

_NUMBER, _NAMES = (int, float), (str, list)
_TOP = {"loss": str, "weight_decay": _NUMBER, "only": _NAMES, "model": dict, "data": dict,
        "sgd": dict}  # fmt: skip
_MODEL = {"factory": str, "arguments": dict, "checkpoint": str}
_DATA = {"name": str, "factory": str, "npz": str, "arguments": dict, "max_examples": int}
_SGD = {"learning_rate": _NUMBER, "batch_size": int, "sampling": str}
_WANTED = {str: "a text in quotes", int: "a whole number", _NUMBER: "a number", dict: "a table",
           _NAMES: "a name or a list of names"}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What is to be inspected.

    Attributes:
        name: short, such as the stem of the file.
        landscape: the network on its data; its minimum, or else its initial parameters, is the
            point.
        settings: `learning_rate`, `batch_size` and `sampling`, as far as the file gives them.
        source: where it comes from, in a few words.
    """

    name: str
    landscape: AbstractEmpirical
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def load_subject(name_or_path: str) -> Subject:
    """The network that a name or a file describes.

    Args:
        name_or_path: a built-in study (its network is trained to its minimum), the path of a Python
            file with a function ``landscape()``, or of a TOML file with the tables ``[model]``,
            ``[data]`` and ``[sgd]``; that of a study is taken too.

    Raises:
        InvalidArgument: when something is missing, unknown, of the wrong kind, or does not fit.
        StudyError: when a study of that name is unknown or malformed.
        DataError: when the data cannot be loaded.
    """
    path = Path(name_or_path)
    if path.suffix not in (".py", ".toml"):
        return _study(name_or_path)
    if not path.is_file():
        raise InvalidArgument(f"{path} does not exist; check the path")
    with importing_from(path.parent):
        if path.suffix == ".py":
            return _python(path)
        content = _parsed(path)
        if "grid" in content or "landscape" in content:
            return _study(name_or_path)
        return _toml(path, content)


def _study(name: str) -> Subject:
    specification = load_specification(name)
    landscape = build_landscape(specification.landscape, specification.seed)
    assert isinstance(landscape, AbstractEmpirical)  # a study in TOML is about a network on data
    minimum = find_study_minimum(specification, landscape)
    return Subject(
        specification.name,
        landscape.at_minimum(minimum.theta),
        source=f"the minimum of study {specification.name}: {minimum}",
    )


def _python(path: Path) -> Subject:
    build = getattr(run_file(path), "landscape", None)
    if not callable(build):
        raise InvalidArgument(
            f"{path} defines no function landscape(); let it return "
            "escapade.landscapes.network_landscape(model, data)"
        )
    landscape = call(build, {}, f"landscape() of {path}")
    if not isinstance(landscape, AbstractEmpirical):
        raise InvalidArgument(
            f"landscape() of {path} returned a {type(landscape).__name__}; let it return "
            "escapade.landscapes.network_landscape(model, data)"
        )
    return Subject(path.stem, landscape, source=f"landscape() of {path}")


def _toml(path: Path, content: Table) -> Subject:
    _check(content, _TOP, f"{path}")
    model, rows, settings = (content.get(name, {}) for name in ("model", "data", "sgd"))
    _check(model, _MODEL, f"{path}: [model]")
    _check(rows, _DATA, f"{path}: [data]")
    _check(settings, _SGD, f"{path}: [sgd]")
    if "factory" not in model:
        raise InvalidArgument(
            f'{path}: [model] needs factory = "package.module:function" or "file.py:function", '
            "which returns the network"
        )
    network, parameters = _apart(_made(path, model, f"{path}: [model]"))
    if "checkpoint" in model:
        network, parameters = restored(network, parameters, path.parent / model["checkpoint"])
    options: Table = {"weight_decay": 0.0}
    options |= {name: content[name] for name in ("loss", "only", "weight_decay") if name in content}
    landscape = _landscape(
        in_evaluation_mode(network),
        parameters,
        _data(path, rows),
        rows.get("max_examples"),
        options,
    )
    return Subject(path.stem, landscape, settings, str(path))


def _apart(network: Any) -> tuple[Any, Any]:
    """A network, and its parameters where the factory returned both."""
    if isinstance(network, tuple) and len(network) == 2 and not is_stateful_pair(network):
        return network
    return network, None


def _landscape(
    network: Any, parameters: Any, rows: Any, max_examples: int | None, options: Table
) -> AbstractEmpirical:
    if max_examples is None:
        return network_landscape(network, rows, parameters=parameters, **options)
    if is_torch(network):
        # A loader is read only so far.
        from escapade.landscape.torch import torch_network

        loss = options.pop("loss", "cross_entropy")
        return torch_network(network, loss, rows, max_examples=max_examples, **options)
    if isinstance(rows, data.Dataset):
        rows = (rows.inputs, rows.labels)
    first = jax.tree.map(lambda leaf: leaf[:max_examples], tuple(rows))
    return network_landscape(network, first, parameters=parameters, **options)


def _data(path: Path, rows: Table) -> Any:
    where = f"{path}: [data]"
    given = [name for name in ("name", "factory", "npz") if name in rows]
    if len(given) != 1:
        raise InvalidArgument(
            f"{where} gives {' and '.join(given) or 'no data'}; give one of name (a data set of "
            "Escapade), factory (a function that returns the data) and npz (a file of inputs and "
            "targets)"
        )
    match given[0]:
        case "name":
            return data.load(rows["name"], **rows.get("arguments", {}))
        case "npz":
            return _npz(path.parent / rows["npz"], where)
        case _:
            return _made(path, rows, where)


def _npz(path: Path, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InvalidArgument(f"{where} npz {path} cannot be read ({error})") from error
    if set(arrays) != {"inputs", "targets"}:
        raise InvalidArgument(
            f"{where} npz {path} holds {', '.join(sorted(arrays)) or 'nothing'}; save it with "
            "numpy.savez(path, inputs=..., targets=...)"
        )
    return arrays["inputs"], arrays["targets"]


def _made(path: Path, table: Table, where: str) -> Any:
    """What the factory of a table returns."""
    where = f"{where} factory {table['factory']}"
    return call(
        function_named(table["factory"], path.parent, where), table.get("arguments", {}), where
    )


def _parsed(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read as TOML: {error}") from error


def _check(table: Table, kinds: Mapping[str, Any], where: str) -> None:
    """Make sure that a table holds known entries of the right kinds."""
    for name, value in table.items():
        if name not in kinds:
            above = f" ({name} stands at the top, above the first [table])" if name in _TOP else ""
            raise InvalidArgument(
                f"{where} has an unknown entry {name!r}{above}; known: {', '.join(kinds)}"
            )
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            wanted = _WANTED[kinds[name]]
            raise InvalidArgument(f"{where}: {name} is {value!r}; give {wanted}")
