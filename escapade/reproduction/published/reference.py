"""The published result arrays: what a run of the public experiment code gave its authors."""

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from escapade.reproduction.published.experiment import Optimiser, Quantity


@dataclass(frozen=True)
class Reference:
    """One published point.

    Attributes:
        mean: mean exit step over the published trials.
        deviation: standard deviation over the trials.
        trials: their number.
    """

    mean: float
    deviation: float
    trials: int

    @property
    def relative_error(self) -> float:
        """Standard error of the mean, as a fraction of it."""
        return self.deviation / self.mean / float(np.sqrt(self.trials))


@functools.cache
def arrays() -> dict[str, Any]:
    """The packaged copy of the published arrays, with their source."""
    return json.loads((files(__package__) / "arrays.json").read_text("utf-8"))


def reference(optimiser: Optimiser, quantity: Quantity, value: float) -> Reference | None:
    """The published point at a value of a scan, or None where only the scan's slope is known."""
    if optimiser != "sgd":
        return None
    table = np.array(arrays()["sgd"][quantity])
    nearest = int(np.argmin(np.abs(table[:, 0] - value)))
    # The published values are rounded in the sixth decimal place.
    if abs(table[nearest, 0] - value) > 2e-6:
        return None
    _, mean, deviation = table[nearest]
    return Reference(float(mean), float(deviation), arrays()["trials"])


def published_slope(optimiser: str, quantity: Quantity) -> tuple[float, float]:
    """Slope of log mean on log value in the published arrays, with its standard error.

    `optimiser` may also be "discrete_sgd": the same code as "sgd", run once more.
    """
    if optimiser == "sgd":
        table = np.array(arrays()["sgd"][quantity])
        return log_log_slope(table[:, 0], table[:, 1])
    slope, error = arrays()["slopes"][optimiser][quantity]
    return slope, error


def log_log_slope(values: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of log mean on log value and its standard error.

    Unweighted, so that it can be compared with that of arrays which give means only.
    """
    x, y = np.log(values), np.log(means)
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    residuals = y - y.mean() - slope * centred
    degrees = x.size - 2
    variance = residuals @ residuals / degrees if degrees else np.nan
    return float(slope), float(np.sqrt(variance / (centred @ centred)))
