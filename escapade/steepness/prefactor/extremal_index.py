"""Extremal index of a Gaussian random walk: what one finite step does to an exit rate.

A walk of steps ``N(-s, 1)`` that comes from a stationary bulk crosses a level in clusters;
``theta(s) = exp(-2 sum_n Phi(-s sqrt(n)) / n)`` is the inverse of the mean cluster size (Spitzer's
identity). ``log(2 s^2 / theta(s))`` is by how much the walk leaves later than the diffusion it
discretises: ``2 s`` times the boundary shift ``-zeta(1/2) / sqrt(2 pi)`` of Chernoff and Siegmund
for small s, the isolated jumps of independent draws for large s.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import gamma, gammaln, ndtr, zeta

from escapade.errors import InvalidArgument

# Zeta(1/2 - r) from its reflection formula; Zeta(1/2) is outside the reach of scipy.special.zeta.
_R = np.arange(40)
_ZETA = np.concatenate(
    [
        [-1.4603545088095868],
        2
        * (2 * np.pi) ** (-0.5 - _R[1:])
        * np.cos(np.pi * (_R[1:] + 0.5) / 2)
        * gamma(_R[1:] + 0.5)
        * zeta(_R[1:] + 0.5),
    ]
)
# Chang and Peres, "Ladder heights, Gaussian random walks and the Riemann zeta function" (1997):
# log theta(s) = log(2 s^2) + s sqrt(2/pi) sum_r zeta(1/2 - r) / (r! (2 r + 1)) (-s^2 / 2)^r.
_SERIES = np.sqrt(2 / np.pi) * _ZETA * np.exp(-gammaln(_R + 1)) / (2 * _R + 1) * (-0.5) ** _R

BOUNDARY_SHIFT = -_ZETA[0] / np.sqrt(2 * np.pi)
"""0.5826: how far, in standard deviations of a step, a walk overshoots a boundary on average."""

# Below the switch the series gains a factor s^2 / (4 pi) < 0.18 per term, above it the direct sum
# is below 1e-17 after 40 terms: both are exact to rounding.
_SWITCH = 1.5
_N = np.arange(1, 41)


def extremal_index(s: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Theta(s) of the module's text, to a relative error of 1e-13, for drifts ``s >= 0``.

    Raises:
        InvalidArgument: when a drift is negative or NaN.
    """
    drift = _checked(s)
    return np.where(
        drift < _SWITCH, 2 * drift**2 * np.exp(-_small_delay(drift)), np.exp(-_clusters(drift))
    )


def log_delay(s: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """``log(2 s^2 / theta(s))``: log mean exit time of the walk minus that of its diffusion.

    Raises:
        InvalidArgument: when a drift is negative or NaN.
    """
    drift = _checked(s)
    large = np.maximum(drift, _SWITCH)
    return np.where(drift < _SWITCH, _small_delay(drift), np.log(2 * large**2) + _clusters(large))


def log_delay_slope(s: ArrayLike) -> Float[np.ndarray, "*shape"]:
    """Derivative of `log_delay`: ``2 BOUNDARY_SHIFT`` at 0, falling to ``2 / s``.

    Raises:
        InvalidArgument: when a drift is negative or NaN.
    """
    drift = _checked(s)
    small = np.minimum(drift, _SWITCH)[..., None]
    series = -np.sum(_SERIES * (2 * _R + 1) * small ** (2 * _R), axis=-1)
    large = np.maximum(drift, _SWITCH)
    density = np.exp(-0.5 * large[..., None] ** 2 * _N) / np.sqrt(2 * np.pi * _N)
    return np.where(drift < _SWITCH, series, 2 / large - 2 * density.sum(axis=-1))


def _small_delay(drift: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    small = np.minimum(drift, _SWITCH)[..., None]
    return -np.sum(_SERIES * small ** (2 * _R + 1), axis=-1)


def _clusters(drift: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    large = np.maximum(drift, _SWITCH)[..., None]
    return 2 * np.sum(ndtr(-large * np.sqrt(_N)) / _N, axis=-1)


def _checked(s: ArrayLike) -> Float[np.ndarray, "*shape"]:
    drift = np.asarray(s, dtype=np.float64)
    if not np.all(drift >= 0):
        raise InvalidArgument(f"s is {s!r}; the drift of the walk must be zero or positive")
    return drift
