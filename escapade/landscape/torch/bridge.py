"""The derivatives of a PyTorch network as one JAX primitive: compiled, batched, differentiable.

A primitive of our own, rather than `jax.pure_callback` under `custom_jvp`, because it can be
differentiated in both modes to any order, and tells the host which operands replicas share.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from escapade.landscape.examples import Indices
from escapade.landscape.torch.derivatives import Derivatives

_derivative = Primitive("torch_derivative")
_words = Primitive("torch_derivative_words")


def losses(
    derivatives: Derivatives, theta: Float[Array, " dim"], index: Indices | None
) -> Float[Array, " batch"]:
    """Loss of each of some examples, or of all."""
    return _bind(derivatives, True, jnp.asarray(theta)[None], _lane(index), None, [])[0]


def mean_gradient(
    derivatives: Derivatives, theta: Float[Array, " dim"], index: Indices | None
) -> Float[Array, " dim"]:
    """Gradient of the mean loss of some examples, or of all."""
    return _bind(derivatives, False, jnp.asarray(theta)[None], _lane(index), None, [])[0]


def _lane(index: Indices | None) -> Array | None:
    return None if index is None else jnp.asarray(index)[None]


def _bind(
    derivatives: Derivatives,
    by_example: bool,
    theta: Array,
    index: Array | None,
    weights: Array | None,
    directions: list[Array],
) -> Array:
    head = [operand for operand in (theta, index, weights) if operand is not None]
    return _derivative.bind(
        *head,
        *directions,
        derivatives=derivatives,
        by_example=by_example,
        indexed=index is not None,
        weighted=weights is not None,
    )


def _parts(operands: Any, indexed: bool, weighted: bool) -> tuple[Any, Any, Any, list[Any]]:
    theta, *rest = operands
    index = rest.pop(0) if indexed else None
    weights = rest.pop(0) if weighted else None
    return theta, index, weights, rest


def _on_host(
    *operands: Any, derivatives: Derivatives, by_example: bool, indexed: bool, weighted: bool
) -> np.ndarray:
    theta, index, weights, directions = _parts(map(np.asarray, operands), indexed, weighted)
    return derivatives(by_example, theta, index, weights, directions)


def _shape(
    *operands: Any, derivatives: Derivatives, by_example: bool, indexed: bool, weighted: bool
) -> ShapedArray:
    theta, index, _, _ = _parts(operands, indexed, weighted)
    lanes = max(operand.shape[0] for operand in operands)
    count = derivatives.network.data.count if index is None else index.shape[1]
    return ShapedArray((lanes, count if by_example else theta.shape[1]), theta.dtype)


def _evaluate(*operands: Any, **parameters: Any) -> Array:
    return jnp.asarray(_on_host(*operands, **parameters))


def _from_words(*operands: Any, **parameters: Any) -> Array:
    """The value in compiled code, received as 32-bit words.

    JAX rounds what a callback returns to the precision that is set in the thread the callback runs
    in, which need not be the caller's; words it leaves alone.
    """
    dtype = operands[0].dtype
    words = _words.bind(*operands, **parameters)
    return lax.bitcast_convert_type(words if dtype.itemsize == 8 else words[..., 0], dtype)


def _shape_of_words(*operands: Any, **parameters: Any) -> ShapedArray:
    value = _shape(*operands, **parameters)
    return ShapedArray((*value.shape, value.dtype.itemsize // 4), np.dtype(np.uint32))


def _lower_words(ctx: Any, *operands: Any, **parameters: Any) -> Any:
    def words(*arrays: np.ndarray) -> tuple[np.ndarray]:
        value = np.ascontiguousarray(_on_host(*arrays, **parameters))
        return (value.view(np.uint32).reshape(*value.shape, -1),)

    # A callback of its own receives NumPy arrays; that of jax.pure_callback first puts them on a
    # device, which can wait for the very thread that runs the callback.
    results, _, _ = mlir.emit_python_callback(
        ctx,
        words,
        None,
        list(operands),
        ctx.avals_in,
        ctx.avals_out,
        has_side_effect=False,
        returns_token=False,
    )
    return results


def _jvp(
    primals: Any,
    tangents: Any,
    *,
    derivatives: Derivatives,
    by_example: bool,
    indexed: bool,
    weighted: bool,
) -> Any:
    theta, index, weights, directions = _parts(primals, indexed, weighted)
    d_theta, _, d_weights, d_directions = _parts(tangents, indexed, weighted)
    value = _bind(derivatives, by_example, theta, index, weights, directions)
    terms = []
    if type(d_theta) is not ad.Zero:
        along = [*directions, d_theta]
        terms.append(_bind(derivatives, by_example, theta, index, weights, along))
    if weights is not None and type(d_weights) is not ad.Zero:
        terms.append(_bind(derivatives, by_example, theta, index, d_weights, directions))
    for number, tangent in enumerate(d_directions):
        if type(tangent) is not ad.Zero:
            moved = [*directions[:number], tangent, *directions[number + 1 :]]
            terms.append(_bind(derivatives, by_example, theta, index, weights, moved))
    # JAX asks only when some tangent is not zero, and an index has none.
    first, *others = (jnp.broadcast_to(term, value.shape) for term in terms)
    return value, sum(others, first)


def _transpose(
    cotangent: Any,
    *operands: Any,
    derivatives: Derivatives,
    by_example: bool,
    indexed: bool,
    weighted: bool,
) -> Any:
    result: list[Any] = [None] * len(operands)
    place = next(i for i, operand in enumerate(operands) if ad.is_undefined_primal(operand))
    if type(cotangent) is ad.Zero:
        result[place] = ad.Zero(operands[place].aval)
        return result
    theta, index, weights, directions = _parts(operands, indexed, weighted)
    if weights is not None and ad.is_undefined_primal(weights):
        pulled = _bind(derivatives, True, theta, index, None, [*directions, cotangent])
    else:
        number = next(i for i, v in enumerate(directions) if ad.is_undefined_primal(v))
        others = [*directions[:number], *directions[number + 1 :]]
        if by_example:
            pulled = _bind(derivatives, False, theta, index, cotangent, others)
        else:
            pulled = _bind(derivatives, False, theta, index, weights, [*others, cotangent])
    if operands[place].aval.shape[0] == 1 and pulled.shape[0] > 1:
        pulled = jnp.sum(pulled, axis=0, keepdims=True)
    result[place] = pulled
    return result


def _batch(operands: Any, axes: Any, **parameters: Any) -> Any:
    size = next(
        operand.shape[axis]
        for operand, axis in zip(operands, axes, strict=True)
        if axis is not None
    )
    stacked = [
        operand[None] if axis is None else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
    ]
    lanes = max(operand.shape[1] for operand in stacked)
    flat = []
    for operand in stacked:
        if operand.shape[:2] != (1, 1):
            operand = jnp.broadcast_to(operand, (size, lanes, *operand.shape[2:]))
        flat.append(operand.reshape(-1, *operand.shape[2:]))
    result = _derivative.bind(*flat, **parameters)
    return result.reshape(size, lanes, *result.shape[1:]), 0


_derivative.def_impl(_evaluate)
_derivative.def_abstract_eval(_shape)
mlir.register_lowering(_derivative, mlir.lower_fun(_from_words, multiple_results=False))
ad.primitive_jvps[_derivative] = _jvp
ad.primitive_transposes[_derivative] = _transpose
batching.primitive_batchers[_derivative] = _batch
_words.def_abstract_eval(_shape_of_words)
mlir.register_lowering(_words, _lower_words)
