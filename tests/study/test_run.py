"""Running a study: what is written and when, interruptions, resuming, and who computes."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from escapade.data import load
from escapade.errors import InvalidArgument, StudyError
from escapade.landscape import Empirical
from escapade.report import write_report
from escapade.study import load_specification, load_study, run_study
from escapade.study.specification import LandscapeSpecification, TrainingSpecification

BOWL = LandscapeSpecification(function="quadratic", eigenvalues=(2.0,))
"""Predicted at once, where the double well takes seconds."""


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def nobody_works():
    return not [thread for thread in threading.enumerate() if "escapade" in thread.name]


# A whole study


def test_a_study_writes_the_files_the_store_promises(network):
    file, folder, result, told = network
    cells = [f"cells/{cell.cell.identity}.nc" for cell in result.cells]
    assert files(folder) == sorted(
        [*cells, "instanton.nc", "minimum.nc", "study.json", "study.toml"]
    )
    assert (folder / "study.toml").read_text() == file.read_text() == result.specification
    assert told.stages == [
        *("loading the landscape", "finding the minimum"),
        "planning the cells",
        "finding the easiest path out",
    ]
    assert told.found == []
    assert sorted(map(str, told.done)) == sorted(map(str, told.plan))
    assert told.plan == [cell.cell for cell in result.cells]
    # Each cell was on disk when it was reported.
    assert told.files == [True, True]
    assert not told.failed


def test_a_study_says_where_it_comes_from(network):
    _, folder, result, _ = network
    assert (result.name, result.title, result.seed) == ("tiny", "Tiny?", 3)
    assert result.description == "Two lines."
    assert result.quick is False
    assert result.command == "the command"
    assert result.planned == 2
    provenance = result.provenance
    assert set(provenance["versions"]) >= {"escapade", "jax", "numpy", "scipy"}
    for name, version in provenance["versions"].items():
        assert re.match(r"\d+\.\d+", version), name
    assert provenance["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "processors" in provenance["processor"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", provenance["date"])
    assert provenance["seconds"] > 0
    header = json.loads((folder / "study.json").read_text())
    assert len(header["cells"]) == 2


def test_the_minimum_is_one_and_is_described(network):
    minimum = network[2].minimum
    dim = 30 * 2 + 2 * 2
    assert minimum.theta.shape == minimum.eigenvalues.shape == (dim,)
    assert minimum.gradient_norm < 1e-9
    assert minimum.flat_directions == 0
    assert (np.diff(minimum.eigenvalues) <= 0).all()
    assert minimum.eigenvalues[-1] > 0
    assert minimum.noise_along.sum() == pytest.approx(minimum.noise_eigenvalues.sum())
    assert 1 <= minimum.effective_dimension <= dim
    assert minimum.examples == 569
    assert minimum.description == (
        "mlp (2 hidden, tanh) on breast cancer, 64 parameters, 569 examples, cross entropy with "
        "weight decay 0.001"
    )
    # Accuracy, recomputed by hand.
    data = load("breast_cancer", preprocessing="paper")
    first = minimum.theta[: 2 * 30].reshape(2, 30)
    second = minimum.theta[2 * 30 :].reshape(2, 2)
    guesses = (np.tanh(data.inputs @ first.T) @ second.T).argmax(axis=1)
    assert minimum.accuracy == pytest.approx((guesses == data.labels).mean(), abs=1e-12)
    assert minimum.accuracy > 0.8


def test_cells_measure_and_predict(network):
    for cell in network[2].cells:
        assert cell.sample.replicas == 32
        assert cell.sample.exits == 32
        # Every replica left the slab, and none before.
        assert cell.exit_shares.sum() == pytest.approx(1)
        assert cell.silence == ""
        deviation = cell.sample.mean / cell.prediction.mean - 1
        assert abs(deviation) < 4 / 32**0.5
        assert cell.exponential_law.theory == "exponential_law"


def test_the_easiest_path_leads_from_the_minimum_out_of_the_largest_region(network):
    result = network[2]
    found = result.instanton
    assert found.cell == max((cell.cell for cell in result.cells), key=lambda cell: cell.size)
    assert found.error < 1e-4
    assert found.actions[-1] == found.value
    assert (np.diff(found.actions) >= -1e-12 * found.value).all()
    assert found.times[-1] == 0
    assert found.along.shape == (len(found.times), result.minimum.theta.size)
    # The slab is across the sharpest direction, and its width is the distance to its faces.
    assert abs(found.along[-1, 0]) == pytest.approx(found.cell.size, rel=1e-6)
    assert np.linalg.norm(found.along[0]) < 0.1 * found.cell.size
    # In a slab this thin the loss is nearly quadratic.
    assert found.value == pytest.approx(found.quadratic_value, rel=0.1)
    barrier = found.quadratic_value * found.cell.batch_size / found.cell.learning_rate
    assert barrier == pytest.approx(1.5, rel=1e-6)


def test_loading_gives_what_running_returned(network, same):
    _, folder, result, _ = network
    loaded = load_study(folder)
    same(loaded, result)
    assert loaded.provenance == result.provenance
    same(load_study(str(folder)), result)


def test_running_again_computes_nothing(network, tmp_path, witness, same):
    file, folder, result, _ = network
    again = shutil.copytree(folder, tmp_path / "again")
    written = {name: (again / name).stat().st_mtime_ns for name in files(again)}
    told = witness(again)
    same(run_study(str(file), again, progress=told, command="the command"), result)
    assert told.found == told.plan
    assert (told.done, told.stages) == ([], ["loading the landscape", "planning the cells"])
    for name in ["minimum.nc", *(f"cells/{cell.identity}.nc" for cell in told.plan)]:
        assert (again / name).stat().st_mtime_ns == written[name]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_path_is_found_again(well, tmp_path, witness, same):
    specification = well(size=(0.3, 0.6), batch_size=(1,))
    first = run_study(specification, tmp_path, workers=1)
    # C is the Hessian of the minimum, 2: V is the rise of the loss to -0.4, and at first order in
    # the learning rate less by eta L'^2 / 4. The other end, and the quadratic theory, cost more.
    rise, slope = 0.4**4 / 4 - 0.4**2 / 2 + 0.25, 0.4 - 0.4**3
    found = first.instanton
    assert found.cell.size == 0.6
    assert found.value == pytest.approx(rise - 0.05 * slope**2 / 4, rel=1e-3)
    assert found.along[-1] == pytest.approx([0.6])
    assert found.quadratic_value == pytest.approx(0.36 * (2 - 0.05 * 2) / 2)
    path = tmp_path / "instanton.nc"
    path.write_bytes(path.read_bytes()[:3000])
    assert load_study(tmp_path).instanton is None
    told = witness(tmp_path)
    same(run_study(specification, tmp_path, workers=1, progress=told), first)
    assert told.done == []
    assert told.stages[-1] == "finding the easiest path out"


def test_a_study_without_a_path_says_why_and_goes_on(well, tmp_path, witness):
    inputs = np.random.default_rng(0).standard_normal((20, 2))
    specification = well(
        lambda: Empirical(lambda p, x: 0.5 * jnp.sum((p - x) ** 2), np.zeros(2), inputs),
        dynamics=("minibatch_shuffled_epochs",),
        size=(0.1,),
    )
    told = witness(tmp_path)
    result = run_study(specification, tmp_path, workers=1, progress=told)
    assert len(result.cells) == 1
    assert result.instanton is None
    assert told.stages[-1].startswith("no easiest path: steepness has no meaning for shuffled")


# Interruptions


def test_an_interrupted_study_goes_on_where_it_stopped(network, unfinished, witness, same):
    file, _, result, _ = network
    told = witness(unfinished, stop_after=1)
    with pytest.raises(KeyboardInterrupt) as held:
        run_study(file, unfinished, workers=1, progress=told)
    # The exception is still held here, with its traceback: nobody may go on in the background.
    assert held is not None
    assert nobody_works()
    (kept,) = (unfinished / "cells").iterdir()
    assert kept.stem == told.done[0].identity
    halfway = load_study(unfinished)
    assert [cell.cell for cell in halfway.cells] == told.done
    assert halfway.planned == 2
    assert not list(unfinished.rglob("*.partial"))
    told_then = witness(unfinished)
    then = run_study(file, unfinished, workers=1, progress=told_then, command="the command")
    assert told_then.found == told.done
    assert sorted(map(str, told_then.done)) == sorted(
        set(map(str, told.plan)) - {str(told.done[0])}
    )
    assert "finding the minimum" not in told_then.stages
    same(then, result)


def test_an_interruption_stops_cells_that_run(well, tmp_path, witness):
    # Two workers: while the first computes a cell of minutes, the second finishes short ones.
    # The short ones wait behind the long one, which is submitted first.
    specification = replace(
        well(size=(2.0, 0.1), max_steps=200_000_000, patience=1e300), landscape=BOWL
    )
    told = witness(tmp_path, stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        run_study(specification, tmp_path, workers=2, progress=told)
    assert time.perf_counter() - told.stopped < 20
    assert nobody_works()
    assert [cell.size for cell in told.done] == [0.1]
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_waiting_cells_are_dropped_on_interruption(well, tmp_path, witness):
    specification = well(barrier=tuple(np.linspace(1, 2, 9)))
    told = witness(tmp_path, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_study(specification, tmp_path, workers=1, progress=told)
    assert nobody_works()
    assert len(list((tmp_path / "cells").iterdir())) == 2


# Ctrl-C at a moment that does not depend on the load of the machine: one cell has been saved.
SCRIPT = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # even where the parent ignores it
from escapade.cli import main
from escapade.study.progress import ProgressBar
ProgressBar.cell_done = lambda bar, cell: os.kill(os.getpid(), signal.SIGINT)
main()
"""

