"""Fits of one contrast: exponent and prefactor, each with a 95 % interval and what laws predict.

Three questions are put to the same points, the logarithms of measured mean exit times:

* *law*: regressed on the full prediction, is the slope 1 and the intercept 0?
* *line*: regressed on the variable to the power of the barrier, what are the slope (the exponent)
  and the intercept (the logarithm of the prefactor)? The same weighted line through the predicted
  logarithms stands beside it, since no prefactor is constant and the step is finite.
* *power*: with which power of the variable does the barrier grow? The measured barrier is the
  measured logarithm less the logarithm of the predicted prefactor, which is the same for all the
  laws compared.

Intervals are pivotal, from replicas drawn anew within each ensemble (`exits.regression`). They
are statistical; what the errors that the predictions state for themselves may add is kept apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from escapade.errors import StudyError
from escapade.exits.regression import (
    log_mean,
    pivotal_interval,
    relative_error,
    resampled_log_means,
    weighted_line,
)
from escapade.reproduction.corrected.contrasts import Contrast
from escapade.study import CellResult

CONFIDENCE = 0.95
RESAMPLES = 4000

RESOLUTION = 0.02
"""Powers that differ by less are not told apart: prefactors are known to some per cent only."""

TOLERANCE = 0.1
"""Relative deviation of a slope from the predicted one up to which it agrees."""

LEAST_SPREAD = 1.0
"""Spread of the predicted logarithms from which a slope on them is fitted."""


@dataclass(frozen=True)
class Estimate:
    """A fitted number: its 95 % interval, and what the full prediction gives by the same fit.

    Attributes:
        value: the number.
        low: lower end of the interval.
        high: upper end.
        predicted: the same fit to the predictions.
        systematic: how far the errors that the predictions state may move value and prediction
            apart, all acting together.
    """

    value: float
    low: float
    high: float
    predicted: float
    systematic: float

    @property
    def covers(self) -> bool:
        """Whether the interval, statistical error alone, contains the predicted value."""
        return self.low <= self.predicted <= self.high

    def allows(self, value: float) -> bool:
        """Whether the interval, widened by the systematic error, contains a value."""
        return self.low - self.systematic <= value <= self.high + self.systematic

    @property
    def agrees(self) -> bool:
        """Whether the predicted value is in the interval, and within TOLERANCE of the estimate.

        A prediction below one in size counts as one: of a power near zero there is no fraction.
        """
        unit = max(abs(self.predicted), 1.0)
        return self.covers and abs(self.value - self.predicted) <= TOLERANCE * unit

    def __str__(self) -> str:
        return (
            f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}], predicted {self.predicted:.4g} "
            f"+- {self.systematic:.2g}"
        )


@dataclass(frozen=True)
class Fit:
    """What the cells of one contrast say.

    Attributes:
        contrast: its name.
        identities: its cells, in the order of the variable.
        x: the variable; empty for a contrast without one.
        log_means: measured logarithms of the mean exit time in steps.
        errors: their standard errors.
        log_predictions: predicted logarithms.
        barriers: predicted barriers (B / eta) V0.
        log_ratio: measured less predicted logarithm, the weighted mean; predicted 0.
        law_slope: slope on the predicted logarithms, predicted 1; None where these spread by less
            than LEAST_SPREAD, and a slope would say nothing.
        law_intercept: its intercept, predicted 0; None likewise.
        p_value: of the prediction itself, nothing fitted: chi-square of its residuals.
        line_power: power of the variable that the line is drawn in (the logarithm of the variable
            where the barrier does not depend on it); NaN without a variable.
        line_slope: slope of the logarithm of the mean in it; None without a variable.
        line_intercept: its intercept, the logarithm of the prefactor; None likewise.
        power: power with which the barrier depends on the variable; None likewise.
        rivals: of each rival law, its power and whether `power` allows it. Laws are about small
            steps, so the finite-step correction, predicted less leading power, is taken off first.
    """

    contrast: str
    identities: tuple[str, ...]
    x: tuple[float, ...]
    log_means: tuple[float, ...]
    errors: tuple[float, ...]
    log_predictions: tuple[float, ...]
    barriers: tuple[float, ...]
    log_ratio: Estimate
    law_slope: Estimate | None
    law_intercept: Estimate | None
    p_value: float
    line_power: float
    line_slope: Estimate | None
    line_intercept: Estimate | None
    power: Estimate | None
    rivals: dict[str, tuple[float, bool]]

    def __str__(self) -> str:
        lines = [
            f"{self.contrast}: {len(self.identities)} cells, b = {min(self.barriers):.3g} to "
            f"{max(self.barriers):.3g}",
            f"  log(measured / predicted) {self.log_ratio}",
        ]
        if self.law_slope is not None:
            lines.append(
                f"  on the full prediction: slope {self.law_slope}; intercept {self.law_intercept}"
            )
        if self.power is not None:
            lines.append(f"  power of the barrier {self.power}")
            lines += [
                f"    {'allows' if inside else 'excludes'} {power:g}: {name}"
                for name, (power, inside) in self.rivals.items()
            ]
            of = f"x^{self.line_power:g}" if self.line_power else "log x"
            lines.append(f"  in {of}: slope {self.line_slope}; intercept {self.line_intercept}")
        return "\n".join(lines)


def usable(result: CellResult) -> bool:
    """Whether a cell has a mean with an error to rely on, and a prediction.

    A splitting whose runs scatter says so itself; its interval is too short to weigh it by.
    """
    sample, rare = result.sample, result.rare
    measured = (sample is None or sample.exits > 1) and (rare is None or not rare.scattered)
    return result.prediction is not None and measured


def fit(contrast: Contrast, results: Sequence[CellResult], *, resamples: int = RESAMPLES) -> Fit:
    """Fit the cells of a contrast.

    Args:
        contrast: what to ask.
        results: cells of its study; those it does not ask about are left out.
        resamples: of the bootstrap.

    Raises:
        StudyError: when fewer than two of its cells are finished, predicted and have exits.
    """
    chosen = [result for result in contrast.select(results) if usable(result)]
    if len(chosen) < 2:
        raise StudyError(
            f"contrast {contrast.name!r} has {len(chosen)} cells with exits and a prediction; it "
            "needs two: run the study, without --quick"
        )
    measured = [result.measured for result in chosen]
    log_means = np.array([log_mean(one) for one in measured])
    errors = np.array([relative_error(one) for one in measured])
    predictions = [result.prediction for result in chosen if result.prediction is not None]
    log_predictions = np.array([one.log_mean for one in predictions])
    # The exponent of the theory that predicts, not that of the quadratic approximation.
    barriers = np.array(
        [
            one.exponent * result.cell.batch_size / result.cell.learning_rate
            for one, result in zip(predictions, chosen, strict=True)
        ]
    )
    seeds = np.random.SeedSequence(0).spawn(len(chosen))
    resampled = np.stack(
        [
            resampled_log_means(one, resamples, seed)
            for one, seed in zip(measured, seeds, strict=True)
        ],
        axis=-1,
    )
    resampled = resampled[np.isfinite(resampled).all(axis=-1)]
    stated = np.array([one.relative_error for one in predictions])
    fitter = _Fitter(log_means, resampled, errors, stated)
    law_slope = law_intercept = None
    if np.ptp(log_predictions) >= LEAST_SPREAD:
        law_slope, law_intercept = fitter.line(log_predictions, log_predictions)
    deviations = (log_means - log_predictions) / errors
    x = tuple(float(contrast.value(result.cell) or np.nan) for result in chosen)
    line_slope = line_intercept = power = None
    rivals: dict[str, tuple[float, bool]] = {}
    if contrast.variable:
        variable = np.array(x)
        abscissa = variable**contrast.power if contrast.power else np.log(variable)
        line_slope, line_intercept = fitter.line(abscissa, log_predictions)
        power = fitter.power(np.log(variable), log_predictions, barriers)
        finite_step = power.predicted - contrast.power
        rivals = {
            name: (value, _allowed(power, value + finite_step))
            for name, value in contrast.rivals.items()
        }
    return Fit(
        contrast=contrast.name,
        identities=tuple(result.cell.identity for result in chosen),
        x=x if contrast.variable else (),
        log_means=tuple(log_means.tolist()),
        errors=tuple(errors.tolist()),
        log_predictions=tuple(log_predictions.tolist()),
        barriers=tuple(barriers.tolist()),
        log_ratio=fitter.mean_difference(log_predictions),
        law_slope=law_slope,
        law_intercept=law_intercept,
        p_value=float(stats.chi2.sf(deviations @ deviations, len(deviations))),
        line_power=contrast.power if contrast.variable else float("nan"),
        line_slope=line_slope,
        line_intercept=line_intercept,
        power=power,
        rivals=rivals,
    )


def _allowed(power: Estimate, value: float) -> bool:
    """Whether a measured power allows a law's: laws nearer than RESOLUTION are one law."""
    return power.allows(value) or abs(power.value - value) <= RESOLUTION


