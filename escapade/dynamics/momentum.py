"""SGD with heavy-ball or Nesterov momentum."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics._base import State
from escapade.dynamics.optimiser import AbstractOptimiser, require_gradients, require_number
from escapade.errors import InvalidArgument
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import positive_number
from escapade.noise import AbstractNoise


class MomentumSGD(AbstractOptimiser):
    """``v' = momentum v + (1 - dampening) g, theta' = theta - eta v'``, from velocity zero.

    The convention of `torch.optim.SGD`; with `nesterov`, ``theta' = theta - eta (g + momentum
    v')``. Small steps move as plain SGD of the `effective_learning_rate`. (With dampening, the
    first velocity of PyTorch is g itself, as if there were none in that step.)

    Momentum one accumulates all gradients, ``theta_{k+1} - 2 theta_k + theta_{k-1} = -eta g_k``
    from rest: what a PyTorch loop does that steps along ``parameter.grad`` and never zeroes it, as
    the public experiment code of Ibayashi and Imaizumi does. Nothing is damped, so that it never
    settles and has no exit rate.

    The gradient g is that of a minibatch, or, where a `noise` is given, the full one with Gaussian
    noise of covariance ``C(theta) / batch_size``.
    """

    learning_rate: float
    batch_size: float
    momentum: float
    noise: AbstractNoise | None
    sampling: str
    nesterov: bool
    dampening: float

    def __init__(
        self,
        learning_rate: float,
        batch_size: float,
        momentum: float = 0.9,
        noise: AbstractNoise | None = None,
        sampling: str = "with_replacement",
        nesterov: bool = False,
        dampening: float = 0.0,
    ):
        """Set learning rate, batch size, momentum and where gradients come from.

        Raises:
            InvalidArgument: when a number is out of range (momentum and dampening lie between 0 and
                1), the sampling is unknown, or Nesterov momentum is zero or dampened.
        """
        self.learning_rate = positive_number(learning_rate, "learning_rate")
        self.batch_size = require_gradients(batch_size, noise, sampling)
        self.momentum = require_number(momentum, "momentum", 0.0, 1.0)
        self.noise = noise
        self.sampling = sampling
        self.nesterov = bool(nesterov)
        self.dampening = require_number(dampening, "dampening", 0.0, 1.0)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise InvalidArgument(
                f"nesterov is True with momentum {momentum:g} and dampening {dampening:g}; give "
                "momentum above zero and no dampening"
            )

    @property
    def effective_learning_rate(self) -> float | None:
        """``eta (1 - dampening) / (1 - momentum)``; None where a velocity never decays."""
        if self.momentum == 1:
            return None
        kept = 1 - self.dampening
        return self.learning_rate * kept / (1 - self.momentum) if kept else None

    def largest_stable_learning_rate(self, curvature: float) -> float:
        """Edge of stability on a loss of this curvature, at this momentum.

        ``2 (1 + mu) / lambda`` for the heavy ball, ``2 (1 + mu) / ((1 + 2 mu) lambda)`` for
        Nesterov's; dampening d divides by ``1 - d``.

        Raises:
            InvalidArgument: when the curvature is not positive.
        """
        edge = 2 * (1 + self.momentum) / positive_number(curvature, "curvature")
        if self.nesterov:
            return edge / (1 + 2 * self.momentum)
        return edge / (1 - self.dampening) if self.dampening < 1 else np.inf

    def initial_state(self, landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> State:
        """Theta and velocity zero."""
        return theta, jnp.zeros_like(theta)

    def update(
        self, landscape: AbstractLandscape, state: State, gradient: Float[Array, " dim"]
    ) -> State:
        """One step of theta and velocity."""
        theta, velocity = state
        velocity = self.momentum * velocity + (1 - self.dampening) * gradient
        ahead = gradient + self.momentum * velocity if self.nesterov else velocity
        return theta - self.learning_rate * ahead, velocity

    def transition(
        self, drift_matrix: Float[np.ndarray, "dim dim"]
    ) -> tuple[Float[np.ndarray, "states states"], Float[np.ndarray, "states dim"]]:
        """Matrices M and N of one step of (theta, v) near a minimum, ``x' = M x + N noise``.

        `drift_matrix` A is the derivative of the gradient field there: the gradient is ``A theta``
        and noise.
        """
        one, rate, memory = np.eye(len(drift_matrix)), self.learning_rate, self.momentum
        share = 1 - self.dampening
        # The part of the step along the new velocity, and along the gradient itself.
        along, beside = (memory, 1.0) if self.nesterov else (1.0, 0.0)
        by_gradient = rate * (along * share + beside) * one
        matrix = np.block(
            [
                [one - by_gradient @ drift_matrix, -rate * along * memory * one],
                [share * drift_matrix, memory * one],
            ]
        )
        return matrix, np.concatenate([-by_gradient, share * one])

    def contraction(
        self,
        landscape: AbstractLandscape,
        minimum: Float[np.ndarray, " dim"],
        drift_matrix: Float[np.ndarray, "dim dim"],
    ) -> float | None:
        """Largest modulus of the eigenvalues of one step of (theta, v)."""
        return float(np.abs(np.linalg.eigvals(self.transition(drift_matrix)[0])).max())

    def __str__(self) -> str:
        kind = "Nesterov momentum" if self.nesterov else "momentum"
        return f"SGD with {kind} {self.momentum:g} ({self._source})"
