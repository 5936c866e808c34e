"""A folder of finished cells: the unit of work, of saving and of going on after an interruption.

A *cell* is any frozen dataclass of plain values that says everything its result depends on, but for
the seed. Its file is named after the two, and so is its random key: who computes it, in which order
and beside which others changes nothing.

    cells/<identity>.json    one finished cell: cell, seed, key, result, versions, date, seconds
"""

import functools
import hashlib
import importlib.metadata
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from escapade.errors import StudyError
from escapade.study.executors import compute_and_save, in_threads, on_dask, thread_count
from escapade.study.folder import require_writable, write_whole
from escapade.study.progress import StudyProgress

Compute = Callable[[Any, int, threading.Event], Any]
"""From a cell, its random key and an event (see `executors.Compute`) to a result for JSON."""

_LIBRARIES = ("escapade", "jax", "numpy")


class Store:
    """Cells of one experiment, computed once and kept."""

    def __init__(self, folder: Path | str, seed: int = 0):
        """Open or create a folder.

        Args:
            folder: results folder.
            seed: of every random key.

        Raises:
            StudyError: when the folder cannot be created or written.
        """
        self.folder, self.seed = Path(folder), seed
        require_writable(self.folder, "cells")

    def key(self, cell: Any) -> int:
        """Random key of a cell, a function of the seed and the cell alone."""
        return int(self._digest(cell)[:16], 16)

    def path(self, cell: Any) -> Path:
        """File of a cell, finished or not."""
        return self.folder / "cells" / f"{self._digest(cell)[-12:]}.json"

    def load(self, cell: Any) -> Any | None:
        """The result of a finished cell, or None; a damaged file counts as unfinished."""
        try:
            content = json.loads(self.path(cell).read_text("utf-8"))
            described = content["cell"] == _plain(cell) and content["seed"] == self.seed
            return content["result"] if described else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, cell: Any, result: Any, seconds: float = 0.0) -> None:
        """Write a finished cell, atomically.

        Raises:
            StudyError: when the file cannot be written.
        """
        content = {
            "cell": _plain(cell),
            "seed": self.seed,
            "key": self.key(cell),
            "result": result,
            "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seconds": round(seconds, 3),
        }
        write_json(self.path(cell), content)

    def complete(
        self,
        cells: Sequence[Any],
        compute: Compute,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        progress: StudyProgress | None = None,
    ) -> list[Any | None]:
        """Compute the cells that have no file yet, saving each at once.

        Args:
            cells: what is wanted; work begins in this order.
            compute: gives the result of one cell.
            workers: threads; the number of processors unless given.
            scheduler: address of a Dask scheduler, or "local"; threads of this process unless
                given.
            progress: receiver of progress.

        Returns:
            The results in the order of `cells`, None where a cell failed (it was reported to
            `progress`, and is tried again by the next call).

        Raises:
            InvalidArgument: when `workers` is not positive.
            StudyError: when every cell failed, a file cannot be written or Dask does not answer.
            KeyboardInterrupt: on Ctrl-C, after stopping the cells that run.
        """
        threads = thread_count(workers)
        progress = progress or StudyProgress()
        results = {cell: self.load(cell) for cell in cells}
        missing = [cell for cell, result in results.items() if result is None]
        progress.planned(list(results), [cell for cell in results if results[cell] is not None])
        timed = functools.partial(_timed, compute, self.key)
        if scheduler is None:
            outcomes = in_threads(timed, missing, threads)
        else:
            outcomes = on_dask(timed, missing, scheduler)

        def keep(cell: Any, outcome: tuple[Any, float]) -> None:
            self.save(cell, *outcome)
            # As read back from the file: the same whether it was computed now or before.
            results[cell] = self.load(cell)

        failures = compute_and_save(outcomes, keep, progress)
        if failures and len(failures) == len(results):
            cell, error = failures[0]
            raise StudyError(f"every cell failed; the first, {cell}: {error}") from error
        return [results[cell] for cell in cells]

    def _digest(self, cell: Any) -> str:
        text = json.dumps([type(cell).__name__, self.seed, _plain(cell)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write a file that is whole or not there.

    Raises:
        StudyError: when the file cannot be written.
    """
    text = json.dumps(content, indent=1, default=_listed)
    write_whole(path, lambda target: target.write_text(text, "utf-8"))


def read_json(path: Path) -> Any:
    """Content of a result file.

    Raises:
        StudyError: when there is none, or it is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{path} does not exist; run `escapade reproduce` first") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} is damaged ({error}); reproduce it again") from error


def _plain(cell: Any) -> Any:
    """A cell as JSON gives it back: tuples are lists, keys are text."""
    return json.loads(json.dumps({"kind": type(cell).__name__, **asdict(cell)}))


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _timed(
    compute: Compute, key: Callable[[Any], int], cell: Any, cancelled: threading.Event
) -> tuple[Any, float]:
    began = time.perf_counter()
    return compute(cell, key(cell), cancelled), time.perf_counter() - began