MANY = """
[landscape]
function = "quadratic"
eigenvalues = [2.0, 1.0]
[[grid]]
dynamics = "gaussian"
learning_rate = 0.05
batch_size = [4, 5, 6, 7]
barrier = 3.0
replicas = 256
"""


def test_ctrl_c_keeps_what_is_finished(tmp_path, witness, same):
    file, folder = tmp_path / "many.toml", tmp_path / "out"
    file.write_text(MANY)
    arguments = ["study", str(file), "--out", str(folder), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "interrupted; finished cells are saved" in errors
    assert "Traceback" not in errors
    kept = {path.stem for path in folder.glob("cells/*")}
    assert len(kept) == 1
    assert not list(folder.rglob("*.partial"))
    assert not (folder / "report.html").exists()

    told = witness(folder)
    then = run_study(file, folder, workers=1, progress=told)
    assert {cell.identity for cell in told.found} == kept
    assert {cell.identity for cell in told.done} == {c.identity for c in told.plan} - kept
    fresh = run_study(file, tmp_path / "fresh", workers=1)
    same(then, fresh)


# Who computes


def test_results_do_not_depend_on_the_number_of_workers(network, unfinished, witness, same):
    file, _, result, _ = network
    told = witness(unfinished)
    same(run_study(file, unfinished, workers=2, progress=told, command="the command"), result)
    assert len(told.done) == 2


def test_results_do_not_depend_on_the_rest_of_the_study(well, tmp_path, same):
    all_four = run_study(well(), tmp_path / "all", workers=1)
    one = run_study(well(barrier=(2.0,)), tmp_path / "one", workers=1)
    (alone,) = one.cells
    (among,) = (cell for cell in all_four.cells if cell.cell == alone.cell)
    same(among, alone)


def test_the_seed_decides_the_exits(well, tmp_path):
    results = [
        run_study(replace(well(barrier=(2.0,)), seed=seed, text=str(seed)), tmp_path / str(seed))
        for seed in (0, 1)
    ]
    (one,), (other,) = (result.cells for result in results)
    assert one.cell == other.cell
    assert not np.array_equal(one.sample.times, other.sample.times)


def test_results_do_not_depend_on_the_machine_that_computes(well, tmp_path, witness, same):
    pytest.importorskip("distributed")
    told = witness(tmp_path / "dask")
    specification = replace(
        well(dynamics=("minibatch", "gaussian"), size=(0.15, 0.2)), landscape=BOWL
    )
    there = run_study(specification, tmp_path / "dask", scheduler="local", progress=told)
    assert told.files == [True, True]
    assert [cell.dynamics for cell, _ in told.failed] == ["minibatch", "minibatch"]
    assert "MinibatchSGD needs a loss over examples" in str(told.failed[0][1])
    here = run_study(specification, tmp_path / "threads", workers=1)
    same(there, here)


def test_an_address_without_scheduler_is_reported(network, unfinished):
    pytest.importorskip("distributed")
    with pytest.raises(StudyError, match="no Dask scheduler answers at 'nowhere://1'"):
        run_study(network[0], unfinished, scheduler="nowhere://1")
    # Nor does the client that failed stand in the way of the next run.
    assert len(run_study(network[0], unfinished, workers=1).cells) == 2


# Damage and failure


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_cell_is_computed_again(network, tmp_path, witness, same):
    file, folder, result, _ = network
    again = shutil.copytree(folder, tmp_path / "again")
    damaged = result.cells[1].cell
    path = again / "cells" / f"{damaged.identity}.nc"
    path.write_bytes(path.read_bytes()[:7000])
    same(replace(load_study(again), cells=()), replace(result, cells=()))
    assert [cell.cell for cell in load_study(again).cells] == [result.cells[0].cell]
    told = witness(again)
    same(run_study(file, again, workers=1, progress=told, command="the command"), result)
    assert told.done == [damaged]


def test_a_folder_of_another_study_is_left_alone(network, tmp_path):
    file, folder, _, _ = network
    again = shutil.copytree(folder, tmp_path / "again")
    other = tmp_path / "other.toml"
    other.write_text(file.read_text().replace("steps = 200", "steps = 201"))
    with pytest.raises(StudyError, match="holds the results of another study") as caught:
        run_study(other, again)
    assert str(again) in str(caught.value)
    assert files(again) == files(folder)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"training": TrainingSpecification(steps=3)}, {"landscape": None}],
    ids=str,
)
def test_a_specification_changed_in_python_is_another_study(well, tmp_path, change, same):
    # Its text has not changed, but its exits would have.
    specification = well(barrier=(1.0,))
    first = run_study(specification, tmp_path, workers=1)
    if "landscape" in change:
        change = {"landscape": replace(specification.landscape, weight_decay=0.1)}
    with pytest.raises(StudyError, match=f"{tmp_path} holds results for seed 0, "):
        run_study(replace(specification, **change), tmp_path)
    same(load_study(tmp_path), first)
    # Other cells of the same study are welcome.
    assert len(run_study(well(barrier=(1.0, 1.5)), tmp_path, workers=1).cells) == 2


