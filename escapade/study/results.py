"""What a study found: the objects the report draws, and nothing it would have to compute."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from escapade.errors import StudyError
from escapade.exits import ExitSample
from escapade.exits.rare import RareExit
from escapade.minimum import Alignment
from escapade.study.cell import Cell
from escapade.theory import Diagnosis, Prediction


@dataclass(frozen=True)
class CellResult:
    """One finished cell.

    Attributes:
        cell: the problem.
        sample: measured exits; None where they are too rare to wait for.
        prediction: the uniform mean exit time; None when no theory applies.
        exponential_law: the paper's plain law; None likewise.
        diagnosis: the mechanism.
        exit_shares: mean share of the squared exit displacement along each Hessian eigenvector,
            sharpest first; they sum to one.
        silence: why there is no prediction, or "".
        rare: the exit by splitting, of cells that are not simulated directly: a mean exit time
            with its interval, but no exit times, hence no coefficient of variation.
    """

    cell: Cell
    sample: ExitSample | None
    prediction: Prediction | None
    exponential_law: Prediction | None
    diagnosis: Diagnosis
    exit_shares: Float[np.ndarray, " dim"]
    silence: str = ""
    rare: RareExit | None = None

    def __post_init__(self) -> None:
        if (self.sample is None) == (self.rare is None):
            raise StudyError(f"{self.cell}: give either a sample or a rare exit")

    @property
    def measured(self) -> ExitSample | RareExit:
        """The sample or the rare exit: mean exit time in steps, and its interval, of either."""
        measured = self.rare if self.sample is None else self.sample
        assert measured is not None
        return measured

    @property
    def steps_taken(self) -> int:
        """SGD steps of all replicas or walkers together."""
        measured = self.measured
        return measured.steps_used if isinstance(measured, RareExit) else measured.walker_steps

    @property
    def engine(self) -> str:
        """By what the exits were computed."""
        measured = self.measured
        if isinstance(measured, RareExit):
            return measured.method
        return f"{measured.engine} in {measured.precision}"


@dataclass(frozen=True)
class MinimumSummary:
    """The minimum of a study and its neighbourhood.

    Attributes:
        theta: the parameters.
        loss: loss there.
        gradient_norm: gradient norm there.
        flat_directions: number of flat directions.
        eigenvalues: Hessian eigenvalues, largest first.
        noise_along: noise variance of one example along each Hessian eigenvector.
        noise_eigenvalues: eigenvalues of the noise covariance, largest first.
        alignment: closeness of C to c H.
        effective_dimension: Tr S / lambda_max(S) of the diffusion.
        examples: number of examples, 0 for an analytic landscape.
        accuracy: fraction of examples classified correctly; NaN where that means nothing.
        description: the landscape in a few words.
        seconds: time spent finding it.
    """

    theta: Float[np.ndarray, " dim"]
    loss: float
    gradient_norm: float
    flat_directions: int
    eigenvalues: Float[np.ndarray, " dim"]
    noise_along: Float[np.ndarray, " dim"]
    noise_eigenvalues: Float[np.ndarray, " dim"]
    alignment: Alignment
    effective_dimension: float
    examples: int
    accuracy: float
    description: str
    seconds: float


@dataclass(frozen=True)
class InstantonSummary:
    """The path of least steepness out of one cell's region.

    Attributes:
        cell: the problem.
        value: minimum steepness V0.
        error: its relative error.
        quadratic_value: V0 of the quadratic approximation at the minimum.
        times: steps along the path, 0 at the exit.
        actions: steepness spent up to each point.
        along: displacement from the minimum along each Hessian eigenvector, sharpest first, shape
            (points, dim).
        method: how it was found.
    """

    cell: Cell
    value: float
    error: float
    quadratic_value: float
    times: Float[np.ndarray, " points"]
    actions: Float[np.ndarray, " points"]
    along: Float[np.ndarray, "points dim"]
    method: str


@dataclass(frozen=True)
class StudyResult:
    """A whole study.

    Attributes:
        name: name of the study.
        title: the question, in one line.
        description: what the study is about, one paragraph of plain text.
        seed: the study's seed.
        quick: whether the reduced grid was run.
        minimum: the minimum.
        instanton: the easiest path out of one of the regions; None before it is found.
        cells: finished cells, in the order of the study's grid.
        planned: number of cells of the grid; more than `cells` when the study is unfinished.
        command: the command line that reproduces it.
        provenance: versions of Escapade and the libraries, processor, date and time taken.
        specification: the study file as TOML text.
    """

    name: str
    title: str
    description: str
    seed: int
    quick: bool
    minimum: MinimumSummary
    instanton: InstantonSummary | None
    cells: tuple[CellResult, ...]
    planned: int
    command: str
    provenance: dict[str, Any]
    specification: str
