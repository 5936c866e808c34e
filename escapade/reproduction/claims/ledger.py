"""The ledger: all claims in order of number, and their results in a folder.

NN.json          the full measurement of claim NN
NN-quick.json    the reduced one
"""

import importlib.metadata
import shlex
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from escapade.errors import EscapadeError, InvalidArgument, StudyError
from escapade.reproduction.claims.alignment import ALIGNMENT
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import Evidence, Progress
from escapade.reproduction.claims.exponential_law import EXPONENTIAL_LAW, EXPONENTIALLY_FAST
from escapade.reproduction.claims.heavy_tails import HEAVY_TAILS
from escapade.reproduction.claims.loss_proportional import POWER_OF_LOSS
from escapade.reproduction.claims.minibatch import GAUSSIAN_NOISE, SAMPLING
from escapade.reproduction.claims.momentum import MOMENTUM_NEUTRAL
from escapade.reproduction.claims.public_experiments import EXPERIMENTS
from escapade.reproduction.claims.rescaling import CONSTRUCTION
from escapade.reproduction.claims.rule import Judgement
from escapade.reproduction.claims.sharpness import (
    DISCRETE_ROOT,
    INVERSE_SHARPNESS,
    LANGEVIN,
    ROOT_OF_SHARPNESS,
)
from escapade.reproduction.claims.stationarity import ANY_START, BEFORE_STATIONARITY
from escapade.reproduction.claims.steps import (
    DISCRETE_EQUALS_CONTINUOUS,
    ONLY_THE_QUOTIENT,
    SAME_EXPONENT,
)
from escapade.reproduction.claims.width import WIDE_NETWORKS
from escapade.reproduction.store import read_json, write_json
from escapade.study.executors import in_threads, thread_count
from escapade.study.folder import require_writable
from escapade.study.progress import StudyProgress

CLAIMS: tuple[Claim, ...] = (
    EXPONENTIAL_LAW,
    ROOT_OF_SHARPNESS,
    INVERSE_SHARPNESS,
    DISCRETE_ROOT,
    LANGEVIN,
    DISCRETE_EQUALS_CONTINUOUS,
    ONLY_THE_QUOTIENT,
    GAUSSIAN_NOISE,
    BEFORE_STATIONARITY,
    EXPONENTIALLY_FAST,
    ALIGNMENT,
    CONSTRUCTION,
    EXPERIMENTS,
    WIDE_NETWORKS,
    HEAVY_TAILS,
    POWER_OF_LOSS,
    MOMENTUM_NEUTRAL,
    SAMPLING,
    ANY_START,
    SAME_EXPONENT,
)
"""Claims 1 to 20; the last two are of the paper's abstract and theorem 3."""

FOLDER = Path("results/claims")
"""Where `escapade claims` keeps results unless told otherwise."""

_SAVED = ("number", "quick", "key", "seconds", "date", "version")