def test_folders_of_older_versions_are_gone_on_with(network):
    # The line that they keep, as it was before landscapes could be analytic.
    _, folder, _, _ = network
    with xr.open_dataset(folder / "minimum.nc", engine="h5netcdf") as dataset:
        origin = dataset.attrs["escapade_origin"]
    assert origin == (
        "seed 3, LandscapeSpecification(data='breast_cancer', path=None, preprocessing='paper', "
        "examples=0, network='mlp', widths=(2,), activation='tanh', bias=False, "
        "weight_decay=0.001, loss='cross_entropy', build=None), "
        "TrainingSpecification(learning_rate=0.1, batch_size=32, steps=200)"
    )


def test_a_folder_that_cannot_be_written_is_named(well, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StudyError, match="cannot be written") as caught:
        run_study(well(), file / "results")
    assert str(file / "results") in str(caught.value)


def test_folders_without_a_study_are_named(tmp_path, network):
    with pytest.raises(StudyError, match=f"{tmp_path} holds no study"):
        load_study(tmp_path)
    with pytest.raises(StudyError, match="holds no study"):
        load_study(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "cells").exists()
    for name in ("study.json", "study.toml"):
        shutil.copy(network[1] / name, tmp_path)
    with pytest.raises(StudyError, match="holds no minimum yet"):
        load_study(tmp_path)


