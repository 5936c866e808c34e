"""Numbers estimated from random vectors, with their standard errors."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float

Records = Float[np.ndarray, "probes figures"]


class Estimate(eqx.Module):
    """A number, or an array of numbers, estimated from independent random vectors.

    Attributes:
        value: the estimate.
        standard_error: of the value; NaN with a single probe.
        probes: independent random vectors it rests on.
        products: products with the operator (or operators) spent.
        converged: whether the standard error is as small as was asked for.
    """

    value: float | Float[np.ndarray, "..."]
    standard_error: float | Float[np.ndarray, "..."]
    probes: int
    products: int
    converged: bool


def mean(samples: Float[np.ndarray, "probes ..."], products: int) -> Estimate:
    """Mean of independent samples."""
    count = len(samples)
    value = samples.mean(axis=0)
    if count == 1:
        error = np.full(value.shape, np.nan)
    else:
        # An infinite sample makes an infinite mean, of which no error is known; that of samples
        # near the largest number is infinite.
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.std(samples, axis=0, ddof=1) / np.sqrt(count)
    if value.ndim == 0:
        return Estimate(float(value), float(error), count, products, True)
    return Estimate(value, error, count, products, True)


def jackknife(
    records: Records,
    function: Callable[[Float[np.ndarray, "... figures"]], Float[np.ndarray, "... numbers"]],
) -> tuple[Float[np.ndarray, " numbers"], Float[np.ndarray, " numbers"]]:
    """Functions of means and their standard errors, each probe left out in turn (Tukey 1958).

    `function` maps the means (..., figures) to the numbers wanted (..., numbers).
    """
    count = len(records)
    total = records.sum(axis=0)
    value = function(total / count)
    if count < 2:
        return value, np.full(value.shape, np.nan)
    without = function((total - records) / (count - 1))
    spread = without - without.mean(axis=0)
    return value, np.sqrt((count - 1) / count * (spread**2).sum(axis=0))
