"""Variance of SGD's position along one direction, without the rest of its covariance."""

import equinox as eqx
import numpy as np

from escapade.errors import InvalidArgument, Unstable
from escapade.minimum.krylov.lanczos import KrylovSpace
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector
from escapade.minimum.krylov.relaxation import covariance_after, lifetime


class DirectionalVariance(eqx.Module):
    """Variance of SGD's position along a unit vector n, in units of ``eta / B``.

    Attributes:
        value: ``n^T S n``.
        error: bound of its error.
        products: products with H and with C spent, together.
        converged: whether the error of n's relaxation is as small as was asked for.
    """

    value: float
    error: float
    products: int
    converged: bool


def variance_along(
    hessian_product: Product,
    noise_product: Product,
    direction: Vector,
    *,
    curvature: tuple[float, float],
    largest_noise: float,
    learning_rate: float | None = None,
    horizon: float = np.inf,
    tolerance: float = 1e-3,
    max_depth: int = 60,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> DirectionalVariance:
    """``n^T S n`` for the S of ``H S + S H = C`` (discrete: ``H S + S H - eta H S H = C``).

    It is ``int_0^T y(t)^T C y(t) dt`` with the relaxation ``y(t) = exp(-H t) n`` (a sum over
    ``(I - eta H)^j n`` for the chain), and y is approximated in the Krylov space of n and H. With
    the space's tridiagonal T and beta, the norm of what leaves it, the error of y is driven by
    ``beta e_m^T exp(-T t) e_1``, whose square integrates to an entry of a small Lyapunov equation;
    by Young's inequality ``|error of y| <= (life of an error) * beta * |e_m^T exp(-T t) e_1|`` in
    the L2 norm over time (after Saad, "Numerical solution of large Lyapunov equations", 1990). For
    an eigenvector it is exact after one product: ``n^T C n / (2 l - eta l^2)``.

    Memory: `max_depth + 2` vectors.

    Args:
        hessian_product: ``v -> H v``.
        noise_product: ``v -> C v``.
        direction: n, of any length.
        curvature: bounds of all eigenvalues of H, lowest and largest; the lowest must be positive
            unless the horizon is finite.
        largest_noise: bound of the largest eigenvalue of C.
        learning_rate: of the discrete chain; continuous SGD unless given.
        horizon: time (steps, given a learning rate) since a start at the minimum.
        tolerance: of the relaxation, relative to its own L2 norm over time.
        max_depth: products with H, and with C, at most.
        max_products: both together; None for no cap but the depth.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Unstable: when the curvature does not hold SGD and the horizon is infinite.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget does not cover two products.
    """
    start = np.asarray(direction, np.dtype(precision))
    size = float(np.linalg.norm(start))
    if start.ndim != 1 or not 0 < size < np.inf:
        raise InvalidArgument(
            f"direction has shape {start.shape} and norm {size}; give a finite non-zero vector"
        )
    cap = None if max_products is None else max(1, max_products // 2)
    hessian = Operator(hessian_product, start.size, precision, cap, deadline)
    noise = Operator(noise_product, start.size, precision)
    life = _life(curvature, learning_rate, horizon)
    krylov = KrylovSpace(hessian, start, max_depth)
    hessian.require("the variance along a direction")
    projected = np.empty((0, 0))
    while True:
        krylov.extend()
        size = len(krylov.rows)
        projected = np.pad(projected, (0, 1))
        # What the noise does to the newest vector is a row and a column of the projected C.
        projected[-1] = projected[:, -1] = krylov.rows @ noise(krylov.rows[-1])
        impulse = np.zeros((size, size))
        impulse[0, 0] = 1.0
        gramian = covariance_after(krylov.projected, impulse, horizon, learning_rate)
        off = life * krylov.leaving * float(np.sqrt(max(0.0, gramian[-1, -1])))
        length = float(np.sqrt(np.trace(gramian)))
        converged = off <= tolerance * length
        if converged or krylov.finished or hessian.exhausted:
            break
    # tr(C G) with the Gramian G of y(t) in the Krylov space.
    value = max(0.0, float(np.sum(projected * gramian)))
    error = 2 * np.sqrt(value * largest_noise) * off + largest_noise * off**2
    return DirectionalVariance(value, float(error), hessian.products + noise.products, converged)


def _life(curvature: tuple[float, float], learning_rate: float | None, horizon: float) -> float:
    """How long an error of the relaxation lives at most."""
    low, high = curvature
    if not low <= high < np.inf:
        raise InvalidArgument(
            f"curvature is {curvature}; give the lowest and the largest eigenvalue of H"
        )
    # The slowest direction: an error relaxes like one displacement, not like a product of two.
    taken = low
    if learning_rate is not None:
        taken = 1 - max(abs(1 - learning_rate * low), abs(1 - learning_rate * high))
    life = float(lifetime(np.array(taken), horizon, learning_rate))
    if not np.isfinite(life):
        raise Unstable(
            f"H has eigenvalues from {low:.3g} to {high:.3g}, which do not hold SGD for ever (at "
            f"learning_rate {learning_rate}); give a finite horizon"
        )
    return life
