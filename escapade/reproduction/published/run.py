"""Running the public experiment: plan its cells, compute what is missing, collect."""

import functools
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from escapade.data import Dataset, avila
from escapade.errors import StudyError
from escapade.exits import ExitSample
from escapade.reproduction.published.experiment import (
    BASE,
    QUANTITIES,
    VALUES,
    Experiment,
    Optimiser,
    scan,
    variations,
)
from escapade.reproduction.published.results import (
    PublishedResult,
    Reparametrisation,
    Scan,
    VariedPoint,
    to_point,
)
from escapade.reproduction.published.trial import draw, run
from escapade.reproduction.samples import sample_from_json, sample_to_json
from escapade.reproduction.store import Store, read_json, write_json
from escapade.study.progress import StudyProgress

TRIALS = {"sgd": 100, "sgld": 10}
"""Trials of one value. The public experiment has 100 of each. A run of SGLD costs a pass over the
data in each of its 48 steps, and its exit times scatter by 1.5 %, so that ten give half a per cent.
"""

QUICK_VALUES = 5
QUICK_TRIALS = {"sgd": 20, "sgld": 2}
FACTORS = (2.0, 4.0)


def run_published(
    folder: Path | str,
    *,
    quick: bool = False,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: StudyProgress | None = None,
    command: str = "",
) -> PublishedResult:
    """Run the public experiment as its code runs, on AVILA, or go on where it was interrupted.

    Args:
        folder: results folder, created if missing.
        quick: five values a scan and few trials.
        seed: of all random numbers.
        workers: threads; the number of processors unless given.
        scheduler: address of a Dask scheduler, or "local"; threads of this process unless given.
        progress: receiver of progress.
        command: command line to record.

    Raises:
        DataError: when AVILA is missing; its message says where to get it.
        StudyError: when the folder cannot be used, or a whole scan failed.
        KeyboardInterrupt: on Ctrl-C, after stopping what runs.
    """
    progress = progress or StudyProgress()
    began = time.time()
    progress.stage("published: loading AVILA")
    dataset = avila()
    store = Store(folder, seed)
    progress.stage("published: runs of the public code")
    values, trials = (QUICK_VALUES, QUICK_TRIALS) if quick else (VALUES, TRIALS)
    scans = {
        (optimiser, quantity): scan(optimiser, quantity, values, trials[optimiser])
        for optimiser, quantity in product(get_args(Optimiser), QUANTITIES)
    }
    varied = list(variations(quick))
    cells = [cell for points in scans.values() for cell in points]
    cells += [one.experiment for one in varied]
    # Long cells first: the workers then finish together.
    cells.sort(key=_work, reverse=True)
    done = store.complete(cells, compute, workers=workers, scheduler=scheduler, progress=progress)
    samples = {
        cell: sample_from_json(result) for cell, result in zip(cells, done, strict=True) if result
    }
    progress.stage("published: the reparametrisation identity")
    result = PublishedResult(
        quick=quick,
        seed=seed,
        scans=tuple(
            Scan(
                optimiser,
                quantity,
                tuple(to_point(cell, samples[cell]) for cell in points if cell in samples),
            )
            for (optimiser, quantity), points in scans.items()
        ),
        variations=tuple(
            VariedPoint(one.name, one.reads, to_point(one.experiment, samples[one.experiment]))
            for one in varied
            if one.experiment in samples
        ),
        reparametrisations=tuple(
            check_reparametrisation(
                dataset, replace(BASE["sgd"], trials=4 if quick else 20), factor, seed
            )
            for factor in FACTORS
        ),
        failed=tuple(str(cell) for cell in cells if cell not in samples),
        command=command,
        seconds=round(time.time() - began, 1),
    )
    if any(len(one.points) < 2 for one in result.scans):
        raise StudyError(f"a scan has fewer than two points; failed: {'; '.join(result.failed)}")
    write_json(Path(folder) / "published.json", result.to_json())
    return result


def compute(experiment: Experiment, key: int, cancelled: threading.Event) -> dict[str, Any]:
    """Run the trials of one experiment; the outcome as `sample_to_json` has it.

    Raises:
        DataError: when AVILA is missing.
        KeyboardInterrupt: soon after `cancelled` is set.
    """
    return sample_to_json(measure(_dataset(), experiment, key, cancelled))


def measure(
    dataset: Dataset,
    experiment: Experiment,
    key: int = 0,
    cancelled: threading.Event | None = None,
) -> ExitSample:
    """Exit times, in steps, of the public experiment on a data set.

    A run whose distance is no number, which the public loop counts as an exit, is marked as
    diverged. The exit points, all weights of the network, are not kept.

    Args:
        dataset: inputs and labels.
        experiment: what to run.
        key: of the random numbers; trial i depends on it and on i alone.
        cancelled: looked at between trials.

    Raises:
        KeyboardInterrupt: soon after `cancelled` is set.
    """
    began = time.perf_counter()
    outcomes = []
    for trial in range(experiment.trials):
        if cancelled is not None and cancelled.is_set():
            raise KeyboardInterrupt
        outcomes.append(run(experiment, dataset, draw(experiment, dataset, key, trial)))
    distances = np.array([outcome.distance for outcome in outcomes])
    return ExitSample(
        times=np.array([outcome.steps for outcome in outcomes]),
        censored=distances < np.float32(experiment.radius),
        diverged=~np.isfinite(distances),
        exit_points=np.empty((experiment.trials, 0)),
        start=np.empty(0),
        max_steps=experiment.max_steps,
        seconds=time.perf_counter() - began,
        precision="float32",
        engine="the public experiment's loop",
        key=str(key),
    )


def check_reparametrisation(
    dataset: Dataset, experiment: Experiment, factor: float, key: int = 0
) -> Reparametrisation:
    """Run both sides of N(eta, k, r) = N(k eta, 1, sqrt(k) r) with the same random numbers."""
    scaled = replace(experiment, sharpness=factor)
    plain = replace(
        experiment,
        learning_rate=factor * experiment.learning_rate,
        radius=float(np.sqrt(factor)) * experiment.radius,
    )
    sides = [measure(dataset, side, key).times.tolist() for side in (scaled, plain)]
    return Reparametrisation(factor, tuple(sides[0]), tuple(sides[1]))


def load_published(folder: Path | str) -> PublishedResult:
    """The result saved in a folder.

    Raises:
        StudyError: when there is none, or its file is damaged.
    """
    return PublishedResult.from_json(read_json(Path(folder) / "published.json"))


@functools.cache
def _dataset() -> Dataset:
    return avila()


def _work(experiment: Experiment) -> float:
    """Rough cost of a cell, in milliseconds of one processor."""
    steps = experiment.max_steps if experiment.gradients == "zeroed" else 30
    step = 12.0 if experiment.optimiser == "sgld" else 0.12 * experiment.batch_size
    return experiment.trials * steps * step
