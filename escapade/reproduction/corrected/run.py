"""Running the corrected protocol: four studies, and the fits of their contrasts."""

import time
from importlib.resources import as_file, files
from pathlib import Path

from escapade.reproduction.corrected.result import CorrectedResult, collect
from escapade.reproduction.store import read_json, write_json
from escapade.study import Specification, StudyProgress, load_specification, run_study

STUDIES = ("quadratic", "styblinski_tang", "avila", "avila_subset")


def specification(name: str) -> Specification:
    """One of the protocol's studies."""
    with as_file(files(__package__) / "studies" / f"{name}.toml") as path:
        return load_specification(str(path))


def run_corrected(
    folder: Path | str,
    *,
    quick: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: StudyProgress | None = None,
    command: str = "",
    studies: tuple[str, ...] = STUDIES,
) -> CorrectedResult:
    """Run the experiments that can tell the laws apart, or go on where they were interrupted.

    Args:
        folder: results folder; each study has a folder of its own in it, which `escapade report`
            reads too.
        quick: the reduced grids; a study without one is left out.
        workers: threads; the number of processors unless given.
        scheduler: address of a Dask scheduler, or "local"; threads of this process unless given.
        progress: receiver of progress, study by study.
        command: command line to record.
        studies: which of STUDIES to run.

    Raises:
        DataError: when AVILA is missing; its message says where to get it.
        StudyError: when the folder cannot be used, or every cell of a study failed.
        KeyboardInterrupt: on Ctrl-C, after stopping what runs.
    """
    began = time.time()
    progress = progress or StudyProgress()
    found = []
    for name in studies:
        wanted = specification(name)
        if quick and not any(grid.quick for grid in wanted.grid):
            continue
        progress.stage(f"study {name}")
        found.append(
            run_study(
                wanted,
                Path(folder) / name,
                quick=quick,
                workers=workers,
                scheduler=scheduler,
                progress=progress,
                command=command,
            )
        )
    result = collect(found, quick=quick, command=command, seconds=time.time() - began)
    write_json(Path(folder) / "corrected.json", result.to_json())
    return result


def load_corrected(folder: Path | str) -> CorrectedResult:
    """The result of a folder, without computing anything.

    Raises:
        StudyError: when the folder holds none.
    """
    return CorrectedResult.from_json(read_json(Path(folder) / "corrected.json"))
