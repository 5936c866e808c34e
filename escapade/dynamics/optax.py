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
    (`simulate` and `exit_probability` ask for none), and burns in for several times the `memory`
    of the transformation, which is measured. How fast theta itself settles is not known: where that
    takes longer than a few thousand steps, give a `burn_in`.

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
        """None: a transformation does not tell how long its steps are."""
        return None

    def memory(self, landscape: AbstractLandscape) -> float:
        """Measured: how slowly the state forgets one gradient when no others follow.

        Running means decay by a constant factor, ``b2`` with `optax.adam`: a memory of about
        ``1 / (1 - b2)`` steps. Of what decays in another way, nothing is known.
        """
        zero = jnp.zeros(landscape.dim, jnp.float32)
        state = self.update(landscape, self.initial_state(landscape, zero), zero + 1)
        factors = []
        for _ in range(2):
            after = self.update(landscape, state, zero)
            factors.append(_decay(state[1], after[1]))
            state = after
        first, second = factors
        lasting = first[np.isclose(first, second, rtol=1e-4) & (first > 0) & (first < 1)]
        return float(np.max(-1 / np.log(lasting), initial=0.0))

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


def _decay(before: PyTree, after: PyTree) -> Float[np.ndarray, " leaves"]:
    """Factor by which each array of real numbers has shrunk; NaN where it was zero."""
    factors = []
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if jnp.issubdtype(old.dtype, jnp.floating):
            size = float(jnp.abs(old).max(initial=0.0))
            factors.append(float(jnp.abs(new).max(initial=0.0)) / size if size else np.nan)
    return np.array(factors)


def _is_random_key(leaf: Any) -> bool:
    typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return typed or (leaf.dtype == jnp.uint32 and leaf.shape == (2,))
