"""What the described experiment gives: plain records that a figure or a verdict can read."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float

from escapade.errors import EscapadeError
from escapade.exits import ExitSample, Regression, log_slope
from escapade.reproduction.described.openings import Opening
from escapade.reproduction.samples import sample_from_json, sample_to_json
from escapade.study import CellResult


@dataclass(frozen=True)
class DescribedMinimum:
    """What the runs leave.

    Attributes:
        theta: parameters.
        loss: with the l2 term.
        gradient_norm: how well it is a minimum.
        eigenvalues: of the Hessian, sharpest first.
    """

    theta: tuple[float, ...]
    loss: float
    gradient_norm: float
    eigenvalues: tuple[float, ...]

    @classmethod
    def from_json(cls, content: Any) -> "DescribedMinimum":
        """The minimum that `dataclasses.asdict` gave, also after a round trip through JSON."""
        arrays = {name: tuple(content[name]) for name in ("theta", "eigenvalues")}
        return cls(**{**content, **arrays})


@dataclass(frozen=True)
class DescribedPoint:
    """One ensemble: measured, predicted, diagnosed.

    Attributes:
        sample: exit times in steps.
        log_predicted: log of the mean exit time in steps by the uniform formula of `predict`; NaN
            where it is silent.
        log_exponential_law: of the plain law exp((B / eta) V0) / eta; NaN likewise.
        silence: why there is no prediction, or "".
        mechanism: by `diagnose`.
        reason: for the mechanism.
        barrier: b = (B / eta) V0 of the local theory.
        shell_ratio: mean squared stationary distance over the radius squared.
        effective_dimension: Tr S / lambda_max(S).
    """

    sample: ExitSample
    log_predicted: float
    log_exponential_law: float
    silence: str
    mechanism: str
    reason: str
    barrier: float
    shell_ratio: float
    effective_dimension: float

    @classmethod
    def of(cls, result: CellResult) -> "DescribedPoint":
        """The point of a study's cell, which was simulated directly."""
        assert result.sample is not None, "described.toml asks for direct simulation"
        groups = result.diagnosis.groups
        nan = float("nan")
        prediction, law = result.prediction, result.exponential_law
        return cls(
            sample=result.sample,
            log_predicted=nan if prediction is None else prediction.log_mean,
            log_exponential_law=nan if law is None else law.log_mean,
            silence=result.silence,
            mechanism=result.diagnosis.mechanism,
            reason=result.diagnosis.reason,
            barrier=groups.barrier,
            shell_ratio=groups.shell_ratio,
            effective_dimension=groups.effective_dimension,
        )

    def to_json(self) -> dict[str, Any]:
        """The point without the exit points, as JSON holds it."""
        return {**vars(self), "sample": sample_to_json(self.sample)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "DescribedPoint":
        """The point that `to_json` gave."""
        return cls(**{**content, "sample": sample_from_json(content["sample"])})


@dataclass(frozen=True)
class DescribedScan:
    """One quantity varied from the base point.

    Attributes:
        quantity: learning_rate, batch_size, size (the radius) or sharpness.
        values: of the quantity.
        points: one for each value.
    """

    quantity: str
    values: tuple[float, ...]
    points: tuple[DescribedPoint, ...]

    @property
    def means(self) -> Float[np.ndarray, " points"]:
        """Mean exit times in steps."""
        return np.array([point.sample.mean for point in self.points])

    @property
    def slope(self) -> Regression | None:
        """Slope of log mean on log value, weighted; None where a point has no exit to fit."""
        try:
            return log_slope([point.sample for point in self.points], np.log(self.values))
        except EscapadeError:
            return None


@dataclass(frozen=True)
class DescribedResult:
    """The experiment that the paper's text describes.

    Attributes:
        quick: whether the reduced scans were run.
        seed: of all random numbers.
        scans: of learning rate, batch size, radius ("size") and sharpness; all share a base point.
        failed: cells that failed, by name.
        minimum: what the runs leave.
        openings: what the description leaves open.
        command: the command that gave these results.
        seconds: wall time of the run that completed them.
    """

    quick: bool
    seed: int
    scans: tuple[DescribedScan, ...]
    failed: tuple[str, ...]
    minimum: DescribedMinimum
    openings: tuple[Opening, ...]
    command: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        content["minimum"] = asdict(self.minimum)
        content["openings"] = [asdict(one) for one in self.openings]
        content["scans"] = [
            {**vars(scan), "points": [point.to_json() for point in scan.points]}
            for scan in self.scans
        ]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "DescribedResult":
        """The result that `to_json` gave."""
        scans = tuple(
            DescribedScan(
                scan["quantity"],
                tuple(scan["values"]),
                tuple(map(DescribedPoint.from_json, scan["points"])),
            )
            for scan in content["scans"]
        )
        return cls(
            **{
                **content,
                "scans": scans,
                "failed": tuple(content["failed"]),
                "minimum": DescribedMinimum.from_json(content["minimum"]),
                "openings": tuple(Opening(**one) for one in content["openings"]),
            }
        )
