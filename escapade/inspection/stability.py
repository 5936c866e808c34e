"""The largest learning rates at which SGD stays at all."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.landscape import AbstractExpansion

Curvatures = Float[np.ndarray, " directions"]


class Stability(eqx.Module):
    """Linear and mean-square stability along the sharpest directions.

    Along a direction u of curvature lambda, one step multiplies the second moment by
    ``(1 - eta lambda)^2 + eta^2 Var(u^T H_i u) / B`` on average (Wu, Ma and E, 2018, equation 3):
    minibatches disagree about the curvature, which destabilises earlier than the mean curvature
    does. One direction at a time gives a lower bound on the growth, so an upper bound on the limit.

    Attributes:
        learning_rate: of the SGD inspected.
        batch_size: of the SGD inspected.
        linear_limit: ``2 / lambda_max``; infinite where no direction curves upwards.
        mean_square_limit: smallest over the directions of ``2 lambda / (lambda^2 + Var / B)``.
        curvature_spread: ``sqrt(Var(u^T H_i u))`` along the sharpest directions.
        growth: factor of the second moment per step, the largest over the directions.
    """

    learning_rate: float
    batch_size: float
    linear_limit: float
    mean_square_limit: float
    curvature_spread: Curvatures
    growth: float

    @property
    def stable(self) -> bool:
        """Whether SGD stays, as far as these limits tell."""
        return self.learning_rate < min(self.linear_limit, self.mean_square_limit)

    @property
    def margin(self) -> float:
        """Largest stable learning rate over the learning rate."""
        return min(self.linear_limit, self.mean_square_limit) / self.learning_rate

    def at(self, curvatures: Curvatures, learning_rate: float, batch_size: float) -> "Stability":
        """Stability of another learning rate and batch size, for the same curvatures."""
        return _stability(curvatures, self.curvature_spread, learning_rate, batch_size)


def measure_stability(
    expansion: AbstractExpansion,
    curvatures: Curvatures,
    vectors: Float[np.ndarray, "dim directions"],
    learning_rate: float,
    batch_size: float,
    sampling_factor: float = 1.0,
) -> Stability:
    """Stability along some Hessian eigenvectors; one curvature product for each.

    `sampling_factor` is the share of the variance left by drawing distinct examples.
    """
    variances = np.array(
        [
            np.var(expansion.example_curvatures(np.ascontiguousarray(column)), dtype=np.float64)
            for column in vectors.T
        ]
    )
    spread = np.sqrt(variances * sampling_factor)
    return _stability(curvatures, spread, learning_rate, batch_size)


def _stability(
    curvatures: Curvatures, spread: Curvatures, learning_rate: float, batch_size: float
) -> Stability:
    noisy = spread**2 / batch_size
    growth = (1 - learning_rate * curvatures) ** 2 + learning_rate**2 * noisy
    sharpest = float(curvatures[0])
    return Stability(
        learning_rate=learning_rate,
        batch_size=batch_size,
        linear_limit=2 / sharpest if sharpest > 0 else float("inf"),
        mean_square_limit=_limit(curvatures, noisy),
        curvature_spread=spread,
        growth=float(growth[curvatures > 0].max(initial=0.0)),
    )


def _limit(curvatures: Curvatures, noisy: Curvatures) -> float:
    rising = curvatures > 0
    if not rising.any():
        return float("inf")
    curved, noisy = curvatures[rising], noisy[rising]
    return float((2 * curved / (curved**2 + noisy)).min())
