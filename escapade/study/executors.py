"""Where cells are computed: threads of this process, or an existing Dask cluster."""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from escapade.errors import StudyError
from escapade.study.cell import Cell
from escapade.study.compute import compute_cell, compute_remotely, without_text
from escapade.study.problem import Problem
from escapade.study.results import CellResult

Outcome = tuple[Cell, CellResult | Exception]


def in_threads(
    problem: Problem, cells: Sequence[Cell], workers: int
) -> Generator[Outcome, None, None]:
    """Compute cells in threads, as they finish; the compiled loops run outside Python's lock.

    Closing the generator early (Ctrl-C included) cancels what is waiting and stops what runs.
    """
    cancelled = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="escapade")
    futures = {pool.submit(compute_cell, problem, cell, cancelled): cell for cell in cells}
    try:
        for future in as_completed(futures):
            yield futures[future], _outcome(future)
    finally:
        cancelled.set()
        pool.shutdown(wait=True, cancel_futures=True)


def on_dask(
    problem: Problem, cells: Sequence[Cell], scheduler: str
) -> Generator[Outcome, None, None]:
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
    specification = without_text(problem.specification)
    with client:
        # Pure functions of the cell: the seed and the identity decide every random number.
        futures = {
            client.submit(
                compute_remotely, specification, problem.theta.tobytes(), cell, pure=False
            ): cell
            for cell in cells
        }
        try:
            for future in dask_as_completed(list(futures), loop=client.loop):
                failure = future.exception()
                yield futures[future], future.result() if failure is None else failure
        finally:
            client.cancel(list(futures))


def _outcome(future: "Future[CellResult]") -> CellResult | Exception:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, Exception):
        return error
    raise error
