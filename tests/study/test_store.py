"""The results folder: what is written is what is read, whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from escapade.errors import StudyError
from escapade.landscape import DoubleWell
from escapade.study import Cell
from escapade.study.compute import compute_cell
from escapade.study.problem import Problem
from escapade.study.results import InstantonSummary
from escapade.study.store import Store


@pytest.fixture(scope="module")
def results(well):
    """A result with a prediction, and one without and without exits."""
    problem = Problem(well(), DoubleWell(), np.array([-1.0]))
    predicted = compute_cell(problem, problem.plan(quick=False)[0])
    silent = compute_cell(problem, Cell("gaussian", 1.5, 400, 1.0, "slab", 0.99, 8, 1))
    assert predicted.prediction is not None
    assert silent.prediction is None
    assert silent.sample.exits == 0
    return predicted, silent


@pytest.mark.parametrize("which", [0, 1])
def test_a_cell_comes_back_as_it_was(tmp_path, results, which, same):
    result = results[which]
    Store(tmp_path).save_cell(result)
    loaded = Store(tmp_path).load_cell(result.cell)
    assert loaded.cell.identity == result.cell.identity
    # Exit points are kept in single precision, that of the simulation.
    points = loaded.sample.exit_points
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, result.sample.exit_points.astype(np.float32))
    samples = [{**vars(one.sample), "exit_points": None} for one in (loaded, result)]
    for name in ("times", "censored", "diverged", "start", "max_steps", "seconds", "key"):
        np.testing.assert_array_equal(*(sample[name] for sample in samples))
    same(replace(loaded, sample=result.sample), result)


def test_a_rare_exit_comes_back_as_it_was(tmp_path, rare, same):
    Store(tmp_path).save_cell(rare)
    loaded = Store(tmp_path).load_cell(rare.cell)
    assert loaded.sample is None
    for name in ("rates", "fluxes", "probabilities", "exit_weights", "threshold", "burn_in",
                 "steps_used", "relaxation_time", "method", "seconds", "interval"):  # fmt: skip
        np.testing.assert_array_equal(getattr(loaded.rare, name), getattr(rare.rare, name))
    same(replace(loaded, rare=rare.rare), rare)


def test_a_cell_file_explains_itself(tmp_path, results):
    Store(tmp_path).save_cell(results[0])
    path = tmp_path / "cells" / f"{results[0].cell.identity}.nc"
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset["times"].attrs["units"] == "SGD steps"
        assert dataset.attrs["mean_exit_time"] == pytest.approx(results[0].sample.mean)
        assert json.loads(dataset.attrs["escapade_cell"])["cell"]["dynamics"] == "gaussian"


def test_a_missing_cell_is_unfinished(tmp_path, results):
    assert Store(tmp_path).load_cell(results[0].cell) is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_cell_is_unfinished(tmp_path, results):
    store, cell = Store(tmp_path), results[0].cell
    store.save_cell(results[0])
    path = tmp_path / "cells" / f"{cell.identity}.nc"
    whole = path.read_bytes()
    for length in [0, 1, 8, *range(512, len(whole), 2500), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert store.load_cell(cell) is None, length
    path.write_text("no NetCDF")
    assert store.load_cell(cell) is None
    # One bit of an attribute's name: the checksum does not fit.
    damaged = bytearray(whole)
    damaged[whole.rindex(b"precision")] ^= 16
    path.write_bytes(damaged)
    assert store.load_cell(cell) is None
    path.write_bytes(whole)
    assert store.load_cell(cell) is not None


def test_a_cell_file_without_its_attributes_is_unfinished(tmp_path, results):
    store, cell = Store(tmp_path), results[0].cell
    path = tmp_path / "cells" / f"{cell.identity}.nc"
    xr.Dataset({"times": ("replica", [1, 2])}).to_netcdf(path, engine="h5netcdf")
    assert store.load_cell(cell) is None


def test_a_folder_belongs_to_one_study(tmp_path):
    Store(tmp_path).claim("one")
    Store(tmp_path).claim("one")
    assert Store(tmp_path).specification == "one"
    with pytest.raises(StudyError, match="holds the results of another study") as caught:
        Store(tmp_path).claim("other")
    assert str(tmp_path) in str(caught.value)
    assert Store(tmp_path).specification == "one"


def test_text_survives_whatever_its_language(tmp_path):
    text = "title = 'η λ < 2 ?'\n"
    Store(tmp_path).claim(text)
    assert Store(tmp_path).specification == text
    assert (tmp_path / "study.toml").read_bytes() == text.encode()


def impossible(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    return [file, file / "below", Path("/proc/escapade"), tmp_path / ("x" * 300)]


@pytest.mark.parametrize("which", range(4))
def test_a_folder_that_cannot_be_written_is_named(tmp_path, which):
    folder = impossible(tmp_path)[which]
    with pytest.raises(StudyError, match="cannot be written") as caught:
        Store(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "--out" in message
    assert "\n" not in message


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, results, monkeypatch):
    store = Store(tmp_path)
    store.save_cell(results[0])
    path = tmp_path / "cells" / f"{results[0].cell.identity}.nc"
    before = path.read_bytes()

    def fail(dataset, target, **_):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(StudyError, match="No space left on device") as caught:
        store.save_cell(results[0])
    assert str(path) in str(caught.value)

    def interrupt(dataset, target, **_):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.Dataset, "to_netcdf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save_cell(results[0])
    assert [entry.name for entry in (tmp_path / "cells").iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_minimum_is_to_be_found_again(network, tmp_path, same):
    store = Store(tmp_path)
    assert store.load_minimum() is None
    store.save_minimum(network[2].minimum, "here")
    same(store.load_minimum(), network[2].minimum)
    same(store.load_minimum("here"), network[2].minimum)
    with pytest.raises(StudyError, match="holds results for here, not for there"):
        store.load_minimum("there")
    path = tmp_path / "minimum.nc"
    path.write_bytes(path.read_bytes()[:3000])
    assert store.load_minimum() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_path_comes_back_as_it_was_or_not_at_all(tmp_path, same):
    store = Store(tmp_path)
    assert store.load_instanton() is None
    rng = np.random.default_rng(0)
    found = InstantonSummary(
        cell=Cell("minibatch", 0.1, 16, 1.0, "ball", 0.6, 8, 100),
        value=0.3400414033301534,
        error=1.7e-10,
        quadratic_value=float("nan"),
        times=np.linspace(-50, 0, 21),
        actions=np.sort(rng.random(21)),
        along=rng.standard_normal((21, 3)),
        method="sweeps, η < 1",
    )
    store.save_instanton(found)
    same(store.load_instanton(), found)
    path = tmp_path / "instanton.nc"
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset["times"].attrs["units"] == "steps"
        assert dataset.attrs["value"] == found.value
    whole = path.read_bytes()
    for length in [0, 8, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert store.load_instanton() is None, length
    xr.Dataset({"times": ("point", [1, 2])}).to_netcdf(path, engine="h5netcdf")
    assert store.load_instanton() is None
    store.save_instanton(found)
    same(store.load_instanton(), found)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["instanton.nc"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": [{"speed": 3}]}'])
def test_a_damaged_header_is_named(tmp_path, text):
    path = tmp_path / "study.json"
    with pytest.raises(StudyError, match=f"{tmp_path} holds no study"):
        Store(tmp_path).load_header()
    path.write_text(text)
    with pytest.raises(StudyError, match=f"{path} is damaged"):
        Store(tmp_path).load_header()
