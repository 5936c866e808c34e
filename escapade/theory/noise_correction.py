"""What the true minibatch noise changes, to first order in its distance from Gaussian."""

import numpy as np
from jaxtyping import Float


def noise_correction(
    noise: Float[np.ndarray, "examples modes"],
    rates: Float[np.ndarray, " modes"],
    momentum: Float[np.ndarray, " modes"],
    noise_scale: float,
    *,
    one_sided: bool,
) -> float:
    """Change of log E[nu] by the skewness and tails of minibatch noise.

    The true noise has the Hamiltonian ``log mean_i exp(p . xi_i)`` in place of ``p^T C p / 2``
    (theory: Azizian et al. 2024); along the Gaussian optimal path, whose momentum is
    ``p(t) = exp(-A^T t) S^-1 x``, the action changes by minus the integral of the difference. Of
    the two opposite exits of a symmetric region the easier one is taken.

    Args:
        noise: every example's gradient less the mean, along the Hessian's eigenvectors.
        rates: their eigenvalues.
        momentum: ``S^-1 x`` at the exit point x, along them.
        noise_scale: ``eta / B``.
        one_sided: whether the opposite exit is none.
    """
    # Gauss-Legendre in the logarithm of the time to the exit, from far below the fastest
    # relaxation to far beyond the slowest.
    nodes, weights = np.polynomial.legendre.leggauss(96)
    fastest, slowest = rates.max(), rates.min()
    low, high = np.log(1e-4 / fastest), np.log(20 / max(slowest, 1e-6 * fastest))
    times = np.exp(low + (high - low) * (nodes + 1) / 2)
    weights = weights * (high - low) / 2 * times
    projections = noise @ (np.exp(-np.outer(times, rates)) * momentum).T
    gaussian = 0.5 * (projections**2).mean(axis=0)
    # A step moves against the gradient, so an exit along +x is driven by minus the noise.
    change = [
        -float(weights @ (_log_mean_exp(-side * projections) - gaussian))
        for side in ((1.0,) if one_sided else (1.0, -1.0))
    ]
    return min(change) / noise_scale


def _log_mean_exp(values: Float[np.ndarray, "examples nodes"]) -> Float[np.ndarray, " nodes"]:
    top = values.max(axis=0)
    return top + np.log(np.exp(values - top).mean(axis=0))
