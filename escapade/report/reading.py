"""A cell as the report reads it: measured beside predicted, and the verdict by the stated rule."""

from dataclasses import dataclass

import numpy as np

from escapade.report import formats
from escapade.study.cell import Cell
from escapade.study.results import CellResult, StudyResult
from escapade.theory.groups import SHELL

TOLERANCE = 0.15
"""Measured and predicted count as equal when their ratio lies within 1 -+ this."""

HOLDS, FAILS = "holds: ", "FAILS: "
"""How predictions mark each of their assumptions."""

DYNAMICS = {
    "minibatch": "minibatch SGD",
    "minibatch_without_replacement": "minibatch SGD without replacement",
    "minibatch_shuffled_epochs": "minibatch SGD in shuffled epochs",
    "gaussian": "Gaussian SGD",
    "continuous": "continuous SGD",
    "langevin": "Langevin SGD",
}

_SIZES = {
    "slab": ("slab", "half-width"),
    "half_space": ("half-space", "offset"),
    "ball": ("ball", "radius"),
    "sublevel": ("sublevel set", "depth"),
}


@dataclass(frozen=True)
class Reading:
    """The numbers of one cell that the report shows.

    Attributes:
        result: the cell's result.
        mean: measured mean exit time in steps; infinite without an exit, NaN if all diverged.
        lower: lower end of its 95 % interval; a lower bound of the mean without an exit.
        upper: upper end, infinite without an exit.
        variation: coefficient of variation; NaN where unknown, as it is of a splitting.
        p_value: of the exponential law; NaN where untested.
        exits: replicas that left; states outside the region, of a splitting.
        censored: replicas still inside when the run was cut.
        diverged: replicas that produced NaN or infinity, excluded.
        log_predicted: logarithm of the predicted mean exit time in steps; NaN without one.
        log_plain: the same for the plain exponential law.
    """

    result: CellResult
    mean: float
    lower: float
    upper: float
    variation: float
    p_value: float
    exits: int
    censored: int
    diverged: int
    log_predicted: float
    log_plain: float

    @property
    def cell(self) -> Cell:
        """The problem."""
        return self.result.cell

    @property
    def mechanism(self) -> str:
        """The mechanism diagnosed."""
        return self.result.diagnosis.mechanism

    @property
    def activated(self) -> bool:
        """Whether the mechanism is the one that barrier theories are about."""
        return self.mechanism == "activated"

    @property
    def measured(self) -> bool:
        """Whether any replica counts, that is, whether not all of them diverged."""
        return not np.isnan(self.mean)

    @property
    def compared(self) -> bool:
        """Whether there is both a measurement and a prediction."""
        return self.measured and not np.isnan(self.log_predicted)

    @property
    def log_ratio(self) -> tuple[float, float, float]:
        """Logarithm of measured / predicted: lower end, value and upper end; NaN without both."""
        low, middle, high = np.log([self.lower, self.mean, self.upper]) - self.log_predicted
        return float(low), float(middle), float(high)

    @property
    def covers(self) -> bool:
        """Whether the 95 % interval of the measured mean contains the predicted mean."""
        low, _, high = self.log_ratio
        return low <= 0 <= high

    @property
    def promoted(self) -> bool:
        """Whether the mechanism was called activated because of the exits, against the groups.

        The diagnosis then rests on exits that come at the predicted rate, so the agreement of such
        a cell with the prediction is no evidence.
        """
        return self.activated and self.result.diagnosis.groups.shell_ratio >= SHELL

    @property
    def verdict(self) -> str:
        """The verdict "agrees", "deviates" or "open", or "" where there is nothing to judge.

        By the whole 95 % interval of measured / predicted: inside 1 -+ TOLERANCE it agrees,
        outside it deviates, across an edge the measurement is too uncertain to tell. Only cells
        activated by their groups are judged, for no barrier theory claims the others; and a cell
        without an exit only if its bound contradicts the prediction.
        """
        if not self.compared or not self.activated or self.promoted:
            return ""
        low, _, high = self.log_ratio
        bottom, top = np.log([1 - TOLERANCE, 1 + TOLERANCE])
        if bottom <= low and high <= top:
            return "agrees"
        if high < bottom or low > top:
            return "deviates"
        return "open" if self.exits else ""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The assumptions of the prediction, as the theory states them; none without one."""
        prediction = self.result.prediction
        return prediction.assumptions if prediction is not None else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the assumptions that fail."""
        return tuple(
            text.removeprefix(FAILS) for text in self.assumptions if text.startswith(FAILS)
        )

    @property
    def stated_error(self) -> float:
        """The relative error the theory states for itself; infinite if none, NaN unpredicted."""
        prediction = self.result.prediction
        return prediction.relative_error if prediction is not None else np.nan

    @property
    def dynamics(self) -> str:
        """The dynamics in words, with its noise where that is not the landscape's own."""
        dynamics = DYNAMICS.get(self.cell.dynamics, self.cell.dynamics)
        return dynamics if self.cell.noise == "own" else f"{dynamics}, {self.cell.noise} noise"

    @property
    def region(self) -> str:
        """The kind of region in words."""
        return region_name(self.cell.region)

    @property
    def size(self) -> str:
        """The size of the region with its meaning, such as "half-width 0.1"."""
        kind = _SIZES.get(self.cell.region, ("", "size"))[1]
        return f"{kind} {self.cell.size:.4g}"

    @property
    def name(self) -> str:
        """The cell in one line."""
        scaled = (
            f", sharpness {formats.TIMES}{formats.parameter(self.cell.sharpness)}"
            if self.cell.sharpness != 1
            else ""
        )
        if self.cell.lambda_max is not None:
            scaled += f", λ_max = {formats.parameter(self.cell.lambda_max)}"
        return (
            f"{self.dynamics}, η = {formats.parameter(self.cell.learning_rate)}, "
            f"B = {formats.parameter(self.cell.batch_size)}{scaled}, {self.region} of {self.size}"
        )

    @property
    def anchor(self) -> str:
        """Name of the cell's place in the page."""
        return f"cell-{self.cell.identity}"

    @property
    def mean_text(self) -> str:
        """The measured mean in words."""
        if not self.measured:
            return formats.UNKNOWN
        return formats.number(self.mean) if self.exits else f"> {formats.number(self.lower)}"

    @property
    def summary(self) -> str:
        """The cell and what it gave, in a few lines: the tooltip of its marker."""
        lines = [self.name]
        if not self.measured:
            lines.append("all replicas diverged")
        elif self.exits:
            interval = f"{formats.number(self.lower)} to {formats.number(self.upper)}"
            lines.append(f"measured {self.mean_text} steps ({interval})")
        else:
            lines.append(f"no exit: mean {self.mean_text} steps")
        if not np.isnan(self.log_predicted):
            lines.append(f"predicted {formats.number_from_log(self.log_predicted)} steps")
        else:
            lines.append("no prediction")
        barrier = formats.short(self.result.diagnosis.groups.barrier)
        lines.append(f"{self.mechanism}, b = {barrier}, CV {formats.short(self.variation)}")
        return "\n".join(lines)


