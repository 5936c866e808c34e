"""Where cells are computed: whatever ends the work early, nobody goes on in the background."""

import os
import threading

import pytest

from escapade.errors import InvalidArgument
from escapade.study import StudyProgress
from escapade.study.executors import compute_and_save, in_threads, thread_count


def nobody_works():
    return not [thread for thread in threading.enumerate() if "escapade" in thread.name]


def root(cell, cancelled):
    if cell < 0:
        raise ValueError("negative")
    return cell**0.5


def until_cancelled(cell, cancelled):
    if not cancelled.wait(60):
        raise AssertionError("nobody told this cell to stop")
    raise KeyboardInterrupt


def test_cells_come_with_their_results_or_why_there_is_none():
    outcomes = dict(in_threads(root, [4, -1, 9], 2))
    assert (outcomes[4], outcomes[9]) == (2, 3)
    assert isinstance(outcomes[-1], ValueError)
    assert nobody_works()


def test_an_interruption_while_cells_are_submitted_stops_those_that_run():
    def cells():
        yield 1
        yield 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(in_threads(until_cancelled, cells(), 1))
    assert nobody_works()


def test_an_interruption_in_a_cell_is_no_failure_of_the_cell():
    def interrupted(cell, cancelled):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(interrupted, [1, 2, 3], 2))
    assert nobody_works()


def test_what_cannot_be_saved_ends_the_work():
    def some(cell, cancelled):
        return cell if cell == 1 else until_cancelled(cell, cancelled)

    def save(cell, result):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as held:
        compute_and_save(in_threads(some, [1, 2, 3], 2), save, StudyProgress())
    # The exception is still held here, with its traceback.
    assert held is not None
    assert nobody_works()


def test_failures_are_told_apart_from_what_is_kept():
    kept = {}
    failures = compute_and_save(
        in_threads(root, [4, -1, 9], 1), kept.__setitem__, StudyProgress()
    )  # fmt: skip
    assert kept == {4: 2, 9: 3}
    ((cell, error),) = failures
    assert (cell, str(error)) == (-1, "negative")


def test_threads_are_counted_from_one():
    assert thread_count(3) == 3
    assert thread_count(None) == os.cpu_count()
    with pytest.raises(InvalidArgument, match="workers is 0; give at least 1"):
        thread_count(0)
