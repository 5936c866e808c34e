"""The neighbourhood of a minimum: Hessian, gradient noise, and how they are aligned."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import NotAMinimum
from escapade.escape import Escape
from escapade.landscape.descent import jacobian
from escapade.minimum.lyapunov import (
    stationary_covariance,
    stationary_covariance_discrete,
)


class Alignment(eqx.Module):
    """How close the gradient noise covariance C is to a multiple of the Hessian H.

    Attributes:
        c: the best constant in C = c H (least squares in the Frobenius norm); units of loss.
        relative_residual: ``|C - c H| / |C|`` in the Frobenius norm.
        cosine: Frobenius cosine of C and H.
        commutator: ``|C H - H C| / (|C| |H|)``; zero when they share eigenvectors.
    """

    c: float
    relative_residual: float
    cosine: float
    commutator: float


class Neighbourhood(eqx.Module):
    """Linear drift and noise at a minimum: what every local theory needs.

    Attributes:
        drift_matrix: derivative A of the gradient field (the Hessian H, for a loss).
        covariance: covariance C of one example's gradient, as the dynamics samples it.
        eigenvalues: eigenvalues of the symmetric part of A, largest first.
        eigenvectors: their unit eigenvectors, in columns.
    """

    drift_matrix: Float[np.ndarray, "dim dim"]
    covariance: Float[np.ndarray, "dim dim"]
    eigenvalues: Float[np.ndarray, " dim"]
    eigenvectors: Float[np.ndarray, "dim dim"]

    def __init__(
        self,
        drift_matrix: Float[np.ndarray, "dim dim"],
        covariance: Float[np.ndarray, "dim dim"],
    ):
        """From the two matrices.

        Raises:
            NotAMinimum: when the drift is not attracting.
        """
        asymmetry = np.abs(drift_matrix - drift_matrix.T).max()
        if asymmetry <= 1e-9 * np.abs(drift_matrix).max():
            drift_matrix = 0.5 * (drift_matrix + drift_matrix.T)
        self.drift_matrix = drift_matrix
        self.covariance = 0.5 * (covariance + covariance.T)
        eigenvalues, vectors = np.linalg.eigh(0.5 * (drift_matrix + drift_matrix.T))
        self.eigenvalues, self.eigenvectors = eigenvalues[::-1].copy(), vectors[:, ::-1].copy()
        slowest = self.relaxation_rates[-1]
        if slowest <= 0:
            raise NotAMinimum(
                f"the drift at the minimum has the eigenvalue {slowest:.3g}, so it is not "
                "attracting (a saddle or a flat direction); add weight decay or choose another "
                "minimum"
            )

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.drift_matrix.shape[0]

    @property
    def symmetric(self) -> bool:
        """Whether the drift is a gradient."""
        return bool(np.array_equal(self.drift_matrix, self.drift_matrix.T))

    @property
    def relaxation_rates(self) -> Float[np.ndarray, " dim"]:
        """Real parts of the eigenvalues of A, largest first: inverse relaxation times."""
        if self.symmetric:
            return self.eigenvalues
        return np.sort(np.linalg.eigvals(self.drift_matrix).real)[::-1]

    @property
    def sharpness(self) -> float:
        """Largest Hessian eigenvalue."""
        return float(self.eigenvalues[0])

    @property
    def trace(self) -> float:
        """Trace of the Hessian."""
        return float(np.trace(self.drift_matrix))

    @property
    def sharpest_direction(self) -> Float[np.ndarray, " dim"]:
        """Unit eigenvector of the largest eigenvalue."""
        return self.eigenvectors[:, 0]

    @property
    def noise_along(self) -> Float[np.ndarray, " dim"]:
        """Noise variance ``v^T C v`` of one example along each Hessian eigenvector."""
        return np.einsum("ik,ij,jk->k", self.eigenvectors, self.covariance, self.eigenvectors)

    @property
    def alignment(self) -> Alignment:
        """How close C is to c H."""
        C, H = self.covariance, self.drift_matrix
        c = float((C * H).sum() / (H * H).sum())
        size_C, size_H = np.linalg.norm(C), np.linalg.norm(H)
        return Alignment(
            c=c,
            relative_residual=float(np.linalg.norm(C - c * H) / size_C),
            cosine=float((C * H).sum() / (size_C * size_H)),
            commutator=float(np.linalg.norm(C @ H - H @ C) / (size_C * size_H)),
        )

    def stationary_covariance(
        self, learning_rate: float | None = None
    ) -> Float[np.ndarray, "dim dim"]:
        """Stationary covariance S in units of epsilon^2 = learning_rate / batch_size.

        Of the diffusion, ``A S + S A^T = C``, unless a learning rate is given; then of the
        discrete chain, ``A S + S A^T - eta A S A^T = C``.

        Raises:
            Unstable: when the chain is unstable at this learning rate.
        """
        if learning_rate is None:
            return stationary_covariance(self.drift_matrix, self.covariance)
        return stationary_covariance_discrete(self.drift_matrix, self.covariance, learning_rate)


def neighbourhood(escape: Escape) -> Neighbourhood:
    """Hessian and noise covariance at an escape's minimum, dense, in float64."""
    return Neighbourhood(
        jacobian(escape.landscape, escape.minimum),
        escape.dynamics.noise_covariance(escape.landscape, escape.minimum),
    )


def effective_dimension(stationary: Float[np.ndarray, "dim dim"]) -> float:
    """``Tr S / lambda_max(S)``: how many directions fluctuate."""
    return float(np.trace(stationary) / np.linalg.eigvalsh(stationary)[-1])