def read(result: CellResult) -> Reading:
    """The reading of one cell."""
    measured, sample = result.measured, result.sample
    variation = p_value = np.nan
    diverged = censored = 0
    if sample is None:
        exits = len(measured.exit_points)
    else:
        exits, diverged = sample.exits, int(np.count_nonzero(sample.diverged))
        censored = sample.replicas - diverged - exits
    if sample is not None and diverged == sample.replicas:
        mean = lower = upper = np.nan
    else:
        mean, (lower, upper) = measured.mean, measured.interval
    if sample is not None and diverged < sample.replicas:
        variation = sample.coefficient_of_variation
        p_value = sample.exponentiality.p_value
    log_predicted, log_plain = (
        float(law.log_mean) if law is not None and np.isfinite(law.log_mean) else np.nan
        for law in (result.prediction, result.exponential_law)
    )
    return Reading(
        result=result,
        mean=mean,
        lower=lower,
        upper=upper,
        variation=variation,
        p_value=p_value,
        exits=exits,
        censored=censored,
        diverged=diverged,
        log_predicted=log_predicted,
        log_plain=log_plain,
    )


def read_all(study: StudyResult) -> list[Reading]:
    """The readings of a study's cells, in the order of its grid."""
    return [read(result) for result in study.cells]


def region_name(region: str) -> str:
    """The kind of region in words."""
    return _SIZES.get(region, (region, ""))[0]
