"""What fluctuations cost: the Hamiltonian of the noise, and the Lagrangian dual to it.

Near a point x one step of SGD moves by eta times a random velocity whose scaled cumulants are

    ``H(x, p) = (eta / B) (1 / eta) log E exp((B / eta) p . (x' - x))``,

so that ``H(x, 0) = 0``, ``dH/dp(x, 0)`` is the noiseless drift and ``d2H/dp2(x, 0)`` the covariance
C(x) of one example's gradient. The steepness of a path integrates (continuous SGD) or sums (a
chain, once every learning rate) the Lagrangian ``L(x, v) = sup_p [p . v - H(x, p)]``, in units in
which ``log E[nu] ~ (B / eta) V0``. Hamilton's equations need H alone, so that noise that does not
reach every direction, or no Gaussian at all, needs no special care.

Sources: Freidlin and Wentzell, chapter 4 (Gaussian noise); Freidlin and Wentzell, chapter 5, and
Azizian, Iutzeler, Malick and Mertikopoulos (ICML 2024) for the noise of minibatches.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics import MinibatchSGD
from escapade.dynamics.gaussian import AbstractGaussianDynamics
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import Unsupported
from escapade.escape import Escape, require_escape
from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.noise import AbstractNoise


class AbstractHamiltonian(eqx.Module):
    """``H(x, p)`` of JAX vectors, smooth in both."""

    @property
    @abc.abstractmethod
    def time_step(self) -> float | None:
        """Learning rate of a chain; None in continuous time."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, ""]:
        """Hamiltonian at a point and a momentum."""

    @abc.abstractmethod
    def drift(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Velocity without fluctuation, minus the gradient of the loss."""

    @abc.abstractmethod
    def covariance(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        """Second derivative in p at p = 0: the covariance of the noise, dense."""

    def velocity(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """``dH/dp``: the velocity that the momentum stands for."""
        return jax.grad(self.__call__, argnums=1)(x, p)

    def force(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """``-dH/dx``: the rate of change of the momentum."""
        return -jax.grad(self.__call__, argnums=0)(x, p)


class GaussianHamiltonian(AbstractHamiltonian):
    """``H = -p . gradient(x) + p^T C(x) p / 2``."""

    landscape: AbstractLandscape
    noise: AbstractNoise
    time_step_: float | None

    @property
    def time_step(self) -> float | None:
        """Learning rate of a chain; None in continuous time."""
        return self.time_step_

    def __call__(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, ""]:
        """Hamiltonian at a point and a momentum."""
        return jnp.vdot(p, self.drift(x)) + 0.5 * self.noise.variance(self.landscape, x, p)

    def drift(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Velocity without fluctuation."""
        return -self.landscape._gradient(x)

    def covariance(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        """Covariance C(x), dense."""
        return self.noise._covariance(self.landscape, x)


class MinibatchHamiltonian(AbstractHamiltonian):
    """Cumulants of the mean gradient of a minibatch, exactly.

    With replacement ``H = log (1/N) sum_i exp(-p . g_i(x))``; without, ``H = (1/B) log
    [e_B(w) / binomial(N, B)]`` with ``w_i = exp(-p . g_i(x))`` and e_B the elementary symmetric
    polynomial.
    """

    landscape: AbstractEmpirical
    batch_size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True)
    time_step_: float | None

    @property
    def time_step(self) -> float | None:
        """Learning rate of the chain; None in its limit of continuous time."""
        return self.time_step_

    def __call__(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, ""]:
        """Hamiltonian at a point and a momentum: one forward pass over the examples."""
        slopes = -jax.jvp(self.landscape.example_losses, (x,), (p,))[1]
        return self.cumulant(slopes)

    def cumulant(self, logarithms: Float[Array, " examples"]) -> Float[Array, ""]:
        """H of the logarithms ``-p . g_i`` of the examples' weights."""
        if self.replacement:
            return jax.scipy.special.logsumexp(logarithms) - jnp.log(logarithms.shape[0])
        return log_mean_subset_product(logarithms, self.batch_size) / self.batch_size

    def drift(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Velocity without fluctuation."""
        return -self.landscape._gradient(x)

    def covariance(self, x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
        """Covariance of one example's gradient, as the sampling leaves it."""
        gradients = self.landscape.example_gradients(x)
        centred = gradients - jnp.mean(gradients, axis=0)
        examples = centred.shape[0]
        left = 1.0 if self.replacement else (examples - self.batch_size) / max(examples - 1, 1)
        return left * centred.T @ centred / examples


def hamiltonian(escape: Escape, continuous_limit: bool = False) -> AbstractHamiltonian:
    """The Hamiltonian of an escape's dynamics.

    Args:
        escape: the problem.
        continuous_limit: take the limit of a vanishing learning rate (at fixed batch size) of a
            chain; the noise keeps its law.

    Raises:
        InvalidArgument: when the escape is none.
        Unsupported: for shuffled epochs, whose steps are not independent, and for steps with a
            memory (momentum, Adam).
    """
    require_escape(escape)
    dynamics = escape.dynamics
    require_no_memory(dynamics, "steepness")
    continuous = continuous_limit or dynamics.continuous
    time_step = None if continuous else float(dynamics.learning_rate)
    if isinstance(dynamics, AbstractGaussianDynamics):
        return GaussianHamiltonian(escape.landscape, dynamics.gradient_noise, time_step)
    if isinstance(dynamics, MinibatchSGD) and isinstance(escape.landscape, AbstractEmpirical):
        if dynamics.sampling == "shuffled_epochs":
            raise Unsupported(
                "steepness has no meaning for shuffled epochs: the noise of successive steps is "
                "anti-correlated within an epoch; sample with or without replacement"
            )
        replacement = dynamics.sampling == "with_replacement"
        return MinibatchHamiltonian(escape.landscape, dynamics.batch_size, replacement, time_step)
    raise Unsupported(f"steepness is not known for {dynamics}; use GaussianSGD or MinibatchSGD")


def log_mean_subset_product(logarithms: Float[Array, " examples"], size: int) -> Float[Array, ""]:
    """``log [e_size(exp(logarithms)) / binomial(examples, size)]``, stable and differentiable.

    ``e_B(w) = prod(1 + z w_i) z^-B P(B)`` for any z > 0, where P is the law of the number of
    successes in independent trials of odds ``z w_i``. With z such that B are expected, P(B) is of
    order one over their standard deviation, and is summed over its characteristic function.
    """
    examples = logarithms.shape[0]
    if size == examples:
        return jnp.sum(logarithms)
    log_odds = logarithms + jax.lax.stop_gradient(_balancing_log_odds(logarithms, size))
    shift = log_odds[0] - logarithms[0]
    # P(B) is aliased with P(B + k frequencies), beyond the number of trials or negligible.
    frequencies = min(examples + 1, size + 16 * int(np.ceil(np.sqrt(size))) + 16)
    angles = 2 * jnp.pi * jnp.arange(frequencies) / frequencies
    success = jax.nn.sigmoid(log_odds)
    factors = 1 + success * (jnp.exp(1j * angles[:, None]) - 1)
    characteristic = jnp.exp(jnp.sum(jnp.log(factors), axis=1) - 1j * angles * size)
    log_probability = jnp.log(jnp.mean(characteristic.real))
    log_binomial = (
        jax.scipy.special.gammaln(examples + 1.0)
        - jax.scipy.special.gammaln(size + 1.0)
        - jax.scipy.special.gammaln(examples - size + 1.0)
    )
    total = jnp.sum(jax.nn.softplus(log_odds)) - size * shift + log_probability
    return total - log_binomial


def _balancing_log_odds(logarithms: Float[Array, " examples"], size: int) -> Float[Array, ""]:
    """Common log odds that make `size` successes expected: bisection, which cannot fail."""
    even = jnp.log(size / (logarithms.shape[0] - size))
    low, high = even - jnp.max(logarithms), even - jnp.min(logarithms)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        too_many = jnp.sum(jax.nn.sigmoid(logarithms + middle)) > size
        return jnp.where(too_many, low, middle), jnp.where(too_many, middle, high)

    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return 0.5 * (low + high)
