"""Every theory on a whole study: cell by cell, and how well each does over all of them."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from escapade.errors import EscapadeError, InvalidArgument, StudyError, in_one_line
from escapade.escape import Escape
from escapade.exits import ExitSample, log_mean_regression
from escapade.exits.rare import RareExit
from escapade.minimum import Neighbourhood
from escapade.study.problem import Problem, build_landscape
from escapade.study.results import StudyResult
from escapade.study.specification import Specification, load_specification
from escapade.theory import Comparison, compare
from escapade.theory.compare import Measured, checked_theories, measurement_of

FEW = 0.5
"""Share of the measured cells below which a theory is ranked after those that speak of more."""


@dataclass(frozen=True)
class Score:
    """One theory over all cells with at least one exit.

    Attributes:
        theory: its name.
        title: its authors.
        cells: number of measured cells of which it says something.
        root_mean_square: of its errors in log E[nu]; NaN where it is silent throughout.
        worst: its largest error in size, with its sign.
        slope: of the weighted line of measured on predicted log means, 1 where a theory is right
            up to a factor; NaN with fewer than two cells, or where its predictions are the same.
        slope_interval: its 95 % interval.
        reasons: what fails or why it is silent, each with the number of cells, commonest first.
    """

    theory: str
    title: str
    cells: int
    root_mean_square: float
    worst: float
    slope: float
    slope_interval: tuple[float, float]
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class StudyComparison:
    """All theories on a study.

    Attributes:
        name: of the study.
        cells: one comparison for each cell, in the order of the study.
        measured: number of cells with at least one exit, which alone are scored.
        scores: smallest root mean square error first; those that speak of less than half of the
            measured cells after the others, and the silent ones last.
    """

    name: str
    cells: tuple[Comparison, ...]
    measured: int
    scores: tuple[Score, ...]

    def to_json(self) -> str:
        """Scores and cells as JSON text; numbers that are not finite are null."""
        content = {
            "name": self.name,
            "measured": self.measured,
            "scores": [_score_as_dict(score) for score in self.scores],
            "cells": [cell.as_dict() for cell in self.cells],
        }
        return json.dumps(content, indent=1, ensure_ascii=False)

    def __str__(self) -> str:
        width = max(len(score.title) for score in self.scores)
        header = f"{'theory':<{width}}  cells     rms   worst  slope, measured on predicted"
        lines = [f"{self.name}: {self.measured} of {len(self.cells)} cells with exits", header]
        for score in self.scores:
            numbers, slope = "silent", ""
            if score.cells:
                numbers = f"{score.root_mean_square:7.3f} {score.worst:+7.3f}"
            if np.isfinite(score.slope):
                low, high = score.slope_interval
                slope = f"{score.slope:.3g} [{low:.3g}, {high:.3g}]"
            cells = f"{score.cells:5d}" if score.cells else ""
            lines.append(f"{score.title:<{width}}  {cells:<5} {numbers}  {slope}".rstrip())
        return "\n".join(lines)


def compare_study(
    study: StudyResult | Iterable[tuple[Escape, Measured]],
    *,
    theories: tuple[str, ...] | None = None,
    name: str | None = None,
) -> StudyComparison:
    """Ask every theory about every cell, and rank them by their errors in log E[nu].

    Args:
        study: results of a study, or pairs of a problem and what measured it.
        theories: names of those to ask; all unless given.
        name: what the study is called; its own name unless given.

    Raises:
        InvalidArgument: when there is no cell, the study is of another kind, or a theory is
            unknown.
        StudyError: when the study's landscape is a function of the user's, which its folder does
            not hold; give pairs instead.
    """
    asked = tuple(theory.name for theory in checked_theories(theories))
    if isinstance(study, StudyResult):
        name = name or study.name
        cells = _of_study(study)
    else:
        cells = _of_pairs(study)
    if not cells:
        raise InvalidArgument("study holds no cell; run it first, or give (escape, measured) pairs")
    comparisons = [
        compare(escape, measured, theories=asked, neighbourhood=around)
        for escape, measured, around in cells
    ]
    ensembles = [measured for _, measured, _ in cells]
    exits = [i for i, one in enumerate(ensembles) if np.isfinite(measurement_of(one).log_mean)]
    scores = [_score(theory, comparisons, ensembles, exits) for theory in asked]
    scores.sort(key=lambda score: _rank(score, len(exits)))
    return StudyComparison(name or "ensembles", tuple(comparisons), len(exits), tuple(scores))


def _of_pairs(
    pairs: Iterable[tuple[Escape, Measured]],
) -> list[tuple[Escape, Measured, Neighbourhood | None]]:
    try:
        return [(escape, measured, None) for escape, measured in pairs]
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"study is {pairs!r}; give what load_study returned, or (escape, measured) pairs"
        ) from None


def _of_study(study: StudyResult) -> list[tuple[Escape, Measured, Neighbourhood | None]]:
    """Problems of the finished cells, rebuilt from the specification in the results."""
    specification = _specification(study)
    landscape = build_landscape(specification.landscape, specification.seed)
    problem = Problem(specification, landscape, study.minimum.theta)
    found: list[tuple[Escape, Measured, Neighbourhood | None]] = []
    for result in study.cells:
        measured = result.measured
        if isinstance(measured, ExitSample) and measured.diverged.all():
            continue
        escape = problem.escape(result.cell)
        try:
            around = problem.neighbourhood(result.cell)
        except EscapadeError:  # noise without a covariance: theories say so themselves
            around = None
        found.append((escape, measured, around))
    return found


def _specification(study: StudyResult) -> Specification:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{study.name}.toml"
            path.write_text(study.specification, "utf-8")
            return load_specification(str(path))
    except StudyError as error:
        raise StudyError(
            f"the specification in the results of {study.name} does not give its landscape (one in "
            f"Python does not): {in_one_line(error)}; give compare_study pairs of an escape and "
            "its sample"
        ) from error


def _score(
    theory: str,
    comparisons: Sequence[Comparison],
    ensembles: Sequence[Measured],
    exits: Sequence[int],
) -> Score:
    reasons: dict[str, int] = {}
    for comparison in comparisons:
        standing = comparison[theory]
        for reason in (standing.silence,) if standing.silence else standing.failing:
            # Numbers differ from cell to cell; what comes before them does not.
            kind = reason.split(":")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
    speaking = [index for index in exits if comparisons[index][theory].prediction is not None]
    errors = np.array([comparisons[index][theory].log_error for index in speaking])
    nan = float("nan")
    measured = np.array([measurement_of(ensembles[index]).log_mean for index in speaking])
    slope, interval = _slope([ensembles[index] for index in speaking], measured + errors)
    return Score(
        theory=theory,
        title=comparisons[0][theory].title,
        cells=len(speaking),
        root_mean_square=float(np.sqrt(np.mean(errors**2))) if len(errors) else nan,
        worst=float(errors[np.argmax(np.abs(errors))]) if len(errors) else nan,
        slope=slope,
        slope_interval=interval,
        reasons=tuple(sorted(reasons.items(), key=lambda item: -item[1])),
    )


def _slope(
    ensembles: Sequence[Measured], predicted: Float[np.ndarray, " cells"]
) -> tuple[float, tuple[float, float]]:
    """Slope of measured on predicted log means with its 95 % interval.

    By the bootstrap of `log_mean_regression` where every cell was simulated directly; else from the
    standard errors of the log means, which for splitting are all there is.
    """
    nan = float("nan")
    simulated = [one for one in ensembles if isinstance(one, ExitSample)]
    if len(predicted) < 2 or not np.ptp(predicted) > 0:
        return nan, (nan, nan)
    if len(simulated) == len(ensembles):
        try:
            line = log_mean_regression(simulated, predicted)
        except InvalidArgument:  # an ensemble without any spread
            return nan, (nan, nan)
        return line.slope, line.slope_interval
    measured = np.array([measurement_of(one).log_mean for one in ensembles])
    errors = np.array([_standard_error(one) for one in ensembles])
    weights = 1 / np.maximum(errors, 1e-12) ** 2
    centred = predicted - weights @ predicted / weights.sum()
    spread = float(weights @ centred**2)
    slope, half = float(weights @ (centred * measured)) / spread, norm.ppf(0.975) / np.sqrt(spread)
    return slope, (slope - half, slope + half)


def _standard_error(measured: Measured) -> float:
    """Of the log mean."""
    if isinstance(measured, ExitSample):
        return measured.standard_error / measured.mean
    return measured.relative_error if isinstance(measured, RareExit) else measured.error


def _rank(score: Score, measured: int) -> tuple[bool, bool, float]:
    silent = score.cells == 0
    return silent, score.cells < FEW * measured, 0.0 if silent else score.root_mean_square


def _score_as_dict(score: Score) -> dict[str, Any]:
    silent = score.cells == 0
    return {
        "theory": score.theory,
        "title": score.title,
        "cells": score.cells,
        "root_mean_square": None if silent else score.root_mean_square,
        "worst": None if silent else score.worst,
        "slope": None if np.isnan(score.slope) else score.slope,
        "slope_interval_95": None if np.isnan(score.slope) else list(score.slope_interval),
        "reasons": [{"reason": reason, "cells": count} for reason, count in score.reasons],
    }
