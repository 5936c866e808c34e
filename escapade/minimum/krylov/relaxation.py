"""What SGD's linear relaxation accumulates over a horizon: covariances, and lives of errors."""

import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.minimum.lyapunov import (
    horizon_covariance,
    stationary_covariance,
    stationary_covariance_discrete,
)

Small = Float[np.ndarray, "size size"]
Numbers = Float[np.ndarray, "..."]


def covariance_after(
    hessian: Small, covariance: Small, horizon: float, learning_rate: float | None
) -> Small:
    """Covariance of SGD's position after a horizon, or stationary at an infinite one.

    In units of ``eta / B``; a time in continuous SGD, a number of steps given a learning rate.
    """
    if horizon != np.inf:
        return horizon_covariance(hessian, covariance, horizon, learning_rate)
    if learning_rate is None:
        return stationary_covariance(hessian, covariance)
    return stationary_covariance_discrete(hessian, covariance, learning_rate)


def shrinkage(nodes: Numbers, learning_rate: float | None) -> Numbers:
    """What relaxation takes away of the variance along curvatures l.

    Per unit of time the rate ``2 l``; given a learning rate, per step ``1 - (1 - eta l)^2``.
    """
    return (
        2 * nodes if learning_rate is None else learning_rate * nodes * (2 - learning_rate * nodes)
    )


def lifetime(taken: Numbers, horizon: float, learning_rate: float | None) -> Numbers:
    """``int_0^T exp(-taken t) dt``; given a learning rate, ``eta sum_{j < K} (1 - taken)^j``.

    Infinite at an infinite horizon where nothing is taken away.

    Raises:
        InvalidArgument: when the horizon or the learning rate is not positive.
    """
    if not horizon > 0:
        raise InvalidArgument(f"horizon is {horizon}; give a positive time or number of steps")
    if learning_rate is not None and not learning_rate > 0:
        raise InvalidArgument(f"learning_rate is {learning_rate}; give a positive number")
    unit = 1.0 if learning_rate is None else learning_rate
    taken = np.asarray(taken, np.float64)
    held = np.where(taken == 0, 1.0, taken)
    if horizon == np.inf:
        return np.where(taken > 0, unit / held, np.inf)
    with np.errstate(divide="ignore", over="ignore"):
        exponent = horizon * (-held if learning_rate is None else np.log1p(-np.minimum(held, 1)))
        return np.where(taken == 0, unit * horizon, unit * -np.expm1(exponent) / held)
