"""Exit of an isotropic linear chain with Gaussian steps from a centred ball, in any dimension.

From radius r one step of ``theta' = a theta + N(0, v)`` has, with ``m = |a| r``, a noncentral chi
law,

    p(r') = (r' / v) (r' / m)^(d/2 - 1) exp(-(r'^2 + m^2) / 2v) I_{d/2 - 1}(r' m / v),

so the radius is a chain by itself.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln, ive

from escapade.errors import Unsupported
from escapade.exact.chain.law import ChainLaw, chain_law, relative_error
from escapade.exact.line.reduction import Radial

ORDER = 12
"""Nodes per panel."""

WIDTHS = (1.5, 1.0)
"""Panel widths of the coarser and the finer solution, in standard deviations of one step."""

MOST_NODES = 4000

REACH = 12.0
"""Standard deviations beyond boundary and typical radius up to which an exit is integrated."""

DEBYE_ORDER = 15.0
"""Order from which the scaled Bessel function may underflow, and Debye's series is exact."""


def solve_radial_chain(radial: Radial) -> tuple[ChainLaw, float]:
    """The law of the exit of the radius, and the relative error of its mean.

    Raises:
        Unsupported: when the ball is too wide in steps, or the mean exceeds 1e280.
    """
    coarse, fine = (discretise(radial, width) for width in WIDTHS)
    return fine, relative_error(coarse, fine)


def discretise(radial: Radial, width: float) -> ChainLaw:
    """The radius on Gauss-Legendre panels `width` standard deviations wide.

    Raises:
        Unsupported: when there are too many nodes, or the mean exit time overflows.
    """
    spread = np.sqrt(radial.variance)
    count = int(np.ceil(radial.radius / spread / width)) + 1
    if count * ORDER > MOST_NODES:
        raise Unsupported(
            f"the ball is {radial.radius / spread:.3g} standard deviations of one step in radius, "
            "too many for an exact chain; solve with ContinuousSGD, which is then close, or "
            "simulate"
        )
    nodes, weights = _panels(0.0, radial.radius, count)
    means = abs(1 - radial.pull) * np.append(nodes, radial.start)
    typical = np.sqrt(means.max() ** 2 + radial.dim * radial.variance)
    end = max(radial.radius, typical) + REACH * spread
    outside, outside_weights = _panels(
        radial.radius, end, int(np.ceil((end - radial.radius) / spread))
    )
    exits = np.exp(log_density(radial, outside, means)) @ outside_weights
    return chain_law(nodes, weights, np.exp(log_density(radial, nodes, means)) * weights, exits)


def log_density(
    radial: Radial, radii: Float[np.ndarray, " radii"], means: Float[np.ndarray, " means"]
) -> Float[np.ndarray, "means radii"]:
    """Logarithm of the density of the next radius, for radii ``|a| r`` before the noise."""
    variance, order = radial.variance, radial.dim / 2 - 1
    # Below this mean the density is that of mean zero to rounding.
    smallest = 1e-9 * np.sqrt(variance) * min(1.0, np.sqrt(variance) / radii.max())
    means = np.maximum(means, smallest)[:, None]
    bessel = _log_scaled_bessel(order, radii * means / variance)
    powers = np.log(radii / variance) + order * np.log(radii / means)
    return powers + bessel - (radii - means) ** 2 / (2 * variance)


def _log_scaled_bessel(order: float, z: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Logarithm of ``exp(-z) I_order(z)``, also where it underflows.

    Debye's uniform expansion (Abramowitz and Stegun 9.7.7) in high order, the first term of the
    power series for small arguments in low order.
    """
    if order >= DEBYE_ORDER:
        ratio = z / order
        root = np.sqrt(1 + ratio**2)
        # root - ratio without cancellation.
        exponent = order * (1 / (root + ratio) + np.log(ratio / (1 + root)))
        series = sum(
            np.polynomial.polynomial.polyval(1 / root, coefficients) / order**k
            for k, coefficients in enumerate(_DEBYE)
        )
        return exponent + np.log(series) - 0.5 * np.log(2 * np.pi * order * root)
    small = z < 1e-8
    log_small = order * np.log(z / 2) - gammaln(order + 1) - z
    return np.where(small, log_small, np.log(ive(order, np.where(small, 1.0, z))))


def _debye(terms: int) -> list[np.ndarray]:
    """Polynomials u_k(t): ``u' = t^2 (1 - t^2) u_k' / 2 + (1/8) int_0^t (1 - 5 s^2) u_k ds``."""
    found = [np.polynomial.Polynomial([1.0])]
    t = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(terms):
        last = found[-1]
        found.append(t**2 * (1 - t**2) * last.deriv() / 2 + (last * (1 - 5 * t**2)).integ() / 8)
    return [polynomial.coef for polynomial in found]


_DEBYE = _debye(12)


def _panels(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(low, high, count + 1)
    gauss, weights = np.polynomial.legendre.leggauss(ORDER)
    half = np.diff(edges)[:, None] / 2
    return ((edges[:-1, None] + half) + half * gauss).ravel(), (half * weights).ravel()
