"""The described experiment: what it plans, what it keeps, and how it goes on."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from escapade.errors import DataError, StudyError
from escapade.reproduction.described import OPENINGS, load_described, run_described
from escapade.reproduction.described import run as running

FEW = """
[[grid]]
dynamics = ["minibatch"]
region = ["ball"]
learning_rate = [0.1, 0.2]
batch_size = [10]
size = [0.4]
replicas = 24
max_steps = 3000

[[grid]]
dynamics = ["minibatch"]
region = ["ball"]
learning_rate = [0.1]
batch_size = [10]
size = [0.3, 0.4]
replicas = 24
max_steps = 3000
"""


@pytest.fixture
def few(tmp_path, monkeypatch):
    """The described experiment in three cells, on a data set that is always there."""
    whole = running.specification()
    path = tmp_path / "few.toml"
    path.write_text('[landscape]\ndata = "breast_cancer"\n' + FEW)
    small = running.load_specification(str(path))
    landscape = replace(whole.landscape, data="breast_cancer", widths=(2,))
    training = replace(whole.training, steps=200)
    small = replace(small, landscape=landscape, training=training)
    for cached in (running.specification, running._landscape, running._problem):
        cached.cache_clear()
    monkeypatch.setattr(running, "specification", lambda: small)
    yield tmp_path / "results"
    running._landscape.cache_clear()
    running._problem.cache_clear()


def test_the_scans_are_those_of_the_public_experiment_from_another_base_point():
    wanted = running.specification()
    assert (wanted.landscape.data, wanted.landscape.loss) == ("avila", "square")
    grids = wanted.grid
    assert {grid.region for grid in grids} == {("ball",)}
    assert {grid.dynamics for grid in grids} == {("minibatch",)}
    assert {grid.replicas for grid in grids} == {1000}
    for quantity, low, high in (
        ("learning_rate", 0.1, 0.2),
        ("batch_size", 10, 29),
        ("size", 0.4, 0.8),
        ("sharpness", 1, 2),
    ):
        blocks = [getattr(grid, quantity) for grid in grids if len(getattr(grid, quantity)) > 1]
        values = sorted(value for block in blocks for value in block)
        np.testing.assert_allclose(values, np.linspace(low, high, 20), rtol=1e-5)
        assert values[0] == pytest.approx(running.BASE[quantity])


def test_cells_become_scans_that_share_their_base_point(few):
    result = run_described(few, workers=2, command="the command")
    by_name = {scan.quantity: scan for scan in result.scans}
    assert by_name["learning_rate"].values == (0.1, 0.2)
    assert by_name["size"].values == (0.3, 0.4)
    assert by_name["batch_size"].values == (10.0,)
    assert by_name["sharpness"].values == (1.0,)
    base = by_name["size"].points[1]
    assert by_name["learning_rate"].points[0] == base
    assert base.sample.replicas == 24
    assert result.failed == ()
    assert len(result.minimum.theta) == 30 * 2 + 2 * 2
    assert result.minimum.gradient_norm < 1e-9
    assert np.isfinite(base.log_predicted)
    assert base.mechanism in ("activated", "diffusive", "drift")
    assert load_described(few).to_json() == result.to_json()
    # A cell stops when it is told to.
    stop = threading.Event()
    stop.set()
    cell = running._problem(result.minimum.theta).plan(False)[0]
    with pytest.raises(KeyboardInterrupt):
        running._leave(result.minimum.theta, cell, 0, stop)
    # Nothing is computed twice: the file of the result is made from those of the cells.
    (few / "described.json").write_text("{")
    with pytest.raises(StudyError, match="damaged"):
        load_described(few)
    again = run_described(few, workers=1, command="the command")
    assert replace(again, seconds=0.0).to_json() == replace(result, seconds=0.0).to_json()


def test_openings_are_answered():
    assert len(OPENINGS) > 5
    assert all(one.question and one.choice and one.reason for one in OPENINGS)
    choices = " ".join(one.choice for one in OPENINGS)
    wanted = running.specification()
    hidden = wanted.landscape.widths[0]
    assert f"10-{hidden}-2, {12 * hidden} parameters" in choices
    assert f"{wanted.grid[0].max_steps:,}".replace(",", " ") in choices


def test_without_the_data_there_is_a_way_out(tmp_path, monkeypatch):
    running._landscape.cache_clear()
    monkeypatch.setenv("ESCAPADE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises((DataError, StudyError), match="ESCAPADE_DATA"):
        run_described(tmp_path / "results")


@pytest.mark.slow
def test_the_described_exits_are_not_activated(tmp_path, avila_archive, monkeypatch):
    monkeypatch.setenv("ESCAPADE_DATA", str(avila_archive.parent))
    running._landscape.cache_clear()
    result = run_described(tmp_path, quick=True)
    assert result.failed == ()
    for scan in result.scans:
        assert len(scan.points) == 4
        for point in scan.points:
            assert point.sample.exits == 100
            assert point.mechanism in ("diffusive", "drift")
            assert point.sample.coefficient_of_variation < 0.5
            assert point.sample.exponentiality.p_value < 1e-6
