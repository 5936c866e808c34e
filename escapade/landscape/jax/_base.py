"""What every framework's network is turned into: a function of parameters, buffers and inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PyTree


class Network(NamedTuple):
    """A network taken apart.

    Attributes:
        apply: ``apply(parameters, buffers, inputs) -> outputs``, without state or randomness.
        parameters: what moves.
        buffers: arrays that do not move, such as the statistics of a BatchNorm.
        batched: whether `apply` wants a leading axis of examples.
        title: what the network is, in a few words.
    """

    apply: Callable[[PyTree, PyTree, Any], Any]
    parameters: PyTree
    buffers: PyTree
    batched: bool
    title: str
