"""Choosing the interval, on a clock of our own."""

import pytest

from escapade.training import pace as module
from escapade.training.pace import Pace, rounded_up


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def run(pace, clock, steps, step_seconds, record_seconds):
    recorded = []
    for step in range(1, steps + 1):
        clock[0] += step_seconds
        began = pace.begin()
        if pace.due(record_seconds):
            clock[0] += record_seconds
            recorded.append(step)
        pace.end(began)
    return recorded


def test_the_chosen_interval_keeps_its_share(clock):
    pace = Pace(None)
    recorded = run(pace, clock, 5000, 0.01, 0.3)
    assert recorded[:2] == [1, 1 + pace.every]
    assert pace.every == rounded_up(0.3 / (0.01 * module.SHARE))
    assert 0.02 < pace.overhead < 0.035


def test_a_given_interval_is_kept(clock):
    pace = Pace(7)
    assert run(pace, clock, 22, 0.01, 1.0) == [1, 8, 15, 22]


def test_it_grows_where_training_becomes_faster(clock):
    pace = Pace(None)
    run(pace, clock, 200, 0.1, 0.3)
    before = pace.every
    run(pace, clock, 20_000, 0.001, 0.3)
    assert pace.every > 5 * before


@pytest.mark.parametrize(
    ("number", "result"), [(0.2, 1), (7.0, 7), (7.2, 8), (99.5, 100), (721.3, 730), (1e6, 10**6)]
)
def test_rounding(number, result):
    assert rounded_up(number) == result
