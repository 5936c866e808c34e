"""The ledger as a whole: claims several at a time, what fails is reported, nothing is lost."""

import time
from dataclasses import replace

import pytest

from escapade.errors import InvalidArgument, NotConverged
from escapade.reproduction.claims import CLAIMS, Evidence, Quantity, ledger
from escapade.reproduction.claims.ledger import load_claim, run_claims
from escapade.reproduction.claims.rule import Band, Rule
from escapade.study.progress import StudyProgress

EVIDENCE = Evidence((Quantity("q", 1.5, (1.4, 1.6)),))


class Witness(StudyProgress):
    def __init__(self):
        self.found, self.done, self.failed = [], [], []

    def planned(self, cells, finished):
        self.found = [claim.number for claim in finished]

    def cell_done(self, claim):
        self.done.append(claim.number)

    def cell_failed(self, claim, error):
        self.failed.append((claim.number, str(error)))


@pytest.fixture
def measured(monkeypatch):
    """A ledger of four claims; their measurements, made up, can be replaced by number."""
    measures = {}

    def measure_of(number):
        def measure(quick, key, progress):
            progress("measuring")
            return measures.get(number, lambda: EVIDENCE)()

        return measure

    rule = Rule((Band("q", 0, 2),), (Band("q", 0, 1.2),))
    claims = tuple(replace(one, measure=measure_of(one.number), rule=rule) for one in CLAIMS[:4])
    monkeypatch.setattr(ledger, "CLAIMS", claims)
    return measures


def fail(error):
    raise error


def test_what_fails_is_reported_and_tried_again(measured, tmp_path):
    measured[2] = lambda: fail(NotConverged("no path"))
    told = Witness()
    results = run_claims(tmp_path, quick=True, workers=2, progress=told)
    assert [one.number for one in results] == [1, 3, 4]
    assert sorted(told.done) == [1, 3, 4]
    assert told.failed == [(2, "no path")]
    assert load_claim(3, tmp_path) == results[1]
    del measured[2]
    again = Witness()
    assert [one.number for one in run_claims(tmp_path, quick=True, progress=again)] == [1, 2, 3, 4]
    assert (again.found, again.done) == ([1, 3, 4], [2])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TypeError("a mistake of ours")], ids=repr)
def test_what_is_no_failure_of_a_claim_ends_the_work(measured, tmp_path, error):
    measured[2] = lambda: fail(error)
    # The thread would otherwise be done with all of them before the failure is heard of.
    measured[3] = lambda: time.sleep(2) or EVIDENCE
    told = Witness()
    with pytest.raises(type(error)):
        run_claims(tmp_path, workers=1, progress=told)
    assert told.done == [1]
    assert load_claim(1, tmp_path) is not None
    assert load_claim(4, tmp_path) is None


def test_workers_are_counted_from_one(tmp_path):
    with pytest.raises(InvalidArgument, match="workers is 0"):
        run_claims(tmp_path, workers=0)
