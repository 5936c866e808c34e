"""What the corrected protocol found: plain records that hold everything a figure needs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from escapade.errors import StudyError
from escapade.exits import statistics
from escapade.reproduction.corrected.contrasts import CONTRASTS
from escapade.reproduction.corrected.fits import Estimate, Fit, fit
from escapade.study import Cell, CellResult, StudyResult

EXPONENTIAL = (0.9, 1.1)
"""Coefficients of variation that count as those of an exponential law."""


@dataclass(frozen=True)
class Point:
    """One cell: measured beside predicted.

    Attributes:
        study: name of its study.
        cell: the problem.
        mean: mean exit time in steps.
        low: lower end of its 95 % interval.
        high: upper end, infinite without an exit.
        exits: replicas that left; 0 for a splitting.
        censored: replicas still inside at the cap.
        variation: coefficient of variation; NaN for a splitting, which has no exit times.
        variation_error: its standard error.
        p_value: of the exponential law; NaN likewise.
        log_predicted: predicted logarithm of the mean; NaN without a prediction.
        stated_error: relative error that the prediction states for itself.
        theory: which theory predicts, or why none does.
        log_exponential_law: of the plain law exp((B / eta) V0) / eta.
        barrier: b.
        signal_to_noise: s at the exit point.
        stiffness: eta lambda_max.
        effective_dimension: Tr S / lambda_max(S).
        shell_ratio: mean squared stationary distance over the region's size squared.
        mechanism: the diagnosis.
        reason: in one sentence.
        along_sharpest: share of the squared exit displacement along the sharpest direction.
        cautions: what a splitting says of itself.
        scattered: whether its runs scatter too widely for a fit to use it.
    """

    study: str
    cell: Cell
    mean: float
    low: float
    high: float
    exits: int
    censored: int
    variation: float
    variation_error: float
    p_value: float
    log_predicted: float
    stated_error: float
    theory: str
    log_exponential_law: float
    barrier: float
    signal_to_noise: float
    stiffness: float
    effective_dimension: float
    shell_ratio: float
    mechanism: str
    reason: str
    along_sharpest: float
    cautions: tuple[str, ...] = ()
    scattered: bool = False

    @property
    def exponential(self) -> bool:
        """Whether the coefficient of variation is that of an exponential law, to a tenth."""
        return EXPONENTIAL[0] <= self.variation <= EXPONENTIAL[1]

    @property
    def log_ratio(self) -> float:
        """Measured less predicted logarithm."""
        return math.log(self.mean) - self.log_predicted

    @property
    def plain_log_ratio(self) -> float:
        """Measured logarithm less that of the plain exponential law."""
        return math.log(self.mean) - self.log_exponential_law


@dataclass(frozen=True)
class CorrectedResult:
    """The corrected protocol.

    Attributes:
        quick: whether the reduced grids were run.
        points: every finished cell of every study.
        planned: number of cells planned.
        fits: one for each contrast that has its cells.
        missing: why the other contrasts have no fit.
        command: the command that gave these results.
        seconds: wall time of the run that completed them.
        seeds: seed of each study, by name.
    """

    quick: bool
    points: tuple[Point, ...]
    planned: int
    fits: tuple[Fit, ...]
    missing: tuple[str, ...]
    command: str
    seconds: float
    seeds: dict[str, int]

    def fit(self, contrast: str) -> Fit:
        """The fit of a contrast.

        Raises:
            KeyError: when it has none.
        """
        for one in self.fits:
            if one.contrast == contrast:
                return one
        raise KeyError(contrast)

    def points_of(self, fitted: Fit) -> tuple[Point, ...]:
        """The cells of a fit, in its order."""
        by_identity = {point.cell.identity: point for point in self.points}
        return tuple(by_identity[identity] for identity in fitted.identities)

    @property
    def not_activated(self) -> tuple[Point, ...]:
        """Cells in which the exponential law fails, with the mechanism that makes it."""
        return tuple(point for point in self.points if point.mechanism != "activated")

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "CorrectedResult":
        """The result that `to_json` gave, also after a round trip through JSON."""
        points = tuple(
            Point(**{**point, "cell": Cell(**point["cell"]), "cautions": tuple(point["cautions"])})
            for point in content["points"]
        )
        fits = tuple(_fit_from_json(one) for one in content["fits"])
        missing = tuple(content["missing"])
        return cls(**{**content, "points": points, "fits": fits, "missing": missing})


def collect(
    studies: Sequence[StudyResult], *, quick: bool, command: str, seconds: float
) -> CorrectedResult:
    """Put finished studies together, and fit every contrast whose cells are there."""
    results = {study.name: study.cells for study in studies}
    fits, missing = [], []
    for contrast in CONTRASTS:
        try:
            fits.append(fit(contrast, results.get(contrast.study, ())))
        except StudyError as error:
            missing.append(str(error))
    return CorrectedResult(
        quick=quick,
        points=tuple(_point(study.name, cell) for study in studies for cell in study.cells),
        planned=sum(study.planned for study in studies),
        fits=tuple(fits),
        missing=tuple(missing),
        command=command,
        seconds=seconds,
        seeds={study.name: study.seed for study in studies},
    )


def _point(study: str, result: CellResult) -> Point:
    sample, prediction, law = result.sample, result.prediction, result.exponential_law
    groups, nan = result.diagnosis.groups, float("nan")
    alive = sample is None or not sample.diverged.all()
    low, high = result.measured.interval if alive else (nan, nan)
    variation = statistics.Estimate(nan, nan)
    if sample is not None and alive:
        kept = ~sample.diverged
        variation = statistics.coefficient_of_variation(sample.times[kept], sample.censored[kept])
    return Point(
        study=study,
        cell=result.cell,
        mean=result.measured.mean if alive else nan,
        low=low,
        high=high,
        exits=0 if sample is None else sample.exits,
        censored=0 if sample is None else int(np.count_nonzero(sample.censored)),
        variation=float(variation.value),
        variation_error=float(variation.standard_error),
        p_value=sample.exponentiality.p_value if sample is not None and alive else nan,
        log_predicted=nan if prediction is None else prediction.log_mean,
        stated_error=nan if prediction is None else prediction.relative_error,
        theory=result.silence if prediction is None else prediction.theory,
        log_exponential_law=nan if law is None else law.log_mean,
        barrier=groups.barrier,
        signal_to_noise=groups.signal_to_noise,
        stiffness=groups.stiffness,
        effective_dimension=groups.effective_dimension,
        shell_ratio=groups.shell_ratio,
        mechanism=result.diagnosis.mechanism,
        reason=result.diagnosis.reason,
        along_sharpest=float(result.exit_shares[0]),
        cautions=() if result.rare is None else result.rare.cautions,
        scattered=result.rare is not None and result.rare.scattered,
    )


def _fit_from_json(content: dict[str, Any]) -> Fit:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    for entry in fields(Fit):
        value = values[entry.name]
        if isinstance(value, dict) and entry.name != "rivals":
            values[entry.name] = Estimate(**value)
    values["rivals"] = {name: tuple(rival) for name, rival in values["rivals"].items()}
    return Fit(**values)
