"""What the gradient noise at a point is like: how large, in which directions, how Gaussian."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.landscape import AbstractExpansion


class NoiseShape(eqx.Module):
    """How far from Gaussian the noise of a minibatch is, along some directions.

    Attributes:
        variance: ``u^T C u`` of one example along each.
        skewness: of the mean over a minibatch, that of one example over sqrt(B).
        excess_kurtosis: likewise, over B.
        largest_share: share of the variance that the noisiest example alone brings.
    """

    variance: Float[np.ndarray, " directions"]
    skewness: Float[np.ndarray, " directions"]
    excess_kurtosis: Float[np.ndarray, " directions"]
    largest_share: Float[np.ndarray, " directions"]


def noise_shape(slopes: Float[np.ndarray, "examples directions"], batch_size: float) -> NoiseShape:
    """Moments of minibatch noise, from every example's slope along each direction."""
    centred = slopes - slopes.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    safe = np.where(variance > 0, variance, 1.0)
    return NoiseShape(
        variance=variance,
        skewness=(centred**3).mean(axis=0) / safe**1.5 / np.sqrt(batch_size),
        excess_kurtosis=((centred**4).mean(axis=0) / safe**2 - 3) / batch_size,
        largest_share=(centred**2).max(axis=0) / (safe * len(centred)),
    )


class NoiseScale(eqx.Module):
    """The batch sizes at which noise and gradient are of one size.

    McCandlish et al., "An empirical model of large-batch training" (2018), equations 2.8 and 2.9.

    Attributes:
        simple: ``tr(C) / |g|^2``; infinite at a minimum, where only noise is left.
        critical: ``tr(H C) / (g^T H g)``; NaN where the gradient does not climb.
    """

    simple: float
    critical: float


def noise_scale(
    expansion: AbstractExpansion, noise_trace: float, product_trace: float
) -> NoiseScale:
    """Gradient noise scales; one Hessian product."""
    gradient = expansion.gradient
    square = float(gradient @ gradient)
    climb = float(gradient @ expansion.hessian_product(gradient)) if square > 0 else 0.0
    return NoiseScale(
        simple=noise_trace / square if square > 0 else float("inf"),
        critical=product_trace / climb if climb > 0 else float("nan"),
    )
