"""SGD's covariance around a minimum, in the subspace where Hessian and noise are large."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import DegenerateNoise, InvalidArgument
from escapade.minimum.krylov.basis import orthonormal, project_out
from escapade.minimum.krylov.estimate import Estimate
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector
from escapade.minimum.krylov.relaxation import covariance_after, lifetime
from escapade.minimum.krylov.trace import known_rows

# Relative: a covariance with more negative eigenvalues than products in float32 can leave is none.
NEGATIVE = 1e-3


class ReducedNeighbourhood(eqx.Module):
    """Hessian H and noise covariance C seen from a subspace with orthonormal basis U.

    Attributes:
        basis: U.
        hessian: ``U^T H U``.
        covariance: ``U^T C U``.
        hessian_images: ``(I - U U^T) H U``: how H leaves the subspace.
        noise_images: ``(I - U U^T) C U``: how C does.
        hessian_residual: spectral norm of `hessian_images`; zero for exact eigenvectors of H.
        noise_residual: spectral norm of `noise_images`.
        products: products with H and with C spent, together.
    """

    basis: Float[np.ndarray, "dim size"]
    hessian: Float[np.ndarray, "size size"]
    covariance: Float[np.ndarray, "size size"]
    hessian_images: Float[np.ndarray, "dim size"]
    noise_images: Float[np.ndarray, "dim size"]
    hessian_residual: float
    noise_residual: float
    products: int

    @property
    def size(self) -> int:
        """Dimension of the subspace."""
        return self.hessian.shape[0]

    def left_out(self, noise_trace: Estimate) -> Estimate:
        """The part of tr C outside the subspace."""
        inside = float(np.trace(self.covariance))
        return eqx.tree_at(lambda trace: trace.value, noise_trace, noise_trace.value - inside)


class ReducedCovariance(eqx.Module):
    """Covariance of SGD's position, from the equation projected on a subspace.

    Everything in units of ``eta / B``. The covariance is approximated by ``U matrix U^T`` on the
    subspace and, given its whole trace, by an equal variance in all directions outside.

    Attributes:
        basis: U.
        matrix: the projected equation's solution.
        residual: bound of ``|H S + S H - eta H S H - C|`` for ``S = U matrix U^T``, in the spectral
            norm, without the noise that stays outside the subspace (its own norm adds to it); of a
            finite horizon, the largest over times up to it.
        error: bound of ``|U^T S U - matrix|``, in the spectral norm; infinite where none is known.
        outside: variance per direction outside the subspace; zero unless the trace was given.
    """

    basis: Float[np.ndarray, "dim size"]
    matrix: Float[np.ndarray, "size size"]
    residual: float
    error: float
    outside: float

    def along(self, direction: Vector) -> float:
        """Variance along a direction: ``n^T S n`` for the unit vector n."""
        unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
        inside = (unit.astype(self.basis.dtype) @ self.basis).astype(np.float64)
        return float(inside @ self.matrix @ inside + self.outside * max(0, 1 - inside @ inside))


def orthonormal_basis(*columns: Float[np.ndarray, "dim _"]) -> Float[np.ndarray, "dim size"]:
    """Orthonormal basis of the span of several sets of columns, the first set's kept first."""
    return orthonormal(np.concatenate(columns, axis=1)).T


