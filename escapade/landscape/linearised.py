"""Linear maps of chunks of examples: linearised once where memory allows, anew where it does not.

Griewank and Walther, Evaluating Derivatives (2008), chapters 3 and 5: a tangent and a cotangent
cost a small multiple of the function, and less where the intermediate results are kept.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

if TYPE_CHECKING:
    from escapade.landscape.empirical import Empirical


class Chunk(eqx.Module):
    """Everything the losses of some examples depend on, at one point.

    Attributes:
        landscape: the loss, without its examples.
        moving: the parameters that move.
        examples: data of the chunk.
        present: one for each of its examples, zero for those that fill up the last chunk.
    """

    landscape: "Empirical"
    moving: PyTree
    examples: PyTree
    present: Float[Array, " chunk"]


Differentiable = Callable[[Chunk, PyTree], PyTree]
"""A function of a chunk and of parameters that move; `chunk.moving` is where it is linearised."""


def losses(chunk: Chunk, moving: PyTree) -> Float[Array, " chunk"]:
    """Loss of each example, without weight decay; zero for those that fill up."""
    return chunk.present * jax.vmap(chunk.landscape._each(moving))(chunk.examples)


def gradient(chunk: Chunk, moving: PyTree) -> PyTree:
    """Gradient of the sum of the losses."""
    return jax.grad(lambda point: jnp.sum(losses(chunk, point)))(moving)


class _Residuals(eqx.Module):
    """What a linearised function needs beside its chunk, which is there anyway."""

    kept: tuple[Array, ...]
    shared: tuple[int | None, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def push(self, chunk: Chunk) -> Callable[[PyTree], PyTree]:
        """The linear map."""
        given, kept = jax.tree.leaves(chunk), iter(self.kept)
        leaves = [next(kept) if place is None else given[place] for place in self.shared]
        return jax.tree.unflatten(self.structure, leaves)


class Linearised:
    """One function, linearised on every chunk."""

    def __init__(self, function: Differentiable, chunks: list[Chunk], memory: float):
        """Linearise nothing yet; `memory` is how many bytes of residuals may be kept."""
        self._function = function
        self._chunks = chunks
        self._memory = memory
        self._residuals: list[_Residuals] = []
        self._room = len(chunks)

    def pieces(self) -> Iterator[tuple[Differentiable, Chunk, _Residuals | None]]:
        """What `along` and its siblings take, chunk by chunk."""
        for number, chunk in enumerate(self._chunks):
            yield self._function, chunk, self._kept(number)

    def _kept(self, number: int) -> _Residuals | None:
        if number >= self._room:
            return None
        if number == len(self._residuals):
            residuals = _linearise(self._function, self._chunks[number])
            self._room = min(self._room, int(self._memory // max(1, _bytes(residuals.kept))))
            if number >= self._room:
                return None
            self._residuals.append(residuals)
        return self._residuals[number]


@eqx.filter_jit
def along(
    function: Differentiable,
    chunk: Chunk,
    residuals: _Residuals | None,
    vector: Float[Array, " dim"],
) -> Float[Array, " n"]:
    """The linear map of a chunk on a flat vector."""
    return _ravel(_push(function, chunk, residuals)(chunk.landscape._unravelled(vector)))


@eqx.filter_jit
def back(
    function: Differentiable,
    chunk: Chunk,
    residuals: _Residuals | None,
    weights: Float[Array, " chunk"],
) -> Float[Array, " dim"]:
    """The transpose of the linear map of `losses`, on weights of the examples."""
    push = _push(function, chunk, residuals)
    return _ravel(jax.linear_transpose(push, chunk.moving)(weights)[0])


@eqx.filter_jit
def back_and_along(
    function: Differentiable,
    chunk: Chunk,
    residuals: _Residuals | None,
    vector: Float[Array, " dim"],
    mean: Float[Array, ""],
) -> Float[Array, " dim"]:
    """Both in turn, with the mean slope taken off in between."""
    push = _push(function, chunk, residuals)
    slopes = push(chunk.landscape._unravelled(vector)) - mean
    return _ravel(jax.linear_transpose(push, chunk.moving)(slopes)[0])


@eqx.filter_jit
def losses_and_gradient(chunk: Chunk) -> tuple[Float[Array, " chunk"], Float[Array, " dim"]]:
    """Loss of each example, and gradient of their sum."""
    values, pull = jax.vjp(lambda moving: losses(chunk, moving), chunk.moving)
    return values, _ravel(pull(jnp.ones_like(values))[0])


@eqx.filter_jit
def curvatures(chunk: Chunk, vector: Float[Array, " dim"]) -> Float[Array, " chunk"]:
    """Second derivative of each example's loss along a vector."""
    tangent = (chunk.landscape._unravelled(vector),)

    def slopes(moving: PyTree) -> Float[Array, " chunk"]:
        return jax.jvp(lambda point: losses(chunk, point), (moving,), tangent)[1]

    return jax.jvp(slopes, (chunk.moving,), tangent)[1]


def chunk_size(
    function: Differentiable, chunk_of: Callable[[int], Chunk], examples: int, limit: float
) -> int:
    """Most examples whose residuals fit `limit` bytes, made even over the chunks.

    Counted on the shapes of one and two examples; nothing is computed.
    """

    def kept(count: int) -> int:
        leaves, structure = jax.tree.flatten(chunk_of(count))
        return _bytes_kept(function, structure, tuple(map(_bare, leaves)))

    one = max(1, kept(1))
    if one * examples <= limit or examples == 1:
        return examples
    each = max(1, kept(2) - one)
    chunks = math.ceil(examples / max(1, limit // each))
    return math.ceil(examples / chunks)


@eqx.filter_jit
def _linearise(function: Differentiable, chunk: Chunk) -> _Residuals:
    push = jax.linearize(lambda moving: function(chunk, moving), chunk.moving)[1]
    leaves, structure = jax.tree.flatten(push)
    given = jax.tree.leaves(chunk)
    shared = tuple(next((k for k, one in enumerate(given) if one is leaf), None) for leaf in leaves)
    kept = tuple(leaf for leaf, place in zip(leaves, shared, strict=True) if place is None)
    return _Residuals(kept, shared, structure)


@functools.lru_cache(maxsize=64)
def _bytes_kept(function: Differentiable, structure: Any, leaves: tuple[Any, ...]) -> int:
    """Of a chunk known by its shapes: traced once, not at each point that is expanded around."""
    chunk = jax.tree.unflatten(structure, leaves)
    return _bytes(eqx.filter_eval_shape(_linearise, function, chunk).kept)


def _bare(leaf: Any) -> Any:
    """What compiled code is made for: the shape and the type of an array, anything else itself."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def _push(
    function: Differentiable, chunk: Chunk, residuals: _Residuals | None
) -> Callable[[PyTree], PyTree]:
    if residuals is not None:
        return residuals.push(chunk)
    return jax.linearize(lambda moving: function(chunk, moving), chunk.moving)[1]


def _ravel(tree: PyTree) -> Float[Array, " n"]:
    return ravel_pytree(tree)[0]


def _bytes(arrays: tuple[Any, ...]) -> int:
    return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
