"""Reading the user's pytrees: which arrays move, what they are called, how many examples."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from escapade.errors import InvalidArgument
from escapade.landscape.selection import Choice, chosen


def number_of_examples(data: PyTree) -> int:
    """Length of the one leading axis of arrays.

    Raises:
        InvalidArgument: when they share none, or it is empty.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise InvalidArgument(
            f"data has arrays of leading sizes {sorted(sizes)}; give arrays that share one "
            "leading axis of at least one example"
        )
    return int(sizes.pop()[0])


def moving_by_name(parameters: PyTree, only: Choice) -> tuple[PyTree, PyTree]:
    """The floating-point arrays chosen by name, and all the rest."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(parameters)
    candidates = [name_of(path) for path, leaf in leaves if eqx.is_inexact_array(leaf)]
    moves = iter(chosen(candidates, only))
    selected = [eqx.is_inexact_array(leaf) and next(moves) for _, leaf in leaves]
    return eqx.partition(parameters, jax.tree.unflatten(structure, selected))


def name_of(path: tuple[Any, ...]) -> str:
    """``layers[0].weight``."""
    keys = jax.tree_util
    name = ""
    for key in path:
        if isinstance(key, keys.SequenceKey | keys.FlattenedIndexKey):
            name += keys.keystr((key,)).replace("<flat index ", "").replace(">", "")
        else:
            name += f".{keys.keystr((key,), simple=True)}"
    return name.removeprefix(".") or "parameters"


def cast(dtype: Any, tree: PyTree) -> PyTree:
    """Real arrays in one precision; the rest as it is."""

    def convert(leaf: Any) -> Any:
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if real else leaf

    return jax.tree.map(convert, tree)


def is_numeric(leaf: Any) -> bool:
    """Whether it is an array of numbers; random keys, for one, are not."""
    return eqx.is_array(leaf) and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)


def to_host(leaf: Any) -> Any:
    """A NumPy array instead of an array of numbers."""
    return np.asarray(leaf) if is_numeric(leaf) else leaf
