"""Any optimiser of optax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from escapade.dynamics._base import State
from escapade.dynamics.optimiser import AbstractOptimiser, require_gradients
from escapade.errors import InvalidArgument, Unsupported
from escapade.landscape import AbstractLandscape, Empirical
from escapade.landscape._base import positive_number
from escapade.noise import AbstractNoise


class OptaxSGD(AbstractOptimiser):
    """The steps of an `optax.GradientTransformation`, chains and schedules included.

    On `landscapes.Empirical` the transformation sees parameters and gradients in the pytree that
    the landscape was built with, so that masks, norms of layers and matrices mean what they say; on
    other landscapes it sees the flat vector. Its state travels in its own types, step counters as
    integers, and starts afresh where a run starts: a schedule counts from there.

    An exit rate needs steps that settle: `split` has none to find while a schedule goes on changing
    (`simulate` and `exit_probability` ask for none), and needs a `burn_in` of several times what
    the transformation remembers, which it does not tell: with `optax.adam`, ``1 / (1 - b2)`` steps.

    `learning_rate` tells the scale of the steps to what reports it; the steps themselves are the
    transformation's alone, as optax does not tell its learning rate.
    """

    transformation: Any
    learning_rate: float
    batch_size: float
    noise: AbstractNoise | None
    sampling: str

    def __init__(
        self,
        transformation: Any,
        learning_rate: float,
        batch_size: float,
        noise: AbstractNoise | None = None,
        sampling: str = "with_replacement",
    ):
        """Set the transformation, its learning rate, the batch size and where gradients come from.

        Raises:
            InvalidArgument: when the transformation has no `init` and `update`, a number is not
                positive, or the sampling is unknown.
        """
        if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
            raise InvalidArgument(
                f"transformation is {transformation!r}; give an optax.GradientTransformation, such "
                "as optax.adam(1e-3)"
            )
        self.transformation = transformation
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = require_gradients(batch_size, noise, sampling)
        self.noise = noise
        self.sampling = sampling

    def prepared(self, landscape: AbstractLandscape) -> "OptaxSGD":
        """With the noise prepared for the landscape, and the transformation tried on it.

        Raises:
            Unsupported: when the transformation draws random numbers of its own, which would be the
                same in every replica, or needs more than the gradient.
        """
        found = super().prepared(landscape)
        theta = jax.ShapeDtypeStruct((landscape.dim,), jnp.float32)
        before = jax.eval_shape(lambda at: found.initial_state(landscape, at), theta)
        if any(_is_random_key(leaf) for leaf in jax.tree.leaves(before)):
            raise Unsupported(
                "transformation holds a random key, so that every replica would see the same "
                "noise; leave that part out, or give the noise as noise=..."
            )
        try:
            jax.eval_shape(lambda state, at: found.update(landscape, state, at), before, theta)
        except Exception as error:
            raise Unsupported(
                f"transformation cannot be run from the gradient alone ({error}); take one that "
                "needs neither the loss nor a line search"
            ) from error
        return found

    @property
    def effective_learning_rate(self) -> float | None:
        """None: a transformation does not tell."""
        return None

    def initial_state(self, landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> State:
        """Theta and the transformation's own state."""
        return theta, jax.tree.map(jnp.asarray, self.transformation.init(_shaped(landscape, theta)))

    def update(
        self, landscape: AbstractLandscape, state: State, gradient: Float[Array, " dim"]
    ) -> State:
        """One step."""
        theta, memory = state
        step, after = self.transformation.update(
            _shaped(landscape, gradient), memory, _shaped(landscape, theta)
        )
        flat = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(step)])
        # A schedule may compute in another precision than the state's.
        kept = jax.tree.map(lambda new, old: new.astype(old.dtype), after, memory)
        return theta + flat.astype(theta.dtype), kept

    def contraction(
        self,
        landscape: AbstractLandscape,
        minimum: Float[np.ndarray, " dim"],
        drift_matrix: Float[np.ndarray, "dim dim"],
    ) -> float | None:
        """None: a transformation does not tell how long it remembers."""
        return None

    def __str__(self) -> str:
        return f"an optax optimiser ({self._source})"


def _shaped(landscape: AbstractLandscape, vector: Float[Array, " dim"]) -> PyTree:
    """A flat vector as the parameters it belongs to."""
    if not isinstance(landscape, Empirical):
        return vector
    leaves, structure = jax.tree.flatten(landscape.moving)
    parts, used = [], 0
    for leaf in leaves:
        parts.append(vector[used : used + leaf.size].reshape(leaf.shape))
        used += leaf.size
    return jax.tree.unflatten(structure, parts)


def _is_random_key(leaf: Any) -> bool:
    typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return typed or (leaf.dtype == jnp.uint32 and leaf.shape == (2,))
