"""Running the described experiment: a study's cells, read as four scans."""

import functools
import threading
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from escapade.landscape import AbstractLandscape
from escapade.minimum import Minimum
from escapade.reproduction.described.openings import OPENINGS
from escapade.reproduction.described.results import (
    DescribedMinimum,
    DescribedPoint,
    DescribedResult,
    DescribedScan,
)
from escapade.reproduction.store import Store, read_json, write_json
from escapade.study import Cell, Specification, load_specification
from escapade.study.compute import compute_cell
from escapade.study.problem import Problem, build_landscape, find_study_minimum
from escapade.study.progress import StudyProgress

BASE = {"learning_rate": 0.1, "batch_size": 10, "size": 0.4, "sharpness": 1.0}
"""The point where the four scans of ``described.toml`` meet."""


@dataclass(frozen=True)
class Training:
    """The cell whose result is the minimum; `recipe` is everything it depends on."""

    recipe: str

    def __str__(self) -> str:
        return "training to a minimum"


@functools.cache
def specification() -> Specification:
    """The study ``described.toml``."""
    with as_file(files(__package__) / "described.toml") as path:
        return load_specification(str(path))


def run_described(
    folder: Path | str,
    *,
    quick: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: StudyProgress | None = None,
    command: str = "",
) -> DescribedResult:
    """Run the experiment that the paper's text describes, or go on where it was interrupted.

    Args:
        folder: results folder, created if missing.
        quick: four values a scan and 100 runs instead of twenty and 1000.
        workers: threads; the number of processors unless given.
        scheduler: address of a Dask scheduler, or "local"; threads of this process unless given.
        progress: receiver of progress.
        command: command line to record.

    Raises:
        DataError: when AVILA is missing; its message says where to get it.
        StudyError: when the folder cannot be used, or every cell failed.
        KeyboardInterrupt: on Ctrl-C, after stopping what runs.
    """
    progress = progress or StudyProgress()
    began = time.time()
    wanted = specification()
    store = Store(folder, wanted.seed)
    complete = functools.partial(
        store.complete, workers=workers, scheduler=scheduler, progress=progress
    )
    progress.stage("described: training to a minimum")
    training = Training(f"{wanted.landscape}, {wanted.training}")
    (trained,) = complete([training], _train)
    minimum = DescribedMinimum.from_json(trained)
    progress.stage("described: planning the cells")
    cells = _problem(minimum.theta).plan(quick)
    progress.stage("described: leaving the ball")
    compute = functools.partial(_leave, minimum.theta)
    done = complete(cells, compute)
    points = {cell: one for cell, one in zip(cells, done, strict=True) if one is not None}
    result = DescribedResult(
        quick=quick,
        seed=wanted.seed,
        scans=tuple(_scan(quantity, points) for quantity in BASE),
        failed=tuple(str(cell) for cell in cells if cell not in points),
        minimum=minimum,
        openings=OPENINGS,
        command=command,
        seconds=round(time.time() - began, 1),
    )
    write_json(Path(folder) / "described.json", result.to_json())
    return result


def load_described(folder: Path | str) -> DescribedResult:
    """The result saved in a folder.

    Raises:
        StudyError: when there is none, or its file is damaged.
    """
    return DescribedResult.from_json(read_json(Path(folder) / "described.json"))


def _train(training: Training, key: int, cancelled: threading.Event) -> dict[str, Any]:
    landscape = _landscape()
    minimum: Minimum = find_study_minimum(specification(), landscape)
    return {
        "theta": minimum.theta.tolist(),
        "loss": minimum.loss,
        "gradient_norm": minimum.gradient_norm,
        "eigenvalues": np.linalg.eigvalsh(minimum.jacobian)[::-1].tolist(),
    }


def _leave(
    theta: tuple[float, ...], cell: Cell, key: int, cancelled: threading.Event
) -> dict[str, Any]:
    """Simulate, predict and diagnose a cell; its random key is the study's own for that cell."""
    return DescribedPoint.of(compute_cell(_problem(theta), cell, cancelled)).to_json()


@functools.cache
def _landscape() -> AbstractLandscape:
    return build_landscape(specification().landscape, specification().seed)


@functools.lru_cache(maxsize=1)
def _problem(theta: tuple[float, ...]) -> Problem:
    return Problem(specification(), _landscape(), np.array(theta))


def _scan(quantity: str, points: dict[Cell, Any]) -> DescribedScan:
    on_it = [cell for cell in points if _others_at_base(cell, quantity)]
    on_it.sort(key=lambda cell: getattr(cell, quantity))
    return DescribedScan(
        quantity,
        tuple(float(getattr(cell, quantity)) for cell in on_it),
        tuple(DescribedPoint.from_json(points[cell]) for cell in on_it),
    )


def _others_at_base(cell: Cell, quantity: str) -> bool:
    return all(
        bool(np.isclose(getattr(cell, other), value))
        for other, value in BASE.items()
        if other != quantity
    )
