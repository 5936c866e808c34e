"""The figure of a training run."""

import numpy as np
import pytest

from escapade.errors import InvalidArgument
from escapade.report.figures.training import training
from escapade.training import Record
from escapade.training.log import Log
from escapade.training.stays import stays


def run(spent=True):
    return [
        Record(
            step=10 * k + 1,
            loss=1 / (k + 1),
            sharpness=2.0 + 0.1 * k,
            sharpness_error=0.1,
            linear_margin=10 / (2.0 + 0.1 * k),
            exit_steps=np.inf if k < 8 else 40.0,
            mechanism="activated" if k < 8 else "drift",
            stay=0 if k < 8 else 1,
            steepness=0.6 * k if spent else np.nan,
            expected_steepness=0.5 * k if spent else np.nan,
            note="" if spent else "Adam: steepness is not given",
        )
        for k in range(20)
    ] + [Record(step=201, error="Diverged: the loss is NaN")]


@pytest.fixture
def folder(tmp_path):
    log = Log(tmp_path)
    log.read()
    for record in run():
        log.write(record)
    return tmp_path


def lines(figure):
    return {line.get_gid(): line for axes in figure.axes for line in axes.lines if line.get_gid()}


def test_it_draws_what_was_recorded(folder):
    figure = training(folder / "records.csv")
    drawn = lines(figure)
    steps = [record.step for record in run()[:-1]]
    np.testing.assert_array_equal(drawn["loss"].get_xdata(), steps)
    np.testing.assert_allclose(drawn["sharpness"].get_ydata()[-1], 3.9)
    np.testing.assert_allclose(drawn["limit"].get_ydata(), 10)
    np.testing.assert_allclose(drawn["steepness"].get_ydata()[-1], 11.4)
    text = figure.get_supxlabel()
    assert "every other stay" in text
    assert "1 record that failed" in text
    assert "2 stays" in figure.axes[2].get_title("left")
    figure.draw_without_rendering()


def test_stays_are_those_of_the_records():
    first, second = stays(run())
    assert (first.first_step, first.last_step, first.escaped) == (1, 81, True)
    assert (second.first_step, second.last_step, second.escaped) == (81, 191, False)
    assert second.mechanism == "drift"


def test_what_does_not_apply_is_said(tmp_path):
    log = Log(tmp_path)
    log.read()
    for record in run(spent=False):
        log.write(record)
    figure = training(tmp_path)
    assert "steepness" not in lines(figure)
    assert "Adam: steepness is not given." in figure.get_supxlabel()
    figure.draw_without_rendering()


def test_an_empty_log_is_refused(tmp_path):
    Log(tmp_path).read()
    with pytest.raises(InvalidArgument, match="no records yet"):
        training(tmp_path)
