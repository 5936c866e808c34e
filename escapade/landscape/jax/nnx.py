"""Flax nnx modules; imported only when the user's module is one."""

from functools import partial
from typing import Any

from flax import nnx
from jaxtyping import PyTree

from escapade.errors import InvalidArgument
from escapade.landscape.jax._base import Network

EVALUATION = {"deterministic": True, "use_running_average": True}
"""Flags that ``module.eval()`` sets."""


def from_nnx(module: Any) -> Network:
    """An nnx module: its `Param`s move, other variables stay; a shared `Param` counts once.

    Raises:
        InvalidArgument: when a layer is in training mode.
    """
    training = sorted(
        {type(layer).__name__ for _, layer in nnx.iter_modules(module) if _trains(layer)}
    )
    if training:
        raise InvalidArgument(
            f"the network is in training mode ({', '.join(training)}), so the loss of one example "
            "is random or depends on others; call network.eval() first"
        )
    graph, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    parameters, random, rest = states
    apply, title = partial(_apply, graph, random), f"Flax nnx {type(module).__name__}"
    return Network(apply, nnx.to_pure_dict(parameters), nnx.to_pure_dict(rest), True, title)


def _trains(layer: Any) -> bool:
    if getattr(layer, "rate", None) == 0:
        return False
    return any(getattr(layer, name, off) is (not off) for name, off in EVALUATION.items())


def _apply(graph: Any, random: Any, parameters: PyTree, rest: PyTree, inputs: Any) -> Any:
    return nnx.merge(graph, parameters, random, rest)(inputs)
