"""Two tiny studies: a network, trained once for all tests, and a double well."""

import dataclasses
import functools
import shutil
import time

import numpy as np
import pytest

from escapade.landscape import DoubleWell
from escapade.study import Cell, Specification, StudyProgress, run, run_study
from escapade.study.compute import compute_cell
from escapade.study.problem import Problem
from escapade.study.specification import Grid, LandscapeSpecification

NETWORK = """
name = "tiny"
title = "Tiny?"
description = "Two\\nlines."
seed = 3
[landscape]
data = "breast_cancer"
preprocessing = "paper"
widths = [2]
[training]
steps = 200
[[grid]]
dynamics = ["minibatch"]
region = ["slab"]
stiffness = [0.2]
batch_size = [16]
barrier = [1.0, 1.5]
replicas = 32
max_steps = 2000
"""


class Witness(StudyProgress):
    """Remembers what it was told, and the number of cell files at that moment."""

    def __init__(self, folder, stop_after=None):
        self.folder, self.stop_after = folder, stop_after
        self.stages, self.plan, self.found, self.done, self.failed = [], None, None, [], []
        self.files = []
        self.stopped = None

    def stage(self, message):
        self.stages.append(message)

    def planned(self, cells, finished):
        self.plan, self.found = list(cells), list(finished)

    def cell_done(self, cell):
        self.done.append(cell)
        self.files.append((self.folder / "cells" / f"{cell.identity}.nc").is_file())
        if len(self.done) == self.stop_after:
            self.stopped = time.perf_counter()
            raise KeyboardInterrupt

    def cell_failed(self, cell, error):
        self.failed.append((cell, error))


@pytest.fixture(scope="session")
def witness():
    """The class of progress receivers that remember."""
    return Witness


@pytest.fixture(scope="session")
def content():
    """Everything a result says, as nested dictionaries, except how long it took and when."""

    def strip(thing):
        if dataclasses.is_dataclass(thing):
            names = [field.name for field in dataclasses.fields(thing)]
            return strip({name: getattr(thing, name) for name in names})
        if isinstance(thing, dict):
            transient = ("seconds", "date")
            return {name: strip(value) for name, value in thing.items() if name not in transient}
        if isinstance(thing, tuple | list):
            return [strip(value) for value in thing]
        return thing

    return strip


@pytest.fixture(scope="session")
def same(content):
    """Assert that two results say the same, to the last bit."""
    return lambda one, other: np.testing.assert_equal(content(one), content(other))


@pytest.fixture(scope="session", autouse=True)
def landscapes_built_once():
    """Equal specifications share one landscape: each new one is compiled anew, for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "build_landscape", functools.cache(run.build_landscape))
        yield


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The finished network study: its file, folder, result and what its progress was told."""
    folder = tmp_path_factory.mktemp("network")
    file = folder / "tiny.toml"
    file.write_text(NETWORK)
    told = Witness(folder / "results")
    result = run_study(file, folder / "results", workers=1, progress=told, command="the command")
    return file, folder / "results", result, told


@pytest.fixture
def unfinished(network, tmp_path):
    """A folder in which the network study has its minimum, but no cell."""
    for name in ("study.toml", "minimum.nc"):
        shutil.copy(network[1] / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def well():
    """Specifications of studies of the double well: entries of the grid in, specification out."""

    def build(build=DoubleWell, **entries):
        defaults = {"dynamics": ("gaussian",), "learning_rate": (0.05,), "batch_size": (4,)}
        if "size" not in entries:
            defaults["barrier"] = (1.0, 1.5, 2.0, 2.5)
        grid = Grid(**{**defaults, "replicas": 32, **entries})
        landscape = LandscapeSpecification(build=build)
        return Specification("well", "Well?", landscape=landscape, grid=(grid,), text="well")

    return build


@pytest.fixture(scope="session")
def rare():
    """A splitting of the double well, as a cell's result."""
    problem = Problem(Specification("well", "Well?"), DoubleWell(), np.array([-1.0]))
    cell = Cell("gaussian", 0.05, 4, 1.0, "half_space", 0.85, 64, 10_000, runs=4, burn_in=100)
    return compute_cell(problem, cell)
