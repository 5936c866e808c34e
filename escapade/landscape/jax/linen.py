"""Flax linen modules; imported only when the user's module is one."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxtyping import PyTree

from escapade.errors import InvalidArgument
from escapade.landscape.jax._base import Network

EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}
"""What arguments of ``__call__`` of these names are given: evaluation, never training."""


def from_linen(module: Any, variables: Mapping[str, PyTree] | None) -> Network:
    """A linen module and its variables: ``params`` move, other collections stay.

    Raises:
        InvalidArgument: when the variables are missing or hold no ``params``.
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise InvalidArgument(
            f"parameters is {_kind(variables)}; a Flax linen module needs its variables, "
            'parameters=module.init(key, inputs) or {"params": ..., "batch_stats": ...}'
        )
    accepted = inspect.signature(type(module).__call__).parameters
    flags = {name: value for name, value in EVALUATION.items() if name in accepted}
    fixed = {name: tree for name, tree in variables.items() if name != "params"}
    apply, title = partial(_apply, module, flags), f"Flax linen {type(module).__name__}"
    return Network(apply, variables["params"], fixed, True, title)


def _apply(
    module: Any, flags: dict[str, bool], parameters: PyTree, fixed: dict[str, PyTree], inputs: Any
) -> Any:
    return module.apply({"params": parameters, **fixed}, inputs, **flags)


def _kind(variables: Any) -> str:
    if isinstance(variables, Mapping):
        return f"a mapping of {', '.join(map(str, variables)) or 'nothing'}"
    return "missing" if variables is None else f"a {type(variables).__name__}"
