"""Mean exit steps over learning rate and batch size."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float

MECHANISMS = ("activated", "diffusive", "drift", "unstable")


class EscapeMap(eqx.Module):
    """The exit from one region at many learning rates and batch sizes.

    Attributes:
        region: what is left, in a few words.
        learning_rates: rows.
        batch_sizes: columns.
        steps: expected steps; infinite where none is in sight, NaN where nothing is predicted.
        mechanisms: index into `names`.
        names: mechanisms.
    """

    region: str
    learning_rates: Float[np.ndarray, " rates"]
    batch_sizes: Float[np.ndarray, " batches"]
    steps: Float[np.ndarray, "rates batches"]
    mechanisms: np.ndarray
    names: tuple[str, ...] = MECHANISMS


def escape_map(
    region: str,
    learning_rate: float,
    batch_size: int,
    examples: int,
    judge: Callable[[float, int], tuple[float, str]],
    *,
    rates: int = 13,
    expired: Callable[[], bool] = lambda: False,
) -> EscapeMap:
    """Judge a grid around a setting: learning rates over a factor of 256, powers of two in B.

    `judge` gives steps and mechanism of one setting.
    """
    rates_tried = learning_rate * 2.0 ** np.linspace(-4, 4, rates)
    exponents = np.round(np.log2(batch_size)) + np.arange(-4, 5)
    batches = np.unique(np.clip(2.0**exponents, 1, examples)).astype(int)
    batches = np.unique(np.append(batches, batch_size))
    steps = np.full((rates, len(batches)), np.nan)
    mechanisms = np.zeros(steps.shape, int)
    for row, rate in enumerate(rates_tried):
        for column, batch in enumerate(batches):
            if expired():
                break
            steps[row, column], mechanism = judge(float(rate), int(batch))
            mechanisms[row, column] = MECHANISMS.index(mechanism)
    return EscapeMap(region, rates_tried, batches.astype(float), steps, mechanisms)
