"""The store of cells: what is saved is what is read; interrupted work loses nothing finished."""

import json
import os
import signal
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

from escapade.errors import InvalidArgument, StudyError
from escapade.reproduction.store import Store, read_json, write_json
from escapade.study.progress import StudyProgress


@dataclass(frozen=True)
class Dice:
    sides: int
    throws: int = 3
    name: tuple[str, ...] = ("fair",)


@dataclass(frozen=True)
class Coin:
    sides: int
    throws: int = 3
    name: tuple[str, ...] = ("fair",)


CELLS = [Dice(4), Dice(6), Dice(8), Dice(20)]


def throw(cell, key, cancelled):
    random = np.random.default_rng(key)
    return {"faces": random.integers(1, cell.sides + 1, cell.throws), "mean": np.float64(0.5)}


class Witness(StudyProgress):
    def __init__(self):
        self.plan, self.found, self.done, self.failed = [], [], [], []

    def planned(self, cells, finished):
        self.plan, self.found = list(cells), list(finished)

    def cell_done(self, cell):
        self.done.append(cell)

    def cell_failed(self, cell, error):
        self.failed.append((cell, error))


def test_results_come_in_the_order_asked_for_and_are_saved(tmp_path):
    told = Witness()
    results = Store(tmp_path).complete(CELLS, throw, workers=2, progress=told)
    assert all(max(one["faces"]) <= cell.sides for one, cell in zip(results, CELLS, strict=True))
    assert told.plan == CELLS
    assert told.found == []
    assert sorted(told.done, key=CELLS.index) == CELLS
    again = Witness()
    assert Store(tmp_path).complete(CELLS, never, progress=again) == results
    assert again.found == CELLS
    assert again.done == []


def never(cell, key, cancelled):
    raise AssertionError("computed a second time")


def test_a_cell_file_explains_itself(tmp_path):
    store = Store(tmp_path, seed=7)
    (result,) = store.complete([CELLS[1]], throw)
    content = json.loads(store.path(CELLS[1]).read_text())
    assert content["cell"] == {"kind": "Dice", "sides": 6, "throws": 3, "name": ["fair"]}
    assert content["seed"] == 7
    assert content["result"] == result
    assert set(content["versions"]) == {"escapade", "jax", "numpy"}
    # What the file says is enough to compute it again.
    assert throw(CELLS[1], content["key"], None)["faces"].tolist() == result["faces"]


def test_random_numbers_depend_on_seed_and_cell_alone(tmp_path):
    alone = Store(tmp_path / "alone").complete([CELLS[2]], throw)[0]
    among = Store(tmp_path / "among").complete(CELLS[::-1], throw, workers=3)[1]
    assert alone == among
    store = Store(tmp_path / "alone")
    keys = {
        store.key(CELLS[2]),
        store.key(replace(CELLS[2], throws=4)),
        store.key(Coin(8)),
        Store(tmp_path / "alone", seed=1).key(CELLS[2]),
    }
    assert len(keys) == 4
    assert store.load(CELLS[2]) == alone
    assert store.load(Coin(8)) is None
    assert Store(tmp_path / "alone", seed=1).load(CELLS[2]) is None


@pytest.mark.parametrize("damage", ["", '{"cell": ', '{"cell": 3}', "[]", "another"])
def test_a_damaged_file_is_unfinished(tmp_path, damage):
    store = Store(tmp_path)
    before = store.complete(CELLS, throw)
    path = store.path(CELLS[0])
    text = store.path(CELLS[1]).read_text() if damage == "another" else damage
    path.write_text(text)
    assert store.load(CELLS[0]) is None
    told = Witness()
    assert store.complete(CELLS, throw, progress=told) == before
    assert told.done == [CELLS[0]]


def test_a_failure_is_reported_and_the_others_go_on(tmp_path):
    def odd(cell, key, cancelled):
        if cell.sides == 6:
            raise ValueError("loaded")
        return throw(cell, key, cancelled)

    told = Witness()
    results = Store(tmp_path).complete(CELLS, odd, progress=told)
    assert [one is None for one in results] == [False, True, False, False]
    ((cell, error),) = told.failed
    assert (cell, str(error)) == (CELLS[1], "loaded")
    assert Store(tmp_path).complete(CELLS, throw)[1] is not None
    with pytest.raises(StudyError, match=r"every cell failed.*Dice.*loaded"):
        Store(tmp_path / "other").complete([CELLS[1]], odd)


@pytest.fixture
def ctrl_c():
    """Ctrl-C is heard even where the parent ignores it, as it does for jobs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_what_runs_and_keeps_what_is_finished(tmp_path):
    stopped = []

    def patient(cell, key, cancelled):
        if cell.sides == 4:
            return throw(cell, key, cancelled)
        if cell.sides == 6:
            os.kill(os.getpid(), signal.SIGINT)
        if not cancelled.wait(20):
            raise AssertionError("nobody told this cell to stop")
        stopped.append(cell)
        raise KeyboardInterrupt

    told = Witness()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).complete(CELLS, patient, workers=2, progress=told)
    assert time.monotonic() - began < 10
    # A thread that was interrupted while it began cannot be joined, so each is only looked at.
    while any(one.name.startswith("escapade") and one.is_alive() for one in threading.enumerate()):
        assert time.monotonic() - began < 20
        time.sleep(0.01)
    assert stopped
    assert told.failed == []
    again = Witness()
    results = Store(tmp_path).complete(CELLS, throw, progress=again)
    assert again.found == told.done
    assert results == Store(tmp_path / "undisturbed").complete(CELLS, throw)
    assert not list(tmp_path.rglob("*.partial"))


def test_bad_arguments_and_folders(tmp_path):
    with pytest.raises(InvalidArgument, match="workers is 0"):
        Store(tmp_path).complete(CELLS, throw, workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"cannot be written.*--out"):
        Store(tmp_path / "file")


def test_results_files(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(StudyError, match="does not exist"):
        read_json(path)
    write_json(path, {"array": np.arange(3), "infinite": float("inf")})
    assert read_json(path) == {"array": [0, 1, 2], "infinite": float("inf")}
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        write_json(path, {"set": {1}})
    assert read_json(path)["array"] == [0, 1, 2]
    path.write_text("{")
    with pytest.raises(StudyError, match="damaged"):
        read_json(path)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(tmp_path):
    results = Store(tmp_path / "dask").complete(CELLS, throw, scheduler="local")
    assert results == Store(tmp_path / "threads").complete(CELLS, throw)