class _Fitter:
    """Fits to measured logarithms and to their resamples."""

    def __init__(
        self,
        log_means: Float[np.ndarray, " points"],
        resampled: Float[np.ndarray, "resamples points"],
        errors: Float[np.ndarray, " points"],
        stated: Float[np.ndarray, " points"],
    ):
        self.log_means, self.resampled = log_means, resampled
        self.errors, self.stated = errors, stated

    def line(
        self, x: Float[np.ndarray, " points"], predicted: Float[np.ndarray, " points"]
    ) -> tuple[Estimate, Estimate]:
        """Slope and intercept in x, and those of the predictions."""
        values, resampled, expected = (
            weighted_line(x, y, self.errors) for y in (self.log_means, self.resampled, predicted)
        )
        # Both are linear in the ordinates: their coefficients are the fits to unit vectors.
        coefficients = weighted_line(x, np.eye(len(x)), self.errors)
        slope, intercept = (
            _estimate(value, drawn, predicted_value, np.abs(weights) @ self.stated)
            for value, drawn, predicted_value, weights in zip(
                values, resampled, expected, coefficients, strict=True
            )
        )
        return slope, intercept

    def mean_difference(self, predicted: Float[np.ndarray, " points"]) -> Estimate:
        """Weighted mean of measured less predicted."""
        weights = self.errors**-2 / np.sum(self.errors**-2)
        return _estimate(
            (self.log_means - predicted) @ weights,
            (self.resampled - predicted) @ weights,
            0.0,
            weights @ self.stated,
        )

    def power(
        self,
        log_x: Float[np.ndarray, " points"],
        predicted: Float[np.ndarray, " points"],
        barriers: Float[np.ndarray, " points"],
    ) -> Estimate:
        """Slope of the logarithm of the measured barrier in that of the variable."""
        prefactors = predicted - barriers
        # A tiny barrier may come out negative in a resample: far below any that is of interest.
        log_barriers, resampled = (
            np.log(np.maximum(y - prefactors, 1e-3 * barriers))
            for y in (self.log_means, self.resampled)
        )
        errors = self.errors / barriers
        value, drawn, expected = (
            weighted_line(log_x, y, errors)[0] for y in (log_barriers, resampled, np.log(barriers))
        )
        weights = weighted_line(log_x, np.eye(len(log_x)), errors)[0]
        return _estimate(value, drawn, expected, np.abs(weights) @ (self.stated / barriers))


def _estimate(
    value: float | Float[np.ndarray, ""],
    resampled: Float[np.ndarray, " resamples"],
    predicted: float | Float[np.ndarray, ""],
    systematic: float | Float[np.ndarray, ""],
) -> Estimate:
    low, high = pivotal_interval(float(value), resampled, CONFIDENCE)
    return Estimate(float(value), low, high, float(predicted), float(systematic))
