"""Inspections that run out of time, by a clock that only products move."""

import itertools
import json
from types import SimpleNamespace

import pytest
from inspection.networks import digits_perceptron

import escapade as esc
from escapade.inspection.budget import Budget
from escapade.landscape.expansion import Expansion
from escapade.report import write_inspection


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("escapade.inspection.budget.time", clock)

    def passes(self, monkeypatch, product, first, then):
        """Each call of a product takes so long."""
        computed, durations = (
            getattr(Expansion, product),
            itertools.chain([first], itertools.repeat(then)),
        )

        def slow(expansion, vector):
            self.now += next(durations)
            return computed(expansion, vector)

        monkeypatch.setattr(Expansion, product, slow)


@pytest.fixture
def clock(monkeypatch):
    """A second for a product; the first one with the noise, to be compiled, takes a minute."""
    clock = Clock(monkeypatch)
    clock.passes(monkeypatch, "hessian_product", 1.0, 1.0)
    clock.passes(monkeypatch, "noise_product", 60.0, 1.0)
    return clock


def inspected(time_budget):
    return esc.inspect(
        digits_perceptron(), learning_rate=0.1, batch_size=32, depth=0.01, time_budget=time_budget
    )


def test_the_noisiest_directions_are_left_out_when_their_time_is_up(clock, tmp_path):
    found = inspected(200.0)
    assert found.noise is None
    assert found.skipped[0] == "noisiest directions"
    # What an inspection cannot be without is there, at the values of one without a budget.
    clock.now = 0.0
    whole = inspected(None)
    assert found.sharpness == pytest.approx(whole.sharpness, rel=1e-6)
    trace = found.noise_trace
    assert abs(trace.value - whole.noise_trace.value) < 4 * trace.standard_error
    assert found.stationarity.verdict == whole.stationarity.verdict
    assert not whole.skipped
    # And it can be told, in a terminal, in a file and on a page.
    assert "left out, for want of time: noisiest directions" in str(found)
    page = write_inspection(found, tmp_path)
    assert "<li>noisiest directions</li>" in page.read_text()
    assert json.loads((tmp_path / "inspection.json").read_text())["noise"] is None


@pytest.mark.parametrize("seconds", [5.0, 40.0, 100.0, 150.0])
def test_too_short_a_time_is_refused_by_name(clock, seconds):
    """Wherever it ends: in the spectrum, the alignment, the Newton step or the noise elsewhere."""
    with pytest.raises(esc.errors.InvalidArgument, match=f"time_budget is {seconds:g} seconds"):
        inspected(seconds)
    # Nothing was given up while there was time left for it.
    assert clock.now > seconds


def test_early_stages_take_what_their_first_figure_needs(monkeypatch):
    clock = Clock(monkeypatch)
    budget = Budget(10.0)
    hurried, patient = budget.until(0.5), budget.until(0.5, least=2)
    clock.now = 6.0
    assert hurried()
    assert [patient() for _ in range(3)] == [False, False, True]
    late = budget.until(0.5, least=2)
    clock.now = 11.0
    assert late()
