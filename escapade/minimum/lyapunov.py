"""Covariances of linear-Gaussian SGD near a minimum, in units of ``eps^2 = eta / B``.

The displacement x from the minimum moves as ``dx = -A x dt + eps C^{1/2} dW`` (time
``t = steps * eta``) or, step by step, ``x' = (I - eta A) x + eta (C / B)^{1/2} xi``. A is the
Hessian of a gradient landscape and any stable matrix for another drift; C is the covariance of one
example's gradient and may be singular.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float

from escapade.errors import DegenerateNoise, InvalidArgument, Unstable

Matrix = Float[np.ndarray, "dim dim"]

# Relative to the largest entry: asymmetry and negative eigenvalues below it are taken for rounding
# (covariances come from averages in single precision), above it they are errors.
TOLERANCE = 1e-8


def symmetric_root(covariance: Matrix) -> Matrix:
    """The symmetric R with ``R R = S``; eigenvalues that rounding leaves negative count as zero.

    Draws ``R z`` are functions of S and z alone. Those of another factor also depend on the signs
    of eigenvectors and on their choice where eigenvalues coincide: accidents of the eigensolver.
    """
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def stationary_covariance(drift_matrix: Matrix, covariance: Matrix) -> Matrix:
    """S of continuous SGD: ``A S + S A^T = C`` (units of eps^2).

    A symmetric drift matrix costs one eigendecomposition, another one a Schur form.

    Raises:
        InvalidArgument: when the shapes do not match.
        DegenerateNoise: when the covariance is zero or not symmetric positive semi-definite.
        Unstable: when the drift matrix has an eigenvalue without positive real part.
    """
    drift, noise = _checked(drift_matrix, covariance)
    if _is_symmetric(drift):
        rates, basis = np.linalg.eigh(_symmetric(drift))
        _require_stable(rates)
        solution = basis.T @ noise @ basis / (rates[:, None] + rates)
        return _symmetric(basis @ solution @ basis.T)
    _require_stable(np.linalg.eigvals(drift))
    return _symmetric(scipy.linalg.solve_continuous_lyapunov(drift, noise))


def stationary_covariance_discrete(
    drift_matrix: Matrix, covariance: Matrix, learning_rate: float
) -> Matrix:
    """S of SGD at a finite learning rate: ``A S + S A^T - eta A S A^T = C`` (units of eps^2).

    Raises:
        InvalidArgument: when the shapes do not match or the learning rate is not positive.
        DegenerateNoise: when the covariance is zero or not symmetric positive semi-definite.
        Unstable: when ``I - eta A`` has an eigenvalue of modulus 1 or more.
    """
    drift, noise = _checked(drift_matrix, covariance)
    if _is_symmetric(drift):
        rates, basis = np.linalg.eigh(_symmetric(drift))
        _require_stable(rates, learning_rate)
        sums = rates[:, None] + rates - learning_rate * np.outer(rates, rates)
        return _symmetric(basis @ (basis.T @ noise @ basis / sums) @ basis.T)
    return _symmetric(
        scipy.linalg.solve_continuous_lyapunov(*equivalent_diffusion(drift, noise, learning_rate))
    )


def stationary_covariance_of_chain(step: Matrix, kick: Matrix, covariance: Matrix) -> Matrix:
    """S of any linear chain ``x' = M x + K xi``: ``S = M S M^T + K C K^T``.

    For momentum M and K are those of `MomentumSGD.transition` and x is (theta, v). Given C over the
    batch size, S is not in units of eps^2; its first block over eps^2 is the S of the positions.

    Args:
        step: M, shape (states, states).
        kick: K, shape (states, dim).
        covariance: C of the noise xi, shape (dim, dim).

    Raises:
        InvalidArgument: when the shapes do not match.
        DegenerateNoise: when the covariance is zero or not symmetric positive semi-definite.
        Unstable: when M has an eigenvalue of modulus 1 or more.
    """
    matrix = np.asarray(step, dtype=np.float64)
    enters = np.asarray(kick, dtype=np.float64)
    _, noise = _checked(np.eye(len(np.atleast_1d(covariance))), covariance)
    if matrix.shape != (len(enters), len(enters)) or enters.shape[1:] != (len(noise),):
        raise InvalidArgument(
            f"step has shape {matrix.shape}, kick {enters.shape} and covariance {noise.shape}; "
            "give (states, states), (states, dim) and (dim, dim)"
        )
    largest = float(np.abs(np.linalg.eigvals(matrix)).max())
    if not largest < 1:
        raise Unstable(
            f"step has an eigenvalue of modulus {largest:.6g}, so the chain does not settle; lower "
            "the learning rate or the momentum"
        )
    total, power = enters @ noise @ enters.T, matrix
    # The sum over j < 2^k of M^j K C K^T (M^T)^j, doubled until nothing is added to it.
    for _ in range(64):
        more = power @ total @ power.T
        if np.array_equal(total + more, total):
            break
        total, power = total + more, power @ power
    return _symmetric(total)


def equivalent_diffusion(
    drift_matrix: Matrix, covariance: Matrix, learning_rate: float
) -> tuple[Matrix, Matrix]:
    """Drift matrix and noise of the diffusion with the stationary covariance of discrete SGD.

    With the midpoint factor ``F = (I - eta A / 2)^{-1}`` they are ``F A`` and ``F C F^T``:
    inserting them in ``A S + S A^T = C`` gives ``A S + S A^T - eta A S A^T = C``. To first order in
    eta they are the modified equation of the Euler scheme (``A + eta A^2 / 2``).

    Raises:
        InvalidArgument: when the shapes do not match or the learning rate is not positive.
        DegenerateNoise: when the covariance is zero or not symmetric positive semi-definite.
        Unstable: when ``I - eta A`` has an eigenvalue of modulus 1 or more.
    """
    drift, noise = _checked(drift_matrix, covariance)
    symmetric = _is_symmetric(drift)
    _require_stable(
        np.linalg.eigvalsh(drift) if symmetric else np.linalg.eigvals(drift), learning_rate
    )
    factor = scipy.linalg.lu_factor(np.eye(len(drift)) - learning_rate / 2 * drift)
    half = scipy.linalg.lu_solve(factor, noise)
    return (
        scipy.linalg.lu_solve(factor, drift),
        _symmetric(scipy.linalg.lu_solve(factor, half.T)),
    )


def horizon_covariance(
    drift_matrix: Matrix,
    covariance: Matrix,
    horizon: float,
    learning_rate: float | None = None,
) -> Matrix:
    """Covariance at a finite horizon of SGD started at a point (units of eps^2).

    Continuous: ``S_T = S - e^{-A T} S e^{-A^T T}`` at time ``T = horizon``. With a learning rate:
    ``S_K = S - M^K S M^K^T``, ``M = I - eta A``, after ``K = horizon`` steps. Neither is computed
    as this difference: no digits are lost when the horizon is short, and no stability is needed.

    Raises:
        InvalidArgument: when the shapes do not match, the horizon is not positive, or it is not a
            whole number of steps although a learning rate is given.
        DegenerateNoise: when the covariance is zero or not symmetric positive semi-definite.
    """
    drift, noise = _checked(drift_matrix, covariance)
    if not 0 < horizon < np.inf:
        raise InvalidArgument(f"horizon is {horizon}; give a positive time or number of steps")
    dim = len(drift)
    if learning_rate is not None:
        _require_positive(learning_rate)
        if horizon != int(horizon):
            raise InvalidArgument(f"horizon is {horizon}; give a whole number of steps")
        step, one = np.eye(dim) - learning_rate * drift, learning_rate * noise
        total, propagator = np.zeros_like(noise), np.eye(dim)
        # Binary digits of K, leading one first: K -> 2 K, then K -> 2 K + 1 where the digit is 1.
        for digit in f"{int(horizon):b}":
            total = total + propagator @ total @ propagator.T
            propagator = propagator @ propagator
            if digit == "1":
                total = one + step @ total @ step.T
                propagator = step @ propagator
        return _symmetric(total)
    if _is_symmetric(drift):
        rates, basis = np.linalg.eigh(_symmetric(drift))
        sums = rates[:, None] + rates
        held = np.where(sums == 0, 1.0, sums)
        times = np.where(sums == 0, horizon, -np.expm1(-held * horizon) / held)
        return _symmetric(basis @ (basis.T @ noise @ basis * times) @ basis.T)
    doublings = max(0, int(np.ceil(np.log2(2 * np.linalg.norm(drift, 1) * horizon + 1e-300))))
    # A short horizon by Van Loan, "Computing integrals involving the matrix exponential" (1978),
    # then doubled: a sum of positive terms.
    short = horizon / 2**doublings
    block = scipy.linalg.expm(short * np.block([[drift, noise], [np.zeros_like(drift), -drift.T]]))
    propagator = block[dim:, dim:].T
    total = propagator @ block[:dim, dim:]
    for _ in range(doublings):
        total = total + propagator @ total @ propagator.T
        propagator = propagator @ propagator
    return _symmetric(total)


def _checked(drift_matrix: Matrix, covariance: Matrix) -> tuple[Matrix, Matrix]:
    drift = np.asarray(drift_matrix, dtype=np.float64)
    noise = np.asarray(covariance, dtype=np.float64)
    if drift.ndim != 2 or drift.shape[0] != drift.shape[1] or not np.all(np.isfinite(drift)):
        raise InvalidArgument(f"drift_matrix has shape {drift.shape}; give a finite square matrix")
    if noise.shape != drift.shape:
        raise InvalidArgument(
            f"covariance has shape {noise.shape} but drift_matrix has {drift.shape}; give both in "
            "the same coordinates"
        )
    scale = np.max(np.abs(noise), initial=0.0)
    if not 0 < scale < np.inf:
        raise DegenerateNoise(
            f"covariance has largest entry {scale:.3g}: without positive finite noise SGD never "
            "leaves a minimum"
        )
    if np.max(np.abs(noise - noise.T)) > TOLERANCE * scale:
        raise DegenerateNoise(
            "covariance is not symmetric (relative asymmetry "
            f"{np.max(np.abs(noise - noise.T)) / scale:.1e}); give its symmetric part"
        )
    noise = _symmetric(noise)
    try:
        np.linalg.cholesky(noise + TOLERANCE * scale * len(noise) * np.eye(len(noise)))
    except np.linalg.LinAlgError:
        raise DegenerateNoise(
            f"covariance has the negative eigenvalue {np.linalg.eigvalsh(noise)[0]:.3g}; clip its "
            "spectrum at zero or average over more examples"
        ) from None
    return drift, noise


def _require_positive(learning_rate: float) -> None:
    if not 0 < learning_rate < np.inf:
        raise InvalidArgument(f"learning_rate is {learning_rate}; give a positive number")


def _require_stable(rates: Float[np.ndarray, " dim"], learning_rate: float = 0.0) -> None:
    """Check the eigenvalues of the drift matrix; a learning rate of 0 means continuous time."""
    slowest = np.min(rates.real)
    if slowest <= 0:
        raise Unstable(
            f"drift_matrix has an eigenvalue of real part {slowest:.3g}, so there is no stable "
            "minimum at any learning rate; drop flat directions or polish the minimum"
        )
    if learning_rate == 0:
        return
    _require_positive(learning_rate)
    # |1 - eta a| < 1  <=>  eta < 2 Re(a) / |a|^2
    largest = np.min(2 * rates.real / np.abs(rates) ** 2)
    if learning_rate >= largest:
        raise Unstable(
            f"learning_rate {learning_rate:.6g} is unstable at this minimum; the largest stable "
            f"learning rate is {largest:.6g}"
        )


def _is_symmetric(matrix: Matrix) -> bool:
    return bool(np.max(np.abs(matrix - matrix.T)) <= 1e-12 * np.max(np.abs(matrix)))


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2
