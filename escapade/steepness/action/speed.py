"""The cost of moving along a curve at the best speed: the integrand of the geometric action.

Over all time parametrisations of a curve the least action is ``integral min_c L(x, c x') / c ds``
over speeds c > 0, which is ``sup p . x'`` over momenta with ``H(x, p) = 0`` (Freidlin and Wentzell,
chapter 4.3; Heymann and Vanden-Eijnden, CPAM 61, 2008).
"""

import jax
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import NotConverged
from escapade.precision import in_float64
from escapade.steepness.action.lagrangian import TOLERANCE, in_chunks, lagrangian, points_at_once
from escapade.steepness.hamiltonian import AbstractHamiltonian, GaussianHamiltonian

Points = Float[np.ndarray, "points dim"]
Rates = Float[np.ndarray, " points"]

CLOSE = 1e-7
"""Accuracy of the logarithm of the speed; the cost, least there, has the square of it."""


def least_rate(
    law: AbstractHamiltonian, points: Points, tangents: Points, tolerance: float = TOLERANCE
) -> Rates:
    """Least steepness per unit of curve at each point, infinite where noise cannot follow it.

    Args:
        law: the Hamiltonian, in continuous time.
        points: x, shape (points, dim).
        tangents: x' along the curve, not zero, shape (points, dim).
        tolerance: as for `lagrangian`.

    Raises:
        NotConverged: when a Lagrangian, or the search for the speed, does not converge.
    """
    drifts = in_chunks(
        lambda chunk: (in_float64(_drifts, law, chunk),),
        points_at_once(law, points.shape[1]),
        points,
    )[0]
    if isinstance(law, GaussianHamiltonian):
        return _gaussian(law, points, tangents, drifts, tolerance)
    return _search(law, points, tangents, drifts, tolerance)


def _drifts(law: AbstractHamiltonian, points: Array) -> Array:
    return jax.vmap(law.drift)(points)


def _gaussian(
    law: AbstractHamiltonian, points: Points, tangents: Points, drifts: Points, tolerance: float
) -> Rates:
    """``|x'|_{C^-1} |drift|_{C^-1} - <x', drift>_{C^-1}``, by the Lagrangian of two velocities."""
    still = lagrangian(law, points, np.zeros_like(points), tolerance)
    moving = lagrangian(law, points, drifts + tangents, tolerance)
    with np.errstate(invalid="ignore"):
        product = 2 * np.sqrt(still.values) * np.sqrt(moving.values)
        rates = np.maximum(product + (still.momenta * tangents).sum(axis=1), 0.0)
    rates[np.isinf(still.values) | np.isinf(moving.values)] = np.inf
    # Where neither is in the range of C, the speed has to match the drift across it.
    across, needed = -still.momenta, moving.momenta
    both = np.flatnonzero(np.isinf(still.values) & np.isinf(moving.values))
    along = (across[both] * needed[both]).sum(axis=1)
    both, along = both[along > 0], along[along > 0]
    if both.size:
        speeds = along / (needed[both] ** 2).sum(axis=1)
        matched = lagrangian(law, points[both], speeds[:, None] * tangents[both], tolerance)
        rates[both] = matched.values / speeds
    return rates


def _search(
    law: AbstractHamiltonian, points: Points, tangents: Points, drifts: Points, tolerance: float
) -> Rates:
    """Root in the speed c of ``H(x, p(c x'))``, which rises with c, by bracketed secants.

    Speeds of which noise is incapable have a momentum too, which tells whether they are too high
    or too low.
    """
    size = np.linalg.norm(drifts, axis=1)
    # Where there is no drift standing still is free, and so are slow motions.
    moving = size > 0
    speeds = np.log(np.where(moving, size, 1.0) / np.linalg.norm(tangents, axis=1))
    low, high = np.full((2, len(points)), [[-np.inf], [np.inf]])
    at_low, at_high = np.full((2, len(points)), [[-np.inf], [np.inf]])
    best = np.where(moving, np.inf, 0.0)
    stride, done = 0.5, ~moving
    for _ in range(200):
        velocities = np.exp(speeds)[:, None] * tangents
        found = lagrangian(law, points, velocities, tolerance)
        power = (found.momenta * velocities).sum(axis=1)
        reachable = np.isfinite(found.values)
        excess = np.where(reachable, power - np.where(reachable, found.values, 0.0), 0.0)
        excess = np.where(reachable, excess, np.where(power > 0, np.inf, -np.inf))
        best = np.where(done, best, np.minimum(best, found.values / np.exp(speeds)))
        if np.isnan(found.values[~done]).any():
            return np.where(np.isnan(found.values), np.nan, best)
        up = excess > 0
        # Illinois: halve the value at an end that has stayed, so that both ends close in.
        at_high = np.where(up, excess, np.where(np.isneginf(low), at_high, 0.5 * at_high))
        at_low = np.where(up, np.where(np.isposinf(high), at_low, 0.5 * at_low), excess)
        high, low = np.where(up, speeds, high), np.where(up, low, speeds)
        open_ended = ~np.isfinite(high - low)
        smooth = ~open_ended & np.isfinite(at_high) & np.isfinite(at_low) & (at_high > at_low)
        with np.errstate(invalid="ignore"):
            share = np.where(smooth, -at_low / np.where(smooth, at_high - at_low, 1.0), 0.5)
            inside = low + np.clip(share, 1e-3 * CLOSE, 1.0) * (high - low)
        proposed = np.where(open_ended, speeds + np.where(up, -stride, stride), inside)
        stride = min(2 * stride, 16.0)
        done |= (np.abs(proposed - speeds) <= CLOSE) | (excess == 0)
        # No speed is possible if none is found over all of float64's magnitudes.
        done |= open_ended & (np.abs(proposed) > 300)
        speeds = np.where(done, speeds, proposed)
        if done.all():
            return best
    raise NotConverged("the best speed along the curve was not found; give times=... with the path")
