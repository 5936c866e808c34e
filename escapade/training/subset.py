"""The loss over a fixed subset of the examples, and where a training loop's model is on it."""

import sys
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractEmpirical, Empirical

Point = Float[np.ndarray, " dim"]


class Subset:
    """What is watched of a landscape.

    Attributes:
        landscape: the loss over the subset; the landscape itself where all examples are taken.
        examples: n, of the subset.
        population: N, of the landscape.
    """

    def __init__(self, landscape: AbstractEmpirical, examples: int, generator: np.random.Generator):
        """Draw the subset.

        Raises:
            InvalidArgument: when examples of this landscape cannot be taken out.
        """
        self.population = landscape.examples
        self.examples = min(examples, self.population)
        index = np.sort(generator.choice(self.population, self.examples, replace=False))
        self._torch = _torch_side(landscape)
        # A copy of a PyTorch network even of all examples: it will follow the training.
        try:
            self.landscape = landscape.subset(index)
        except Unsupported as error:
            if self.examples < self.population:
                raise InvalidArgument(
                    f"examples is {examples} but a subset of a {type(landscape).__name__} cannot "
                    f"be taken; give examples={self.population}, all of them"
                ) from error
            self.landscape = landscape

    @property
    def error_share(self) -> float:
        """Variance of a mean over the subset, per variance over the population."""
        left_out = (self.population - self.examples) / max(self.population - 1, 1)
        return left_out / self.examples

    def theta(self, model: Any) -> Point:
        """Parameters as a flat vector, in the landscape's order: a new array.

        A PyTorch module's buffers (statistics of batch normalisation) are taken over too.

        Raises:
            InvalidArgument: when the model does not fit the landscape.
        """
        if self._torch is not None and self._torch.is_module(model):
            return self._torch.read(self.landscape, model)
        if _is_vector(model):
            theta = np.array(model.detach().cpu().numpy() if hasattr(model, "detach") else model)
            if theta.shape != (self.landscape.dim,):
                raise InvalidArgument(
                    f"theta has shape {theta.shape} but the landscape has {self.landscape.dim} "
                    "parameters"
                )
            return theta.astype(np.float64)
        if isinstance(self.landscape, Empirical):
            return _of_pytree(self.landscape, model)
        raise InvalidArgument(
            f"a {type(model).__name__} does not fit a {type(self.landscape).__name__}; give its "
            "parameters as one flat vector"
        )


def _is_vector(model: Any) -> bool:
    return isinstance(model, list) or (hasattr(model, "shape") and len(model.shape) == 1)


def _torch_side(landscape: AbstractEmpirical) -> Any:
    """The functions for PyTorch networks; None where the landscape is none."""
    provider = sys.modules.get("escapade.landscape.torch")
    if provider is None or not isinstance(landscape, provider.TorchEmpirical):
        return None
    from escapade.training import torch_networks

    return torch_networks


def _of_pytree(landscape: Empirical, model: Any) -> Point:
    """The arrays that move, of parameters in the landscape's own structure, raveled."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(model, nnx.Module):
        model = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moving, structure = jax.tree.flatten(landscape.moving, is_leaf=lambda leaf: leaf is None)
    if isinstance(model, dict) and "params" in model and "params" not in landscape.moving:
        model = model["params"]
    try:
        given = structure.flatten_up_to(model)  # type: ignore[attr-defined]
    except ValueError as error:
        raise InvalidArgument(
            f"a {type(model).__name__} has not the structure of the landscape's parameters "
            f"({error}); give those, or one flat vector"
        ) from error
    parts = []
    for own, leaf in zip(moving, given, strict=True):
        if own is None:
            continue
        if np.shape(leaf) != own.shape:
            raise InvalidArgument(
                f"a parameter has shape {np.shape(leaf)}, the landscape's {own.shape}; give the "
                "parameters of the network the landscape was built with"
            )
        parts.append(np.ravel(np.asarray(leaf, np.float64)))
    return np.concatenate(parts) / landscape.scale
