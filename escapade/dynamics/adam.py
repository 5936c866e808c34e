"""Adam and AdamW."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics._base import State
from escapade.dynamics.optimiser import AbstractOptimiser, require_gradients, require_number
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.noise import AbstractNoise

BELOW_ONE = 1 - 2.0**-24
"""Largest decay rate of a mean: one is rounded to no mean at all in float32."""


class Adam(AbstractOptimiser):
    """Adam (Kingma and Ba, ICLR 2015), with decoupled weight decay (Loshchilov and Hutter, 2019).

    ``m' = beta1 m + (1 - beta1) g``, ``v' = beta2 v + (1 - beta2) g^2`` and, after t steps,
    ``theta' = (1 - eta weight_decay) theta - eta m' / (1 - beta1^t) / (sqrt(v' / (1 - beta2^t)) +
    epsilon)``, from zero means. The same as `torch.optim.AdamW`, and as `torch.optim.Adam` without
    weight decay; an L2 penalty belongs to the landscape.

    The gradient g is that of a minibatch, or, where a `noise` is given, the full one with Gaussian
    noise of covariance ``C(theta) / batch_size``.
    """

    learning_rate: float
    batch_size: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    noise: AbstractNoise | None
    sampling: str

    def __init__(
        self,
        learning_rate: float,
        batch_size: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        noise: AbstractNoise | None = None,
        sampling: str = "with_replacement",
    ):
        """Set learning rate, batch size, decay rates of the means and where gradients come from.

        Raises:
            InvalidArgument: when a number is out of range or the sampling is unknown.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = require_gradients(batch_size, noise, sampling)
        self.beta1 = require_number(beta1, "beta1", 0.0, BELOW_ONE)
        self.beta2 = require_number(beta2, "beta2", 0.0, BELOW_ONE)
        self.epsilon = positive_number(epsilon, "epsilon")
        self.weight_decay = require_number(weight_decay, "weight_decay", 0.0, np.inf)
        self.noise = noise
        self.sampling = sampling

    @property
    def effective_learning_rate(self) -> float | None:
        """None: the size of a step does not follow that of the gradient."""
        return None

    def initial_state(self, landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> State:
        """Theta, zero means of gradient and square, and the number of steps."""
        return theta, jnp.zeros_like(theta), jnp.zeros_like(theta), jnp.zeros((), jnp.uint32)

    def update(
        self, landscape: AbstractLandscape, state: State, gradient: Float[Array, " dim"]
    ) -> State:
        """One step."""
        theta, mean, square, steps = state
        steps = steps + 1
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient**2
        count = steps.astype(theta.dtype)
        ratio = mean / _seen(self.beta1, count)
        ratio = ratio / (jnp.sqrt(square / _seen(self.beta2, count)) + self.epsilon)
        decayed = theta - self.learning_rate * self.weight_decay * theta
        return decayed - self.learning_rate * ratio, mean, square, steps

    def contraction(
        self,
        landscape: AbstractLandscape,
        minimum: Float[np.ndarray, " dim"],
        drift_matrix: Float[np.ndarray, "dim dim"],
    ) -> float | None:
        """That of the means, or of theta with the mean squares that the noise keeps up.

        An estimate: the squares are taken at their mean, and fluctuate.
        """
        variances = np.diag(self.noise_covariance(landscape, minimum)) / self.batch_size
        scales = 1 / (np.sqrt(variances) + self.epsilon)
        one, preconditioned = np.eye(len(variances)), scales[:, None] * drift_matrix
        # Of (theta, scaled mean of the gradient).
        pull, rate = (1 - self.beta1) * preconditioned, self.learning_rate
        matrix = np.block(
            [
                [(1 - rate * self.weight_decay) * one - rate * pull, -rate * self.beta1 * one],
                [pull, self.beta1 * one],
            ]
        )
        return float(max(np.abs(np.linalg.eigvals(matrix)).max(), self.beta2))

    def __str__(self) -> str:
        name = "AdamW" if self.weight_decay else "Adam"
        return f"{name} (beta {self.beta1:g} and {self.beta2:g}, {self._source})"


def _seen(beta: float, count: Array) -> Array:
    """``1 - beta^count``, the share of a mean that is not yet its initial zero, to all digits."""
    return -jnp.expm1(count * jnp.log1p(beta - 1))