@dataclass(frozen=True)
class ClaimResult:
    """The measurement of one claim.

    Attributes:
        number: of the claim.
        evidence: what was measured.
        quick: whether by the reduced measurement.
        key: seed of every random number.
        seconds: wall time.
        date: when it was measured.
        version: of Escapade.
        folder: where it is kept, as it was given; None where it is not.
    """

    number: int
    evidence: Evidence
    quick: bool
    key: int
    seconds: float
    date: str
    version: str
    folder: Path | None = field(default=None, compare=False)

    @property
    def claim(self) -> Claim:
        """The claim it is about."""
        return find_claim(self.number)

    @property
    def judgement(self) -> Judgement:
        """The verdict, always computed from the evidence by the rule."""
        return self.claim.judge(self.evidence)

    @property
    def command(self) -> str:
        """The command that measures it again."""
        words = ["escapade", "claims", str(self.number)]
        if self.quick:
            words.append("--quick")
        if self.key:
            words += ["--seed", str(self.key)]
        if self.folder not in (None, FOLDER):
            words += ["--out", str(self.folder)]
        return shlex.join([*words, "--again"])

    def to_json(self) -> dict[str, Any]:
        """Everything, with what the claim says and its verdict for a reader of the file."""
        claim, judgement = self.claim, self.judgement
        return {
            **{name: getattr(self, name) for name in _SAVED},
            "evidence": asdict(self.evidence),
            "slug": claim.slug,
            "statement": claim.statement,
            "source": claim.source,
            "regime": claim.regime,
            "test": claim.test,
            "rule": claim.rule.words,
            "verdict": str(judgement.verdict),
            "comparisons": [str(one) for one in judgement.comparisons],
            "command": self.command,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "ClaimResult":
        """The result that `to_json` gave; what follows from the evidence is computed anew."""
        return cls(
            evidence=Evidence.from_json(content["evidence"]),
            **{name: content[name] for name in _SAVED},
        )


def find_claim(number: int) -> Claim:
    """The claim of a number.

    Raises:
        InvalidArgument: when there is none.
    """
    for claim in CLAIMS:
        if claim.number == number and not isinstance(number, bool):
            return claim
    raise InvalidArgument(f"number is {number!r}; the ledger has claims 1 to {len(CLAIMS)}")


def run_claim(
    number: int,
    *,
    quick: bool = False,
    folder: Path | str | None = None,
    key: int = 0,
    again: bool = False,
    progress: Progress | None = None,
) -> ClaimResult:
    """Measure a claim, or load its result where it has been measured with the same arguments.

    Args:
        number: of the claim, 1 to 20.
        quick: the reduced measurement, a few seconds.
        folder: where results are kept; nothing is saved unless given.
        key: a non-negative integer, the seed of every random number.
        again: measure even if there is a result.
        progress: called with what is being done.

    Raises:
        InvalidArgument: when there is no such claim, or the key is negative.
        StudyError: when the folder cannot be written.
    """
    claim = find_claim(number)
    if not isinstance(key, int) or isinstance(key, bool) or key < 0:
        raise InvalidArgument(f"key is {key!r}; give a non-negative integer")
    if folder is not None:
        known = None if again else _load(Path(folder), number, quick)
        if known is not None and known.key == key:
            return known
        require_writable(Path(folder))
    began = time.perf_counter()
    evidence = claim.measure(quick, key, progress or (lambda _: None))
    result = ClaimResult(
        number=number,
        evidence=evidence,
        quick=quick,
        key=key,
        seconds=round(time.perf_counter() - began, 1),
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=importlib.metadata.version("escapade"),
        folder=None if folder is None else Path(folder),
    )
    if folder is not None:
        write_json(_path(Path(folder), number, quick), result.to_json())
    return result


def run_claims(
    folder: Path | str,
    *,
    quick: bool = False,
    workers: int | None = None,
    progress: StudyProgress | None = None,
) -> tuple[ClaimResult, ...]:
    """Measure every claim that has no result in a folder yet, several at a time.

    Args:
        folder: where results are kept; each is saved as soon as it is there.
        quick: the reduced measurements.
        workers: threads; the number of processors unless given.
        progress: receiver of progress.

    Returns:
        The results, in the order of the ledger; one that failed was reported and is left out.

    Raises:
        InvalidArgument: when `workers` is not positive.
        StudyError: when the folder cannot be written.
        KeyboardInterrupt: on Ctrl-C, soon after it.
    """
    threads = thread_count(workers)
    progress = progress or StudyProgress()
    folder = Path(folder)
    require_writable(folder)
    progress.stage("claims: the ledger")
    known = {claim.number: _load(folder, claim.number, quick) for claim in CLAIMS}
    progress.planned(CLAIMS, [claim for claim in CLAIMS if known[claim.number] is not None])
    missing = [claim for claim in CLAIMS if known[claim.number] is None]

    def measure(claim: Claim, cancelled: threading.Event) -> ClaimResult:
        def stop_if_cancelled(_: str) -> None:
            if cancelled.is_set():
                raise KeyboardInterrupt

        return run_claim(claim.number, quick=quick, folder=folder, progress=stop_if_cancelled)

    with closing(in_threads(measure, missing, threads)) as outcomes:
        for claim, outcome in outcomes:
            if isinstance(outcome, ClaimResult):
                known[claim.number] = outcome
                progress.cell_done(claim)
            elif isinstance(outcome, EscapadeError):
                progress.cell_failed(claim, outcome)
            else:
                raise outcome
    return tuple(result for result in known.values() if result is not None)


def load_claim(number: int, folder: Path | str) -> ClaimResult | None:
    """The saved result of a claim, the full one if there are both; None without one."""
    find_claim(number)
    return _load(Path(folder), number, False) or _load(Path(folder), number, True)


def _load(folder: Path, number: int, quick: bool) -> ClaimResult | None:
    """A result that can be judged; a damaged or outdated file counts as none."""
    try:
        result = ClaimResult.from_json(read_json(_path(folder, number, quick)))
        find_claim(number).judge(result.evidence)
    except (StudyError, InvalidArgument, KeyError, TypeError, ValueError):
        return None
    if (result.number, result.quick) != (number, quick):
        return None
    return replace(result, folder=folder)


def _path(folder: Path, number: int, quick: bool) -> Path:
    return folder / f"{number:02d}{'-quick' if quick else ''}.json"