def reduced_neighbourhood(
    hessian_product: Product,
    noise_product: Product,
    basis: Float[np.ndarray, "dim size"],
    *,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> ReducedNeighbourhood:
    """Hessian and noise covariance in a subspace: one product with each per basis vector.

    Memory: three times the basis.

    Args:
        hessian_product: ``v -> H v``.
        noise_product: ``v -> C v``.
        basis: orthonormal columns: the top eigenvectors of H, then those of C, made orthonormal by
            `orthonormal_basis`.
        max_products: products with H and C together that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when the basis is not orthonormal.
        DegenerateNoise: when the noise product is not that of a covariance.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget does not cover the basis.
    """
    dim = basis.shape[0]
    cap = None if max_products is None else max(1, max_products // 2)
    hessian = Operator(hessian_product, dim, precision, cap, deadline)
    noise = Operator(noise_product, dim, precision)
    rows = known_rows(basis, hessian)
    projected = np.empty((2, len(rows), len(rows)))
    images = np.empty((2, *rows.shape), rows.dtype)
    for k, row in enumerate(rows):
        hessian.require("the reduction")
        for which, operator in enumerate((hessian, noise)):
            image = operator(row)
            projected[which, :, k] = project_out(rows, image)
            images[which, k] = image
    return ReducedNeighbourhood(
        basis=rows.T,
        hessian=_symmetric(projected[0]),
        covariance=_positive(projected[1]),
        hessian_images=images[0].T,
        noise_images=images[1].T,
        hessian_residual=_spectral_norm(images[0]),
        noise_residual=_spectral_norm(images[1]),
        products=hessian.products + noise.products,
    )


def reduced_covariance(
    reduced: ReducedNeighbourhood,
    *,
    learning_rate: float | None = None,
    horizon: float = np.inf,
    complement_curvature: tuple[float, float] | None = None,
    complement_noise: float = np.inf,
    whole_trace: Estimate | None = None,
) -> ReducedCovariance:
    """Solve ``H S + S H = C`` (``... - eta H S H = C``) in a subspace, with an error bound.

    The error E of the solution obeys the same equation with the residual as its noise. In blocks
    (p inside, q outside) with ``|H_qp| = h`` and the time ``t_ab`` for which an error of block ab
    lives (``1 / (m_a + m_b)`` for ``H >= m``), continuously in time,
    ``|E_pp| <= t_pp 2 h |E_qp|``, ``|E_qp| <= t_qp (r + h |E_pp| + h |E_qq|)`` and
    ``|E_qq| <= t_qq (|C_qq| + 2 h |E_qp|)`` with the residual r: so the error inside is of second
    order in how little invariant the subspace is, and zero for eigenvectors of H.

    Args:
        reduced: the subspace.
        learning_rate: of the discrete chain; continuous SGD unless given.
        horizon: time (steps, given a learning rate) since a start at the minimum.
        complement_curvature: bounds of the eigenvalues of H outside the subspace, lowest and
            largest; those of all of H are such bounds. Without them no error bound is known unless
            the subspace is invariant.
        complement_noise: bound of the largest eigenvalue of C outside: the next one after those in
            the basis, or the trace left out.
        whole_trace: tr S, from `position_trace`: what is not inside is spread evenly outside.

    Raises:
        Unstable: when H in the subspace has an eigenvalue that does not hold SGD, at an infinite
            horizon; give a finite one.
        DegenerateNoise: when there is no noise in the subspace.
        InvalidArgument: when an argument does not fit.
    """
    matrix = covariance_after(reduced.hessian, reduced.covariance, horizon, learning_rate)
    eta = learning_rate or 0.0
    step = np.eye(reduced.size) - eta * reduced.hessian
    if horizon == np.inf:
        mixed = reduced.hessian_images @ (matrix @ step).astype(reduced.basis.dtype)
        mixed -= reduced.noise_images
        crossing = _spectral_norm(mixed.T)
    else:
        # The covariance at any earlier time is smaller, in the order of matrices.
        factor = float(np.linalg.norm(matrix, 2) * np.linalg.norm(step, 2))
        crossing = reduced.hessian_residual * factor + reduced.noise_residual
    beyond = eta * reduced.hessian_residual**2 * float(np.linalg.norm(matrix, 2))
    return ReducedCovariance(
        basis=reduced.basis,
        matrix=matrix,
        residual=crossing + beyond,
        error=_error(
            reduced,
            learning_rate,
            horizon,
            complement_curvature or (-np.inf, np.inf),
            crossing,
            beyond + complement_noise,
        ),
        outside=_outside(reduced, matrix, whole_trace),
    )


def _error(
    reduced: ReducedNeighbourhood,
    learning_rate: float | None,
    horizon: float,
    outside_curvature: tuple[float, float],
    crossing: float,
    outside_noise: float,
) -> float:
    """Bound of ``|E_pp|``: see `reduced_covariance`, and there the discrete chain's extra terms."""
    h, eta = reduced.hessian_residual, learning_rate or 0.0
    if h == 0 or reduced.size == reduced.basis.shape[0]:
        return 0.0
    if not np.isfinite(outside_noise) or not np.all(np.isfinite(outside_curvature)):
        return np.inf
    inside = np.linalg.eigvalsh(reduced.hessian)[[0, -1]]
    if learning_rate is None:
        p = q = 1.0
        taken = [2 * inside[0], inside[0] + outside_curvature[0], 2 * outside_curvature[0]]
    else:
        p, q = (float(np.abs(1 - eta * np.array(e)).max()) for e in (inside, outside_curvature))
        taken = [1 - p * p, 1 - p * q, 1 - q * q]
    lives = lifetime(np.array(taken), horizon, learning_rate)
    if not np.all(np.isfinite(lives)):
        return np.inf
    gain = np.diag(lives) @ np.array(
        [
            [0, 2 * p * h, eta * h**2],
            [p * h, eta * h**2, q * h],
            [eta * h**2, 2 * q * h, 0],
        ]
    )
    if np.abs(np.linalg.eigvals(gain)).max() >= 1:
        return np.inf
    source = np.array([0.0, crossing, outside_noise])
    return float(np.linalg.solve(np.eye(3) - gain, lives * source)[0])


def _outside(
    reduced: ReducedNeighbourhood,
    matrix: Float[np.ndarray, "size size"],
    whole_trace: Estimate | None,
) -> float:
    directions = reduced.basis.shape[0] - reduced.size
    if whole_trace is None or directions == 0:
        return 0.0
    if not np.isfinite(whole_trace.value):
        raise InvalidArgument(
            f"whole_trace is {whole_trace.value}: noise lies where H does not hold SGD; give a "
            "finite horizon, here and in position_trace"
        )
    return max(0.0, float(whole_trace.value) - float(np.trace(matrix))) / directions


def _symmetric(matrix: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    return (matrix + matrix.T) / 2


def _positive(matrix: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """The symmetric part without the negative eigenvalues that rounding leaves."""
    values, vectors = np.linalg.eigh(_symmetric(matrix))
    if values[0] < -NEGATIVE * np.abs(values).max():
        raise DegenerateNoise(
            f"noise_product has the eigenvalue {values[0]:.3g} beside {values[-1]:.3g}, so it is "
            "not the product with a covariance; give the centred covariance of the gradients"
        )
    return _symmetric((vectors * np.maximum(values, 0)) @ vectors.T)


def _spectral_norm(rows: Float[np.ndarray, "size dim"]) -> float:
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh((rows @ rows.T).astype(np.float64))[-1])))