def test_a_failing_cell_does_not_stop_the_others(well, tmp_path, witness):
    specification = well(dynamics=("minibatch", "gaussian"), size=(0.15, 0.2))
    told = witness(tmp_path)
    result = run_study(specification, tmp_path, workers=1, progress=told)
    assert [cell.cell.dynamics for cell in result.cells] == ["gaussian", "gaussian"]
    assert result.planned == 4
    assert [cell.dynamics for cell, _ in told.failed] == ["minibatch", "minibatch"]
    for _, error in told.failed:
        assert "MinibatchSGD needs a loss over examples" in str(error)
        assert "DoubleWell" in str(error)
    # The next run tries again what failed, and only that.
    again = witness(tmp_path)
    run_study(specification, tmp_path, workers=1, progress=again)
    assert len(again.found) == 2
    assert again.done == []
    assert len(again.failed) == 2


def test_a_study_in_which_every_cell_fails_says_why(well, tmp_path):
    specification = well(dynamics=("minibatch",), size=(0.15, 0.2))
    with pytest.raises(StudyError, match=r"every cell failed; the first, minibatch.*loss over"):
        run_study(specification, tmp_path, workers=1)


def test_a_failed_write_stops_the_study(well, tmp_path):
    specification = well(barrier=(1.0, 1.5))
    (tmp_path / "cells").mkdir()
    first = run_study(specification, tmp_path / "elsewhere", workers=1).cells[0].cell
    # A folder where the cell's file should go.
    (tmp_path / "cells" / f"{first.identity}.nc").mkdir()
    with pytest.raises(StudyError, match=f"cannot write .*{first.identity}.nc"):
        run_study(specification, tmp_path, workers=1)
    assert nobody_works()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_counted_from_one(well, tmp_path, workers):
    with pytest.raises(InvalidArgument, match=f"workers is {workers}"):
        run_study(well(), tmp_path, workers=workers)


