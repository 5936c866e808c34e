"""Mean exit time of a chain, in steps, from the diffusion that stands for it.

The chain leaves later than its equivalent diffusion since it is seen once a step only:

- through a boundary by ``2 s^2 / theta(s)``, s the drift inwards in standard deviations of a step
  (`extremal_index`), taken outside the boundary by a quarter of the derivative of the log delay
  per standard deviation;
- through the separatrix of a saddle of expansion rate lambda by ``1 + erf(beta sqrt(eta
  lambda))``: the boundary is shifted by beta = 0.58 standard deviations of a step, and the mean
  time to reach a point y beyond the saddle grows like ``1 + erf(y sqrt(lambda / C) / eps)``.
"""

import numpy as np
from jaxtyping import Array, Float
from scipy.special import erf

from escapade.precision import in_float64
from escapade.steepness.prefactor.equivalent import EquivalentDiffusion
from escapade.steepness.prefactor.extremal_index import BOUNDARY_SHIFT, log_delay, log_delay_slope

Vector = Float[np.ndarray, " dim"]


def log_boundary_delay(
    diffusion: EquivalentDiffusion, point: Vector, normal: Vector, noise_scale: float
) -> float:
    """Log of the chain's mean exit time over its equivalent diffusion's, at a boundary point.

    Args:
        diffusion: the chain's.
        point: the exit, shape (dim,).
        normal: outward unit normal of the boundary there.
        noise_scale: ``eps^2 = learning_rate / batch_size``.
    """

    def drift_per_step(x: Vector) -> tuple[float, float]:
        drift, noise = in_float64(_across, diffusion, x, normal)
        step = np.sqrt(diffusion.learning_rate * noise_scale * noise)
        return max(float(-diffusion.learning_rate * drift / step), 0.0), float(step)

    s, step = drift_per_step(point)
    for _ in range(3):
        s, _ = drift_per_step(point + step / 4 * float(log_delay_slope(s)) * normal)
    return float(log_delay(s))


def log_saddle_delay(saddle_rate: float, learning_rate: float) -> float:
    """Log of the chain's mean time to the separatrix over its equivalent diffusion's."""
    return float(np.log1p(erf(BOUNDARY_SHIFT * np.sqrt(learning_rate * saddle_rate))))


def _across(
    diffusion: EquivalentDiffusion, x: Float[Array, " dim"], normal: Float[Array, " dim"]
) -> tuple[Array, Array]:
    return normal @ diffusion.drift(x), normal @ diffusion.covariance(x) @ normal
