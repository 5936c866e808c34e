"""What gradient noise is: the covariance of ONE example's gradient, and how to draw from it."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise
from escapade.landscape import AbstractLandscape
from escapade.precision import AnyArray, host_or_traced


class AbstractNoise(eqx.Module):
    """Covariance C(theta) of one example's gradient; one step of batch size B carries C / B."""

    @abc.abstractmethod
    def _covariance(
        self, landscape: AbstractLandscape, theta: Float[Array, " dim"]
    ) -> Float[Array, "dim dim"]:
        """Covariance at a JAX vector."""

    @abc.abstractmethod
    def normals(self, landscape: AbstractLandscape) -> int:
        """Number of standard normals one draw needs."""

    @abc.abstractmethod
    def sample(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        normals: Float[Array, " normals"],
    ) -> Float[Array, " dim"]:
        """A vector of covariance C(theta), linear in the standard normals."""

    @abc.abstractmethod
    def prepared(self, landscape: AbstractLandscape) -> "AbstractNoise":
        """The noise for one landscape, checked, with everything constant computed once.

        Raises:
            DegenerateNoise: when the covariance is zero or not positive semi-definite.
            InvalidArgument: when it does not fit the landscape.
            Unsupported: when the landscape cannot provide it.
        """

    def variance(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """``d^T C(theta) d`` along a JAX vector d: smooth in both, for derivatives of any order."""
        return jnp.vdot(direction, self._covariance(landscape, theta) @ direction)

    def spread(
        self,
        landscape: AbstractLandscape,
        theta: Float[Array, " dim"],
        direction: Float[Array, " dim"],
    ) -> Float[Array, ""]:
        """Standard deviation ``sqrt(d^T C(theta) d)`` along a JAX vector d, matrix-free."""
        zeros = jnp.zeros(self.normals(landscape), theta.dtype)
        _, transpose = jax.vjp(lambda normals: self.sample(landscape, theta, normals), zeros)
        components = transpose(direction)[0]
        return jnp.sqrt(jnp.vdot(components, components))

    def covariance(
        self, landscape: AbstractLandscape, theta: Float[AnyArray, " dim"]
    ) -> Float[AnyArray, "dim dim"]:
        """Covariance C(theta) of one example's gradient (NumPy in, NumPy float64 out).

        Raises:
            Unsupported: when the landscape cannot provide it.
        """
        return host_or_traced(_covariance_of, theta, self, landscape)


def _covariance_of(
    noise: AbstractNoise, landscape: AbstractLandscape, theta: Float[Array, " dim"]
) -> Float[Array, "dim dim"]:
    return noise._covariance(landscape, theta)


def semidefinite_factor(
    covariance: Float[np.ndarray, "dim dim"], argument: str = "covariance"
) -> Float[np.ndarray, "dim dim"]:
    """A factor F with F F^T = C of a host matrix.

    Raises:
        DegenerateNoise: when the matrix is zero, not symmetric, or has an eigenvalue below
            -1e-10 times the largest.
    """
    if not np.isfinite(covariance).all():
        raise DegenerateNoise(f"{argument} holds NaN or infinity; give finite numbers")
    if not np.allclose(covariance, covariance.T, rtol=1e-8, atol=1e-12 * np.abs(covariance).max()):
        raise DegenerateNoise(f"{argument} is not symmetric; symmetrise it")
    eigenvalues, vectors = np.linalg.eigh(covariance)
    if eigenvalues[-1] <= 0 and eigenvalues[0] >= 0:
        raise DegenerateNoise(f"{argument} is zero: without noise SGD never leaves a minimum")
    if eigenvalues[0] < -1e-10 * max(eigenvalues[-1], 0.0):
        raise DegenerateNoise(
            f"{argument} has the negative eigenvalue {eigenvalues[0]:.3g}; a covariance is "
            "positive semi-definite"
        )
    return vectors * np.sqrt(np.clip(eigenvalues, 0, None))


def positive_factor(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """A factor of the positive part of a symmetric matrix, inside JAX."""
    if matrix.shape[0] == 1:
        return jnp.sqrt(jnp.clip(matrix, 0.0))
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    return vectors * jnp.sqrt(jnp.clip(eigenvalues, 0.0))
