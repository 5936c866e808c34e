"""Results: the mean time of a rare exit, or the probability of an exit by some step."""

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import t as student_t

CONFIDENCE = 0.95

LARGEST_ERROR = 0.2
"""Relative standard error above which a result warns that its interval may be too short."""

LARGEST_SHARE = 0.25
"""Share of one run in the exit rate from which a result warns."""

HEAVY = 0.7
"""Pareto shape above which a mean of weights is not to be trusted."""


class Departure(eqx.Module):
    """What the burn-in does to walkers from the start and from the minimum, for each run.

    Attributes:
        early_mean: mean of the exit time from the start, cut at the burn-in, in steps.
        survived: share of these walkers still inside then.
        early_mean_origin: the same from the minimum.
        survived_origin: likewise.
    """

    early_mean: Float[np.ndarray, " runs"]
    survived: Float[np.ndarray, " runs"]
    early_mean_origin: Float[np.ndarray, " runs"]
    survived_origin: Float[np.ndarray, " runs"]


class RareExit(eqx.Module):
    """Mean exit time estimated from flux and probability of excursions, in SGD steps.

    Each independent run estimates the exit rate, flux times probability, without bias; their
    mean gives the estimate, their scatter its interval (Student's, 95 %, on the logarithm). From a
    start away from the minimum, ``E = early_mean + survived * (time left to those who settle)``.

    Attributes:
        rates: exit rate per step found by each run, from the minimum; zero where a run died out.
        fluxes: crossings of the recurrence threshold per step, of each run.
        probabilities: chance that a crossing is followed by an exit before the return, of each run.
        threshold: level of the coordinate below which a walker has come back.
        exit_points: states outside the region, all runs together.
        exit_weights: share of the exits that each of them stands for; they sum to one.
        paths: reactive paths, from the threshold to the exit, one state per tick.
        steps_used: SGD steps of all walkers, every phase included.
        burn_in: steps run before anything was counted.
        relaxation_time: slowest relaxation time at the minimum in steps, None where unknown.
        method: how the probability was found, in words.
        seconds: wall time.
        weight_shape: shape k of the Pareto tail of importance weights (Vehtari et al., Journal of
            Machine Learning Research 25 (2024) 72); None for splitting.
        departure: what the burn-in does to a start away from the minimum; None at the minimum.
    """

    rates: Float[np.ndarray, " runs"]
    fluxes: Float[np.ndarray, " runs"]
    probabilities: Float[np.ndarray, " runs"]
    threshold: float
    exit_points: Float[np.ndarray, "points dim"]
    exit_weights: Float[np.ndarray, " points"]
    paths: tuple[Float[np.ndarray, "ticks dim"], ...]
    steps_used: int
    burn_in: int
    relaxation_time: float | None
    method: str
    seconds: float
    weight_shape: float | None = None
    departure: Departure | None = None

    @property
    def log_mean(self) -> float:
        """Natural logarithm of the mean exit time in steps."""
        rate = self.rates.mean()
        if self.departure is None:
            return float(-np.log(rate))
        early, survived, later, _ = self._from_start
        return float(np.logaddexp(np.log(early), np.log(survived) + np.log(later)))

    @property
    def _from_start(self) -> tuple[float, float, float, float]:
        """Early mean, share that stays, mean time left to those who do, and share of the origin."""
        assert self.departure is not None
        early, survived, early_origin, survived_origin = (
            float(part.mean())
            for part in (
                self.departure.early_mean,
                self.departure.survived,
                self.departure.early_mean_origin,
                self.departure.survived_origin,
            )
        )
        # From the minimum, E = early_origin + survived_origin * later.
        share = survived_origin or 1.0
        later = max(1 / float(self.rates.mean()) - early_origin, 1.0) / share
        return early, max(survived, 1e-300), later, share

    @property
    def mean(self) -> float:
        """Mean exit time in steps; infinite where it exceeds the largest float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_mean))

    @property
    def relative_error(self) -> float:
        """Standard error of the mean, relative to it."""
        if self.departure is None:
            return _relative_error(self.rates)
        # First order in the deviation of each run from the average.
        _, survived, later, share = self._from_start
        runs, rate = self.departure, self.rates.mean()
        change = (
            runs.early_mean
            + later * runs.survived
            - survived / share * (runs.early_mean_origin + later * runs.survived_origin)
            - survived / share * self.rates / rate**2
        )
        return float(change.std(ddof=1) / np.sqrt(len(self.rates)) / np.exp(self.log_mean))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean exit time in steps."""
        low, high = _log_interval(self.log_mean, self.relative_error, len(self.rates))
        with np.errstate(over="ignore"):
            return float(np.exp(low)), float(np.exp(high))

    @property
    def died_out(self) -> int:
        """Runs in which every walker came to the same highest level, and which found no exit."""
        return int(np.count_nonzero(self.rates == 0))

    @property
    def largest_share(self) -> float:
        """Share of the exit rate that the luckiest run holds."""
        return float(self.rates.max() / self.rates.sum())

    @property
    def scattered(self) -> bool:
        """Whether the runs scatter so widely that the interval is too short to be relied on."""
        return self._skewed or self.relative_error > LARGEST_ERROR

    @property
    def _skewed(self) -> bool:
        return self.largest_share > max(LARGEST_SHARE, 3 / len(self.rates))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What keeps the estimate from being what it seems; empty where nothing does."""
        found = []
        if self.died_out:
            found.append(f"{self.died_out} of {len(self.rates)} runs found no exit: raise walkers")
        if self.relative_error > LARGEST_ERROR:
            found.append(
                f"the runs scatter: relative standard error {self.relative_error:.2g}; raise "
                "walkers, give a better coordinate or, where the noise is Gaussian, use "
                "importance_sample"
            )
        if self._skewed:
            found.append(
                f"one of {len(self.rates)} runs holds {100 * self.largest_share:.0f} % of the exit "
                "rate: the runs are skewed, and the interval is too short; raise walkers"
            )
        if self.weight_shape is not None and self.weight_shape > HEAVY:
            found.append(
                f"the weights have a heavy tail (Pareto shape {self.weight_shape:.2f}, above "
                f"{HEAVY}): exits take ways that the paths do not show, and the mean is probably "
                "too long; use split"
            )
        relaxation = self.relaxation_time
        if relaxation is not None and self.burn_in < 3 * relaxation and relaxation < self.mean:
            found.append(
                f"the slowest direction relaxes in {relaxation:.3g} steps, more than the burn-in "
                f"of {self.burn_in:,} steps: the mean exit time is that of a run which has not "
                "spread along it; raise burn_in"
            )
        return tuple(found)

    def to_xarray(self) -> xr.Dataset:
        """Runs and exit points as a labelled data set."""
        low, high = self.interval
        return xr.Dataset(
            {
                "rates": ("run", self.rates, {"units": "1 / SGD step"}),
                "fluxes": ("run", self.fluxes, {"units": "1 / SGD step"}),
                "probabilities": ("run", self.probabilities),
                "exit_points": (("exit", "parameter"), self.exit_points),
                "exit_weights": ("exit", self.exit_weights),
            },
            attrs={
                "title": f"mean exit time by {self.method}",
                "log_mean_exit_time": self.log_mean,
                "mean_exit_time_interval_95": np.array([low, high]),
                "steps_used": self.steps_used,
                "burn_in": self.burn_in,
                "threshold": self.threshold,
                "method": self.method,
                "seconds": self.seconds,
                "time_units": "SGD steps",
            },
        )

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"mean exit time {self.mean:.4g} steps, 95 % interval {low:.4g} to {high:.4g}",
            f"  {len(self.rates)} independent runs of {self.method}; "
            f"{self.steps_used:.3g} steps in {self.seconds:.3g} s",
        ]
        return "\n".join(lines + [f"  caution: {caution}" for caution in self.cautions])


class RareProbability(eqx.Module):
    """Probability of an exit within some steps of the start, by splitting without a recurrence.

    Attributes:
        probabilities: estimate of each independent run, without bias.
        steps: number of SGD steps within which the exit must happen.
        exit_points, exit_weights, paths, steps_used, method, seconds: as in `RareExit`.
    """

    probabilities: Float[np.ndarray, " runs"]
    steps: int
    exit_points: Float[np.ndarray, "points dim"]
    exit_weights: Float[np.ndarray, " points"]
    paths: tuple[Float[np.ndarray, "ticks dim"], ...]
    steps_used: int
    method: str
    seconds: float

    @property
    def probability(self) -> float:
        """P(exit time <= steps)."""
        return float(self.probabilities.mean())

    @property
    def relative_error(self) -> float:
        """Standard error of the probability, relative to it."""
        return _relative_error(self.probabilities)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the probability."""
        low, high = _log_interval(
            np.log(self.probability), self.relative_error, len(self.probabilities)
        )
        return float(np.exp(low)), float(min(np.exp(high), 1.0))

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"probability {self.probability:.4g} of an exit within {self.steps:,} steps, 95 % "
            f"interval {low:.4g} to {high:.4g}\n  {len(self.probabilities)} independent runs of "
            f"{self.method}; {self.steps_used:.3g} steps in {self.seconds:.3g} s"
        )


def _relative_error(values: Float[np.ndarray, " runs"]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)) / values.mean())


def _log_interval(log_center: float, error: float, runs: int) -> tuple[float, float]:
    """Interval of a logarithm with a standard error found from some runs."""
    half = student_t.ppf((1 + CONFIDENCE) / 2, runs - 1) * error
    return log_center - half, log_center + half
