"""Running a study: find the minimum, plan the cells, compute what is missing, collect."""

import functools
import importlib.metadata
import os
import platform
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from escapade.errors import EscapadeError, StudyError, in_one_line
from escapade.landscape import AbstractLandscape, Empirical
from escapade.minimum import Minimum, effective_dimension
from escapade.minimum.neighbourhood import Neighbourhood
from escapade.precision import in_float64
from escapade.study.cell import Cell
from escapade.study.compute import compute_cell, to_be_sent
from escapade.study.executors import compute_and_save, in_threads, on_dask, thread_count
from escapade.study.instanton import find_instanton, representative
from escapade.study.problem import Problem, build_landscape, find_study_minimum
from escapade.study.progress import StudyProgress, work
from escapade.study.results import MinimumSummary, StudyResult
from escapade.study.specification import Specification, load_specification
from escapade.study.store import Store

ADDED = ("function", "eigenvalues", "dim", "minimum")
"""Entries that landscapes did not have at first."""

LIBRARIES = ("escapade", "jax", "jaxlib", "equinox", "numpy", "scipy")


def run_study(
    specification: Specification | Path | str,
    folder: Path | str,
    *,
    quick: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: StudyProgress | None = None,
    command: str = "",
) -> StudyResult:
    """Run a study, or go on with one that was interrupted.

    Every finished cell is saved at once in `folder`; a second call computes only what is missing.
    The results do not depend on the number of workers, on the order, or on who computed them.

    Args:
        specification: a specification, the name of a built-in study, or the path of a file.
        folder: results folder, created if missing.
        quick: run the reduced grid.
        workers: threads; the number of processors unless given.
        scheduler: address of a Dask scheduler, or "local"; threads of this process unless given.
        progress: receiver of progress.
        command: command line to quote in the report.

    Raises:
        InvalidArgument: when `workers` is not positive.
        StudyError: when the study is malformed, the folder cannot be used, or every cell failed.
        KeyboardInterrupt: on Ctrl-C, after stopping the cells that run.
    """
    if not isinstance(specification, Specification):
        specification = load_specification(str(specification))
    threads = thread_count(workers)
    progress = progress or StudyProgress()
    store = Store(Path(folder))
    store.claim(specification.text)
    began = time.time()

    progress.stage("loading the landscape")
    landscape = build_landscape(specification.landscape, specification.seed)
    origin = _origin(specification)
    summary = store.load_minimum(origin)
    if summary is None:
        progress.stage("finding the minimum")
        minimum = find_study_minimum(specification, landscape)
        seconds = time.time() - began
        problem = Problem(specification, landscape, minimum.theta)
        summary = _summary(problem, minimum, seconds)
        store.save_minimum(summary, origin)
    problem = Problem(specification, landscape, summary.theta)

    progress.stage("planning the cells")
    cells = problem.plan(quick)
    store.save_header(_header(specification, quick, command), cells)
    finished = {cell for cell in cells if store.load_cell(cell) is not None}
    missing = [cell for cell in cells if cell not in finished]
    progress.planned(cells, [cell for cell in cells if cell in finished])
    # Long cells first: the workers then finish together.
    missing.sort(key=work, reverse=True)
    if scheduler is not None:
        outcomes = on_dask(to_be_sent(problem), missing, scheduler)
    else:
        outcomes = in_threads(functools.partial(compute_cell, problem), missing, threads)
    failures = compute_and_save(outcomes, lambda _, result: store.save_cell(result), progress)
    if specification.instanton:
        _add_instanton(problem, cells, store, progress)
    header = _header(specification, quick, command)
    store.save_header({**header, "seconds": round(time.time() - began, 1)}, cells)
    if failures and len(failures) == len(cells):
        raise StudyError(f"every cell failed; the first, {failures[0][0]}: {failures[0][1]}")
    return load_study(folder)


def _add_instanton(
    problem: Problem, cells: list[Cell], store: Store, progress: StudyProgress
) -> None:
    """Find the easiest path out of the representative cell's region, unless it is there."""
    cell = representative(cells)
    known = store.load_instanton()
    if known is not None and known.cell == cell:
        return
    progress.stage("finding the easiest path out")
    try:
        store.save_instanton(find_instanton(problem, cell))
    except EscapadeError as error:
        progress.stage(f"no easiest path: {in_one_line(error)}")