# The user's own landscapes


def test_a_python_study_runs_from_end_to_end(tmp_path, same):
    file = tmp_path / "mine.py"
    file.write_text(
        "from escapade import landscapes\n"
        "def build():\n"
        "    return landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]])\n"
        "study = {'landscape': {'build': build}, 'grid': [{'dynamics': ['gaussian', 'langevin'],"
        " 'stiffness': 0.2, 'batch_size': 8, 'barrier': 2, 'replicas': 64}]}\n"
    )
    result = run_study(file, tmp_path / "out", workers=1)
    assert result.specification == file.read_text()
    minimum = result.minimum
    np.testing.assert_allclose(minimum.theta, 0, atol=1e-12)
    np.testing.assert_allclose(minimum.eigenvalues, [2.28102497, 0.71897503])
    assert minimum.alignment.c == pytest.approx(1)
    assert minimum.examples == 0
    assert np.isnan(minimum.accuracy)
    assert minimum.description == "Quadratic in dimension 2"
    for cell in result.cells:
        standard_error = cell.sample.standard_error
        assert abs(cell.sample.mean - cell.prediction.mean) < 4 * standard_error
    same(load_study(tmp_path / "out"), result)


def test_a_study_of_an_analytic_landscape_simulates_and_splits(tmp_path, same):
    file = tmp_path / "quadratic.toml"
    file.write_text(QUADRATIC)
    result = run_study(file, tmp_path / "out", workers=1)
    simulated, split = result.cells
    assert not simulated.cell.splits
    assert split.cell.splits
    for cell in result.cells:
        low, high = cell.measured.interval
        assert 0.5 * low < cell.prediction.mean < 2 * high
    assert result.minimum.description == "Quadratic in dimension 1"
    assert result.instanton is None
    same(load_study(tmp_path / "out"), result)
    page = write_report(result, tmp_path / "out").read_text("utf-8")
    assert "by splitting" in page


QUADRATIC = """
instanton = false
[landscape]
function = "quadratic"
eigenvalues = [1.0]
[[grid]]
dynamics = "gaussian"
region = "half_space"
noise = "isotropic"
noise_strength = 2.0
learning_rate = 0.1
batch_size = 4
barrier = [1.5, 9.0]
method = "auto"
runs = 4
walkers = 64
replicas = 64
"""


def test_the_users_examples_are_described_as_such(well, tmp_path):
    inputs = np.random.default_rng(0).standard_normal((20, 2))

    def loss(parameters, example):
        return 0.5 * jnp.sum((parameters - example) ** 2)

    specification = well(
        lambda: Empirical(loss, np.zeros(2), inputs, weight_decay=0.5),
        dynamics=("minibatch",),
        barrier=(1.0,),
    )
    result = run_study(specification, tmp_path, workers=1)
    assert result.minimum.description == (
        "own loss over examples, 2 parameters, 20 examples, weight decay 0.5"
    )
    np.testing.assert_allclose(result.minimum.theta, inputs.mean(axis=0) / 1.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_are_not_finite_are_reported(well, tmp_path, bad):
    inputs = np.ones((20, 2))
    inputs[3, 1] = bad
    specification = well(lambda: Empirical(lambda p, x: (p @ x) ** 2, np.zeros(2), inputs))
    with pytest.raises(InvalidArgument, match="data holds 1 values that are NaN or infinite"):
        run_study(specification, tmp_path)


def test_a_specification_survives_its_own_text(network):
    file, folder, _, _ = network
    assert tomllib.loads((folder / "study.toml").read_text())["seed"] == 3
    specification = load_specification(str(file))
    assert specification.landscape == LandscapeSpecification(
        data="breast_cancer", preprocessing="paper", widths=(2,)
    )
