"""Losses that are means over examples: what SGD samples."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.landscape._base import as_numbers, as_points, positive_number
from escapade.landscape.convolutions import each_example
from escapade.landscape.examples import AbstractEmpirical, AbstractExpansion, Indices
from escapade.landscape.expansion import Expansion
from escapade.landscape.pytrees import (
    cast,
    is_numeric,
    moving_by_name,
    name_of,
    number_of_examples,
    to_host,
)
from escapade.landscape.selection import Choice
from escapade.precision import AnyArray, float64, host_or_traced


class _Fixed:
    """What is no array in the user's parameters: layer sizes, flags, functions.

    Compared by identity and kept out of the pytree, so that a number in the user's module stays a
    Python number inside compiled code.
    """

    def __init__(self, tree: PyTree):
        self.tree = tree


class Empirical(AbstractEmpirical):
    """``L(theta) = mean_i example_loss(parameters(theta), data_i) + weight_decay |theta|^2 / 2``.

    `parameters` is any pytree (an Equinox module included); its floating-point arrays, in the
    order of `parameter_names`, form the flat vector theta; with `only`, those it names, and the
    others are frozen. `data` is a pytree of arrays with one leading axis of examples. Real numbers
    among frozen parameters and data take the precision of theta. The weight decay, of what moves,
    is part of every example's loss, so it moves the minimum and the Hessian but not the gradient
    noise covariance.

    A `scale` factor s makes it the landscape L(s theta): with s = sqrt(alpha) this is the paper's
    L_alpha, whose minimum is alpha times sharper.
    """

    example_loss: Callable[[Any, Any], Float[Array, ""]]
    moving: PyTree
    frozen: PyTree
    fixed: _Fixed = eqx.field(static=True)
    data: PyTree
    weight_decay: float
    scale: float
    minima_: Float[np.ndarray, "minima dim"]

    def __init__(
        self,
        example_loss: Callable[[Any, Any], Float[Array, ""]],
        parameters: PyTree,
        data: PyTree,
        weight_decay: float = 0.0,
        scale: float = 1.0,
        minima: ArrayLike | None = None,
        *,
        only: Choice = None,
    ):
        """Build the landscape of a per-example loss.

        `only` chooses parameters by name: a glob such as ``"layers[1].*"`` or ``"head"``, several,
        or a predicate.

        Raises:
            InvalidArgument: when the data are empty, ragged or not finite, when there is no
                floating-point parameter or a complex one, or when the loss of one example cannot
                be traced by JAX or is not one number, or when `only` fits no parameter.
        """
        self.example_loss = jax.tree.map(to_host, example_loss)
        parameters = jax.tree.map(to_host, parameters)
        self.moving, other = moving_by_name(parameters, only)
        self.frozen, fixed = eqx.partition(other, is_numeric)
        self.fixed = _Fixed(fixed)
        self.data = jax.tree.map(to_host, data)
        if np.ndim(weight_decay) or not 0 <= as_numbers(weight_decay, "weight_decay") < np.inf:
            raise InvalidArgument(f"weight_decay is {weight_decay}; give zero or a positive number")
        self.weight_decay = float(weight_decay)
        self.scale = positive_number(scale, "scale")
        self._check_data()
        if self.dim == 0:
            raise InvalidArgument("parameters holds no floating-point array; nothing can move")
        if any(np.iscomplexobj(leaf) for leaf in jax.tree.leaves(self.moving)):
            raise InvalidArgument("parameters holds complex numbers; split them into real parts")
        self.minima_ = as_points(minima, self.dim, "minima")
        self._check_loss()

    def _check_data(self) -> None:
        number_of_examples(self.data)
        for leaf in jax.tree.leaves(self.data):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                raise InvalidArgument(
                    f"data holds {int((~np.isfinite(leaf)).sum())} values that are NaN or "
                    "infinite; remove or impute them before building the landscape"
                )

    def _check_loss(self) -> None:
        try:
            with float64():
                theta = jax.ShapeDtypeStruct((self.dim,), np.float64)
                shape = np.shape(eqx.filter_eval_shape(_first_loss, self, theta))
        except Exception as error:
            raise InvalidArgument(
                f"example_loss cannot be traced by JAX on the parameters and one example ({error})"
            ) from error
        if shape != ():
            raise InvalidArgument(
                f"example_loss returns shape {shape} for one example; it must return one number"
            )

    @property
    def parameters(self) -> PyTree:
        """The pytree the landscape was built with."""
        return self._at(self.moving)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.moving))

    @property
    def examples(self) -> int:
        """Number of examples N."""
        return number_of_examples(self.data)

    @property
    def example_size(self) -> int:
        """Numbers in one example."""
        return sum(leaf[0].size for leaf in jax.tree.leaves(self.data))

    @property
    def minima(self) -> Float[np.ndarray, "minima dim"]:
        """Minima recorded with `at_minimum`; empty before training."""
        return self.minima_

    @property
    def parameter_names(self) -> list[str]:
        """Name and shape of each parameter array, in the order of the flat vector."""
        leaves = jax.tree_util.tree_flatten_with_path(self.moving)[0]
        return [f"{name_of(path)} {leaf.shape}" for path, leaf in leaves]

    @property
    def initial(self) -> Float[np.ndarray, " dim"]:
        """The parameters the landscape was built with, as a flat vector."""
        leaves = jax.tree.leaves(self.moving)
        flat = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])
        return flat / self.scale

    def model(self, theta: Float[AnyArray, " dim"]) -> PyTree:
        """The parameter pytree at a flat vector, with arrays of the kind and precision given."""
        if not isinstance(theta, jax.Array):
            theta = np.asarray(theta, dtype=np.float64)
        return self._at(self._unravelled(self.scale * theta))

    @property
    def title(self) -> str:
        """The network's title, where the loss is that of one."""
        return getattr(self.example_loss, "title", super().title)

    def subset(self, index: Int[np.ndarray, " examples"]) -> "Empirical":
        """The mean loss over some of the examples."""
        data = jax.tree.map(lambda leaf: leaf[index], self.data)
        return eqx.tree_at(lambda landscape: landscape.data, self, data)

    def at_minimum(self, theta: ArrayLike) -> "Empirical":
        """The same landscape, knowing one more minimum."""
        known = np.concatenate([self.minima_, as_points(theta, self.dim, "theta")])
        return eqx.tree_at(lambda landscape: landscape.minima_, self, known)

    def example_losses(
        self, theta: Float[AnyArray, " dim"], index: Indices | None = None
    ) -> Float[AnyArray, " batch"]:
        """Loss of each example (all of them, or those of an index), weight decay included."""
        return host_or_traced(_example_losses, theta, self, index)

    def losses_on(self, theta: Float[AnyArray, " dim"], data: PyTree) -> Float[AnyArray, " batch"]:
        """Loss of examples that need not be its own, weight decay included.

        `data` is a pytree like that of the landscape, of any number of examples.
        """
        return host_or_traced(_losses_on, theta, self, data)

    def batch_gradient(
        self, theta: Float[AnyArray, " dim"], index: Indices
    ) -> Float[AnyArray, " dim"]:
        """Gradient of the mean loss over a minibatch."""
        return host_or_traced(_batch_gradient, theta, self, index)

    def example_gradients(self, theta: Float[AnyArray, " dim"]) -> Float[AnyArray, "examples dim"]:
        """Gradient of every example's loss: the points whose covariance is the gradient noise."""
        return host_or_traced(_example_gradients, theta, self)

    def expand(
        self,
        theta: Float[np.ndarray, " dim"],
        *,
        precision: str = "float64",
        memory: float | None = None,
    ) -> AbstractExpansion:
        """The loss around one point, matrix-free; see `AbstractEmpirical.expand`."""
        return Expansion(self, theta, precision, memory)

    def without_numbers(self) -> "Empirical":
        """What the losses are made of beside data and parameters that move: those become shapes."""
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self.moving
        )
        parts = (shapes, None, self.minima_[:0])
        return eqx.tree_at(lambda tree: (tree.moving, tree.data, tree.minima_), self, parts)

    def _loss(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return jnp.mean(self.example_losses(theta))

    def _unravelled(self, flat: Float[AnyArray, " dim"]) -> PyTree:
        """The arrays that move, from one vector."""
        leaves, structure = jax.tree.flatten(self.moving)
        ends = np.cumsum([leaf.size for leaf in leaves])
        pieces = [
            flat[end - leaf.size : end].reshape(leaf.shape)
            for leaf, end in zip(leaves, ends, strict=True)
        ]
        return jax.tree.unflatten(structure, pieces)

    def _at(self, moving: PyTree) -> PyTree:
        dtype = jax.tree.leaves(moving)[0].dtype
        return eqx.combine(moving, cast(dtype, self.frozen), self.fixed.tree)

    def _each(self, moving: PyTree) -> Callable[[PyTree], Float[Array, ""]]:
        """Loss of one example without weight decay, at the arrays that move."""
        dtype = jax.tree.leaves(moving)[0].dtype
        example_loss, model = cast(dtype, self.example_loss), self._at(moving)
        return lambda example: example_loss(model, cast(dtype, example))


def _first_loss(landscape: Empirical, theta: Float[Array, " dim"]) -> Float[Array, ""]:
    first = jax.tree.map(lambda leaf: leaf[0], landscape.data)
    return landscape._each(landscape._unravelled(theta))(first)


def _example_losses(
    landscape: Empirical, index: Indices | None, theta: Float[Array, " dim"]
) -> Float[Array, " batch"]:
    examples = landscape.data
    if index is not None:
        examples = jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], examples)
    return _losses_on(landscape, examples, theta)


def _losses_on(
    landscape: Empirical, examples: PyTree, theta: Float[Array, " dim"]
) -> Float[Array, " batch"]:
    losses = jax.vmap(landscape._each(landscape._unravelled(landscape.scale * theta)))(examples)
    return losses + 0.5 * landscape.weight_decay * landscape.scale**2 * jnp.vdot(theta, theta)


def _batch_gradient(
    landscape: Empirical, index: Indices, theta: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    return jax.grad(lambda point: jnp.mean(_example_losses(landscape, index, point)))(theta)


def _example_gradients(
    landscape: Empirical, theta: Float[Array, " dim"]
) -> Float[Array, "examples dim"]:
    def gradient(example: PyTree) -> Float[Array, " dim"]:
        def loss(point: Float[Array, " dim"]) -> Float[Array, ""]:
            return landscape._each(landscape._unravelled(landscape.scale * point))(example)

        return jax.grad(loss)(theta)

    decay = landscape.weight_decay * landscape.scale**2 * theta
    return each_example(gradient, landscape.data, theta.dtype) + decay
