"""Stationary points of the drift, and how orbits of least steepness leave and approach them.

At a stationary point f Hamilton's equations are, to first order in (x - f, p),
``x' = D x + C p``, ``p' = -D^T p`` with D the derivative of the drift. Orbits leave f along the
unstable subspace of this system and approach it along the stable one, both of dimension `dim`. At
an attractor the unstable subspace is ``x = f + S p`` with S the stationary covariance, whatever the
rank of C.
"""

import equinox as eqx
import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.precision import in_float64
from escapade.steepness.hamiltonian import AbstractHamiltonian

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

NEUTRAL = 1e-9
"""Eigenvalues whose real part is this fraction of the largest modulus count as zero."""


class StationaryPoint(eqx.Module):
    """A point of vanishing drift.

    Attributes:
        point: where, shape (dim,).
        rates: eigenvalues of the derivative of the drift.
        derivative: derivative D of the drift.
        covariance: noise covariance C there.
    """

    point: Vector
    rates: np.ndarray
    derivative: Matrix
    covariance: Matrix

    @property
    def index(self) -> int:
        """Number of unstable directions of the drift: 0 for an attractor, 1 for a saddle."""
        return int((self.rates.real > 0).sum())

    @property
    def fastest(self) -> float:
        """Largest relaxation or growth rate."""
        return float(np.abs(self.rates).max())

    @property
    def slowest(self) -> float:
        """Smallest rate of approach or departure."""
        return float(np.abs(self.rates.real).min())

    @property
    def hyperbolic(self) -> bool:
        """Whether no rate vanishes, so that orbits approach exponentially."""
        return self.slowest > NEUTRAL * self.fastest

    def unstable(self) -> tuple[Float[np.ndarray, "two_dim dim"], Matrix]:
        """Orthonormal basis of the unstable subspace of (x, p), and the motion within it."""
        return self._subspace("rhp")

    def stable(self) -> tuple[Float[np.ndarray, "two_dim dim"], Matrix]:
        """Orthonormal basis of the stable subspace of (x, p), and the motion within it."""
        return self._subspace("lhp")

    def repelling_directions(self) -> Float[np.ndarray, "index dim"]:
        """Orthonormal basis of the unstable directions of the drift."""
        _, vectors, count = scipy.linalg.schur(self.derivative, sort="rhp")
        return vectors[:, :count].T

    def _subspace(self, half: str) -> tuple[Float[np.ndarray, "two_dim dim"], Matrix]:
        dim = self.point.size
        # Momenta in units that balance the two off-diagonal scales.
        unit = self.fastest / max(float(np.abs(self.covariance).max()), 1e-300)
        system = np.block(
            [
                [self.derivative, self.covariance * unit],
                [np.zeros((dim, dim)), -self.derivative.T],
            ]
        )
        form, vectors, count = scipy.linalg.schur(system, sort=half)
        if count != dim:
            raise NotConverged(
                f"the stationary point {np.array2string(self.point, precision=4)} has a rate "
                "(nearly) zero, so that orbits do not approach it exponentially; there is no "
                "method for it: remove the flat direction, or move the end away from it"
            )
        basis = vectors[:, :dim].copy()
        basis[dim:] *= unit
        scale = np.linalg.qr(basis)[1]
        return basis @ np.linalg.inv(scale), scale @ form[:dim, :dim] @ np.linalg.inv(scale)


def stationary_point(
    hamiltonian: AbstractHamiltonian, near: Vector, farthest: float = np.inf
) -> StationaryPoint | None:
    """The stationary point that Newton's method finds from a point; None when it settles on none.

    Args:
        hamiltonian: the dynamics.
        near: first guess.
        farthest: a point farther from the guess than this is not what was asked for.
    """
    point = np.asarray(near, dtype=np.float64)
    previous = np.inf
    for _ in range(60):
        drift, derivative, covariance = in_float64(_local, hamiltonian, point)
        if not (np.isfinite(drift).all() and np.isfinite(derivative).all()):
            return None
        size = float(np.linalg.norm(drift))
        rate = float(np.abs(derivative).max())
        rounding = 1e-14 * rate * (1e-3 + np.linalg.norm(point))
        if size <= rounding or (size < 1e5 * rounding and size > 0.5 * previous):
            return StationaryPoint(point, np.linalg.eigvals(derivative), derivative, covariance)
        previous = size
        step = np.linalg.lstsq(derivative, drift, rcond=1e-13)[0]
        point = point - step
        if not np.linalg.norm(point - near) <= farthest:
            return None
    return None


def _local(hamiltonian: AbstractHamiltonian, x: Float[Array, " dim"]) -> tuple[Array, Array, Array]:
    return hamiltonian.drift(x), jax.jacfwd(hamiltonian.drift)(x), hamiltonian.covariance(x)