def load_study(folder: Path | str) -> StudyResult:
    """Results of a study folder, finished or not, without computing anything.

    Raises:
        StudyError: when the folder holds no study.
    """
    if not (Path(folder) / "study.json").is_file():
        raise StudyError(f"{folder} holds no study; run `escapade study NAME` first")
    store = Store(Path(folder))
    header, cells = store.load_header()
    minimum = store.load_minimum()
    if minimum is None:
        raise StudyError(f"{folder} holds no minimum yet; run the study first")
    names = ("name", "title", "description", "seed", "quick", "command")
    return StudyResult(
        **{name: header.pop(name) for name in names},
        minimum=minimum,
        instanton=store.load_instanton(),
        cells=tuple(found for cell in cells if (found := store.load_cell(cell)) is not None),
        planned=len(cells),
        provenance=header,
        specification=store.specification,
    )


def _origin(specification: Specification) -> str:
    """What the minimum and the random numbers depend on, but for a function of the user's.

    A specification made or changed in Python need not agree with its text.
    """
    landscape = specification.landscape
    # Folders of the time before these entries existed do not have them.
    known = {entry.name: entry.default for entry in fields(landscape) if entry.name in ADDED}
    entries = ", ".join(
        f"{name}={None if name == 'build' else value!r}"
        for name, value in vars(landscape).items()
        if name not in known or value != known[name]
    )
    kind = type(landscape).__name__
    return f"seed {specification.seed}, {kind}({entries}), {specification.training}"


def environment() -> dict[str, Any]:
    """What computes: versions of libraries and of Python, and the machine."""
    return {
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "processor": f"{platform.machine()}, {os.cpu_count()} processors",
    }


def _header(specification: Specification, quick: bool, command: str) -> dict[str, Any]:
    return {
        "name": specification.name,
        "title": specification.title,
        "description": " ".join(specification.description.split()),
        "seed": specification.seed,
        "quick": quick,
        "command": command,
        **environment(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _summary(problem: Problem, minimum: Minimum, seconds: float) -> MinimumSummary:
    landscape = problem.landscape
    around = Neighbourhood(minimum.jacobian, problem.covariance(1.0))
    examples = landscape.examples if isinstance(landscape, Empirical) else 0
    return MinimumSummary(
        theta=minimum.theta,
        loss=minimum.loss,
        gradient_norm=minimum.gradient_norm,
        flat_directions=minimum.flat_directions,
        eigenvalues=around.eigenvalues,
        noise_along=around.noise_along,
        noise_eigenvalues=np.linalg.eigvalsh(around.covariance)[::-1].copy(),
        alignment=around.alignment,
        effective_dimension=effective_dimension(around.stationary_covariance()),
        examples=examples,
        accuracy=_accuracy(problem),
        description=_describe(problem.specification, landscape),
        seconds=seconds,
    )


def _accuracy(problem: Problem) -> float:
    landscape = problem.landscape
    if not (problem.specification.landscape.data and isinstance(landscape, Empirical)):
        return float("nan")
    scores = in_float64(_scores, landscape, problem.theta)
    return float((scores.argmax(axis=1) == landscape.data[1]).mean())


def _scores(landscape: Empirical, theta: jax.Array) -> jax.Array:
    return jax.vmap(landscape.model(theta))(landscape.data[0])


def _describe(specification: Specification, landscape: AbstractLandscape) -> str:
    if not isinstance(landscape, Empirical):
        return f"{type(landscape).__name__} in dimension {landscape.dim}"
    wanted = specification.landscape
    size = f"{landscape.dim} parameters, {landscape.examples} examples"
    if wanted.build is not None:
        return f"own loss over examples, {size}, weight decay {landscape.weight_decay:g}"
    widths = "-".join(map(str, wanted.widths))
    hidden = "" if wanted.network == "logistic" else f" ({widths} hidden, {wanted.activation})"
    return (
        f"{wanted.network}{hidden} on {wanted.data}, {size}, {wanted.loss} with weight decay "
        f"{wanted.weight_decay:g}"
    ).replace("_", " ")
