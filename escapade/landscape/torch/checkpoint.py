"""Loading a checkpoint into a module, saying what does not fit."""

import copy
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from escapade.errors import InvalidArgument

_WRAPPINGS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("model.", "module.", "_orig_mod.")


def load_checkpoint(
    model: torch.nn.Module, checkpoint: str | PathLike[str] | Mapping[str, Any]
) -> torch.nn.Module:
    """A copy of the module with the parameters and buffers of a checkpoint.

    Args:
        model: the architecture.
        checkpoint: a file written by ``torch.save``, or what it holds: a state dictionary, alone or
            under "state_dict", "model_state_dict" or "model", with or without the prefixes that
            Lightning, DataParallel and torch.compile put before the names. Files are read with
            ``weights_only=True``, so that nothing in them is run.

    Raises:
        InvalidArgument: when the file cannot be read, or names or shapes do not fit.
    """
    state = _state(_read(checkpoint) if isinstance(checkpoint, (str, PathLike)) else checkpoint)
    expected = model.state_dict()
    state = _renamed(state, set(expected))
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshaped = [
        f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = [
        f"{title}: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        for title, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
        )
        if names
    ]
    if problems:
        raise InvalidArgument(
            f"checkpoint does not fit {type(model).__name__}; {'; '.join(problems)}. Build the "
            "model with the arguments it was trained with, or give another checkpoint"
        )
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(state)
    return loaded


def _read(path: str | PathLike[str]) -> Any:
    if not Path(path).is_file():
        raise InvalidArgument(f"checkpoint is {str(path)!r}, which is no file; check the path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidArgument(
            f"checkpoint {str(path)!r} holds more than tensors, or is damaged ({reason}); save "
            "model.state_dict() alone"
        ) from error


def _state(content: Any) -> dict[str, torch.Tensor]:
    if isinstance(content, Mapping):
        for key in _WRAPPINGS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
    raise InvalidArgument(
        "checkpoint holds no state dictionary (names with tensors), alone or under one of "
        f"{', '.join(_WRAPPINGS)}; save model.state_dict()"
    )


def _renamed(state: dict[str, torch.Tensor], expected: set[str]) -> dict[str, torch.Tensor]:
    """Names without a prefix that all of them share, where that makes more of them fit."""
    best = state
    stripped = state
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in stripped)), None):
        stripped = {name.removeprefix(prefix): value for name, value in stripped.items()}
        if len(expected & stripped.keys()) > len(expected & best.keys()):
            best = stripped
    return best
