"""The verb `compare`: who is right, who is wrong and why, who is silent."""

import json

import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.minimum import neighbourhood
from escapade.theory import THEORIES
from escapade.theory.momentum import momentum_law

CHAIN = esc.Escape(
    esc.landscapes.Quadratic([1.0]),
    esc.GaussianSGD(0.1, 10, esc.noise.Isotropic()),
    esc.Ball(0.3),
)


@pytest.fixture(scope="module")
def against_exact():
    return esc.compare(CHAIN, esc.solve(CHAIN))


def test_every_theory_has_one_line(against_exact):
    assert {standing.theory for standing in against_exact.standings} == set(THEORIES)
    for standing in against_exact.standings:
        assert (standing.prediction is None) == bool(standing.silence)
        assert np.isnan(standing.log_error) == (standing.prediction is None)
    errors = [abs(standing.log_error) for standing in against_exact.speaking]
    assert errors == sorted(errors)
    silent = [standing.prediction is None for standing in against_exact.standings]
    assert silent == sorted(silent)


def test_errors_are_logarithms_of_ratios(oracle, against_exact):
    exact = oracle("M01")["value"]
    law = against_exact["exponential_law"]
    assert law.log_error == pytest.approx(np.log(law.prediction.mean / exact), abs=1e-8)
    low, high = law.log_error_interval
    assert low <= law.log_error <= high
    assert high - low < 1e-6
    assert against_exact.speaking[0].theory == "quadratic"
    assert "linear" in against_exact["instanton"].silence


def test_reasons(against_exact):
    failing = against_exact["kramers"].failing
    assert len(failing) == 1
    assert failing[0].startswith("continuous time")
    assert "C^(-1)" in against_exact["ibayashi_imaizumi_v1"].reason
    assert "saddle" in against_exact["xie"].reason
    assert against_exact["quadratic"].failing == ()
    with pytest.raises(InvalidArgument, match="arrhenius"):
        against_exact["arrhenius"]


def test_a_sample_gives_the_interval():
    escape = esc.Escape(CHAIN.landscape, CHAIN.dynamics, esc.Ball(0.17))
    sample = esc.simulate(escape, 400, key=1)
    found = esc.compare(escape, sample, theories=("exponential_law", "quadratic"))
    best = found.standings[0]
    assert best.theory == "quadratic"
    assert best.agrees
    assert not found["exponential_law"].agrees
    low, high = best.log_error_interval
    assert low == pytest.approx(np.log(best.prediction.mean / sample.interval[1]))
    assert high == pytest.approx(np.log(best.prediction.mean / sample.interval[0]))


def test_no_exit_is_a_bound_and_no_error():
    sample = esc.simulate(CHAIN, 8, max_steps=100, key=1)
    assert sample.exits == 0
    found = esc.compare(CHAIN, sample, theories=("quadratic", "kramers"))
    assert [standing.theory for standing in found.standings] == ["quadratic", "kramers"]
    for standing in found.standings:
        assert np.isnan(standing.log_error)
        assert standing.log_error_interval[0] == -np.inf
        assert np.isfinite(standing.log_error_interval[1])
    assert "infinity" in str(found)
    assert json.loads(found.to_json())["measured"]["log_mean"] is None


def test_nothing_measured_ranks_nothing():
    found = esc.compare(CHAIN, theories=("kramers", "levy", "quadratic"))
    assert [standing.theory for standing in found.standings] == ["kramers", "quadratic", "levy"]
    assert found.measured is None
    assert all(np.isnan(standing.log_error) for standing in found.standings)
    assert not any(standing.agrees for standing in found.standings)


def test_forms(against_exact):
    text = str(against_exact)
    assert "Escapade, uniform" in text
    assert "fails here: continuous time" in text
    assert "silent: Xie, Sato and Sugiyama 2021" in text
    content = json.loads(against_exact.to_json())
    assert [line["theory"] for line in content["theories"]] == [
        standing.theory for standing in against_exact.standings
    ]
    assert content["theories"][-1]["log_error"] is None
    table = against_exact.to_xarray()
    best = against_exact.standings[0]
    assert float(table["log_error"].sel(theory=best.theory)) == best.log_error
    assert "saddle" in str(table["reason"].sel(theory="xie").values)


def test_momentum_has_a_theory_of_its_own():
    dynamics = esc.MomentumSGD(0.1, 60.0, 0.5, noise=esc.noise.Isotropic())
    escape = esc.Escape(CHAIN.landscape, dynamics, esc.Slab([1.0], 0.3))
    found = esc.compare(escape)
    assert [standing.theory for standing in found.speaking] == ["momentum"]
    law = momentum_law(escape, neighbourhood(escape))
    assert found["momentum"].prediction.log_mean == pytest.approx(law.log_mean)
    assert "earlier gradients" in found["kramers"].silence
    assert "has none" in esc.compare(CHAIN, theories=("momentum",))["momentum"].silence


def test_every_theory_says_what_it_is():
    for name, theory in THEORIES.items():
        assert theory.name == name
        for part in (theory.title, theory.formula, theory.source, theory.silent_where):
            assert part
        assert theory.assumptions
        assert theory.formula in str(theory)


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((3,), {}, "escape is 3"),
        ((CHAIN, 100.0), {}, "measured is 100"),
        ((CHAIN,), {"theories": ("kramers", "arrhenius")}, "arrhenius"),
        ((CHAIN,), {"theories": ()}, "theories"),
        ((CHAIN,), {"theories": "kramers"}, "theories is 'kramers'; give a tuple"),
        ((CHAIN,), {"theories": 3}, "theories is 3"),
        ((CHAIN,), {"neighbourhood": 3}, "neighbourhood is 3"),
    ],
)
def test_what_is_refused(arguments, options, match):
    with pytest.raises(InvalidArgument, match=match):
        esc.compare(*arguments, **options)
