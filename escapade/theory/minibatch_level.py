"""Exit along one Hessian eigenvector under the noise that minibatches really have.

Near the minimum the displacement along an eigenvector of curvature lambda is the scalar chain
``x' = a x - (eta / B) sum of B slopes``, ``a = 1 - eta lambda``. As it is linear, its stationary
law has the cumulant generating function ``Lambda(s) = sum_k B kappa(-eta a^k s / B)`` with
``kappa(q) = log mean_i exp(q xi_i)`` over the examples' centred slopes: skewness and tails included
to all orders. The saddlepoint ``Lambda'(s) = x`` gives the probability beyond x as that of a
standard normal beyond

    r* = r + log(u / r) / r,  r = sqrt(2 (s x - Lambda(s))),  u = s sqrt(Lambda''(s))

(Lugannani and Rice 1980; Barndorff-Nielsen 1986), and r* replaces ``x / sigma`` in the mean exit
time of the Gaussian chain. To leading order ``r^2 / 2`` is the minibatch barrier
``(B / eta) V0`` of the linear chain.
"""

import numpy as np
import scipy.interpolate
import scipy.optimize
from jaxtyping import Float

SMALL = 0.02
"""Steps back whose weight ``|a|^k`` is below this are taken for Gaussian."""

NEAR = 0.05
"""Levels, in standard deviations, below which the correction is interpolated to zero's."""


def minibatch_level(
    slopes: Float[np.ndarray, " examples"],
    curvature: float,
    offset: float,
    learning_rate: float,
    batch_size: float,
) -> float:
    """Gaussian level, in standard deviations, that is as rarely exceeded as ``x = offset``.

    With replacement; another sampling's smaller variance belongs in `batch_size`. Infinite where
    no sequence of minibatches leads to the offset.

    Args:
        slopes: of every example's loss along the eigenvector.
        curvature: the eigenvalue.
        offset: x, on the positive side; for the other side change the sign of the slopes.
        learning_rate: eta.
        batch_size: B.
    """
    centred = slopes - slopes.mean()
    variance = float((centred**2).mean())
    factor = 1 - learning_rate * curvature
    count = 1
    if factor != 0:
        count += int(np.clip(np.log(SMALL) / np.log(abs(factor)), 0, 3000))
    pushes = -learning_rate / batch_size * factor ** np.arange(count)
    # What is left of the past is Gaussian: the same variance, no higher cumulant.
    tail = learning_rate**2 * variance / batch_size * factor ** (2 * count) / (1 - factor**2)
    sigma = np.sqrt(learning_rate**2 * variance / batch_size / (1 - factor**2))
    largest = offset / sigma**2 * 8
    cumulant = _Cumulant(centred, float(np.abs(pushes).max()) * largest)

    def slope(s: float) -> float:
        return float(batch_size * pushes @ cumulant(pushes * s, 1)) + tail * s - offset

    if slope(largest) < 0:
        return float("inf")
    saddle = scipy.optimize.brentq(slope, 0.0, largest, rtol=1e-12)
    value = float(batch_size * cumulant(pushes * saddle, 0).sum()) + 0.5 * tail * saddle**2
    second = float(batch_size * pushes**2 @ cumulant(pushes * saddle, 2)) + tail
    r = np.sqrt(2 * max(saddle * offset - value, 0.0))
    u = saddle * np.sqrt(second)
    if r < NEAR:
        return offset / sigma
    return float(r + np.log(u / r) / r)


class _Cumulant:
    """kappa and its first two derivatives, tabulated."""

    def __init__(self, centred: Float[np.ndarray, " examples"], reach: float, nodes: int = 401):
        # Nodes are dense around zero, where most of the past lies.
        u = np.linspace(-1, 1, nodes)
        self.at = reach * u * np.abs(u)
        exponents = np.outer(self.at, centred)
        top = exponents.max(axis=1, keepdims=True)
        weights = np.exp(exponents - top)
        total = weights.sum(axis=1)
        mean = weights @ centred / total
        second = weights @ centred**2 / total - mean**2
        value = top[:, 0] + np.log(total / centred.size)
        self.splines = [
            scipy.interpolate.CubicHermiteSpline(self.at, value, mean),
            scipy.interpolate.CubicHermiteSpline(self.at, mean, second),
            scipy.interpolate.PchipInterpolator(self.at, second),
        ]

    def __call__(
        self, q: Float[np.ndarray, " points"], derivative: int
    ) -> Float[np.ndarray, " points"]:
        return self.splines[derivative](np.clip(q, self.at[0], self.at[-1]))
