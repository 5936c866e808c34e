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
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from escapade.errors import InvalidArgument, StudyError
from escapade.study.progress import StudyProgress

Compute = Callable[[Any, int, threading.Event], Any]
"""From a cell, its random key and an event to a result that JSON can hold.

Once the event is set the result is not wanted any more: look now and then, and raise
KeyboardInterrupt. To be sent to a Dask cluster it must be a function of a module, or a
`functools.partial` of one.
"""

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
        try:
            (self.folder / "cells").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise StudyError(
                f"output folder {self.folder} cannot be written ({error.strerror}); give another "
                "with --out"
            ) from error

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
        if workers is not None and workers < 1:
            raise InvalidArgument(f"workers is {workers}; give at least 1")
        progress = progress or StudyProgress()
        results = {cell: self.load(cell) for cell in cells}
        missing = [cell for cell, result in results.items() if result is None]
        progress.planned(list(results), [cell for cell in results if results[cell] is not None])
        timed = functools.partial(_timed, compute)
        keyed = [(cell, self.key(cell)) for cell in missing]
        if scheduler is None:
            outcomes = _in_threads(timed, keyed, workers or os.cpu_count() or 1)
        else:
            outcomes = _on_dask(timed, keyed, scheduler)
        failures: list[tuple[Any, Exception]] = []
        # An exception here must stop the workers now, not when its traceback is forgotten. Cells
        # run side by side, so linear algebra is to use one thread for each.
        with closing(outcomes), threadpool_limits(1):
            for cell, outcome in outcomes:
                if isinstance(outcome, Exception):
                    failures.append((cell, outcome))
                    progress.cell_failed(cell, outcome)
                    continue
                result, seconds = outcome
                self.save(cell, result, seconds)
                # As read back from the file: the same whether it was computed now or before.
                results[cell] = self.load(cell)
                progress.cell_done(cell)
        if failures and len(failures) == len(results):
            cell, error = failures[0]
            raise StudyError(f"every cell failed; the first, {cell}: {error}") from error
        return [results[cell] for cell in cells]

    def _digest(self, cell: Any) -> str:
        text = json.dumps([type(cell).__name__, self.seed, _plain(cell)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write beside the final name, then rename: a reader never sees half a file.

    Raises:
        StudyError: when the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        partial.write_text(json.dumps(content, indent=1, default=_listed), "utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


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
    compute: Compute, cell: Any, key: int, cancelled: threading.Event | None = None
) -> tuple[Any, float]:
    began = time.perf_counter()
    return compute(cell, key, cancelled or threading.Event()), time.perf_counter() - began


_Timed = Callable[..., tuple[Any, float]]
_Outcomes = Generator[tuple[Any, tuple[Any, float] | Exception], None, None]


def _in_threads(compute: _Timed, keyed: Sequence[tuple[Any, int]], workers: int) -> _Outcomes:
    """Compute as they finish; closing the generator cancels what waits and stops what runs."""
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="escapade")
    try:
        futures = {pool.submit(compute, cell, key, cancelled): cell for cell, key in keyed}
        for future in as_completed(futures):
            yield futures[future], _outcome(future)
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(future: "Future[tuple[Any, float]]") -> tuple[Any, float] | Exception:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, Exception):
        return error
    raise error


def _on_dask(compute: _Timed, keyed: Sequence[tuple[Any, int]], scheduler: str) -> _Outcomes:
    try:
        from distributed import Client
        from distributed import as_completed as dask_as_completed
    except ImportError as error:
        raise StudyError(
            "running on Dask needs it installed: pip install 'escapade[dask]'"
        ) from error
    try:
        address = None if scheduler == "local" else scheduler
        client = Client(address, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise StudyError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    with client:
        futures = {client.submit(compute, cell, key, pure=False): cell for cell, key in keyed}
        try:
            for future in dask_as_completed(list(futures), loop=client.loop):
                failure = future.exception()
                yield futures[future], future.result() if failure is None else failure
        finally:
            client.cancel(list(futures))
