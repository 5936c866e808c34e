"""What a run of the public experiment gives: plain records that a figure or a verdict can read."""

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from escapade.errors import StudyError
from escapade.exits import ExitSample
from escapade.reproduction.published.experiment import (
    BASE,
    QUANTITIES,
    Experiment,
    Optimiser,
    Quantity,
)
from escapade.reproduction.published.reference import (
    Reference,
    log_log_slope,
    published_slope,
    reference,
)
from escapade.reproduction.samples import pooled, sample_from_json, sample_to_json


@dataclass(frozen=True)
class Point:
    """The exit times of one experiment, beside the published ones."""

    experiment: Experiment
    sample: ExitSample
    reference: Reference | None = None

    @property
    def ratio(self) -> float:
        """Measured mean over the published mean; NaN where that is not known."""
        return self.sample.mean / self.reference.mean if self.reference else float("nan")

    @property
    def ratio_error(self) -> float:
        """Standard error of `ratio`, from both samples."""
        if self.reference is None:
            return float("nan")
        own = self.sample.standard_error / self.sample.mean
        return self.ratio * float(np.hypot(own, self.reference.relative_error))


@dataclass(frozen=True)
class Slope:
    """A log-log slope: d log E[nu] / d log value.

    Attributes:
        value: by unweighted least squares.
        interval: of 95 %, by Student's t from the scatter about the line.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Scan:
    """One quantity varied from the base point, the others held."""

    optimiser: Optimiser
    quantity: Quantity
    points: tuple[Point, ...]

    @property
    def values(self) -> np.ndarray:
        """The scanned quantity."""
        return np.array([getattr(one.experiment, self.quantity) for one in self.points], float)

    @property
    def means(self) -> np.ndarray:
        """Mean exit times in steps."""
        return np.array([one.sample.mean for one in self.points])

    @cached_property
    def ratio(self) -> tuple[float, float]:
        """Mean over the scan of measured over published mean, and its standard error.

        NaN where the published means are not known.
        """
        ratios = np.array([point.ratio for point in self.points])
        errors = np.array([point.ratio_error for point in self.points])
        return float(ratios.mean()), float(np.sqrt((errors**2).sum()) / len(errors))

    @cached_property
    def slope(self) -> Slope:
        """Log-log slope of the measured means."""
        return _slope(*log_log_slope(self.values, self.means), len(self.points))

    def published_slope(self, optimiser: str | None = None) -> Slope:
        """Log-log slope of the published means; also of "discrete_sgd", the same code run again."""
        return _slope(*published_slope(optimiser or self.optimiser, self.quantity), 20)


def _slope(value: float, error: float, points: int) -> Slope:
    half = float(stats.t.ppf(0.975, points - 2)) * error if points > 2 else float("inf")
    return Slope(value, (value - half, value + half))


@dataclass(frozen=True)
class VariedPoint:
    """The base point with one thing changed."""

    name: str
    reads: str
    point: Point


@dataclass(frozen=True)
class Reparametrisation:
    """Exit times under L(sqrt(k) theta) and under L itself, with the same random numbers.

    With the start divided by sqrt(k), phi = sqrt(k) theta follows the steps of learning rate k eta
    on L, and leaves radius sqrt(k) r when theta leaves r: N(eta, k, r) = N(k eta, 1, sqrt(k) r),
    run by run. A scan of sharpness by this construction therefore repeats those of learning rate
    and radius.

    Attributes:
        factor: k.
        scaled: exit steps at sharpness k.
        plain: exit steps at sharpness 1, learning rate k eta and radius sqrt(k) r.
    """

    factor: float
    scaled: tuple[int, ...]
    plain: tuple[int, ...]

    @property
    def differing(self) -> int:
        """Number of runs whose exit steps differ."""
        return int(np.count_nonzero(np.array(self.scaled) != np.array(self.plain)))


@dataclass(frozen=True)
class PublishedResult:
    """The public experiment, run again.

    Attributes:
        quick: whether the reduced scans were run.
        seed: of all random numbers.
        base: the base point of SGD, from all scans together; the public labels "SGD" and
            "discrete SGD" name the same code, run once here.
        scans: of SGD, then of SGLD.
        variations: the base point with one thing changed.
        reparametrisations: the identity behind the sharpness scan, at several factors.
        failed: cells that failed, by name.
        command: the command that gave these results.
        seconds: wall time of the run that completed them.
    """

    quick: bool
    seed: int
    scans: tuple[Scan, ...]
    variations: tuple[VariedPoint, ...]
    reparametrisations: tuple[Reparametrisation, ...]
    failed: tuple[str, ...]
    command: str
    seconds: float

    def base(self, optimiser: Optimiser) -> ExitSample:
        """Exits at the base point, from all scans of an optimiser that hold it.

        Raises:
            StudyError: when it failed in all of them.
        """
        wanted = [getattr(BASE[optimiser], quantity) for quantity in QUANTITIES]
        samples = [
            point.sample
            for scan in self.scans
            for point in scan.points
            if scan.optimiser == optimiser
            and [getattr(point.experiment, quantity) for quantity in QUANTITIES] == wanted
        ]
        if not samples:
            raise StudyError(f"no scan of {optimiser} holds its base point; run it again")
        return pooled(samples)

    def scan(self, optimiser: Optimiser, quantity: Quantity) -> Scan | None:
        """The scan of a quantity; None when it failed."""
        for one in self.scans:
            if (one.optimiser, one.quantity) == (optimiser, quantity):
                return one
        return None

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        content["scans"] = [
            {
                "optimiser": one.optimiser,
                "quantity": one.quantity,
                "points": [_point_to_json(point) for point in one.points],
            }
            for one in self.scans
        ]
        content["variations"] = [
            {"name": one.name, "reads": one.reads, "point": _point_to_json(one.point)}
            for one in self.variations
        ]
        content["reparametrisations"] = [asdict(one) for one in self.reparametrisations]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "PublishedResult":
        """The result that `to_json` gave."""
        return cls(
            **{
                **content,
                "scans": tuple(
                    Scan(**{**one, "points": tuple(map(_point_from_json, one["points"]))})
                    for one in content["scans"]
                ),
                "variations": tuple(
                    VariedPoint(one["name"], one["reads"], _point_from_json(one["point"]))
                    for one in content["variations"]
                ),
                "reparametrisations": tuple(
                    Reparametrisation(one["factor"], tuple(one["scaled"]), tuple(one["plain"]))
                    for one in content["reparametrisations"]
                ),
                "failed": tuple(content["failed"]),
            }
        )


def _point_to_json(point: Point) -> dict[str, Any]:
    return {"experiment": asdict(point.experiment), "sample": sample_to_json(point.sample)}


def _point_from_json(content: dict[str, Any]) -> Point:
    return to_point(Experiment(**content["experiment"]), sample_from_json(content["sample"]))


def to_point(experiment: Experiment, sample: ExitSample) -> Point:
    """A measured point beside the published one, where there is one."""
    for quantity in QUANTITIES:
        if experiment.scan == quantity:
            known = reference(experiment.optimiser, quantity, getattr(experiment, quantity))
            return Point(experiment, sample, known)
    return Point(experiment, sample)
