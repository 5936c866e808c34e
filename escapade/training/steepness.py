r"""Steepness accumulated along a run, streaming and matrix-free.

A run is seen at some of its steps and along some directions only: eigenvectors u_i of the Hessian
where an interval of K steps begins, of curvature lambda_i, gradient g_i, and noise covariance C
among them. SGD linearised there, ``x -> x - eta_t (g + lambda x) + eta_t noise / sqrt(B)``, arrives
after K steps at a displacement that is Gaussian with

    mean_i = -g_i sum_t w_ti,    w_ti = eta_t prod_(s > t) (1 - eta_s lambda_i),
    covariance_ij = C_ij / B sum_t w_ti w_tj

(independent minibatches; those of a shuffled epoch add up to the whole data set, which takes
``(sum_t w_ti) (sum_t w_tj) C_ij / (N - 1)`` away in each epoch). The interval's steepness, in units
of eta / B, is ``(x - mean)^T covariance^-1 (x - mean) / 2`` for the displacement x seen.

*What it measures.* By the contraction principle this is the least steepness, summed step by step
(`escapade.steepness`), of all paths that end where the run did, along these directions; it is exact
for quadratic losses with constant Gaussian noise. Noise alone spends 1/2 per direction and interval
on average, with variance 1/2. What a run spends beyond that is motion that noise and the local
descent do not explain: climbing, or a landscape that changes within the interval.

*What it does not measure.* Motion along other directions; the detours between two sightings; and
any force that is not linear in the displacement, which counts as if it were noise. After
several relaxation times, ``K eta lambda >> 1``, the start is forgotten: then it asks whether the
end is where the local stationary law would put it. An interval that begins where SGD is unstable
along a direction has no such law and is not counted.

The gradient comes from n of N examples. Its error displaces the mean, with covariance
``C_ij / n (N - n) / (N - 1) sum_t w_ti sum_t w_tj``, which the expectation takes into account: it
is more than 1/2 then.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapade.training.observation import Observation


class Increment(NamedTuple):
    """Steepness of one interval in units of learning rate over batch size, and what noise spends.

    NaN where the interval has no law.
    """

    value: float
    expected: float


NOT_COUNTED = Increment(float("nan"), float("nan"))


class Batches(NamedTuple):
    """How the noise of successive steps is drawn.

    Attributes:
        batch_size: B.
        sampling: as in `MinibatchSGD`.
        population: N, that minibatches are drawn from.
        error_share: variance of the gradient measured, per variance of one example's.
    """

    batch_size: int
    sampling: str
    population: int
    error_share: float


def interval_steepness(
    begin: Observation,
    displacement: Float[np.ndarray, " directions"],
    learning_rates: Float[np.ndarray, " steps"],
    batches: Batches,
    first_step: int = 0,
) -> Increment:
    """Steepness of one interval; see the module.

    Args:
        begin: what was measured where it begins.
        displacement: along its directions, from there to the end.
        learning_rates: of each step.
        batches: the sampling.
        first_step: number of steps before; where epochs are shuffled they begin at multiples of
            the steps in one.
    """
    factors = 1 - learning_rates[:, None] * begin.curvatures
    growth = np.log(np.maximum(np.abs(factors), 1e-300)).mean(axis=0)
    if not (np.all(growth < 0) and np.isfinite(displacement).all()):
        return NOT_COUNTED
    later = np.cumprod(factors[::-1], axis=0)[::-1]
    weights = learning_rates[:, None] * np.concatenate([later[1:], np.ones_like(later[:1])])
    total = weights.sum(axis=0)
    covariance = begin.noise * _variance_factor(weights, batches, first_step)
    error = begin.noise * np.outer(total, total) * batches.error_share
    scale = np.sqrt(np.diag(covariance))
    if not np.all(scale > 0):
        return NOT_COUNTED
    correlation = covariance / np.outer(scale, scale)
    missed = (displacement + begin.slopes * total) / scale
    try:
        both = np.column_stack([missed, error / np.outer(scale, scale)])
        solved = np.linalg.solve(correlation, both)
    except np.linalg.LinAlgError:
        return NOT_COUNTED
    return Increment(
        0.5 * float(missed @ solved[:, 0]), 0.5 * (len(missed) + float(np.trace(solved[:, 1:])))
    )


def _variance_factor(
    weights: Float[np.ndarray, "steps directions"], batches: Batches, first_step: int
) -> Float[np.ndarray, "directions directions"]:
    """Covariance of a weighted sum of minibatch noise, per covariance of one example."""
    size, population = batches.batch_size, batches.population
    squares = weights.T @ weights
    if batches.sampling == "with_replacement":
        return squares / size
    distinct = (population - size) / max(population - 1, 1) / size
    if batches.sampling == "without_replacement":
        return squares * distinct
    epoch = (first_step + np.arange(len(weights))) // max(population // size, 1)
    begins = np.flatnonzero(np.diff(epoch, prepend=epoch[0] - 1))
    sums = np.add.reduceat(weights, begins, axis=0)
    return squares * distinct - (sums.T @ sums - squares) / max(population - 1, 1)
