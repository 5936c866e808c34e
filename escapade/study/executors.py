"""Where cells of any kind are computed: threads of this process, or an existing Dask cluster."""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import TypeVar

from threadpoolctl import threadpool_limits

from escapade.errors import InvalidArgument, StudyError
from escapade.study.progress import StudyProgress

AnyCell = TypeVar("AnyCell")
AnyResult = TypeVar("AnyResult")

Compute = Callable[[AnyCell, threading.Event], AnyResult]
"""From a cell and an event to its result.

Once the event is set the result is not wanted any more: look now and then, and raise
KeyboardInterrupt. To be sent to a Dask cluster it must be a function of a module, or a
`functools.partial` of one.
"""

Outcomes = Generator[tuple[AnyCell, AnyResult | Exception], None, None]
"""Cells as they finish, with their result or why they failed."""


def thread_count(workers: int | None) -> int:
    """Threads that were asked for; the number of processors unless given.

    Raises:
        InvalidArgument: when it is not positive.
    """
    if workers is not None and workers < 1:
        raise InvalidArgument(f"workers is {workers}; give at least 1")
    return workers or os.cpu_count() or 1


def compute_and_save(
    outcomes: Outcomes[AnyCell, AnyResult],
    save: Callable[[AnyCell, AnyResult], None],
    progress: StudyProgress,
) -> list[tuple[AnyCell, Exception]]:
    """Save each result at once, and go on past cells that fail.

    Args:
        outcomes: of `in_threads` or `on_dask`.
        save: puts a result where it is kept; an error of its own ends the work.
        progress: told of each cell, after it was saved.

    Returns:
        The cells that failed, and why.
    """
    failures: list[tuple[AnyCell, Exception]] = []
    # An exception here must stop the workers now, not when its traceback is forgotten. Cells run
    # side by side: linear algebra with threads of its own would take four times as long.
    with closing(outcomes), threadpool_limits(1):
        for cell, outcome in outcomes:
            if isinstance(outcome, Exception):
                failures.append((cell, outcome))
                progress.cell_failed(cell, outcome)
                continue
            save(cell, outcome)
            progress.cell_done(cell)
    return failures


def in_threads(
    compute: Compute[AnyCell, AnyResult], cells: Sequence[AnyCell], workers: int
) -> Outcomes[AnyCell, AnyResult]:
    """Compute cells in threads, as they finish; the compiled loops run outside Python's lock.

    Closing the generator early (Ctrl-C included) cancels what is waiting and stops what runs.
    """
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="escapade")
    try:
        # Submitting starts threads already: Ctrl-C must find them here too.
        futures = {pool.submit(compute, cell, cancelled): cell for cell in cells}
        for future in as_completed(futures):
            failure = future.exception()
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            yield futures[future], future.result() if failure is None else failure
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def on_dask(
    compute: Compute[AnyCell, AnyResult], cells: Sequence[AnyCell], scheduler: str
) -> Outcomes[AnyCell, AnyResult]:
    """Compute cells on a Dask cluster, given the address of its scheduler ("local" starts one).

    Raises:
        StudyError: when Dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client
        from distributed import as_completed as dask_as_completed
    except ImportError as error:
        raise StudyError(
            "running on Dask needs it installed: pip install 'escapade[dask]'"
        ) from error
    try:
        # Were it the default client, xarray would ask the cluster for a lock to write each file.
        client = Client(
            None if scheduler == "local" else scheduler, timeout="20s", set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise StudyError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error
    with client:
        # Pure functions of the cell: the seed and the identity decide every random number.
        futures = {client.submit(_undisturbed, compute, cell, pure=False): cell for cell in cells}
        try:
            for future in dask_as_completed(list(futures), loop=client.loop):
                failure = future.exception()
                yield futures[future], future.result() if failure is None else failure
        finally:
            client.cancel(list(futures))


def _undisturbed(compute: Compute[AnyCell, AnyResult], cell: AnyCell) -> AnyResult:
    """Compute a cell on another machine, where an event of this one cannot be sent."""
    return compute(cell, threading.Event())
