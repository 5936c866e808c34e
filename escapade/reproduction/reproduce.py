"""The verb `reproduce`: the protocols of one paper, each in a folder of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from escapade.errors import InvalidArgument, StudyError
from escapade.reproduction.described import DescribedResult, load_described, run_described
from escapade.reproduction.published import PublishedResult, load_published, run_published
from escapade.study.progress import StudyProgress
from escapade.study.run import environment

if TYPE_CHECKING:
    from escapade.reproduction.claims import ClaimResult
    from escapade.reproduction.corrected import CorrectedResult

PAPERS = {
    "ibayashi-imaizumi-2022": "H. Ibayashi and M. Imaizumi, Exponential escape efficiency of SGD "
    "from sharp minima in non-stationary regime, arXiv:2111.04004",
}
PROTOCOLS = ("published", "described", "corrected")


@dataclass(frozen=True)
class Reproduction:
    """What is known of one paper's experiments; a protocol that was not run is None.

    Attributes:
        paper: its name in PAPERS.
        published: the public experiment code, as it runs.
        described: what the text says.
        corrected: what can tell the laws apart.
        claims: the claims of the ledger that have been measured.
        provenance: versions and machine that read these results; each cell has its own.
    """

    paper: str
    published: PublishedResult | None = None
    described: DescribedResult | None = None
    corrected: "CorrectedResult | None" = None
    claims: "tuple[ClaimResult, ...]" = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def quick(self) -> bool:
        """Whether a protocol was run in its reduced form."""
        protocols = (self.published, self.described, self.corrected)
        return any(one.quick for one in protocols if one is not None)


def reproduce(
    paper: str,
    folder: Path | str,
    protocol: str = "all",
    *,
    quick: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: StudyProgress | None = None,
    command: str = "",
) -> Reproduction:
    """Run a paper's experiments again, or go on where that was interrupted.

    Every finished cell is saved at once in `folder`; a second call computes only what is missing.
    Protocols not asked for are read from the folder if they were run before.

    Args:
        paper: "ibayashi-imaizumi-2022".
        folder: results folder, created if missing.
        protocol: "published" (the public code as it runs), "described" (what the text says),
            "corrected" (experiments that can tell the laws apart) or "all", with the ledger of
            claims.
        quick: reduced scans, under three minutes altogether.
        workers: threads; the number of processors unless given.
        scheduler: address of a Dask scheduler, or "local"; threads of this process unless given.
        progress: receiver of progress.
        command: command line to record.

    Raises:
        InvalidArgument: when the paper or the protocol is unknown.
        DataError: when AVILA is missing; its message says where to get it.
        StudyError: when the folder cannot be used or nothing could be computed.
        KeyboardInterrupt: on Ctrl-C, after stopping what runs.
    """
    if paper not in PAPERS:
        raise InvalidArgument(f"paper is {paper!r}; choose one of {', '.join(PAPERS)}")
    if protocol not in (*PROTOCOLS, "all"):
        raise InvalidArgument(
            f"protocol is {protocol!r}; choose one of {', '.join(PROTOCOLS)}, all"
        )
    from escapade.reproduction.claims import run_claims
    from escapade.reproduction.corrected import run_corrected

    runs: dict[str, Callable[..., object]] = {
        "published": run_published,
        "described": run_described,
        "corrected": run_corrected,
    }
    for name, run in runs.items():
        if protocol in (name, "all"):
            run(
                Path(folder) / name,
                quick=quick,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
                command=command,
            )
    if protocol == "all":
        run_claims(Path(folder) / "claims", quick=quick, workers=workers, progress=progress)
    return load_reproduction(folder, paper)


def load_reproduction(folder: Path | str, paper: str = "ibayashi-imaizumi-2022") -> Reproduction:
    """What a folder holds, without computing anything.

    Args:
        folder: results folder of `reproduce`.
        paper: its name.

    Raises:
        StudyError: when it holds no protocol, or a result file is damaged.
    """
    from escapade.reproduction.claims import CLAIMS, load_claim
    from escapade.reproduction.corrected import load_corrected

    folder = Path(folder)

    def there(name: str) -> bool:
        return (folder / name / f"{name}.json").is_file()

    if not any(map(there, PROTOCOLS)):
        raise StudyError(f"{folder} holds no reproduction; run `escapade reproduce {paper}` first")
    measured = (load_claim(claim.number, folder / "claims") for claim in CLAIMS)
    return Reproduction(
        paper,
        load_published(folder / "published") if there("published") else None,
        load_described(folder / "described") if there("described") else None,
        load_corrected(folder / "corrected") if there("corrected") else None,
        tuple(one for one in measured if one is not None),
        {"paper": PAPERS[paper], **environment()},
    )
