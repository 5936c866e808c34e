"""What is measured at one point of a training run, on the examples watched."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapade.inspection.stability import Stability, measure_stability
from escapade.landscape import AbstractExpansion
from escapade.minimum.krylov.basis import Rows
from escapade.training.sharpest import follow_sharpest

RESIDUAL = 0.05
"""Residual of the sharpest direction, relative to its curvature, at which products are saved: the
curvature is right to about its square."""

PROBES = 2
"""Random vectors for the trace of the noise."""


class Observation(NamedTuple):
    """The loss around one point, along the sharpest directions.

    Attributes:
        loss: mean over the examples watched.
        gradient_norm: of its gradient.
        curvatures: largest Hessian eigenvalues.
        rows: their eigenvectors, a row each.
        residual: bound on the error of the first.
        slopes: gradient along the rows.
        noise: covariance of one example's gradient along the rows.
        noise_trace: trace of that covariance over all directions.
        stability: of the learning rate and batch size in use.
    """

    loss: float
    gradient_norm: float
    curvatures: Float[np.ndarray, " directions"]
    rows: Rows
    residual: float
    slopes: Float[np.ndarray, " directions"]
    noise: Float[np.ndarray, "directions directions"]
    noise_trace: float
    stability: Stability


def observe(
    expansion: AbstractExpansion,
    start: Rows,
    generator: np.random.Generator,
    *,
    max_products: int,
    population: int,
    learning_rate: float,
    batch_size: float,
    sampling_factor: float,
) -> Observation:
    """Measure; about ``max_products + 2 directions + 3`` products with all examples watched.

    Covariances are unbiased estimates of those over the population of examples. The trace is exact
    along the rows and, on their complement, a mean of two random vectors: ``|sum_i s_i g_i|^2 / n``
    with centred random signs s, of relative standard error about one over the root of the effective
    number of noisy directions.
    """
    found = follow_sharpest(
        expansion.hessian_product,
        start,
        expansion.gradient,
        tolerance=RESIDUAL,
        max_products=max_products,
        precision=expansion.precision,
    )
    slopes = np.stack([expansion.example_slopes(row) for row in found.rows]).astype(np.float64)
    examples = slopes.shape[1]
    bias = examples * (population - 1) / (max(examples - 1, 1) * population)
    centred = slopes - slopes.mean(axis=1, keepdims=True)
    noise = bias * centred @ centred.T / examples
    rest = np.mean([_rest_of_trace(expansion, found.rows, generator) for _ in range(PROBES)])
    stability = measure_stability(
        expansion, found.curvatures, found.rows.T, learning_rate, batch_size, bias * sampling_factor
    )
    return Observation(
        loss=expansion.loss,
        gradient_norm=float(np.linalg.norm(expansion.gradient)),
        curvatures=found.curvatures,
        rows=found.rows,
        residual=float(found.residuals[0]),
        slopes=slopes.mean(axis=1),
        noise=noise,
        noise_trace=float(np.trace(noise) + bias * rest),
        stability=stability,
    )


def _rest_of_trace(
    expansion: AbstractExpansion, rows: Rows, generator: np.random.Generator
) -> float:
    """One sample of the trace of the covariance on the complement of orthonormal rows."""
    signs = generator.choice([-1.0, 1.0], expansion.examples)
    noise = expansion.pull((signs - signs.mean()).astype(expansion.precision)).astype(np.float64)
    return float(noise @ noise - np.sum((rows @ noise) ** 2)) / expansion.examples
