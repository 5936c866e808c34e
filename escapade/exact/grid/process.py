"""A diffusion in several dimensions: its covariance, its drift and its region at many points."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from escapade.dynamics import ContinuousSGD
from escapade.errors import DegenerateNoise, Unsupported
from escapade.escape import Escape
from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise, Constant, Isotropic
from escapade.precision import in_float64
from escapade.region import AbstractRegion

CHUNK, FEW = 4096, 512
"""Points per compiled evaluation, of many points and of few: two shapes, so two compilations."""


class Process(eqx.Module):
    """The diffusion ``dX = drift dt + covariance^(1/2) dW`` in a region, time in SGD steps.

    Attributes:
        escape: the problem.
        weight: interpretation of the noise: 0 is Ito, 1/2 Stratonovich, 1 anti-Ito; the Ito drift
            gains ``weight / 2`` times the divergence of the covariance.
    """

    escape: Escape
    weight: float

    @property
    def dynamics(self) -> ContinuousSGD:
        """The dynamics of the escape."""
        assert isinstance(self.escape.dynamics, ContinuousSGD)
        return self.escape.dynamics

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.escape.landscape.dim

    @property
    def constant(self) -> bool:
        """Whether the covariance is the same everywhere."""
        return isinstance(self.dynamics.noise, Constant | Isotropic)

    def inside(self, points: Float[np.ndarray, "points dim"]) -> Bool[np.ndarray, " points"]:
        """Which points lie in the region."""
        return _in_chunks(lambda chunk: in_float64(_inside, self.escape.region, chunk), points)

    def covariance(
        self, points: Float[np.ndarray, "points dim"]
    ) -> Float[np.ndarray, "points dim dim"]:
        """Covariance of the noise per step; of one point only where it is constant.

        Raises:
            DegenerateNoise: when it is not positive definite at one of the points.
        """
        context = (self.escape.landscape, self.dynamics.noise)
        points = points[:1] if self.constant else points
        values = _in_chunks(lambda chunk: in_float64(_covariances, *context, chunk), points)
        eigenvalues = np.linalg.eigvalsh(values)
        worst = int(np.argmin(eigenvalues[:, 0] / eigenvalues[:, -1]))
        if not eigenvalues[worst, 0] > 1e-13 * eigenvalues[worst, -1]:
            raise DegenerateNoise(
                f"the noise covariance has the eigenvalues {eigenvalues[worst]} at theta = "
                f"{points[worst]}, so some direction has no noise; the lattice needs all of them: "
                "leave a smaller region, add a little isotropic noise, or simulate"
            )
        return self._scale * values

    def slope(
        self, points: Float[np.ndarray, "points dim"], divergence_form: bool
    ) -> Float[np.ndarray, "points dim"]:
        """``2 covariance^-1 drift``, minus the gradient of a potential where there is one.

        In divergence form the drift is the one beside ``div(covariance grad u) / 2``.

        Raises:
            Unsupported: when drift or covariance is not finite.
        """
        context = (self.escape.landscape, self.dynamics.noise)
        rate = self.dynamics.learning_rate
        if self.constant:
            gradient = _in_chunks(lambda chunk: in_float64(_gradients, context[0], chunk), points)
            slope = (
                -2
                * rate
                * np.linalg.solve(self.covariance(self.escape.start[None])[0], gradient.T).T
            )
        else:
            gradient, divergence, covariance = _in_chunks(
                lambda chunk: in_float64(_moments, *context, chunk), points
            )
            share = 0.5 * (self.weight - 1 if divergence_form else self.weight)
            drift = -rate * gradient + share * self._scale * divergence
            slope = 2 * np.linalg.solve(self._scale * covariance, drift[:, :, None])[:, :, 0]
        if not np.isfinite(slope).all():
            raise Unsupported(
                "the gradient or the noise is NaN or infinite inside the region, so there is no "
                "exact solution; leave a smaller region, or simulate"
            )
        return slope

    @property
    def _scale(self) -> float:
        return self.dynamics.learning_rate**2 / self.dynamics.batch_size


def _in_chunks(function: Callable[[np.ndarray], object], points: np.ndarray) -> "np.ndarray":
    chunk = CHUNK if len(points) > FEW else FEW
    count = max(1, -(-len(points) // chunk))
    padded = np.zeros((count * chunk, points.shape[1]))
    padded[: len(points)] = points
    padded[len(points) :] = points[:1] if len(points) else 0.0
    parts = [function(part) for part in padded.reshape(count, chunk, -1)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(points)], *parts)


def _inside(region: AbstractRegion, points: Float[Array, "points dim"]) -> Bool[Array, " points"]:
    return jax.vmap(lambda theta: region._level(theta) < 0)(points)


def _gradients(
    landscape: AbstractLandscape, points: Float[Array, "points dim"]
) -> Float[Array, "points dim"]:
    return jax.vmap(landscape._gradient)(points)


def _covariances(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, "points dim"]
) -> Float[Array, "points dim dim"]:
    return jax.vmap(lambda theta: noise._covariance(landscape, theta))(points)


def _moments(
    landscape: AbstractLandscape, noise: AbstractNoise, points: Float[Array, "points dim"]
) -> tuple[Array, Array, Array]:
    """Gradient, divergence of the covariance, and covariance at points."""

    def one(theta: Float[Array, " dim"]) -> tuple[Array, Array, Array]:
        def covariance(x: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
            return noise._covariance(landscape, x)

        divergence = jnp.einsum("ijj->i", jax.jacfwd(covariance)(theta))
        return landscape._gradient(theta), divergence, covariance(theta)

    return jax.vmap(one)(points)
