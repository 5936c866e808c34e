"""The claims ledger: complete, fair, and with verdicts that follow from numbers alone."""

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from escapade.errors import EscapadeError, InvalidArgument, StudyError
from escapade.reproduction.claims import (
    CLAIMS,
    Band,
    ClaimResult,
    Evidence,
    Figure,
    Quantity,
    Rule,
    Series,
    Verdict,
    evidence,
    find_claim,
    ledger,
    load_claim,
    network,
    run_claim,
)
from escapade.reproduction.claims.heavy_tails import last_steps
from escapade.reproduction.claims.public_experiments import free_prefactor

STATUS = {
    1: "L", 2: "F", 3: "TL", 4: "F", 5: "TL", 6: "F", 7: "L", 8: "L", 9: "TL", 10: "L", 11: "L",
    12: "F", 13: "F", 14: "L", 15: "U", 16: "L", 17: "L", 18: "F", 19: "TL", 20: "L",
}  # fmt: skip
"""What is known of each claim: false, of a limited regime, true in the stated one, untested."""

EXPECTED = {
    "F": {Verdict.REFUTED},
    "L": {Verdict.IN_REGIME},
    "TL": {Verdict.IN_REGIME},
    "U": {Verdict.SUPPORTED, Verdict.IN_REGIME, Verdict.REFUTED},
}

BY_EXACT_SOLUTION = (1, 2, 4, 5, 6, 7, 10, 19, 20)
ON_THE_NETWORK = (8, 11, 13, 14, 15)

numbers = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.slug)


def in_band(band):
    """A made-up quantity in the middle of a band."""
    low = band.low if math.isfinite(band.low) else band.high - 1
    high = band.high if math.isfinite(band.high) else low + 1
    middle, width = (low + high) / 2, (high - low) / 8
    return Quantity(band.quantity, middle, (middle - width, middle + width))


def off_band(band):
    """One that lies beyond an end of it."""
    end = band.high + 1 if math.isfinite(band.high) else band.low - 1
    return Quantity(band.quantity, end, (end - 0.1, end + 0.1))


def across_band(band):
    """One that reaches across an end of it."""
    end = band.high if math.isfinite(band.high) else band.low
    return Quantity(band.quantity, end, (end - 1e-3, end + 1e-3))


def made_up(rule, within=in_band, beyond=in_band, failed=()):
    bands = [within(band) for band in rule.within] + [beyond(band) for band in rule.beyond]
    return Evidence(tuple(bands), failed=failed)


def test_the_ledger_is_complete():
    assert [claim.number for claim in CLAIMS] == list(range(1, len(CLAIMS) + 1))
    assert len(CLAIMS) >= 18
    assert len({claim.slug for claim in CLAIMS}) == len(CLAIMS)
    assert set(STATUS) == {claim.number for claim in CLAIMS}


@numbers
def test_every_claim_says_what_is_tested_and_how(claim):
    for text in (claim.statement, claim.source, claim.regime, claim.test):
        assert len(text) > 15
    assert claim.rule.within
    assert claim.rule.beyond
    for band in (*claim.rule.within, *claim.rule.beyond):
        assert str(band) in claim.rule.words


@numbers
def test_every_rule_can_give_every_verdict(claim):
    """Evidence for a claim supports it, whatever is in fact true."""
    rule = claim.rule
    assert claim.judge(made_up(rule)).verdict is Verdict.SUPPORTED
    assert claim.judge(made_up(rule, beyond=off_band)).verdict is Verdict.IN_REGIME
    assert claim.judge(made_up(rule, beyond=across_band)).verdict is Verdict.IN_REGIME
    assert claim.judge(made_up(rule, within=off_band)).verdict is Verdict.REFUTED
    assert claim.judge(made_up(rule, within=across_band)).verdict is Verdict.NOT_TESTABLE
    failed = claim.judge(made_up(rule, within=off_band, failed=("too few exits",)))
    assert failed.verdict is Verdict.NOT_TESTABLE
    assert failed.failed == ("too few exits",)


def test_one_contradiction_in_the_regime_refutes():
    rule = Rule(within=(Band("a", 0, 1), Band("b", 0, 1)), beyond=(Band("c", 0, 1),))
    for a, b, verdict in (
        (0.5, 2.0, Verdict.REFUTED),
        (2.0, math.nan, Verdict.REFUTED),
        (0.5, math.nan, Verdict.NOT_TESTABLE),
    ):
        found = Evidence(
            tuple(Quantity(name, x, (x, x)) for name, x in zip("abc", (a, b, 0.5), strict=True))
        )
        assert rule(found).verdict is verdict
    judgement = rule(Evidence(tuple(Quantity(name, 2, (2, 2)) for name in "abc")))
    assert judgement.decisive.name == "a"
    assert "contradicts a: 0 to 1" in str(judgement.comparisons[0])


@pytest.mark.parametrize(
    ("interval", "holds"),
    [((0, 1), True), ((0.2, 0.3), True), ((-0.1, 0.5), None), ((0.5, 1.1), None), ((-1, 2), None),
     ((1.01, 1.1), False), ((-2, -1), False), ((math.nan, 1), None), ((-math.inf, 0.5), None)],
)  # fmt: skip
def test_a_band_is_met_missed_or_reached_across(interval, holds):
    assert Band("x", 0, 1).holds(Quantity("x", 0.5, interval)) is holds


def test_what_a_rule_needs():
    with pytest.raises(InvalidArgument, match=r"lacks the quantity 'slope'.*holds other"):
        Rule((Band("slope", 0, 1),), ())(Evidence((Quantity("other", 0, (0, 0)),)))
    with pytest.raises(InvalidArgument, match="goes from 1 to 1"):
        Band("slope", 1, 1)


def test_power_of_exact_numbers():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    found = evidence.power("p", x, 3 * x**-1.5, 4 * [1e-6], {"law": -1.5})
    assert found.value == pytest.approx(-1.5, abs=1e-12)
    width = 2e-6 / np.log(2)
    assert found.interval == pytest.approx((-1.5 - width, -1.5 + width), abs=1e-12)
    bent = evidence.power("p", x[::-1], (x + x**2)[::-1], 4 * [0.0], {})
    local = np.diff(np.log(x + x**2)) / np.log(2)
    assert bent.interval == pytest.approx((local.min(), local.max()))
    assert bent.interval[0] < bent.value < bent.interval[1]


def test_figures_hold_what_fits_together():
    with pytest.raises(InvalidArgument, match="2 abscissas, 1 ordinates"):
        Figure("t", "x", "y", (Series("s", (1.0, 2.0), (1.0,)),))
    with pytest.raises(InvalidArgument, match="scale is 'cubic'"):
        Figure("t", "x", "y", (), "cubic")


def test_a_free_prefactor_leaves_its_barrier():
    law = 1 / np.linspace(1, 2, 20)
    means = 3.0 * np.exp(5.0 * law)
    found = free_prefactor("eta", law, means, 0.01 * means)
    assert found.value == pytest.approx(5.0)
    # Independent errors of 1 %: the standard error of a slope.
    half = 1.96 * 0.01 / np.sqrt(np.sum((law - law.mean()) ** 2))
    assert found.interval == pytest.approx((5.0 - half, 5.0 + half))


def test_last_steps_before_exits():
    along = np.array([0, 0.5, 0.9, 1.2, 1.3, 0.5, 1.1, 0.2, -1.4, 0.0, 0.8])
    assert last_steps(along) == pytest.approx([0.3, 1.6])


def small():
    panel = Figure("t", "x", "y", (evidence.points("p", [1, 2], [3, 4], [(2, 4), (3, 5)]),), "log")
    return Evidence((Quantity("q", 1.0, (0.5, 1.5), {"theory": 2.0}, "steps"),), (panel,), ("n",))


def test_evidence_survives_json():
    found = small()
    assert Evidence.from_json(json.loads(json.dumps(asdict(found)))) == found
    with pytest.raises(KeyError):
        found["other"]


@pytest.fixture
def counted(monkeypatch):
    """A ledger of one claim whose measurement is made up and counted."""
    calls = []

    def measure(quick, key, progress):
        calls.append((quick, key))
        progress("measuring")
        if key == 13:
            raise KeyboardInterrupt
        return replace(small(), notes=(f"key {key}",))

    claim = replace(CLAIMS[0], measure=measure, rule=Rule((Band("q", 0, 2),), (Band("q", 0, 1.2),)))
    monkeypatch.setattr(ledger, "CLAIMS", (claim,))
    return calls


def test_a_result_is_measured_once_and_kept(counted, tmp_path):
    said = []
    first = run_claim(1, quick=True, folder=tmp_path, progress=said.append)
    assert said == ["measuring"]
    assert run_claim(1, quick=True, folder=tmp_path) == first
    assert load_claim(1, tmp_path) == first
    assert counted == [(True, 0)]
    full = run_claim(1, folder=tmp_path)
    assert load_claim(1, tmp_path) == full  # rather than the quick one
    run_claim(1, folder=tmp_path, key=4)
    run_claim(1, folder=tmp_path, key=4, again=True)
    assert counted == [(True, 0), (False, 0), (False, 4), (False, 4)]
    kept = f"--out {tmp_path} --again"
    assert load_claim(1, tmp_path).command == f"escapade claims 1 --seed 4 {kept}"
    assert first.command == f"escapade claims 1 --quick {kept}"


@pytest.mark.parametrize("number", [0, 21, True, False, "1", None])
def test_a_number_that_is_no_claim(number):
    with pytest.raises(InvalidArgument, match=rf"number is {number!r}; the ledger has claims 1 to"):
        find_claim(number)


def test_the_command_names_the_folder_it_needs(counted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_claim(1).command == "escapade claims 1 --again"
    assert run_claim(1, folder="results/claims").command == "escapade claims 1 --again"
    run_claim(1, folder="of mine")
    moved = Path("of mine").rename("moved to")
    # Where the results lie now, not where they were measured.
    assert load_claim(1, moved).command == "escapade claims 1 --out 'moved to' --again"


def test_the_verdict_of_a_file_is_never_believed(counted, tmp_path):
    assert run_claim(1, folder=tmp_path).judgement.verdict is Verdict.IN_REGIME
    path = tmp_path / "01.json"
    content = json.loads(path.read_text())
    assert content["verdict"] == "supported in regime"
    path.write_text(json.dumps({**content, "verdict": "supported"}))
    assert load_claim(1, tmp_path).judgement.verdict is Verdict.IN_REGIME
    content["evidence"]["quantities"][0]["interval"] = [3.0, 4.0]
    path.write_text(json.dumps(content))
    assert load_claim(1, tmp_path).judgement.verdict is Verdict.REFUTED


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"evidence": {"quantities": []}}'])
def test_a_damaged_file_counts_as_none(counted, tmp_path, damage):
    run_claim(1, folder=tmp_path)
    (tmp_path / "01.json").write_text(damage)
    assert load_claim(1, tmp_path) is None
    run_claim(1, folder=tmp_path)
    assert load_claim(1, tmp_path) is not None


def test_a_file_of_another_rule_counts_as_none(counted, tmp_path):
    run_claim(1, folder=tmp_path)
    path = tmp_path / "01.json"
    path.write_text(path.read_text().replace('"q"', '"renamed"'))
    assert load_claim(1, tmp_path) is None


def test_an_interruption_loses_nothing_finished(counted, tmp_path):
    first = run_claim(1, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_claim(1, folder=tmp_path, key=13)
    assert load_claim(1, tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["01.json"]


def test_wrong_arguments(tmp_path):
    with pytest.raises(InvalidArgument, match="claims 1 to 20"):
        run_claim(21)
    with pytest.raises(InvalidArgument, match="claims 1 to 20"):
        load_claim(0, tmp_path)
    with pytest.raises(InvalidArgument, match="key is -1"):
        run_claim(1, key=-1)
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="give another with --out"):
        run_claim(1, folder=tmp_path / "file")


def check(result: ClaimResult):
    """What must hold of any measurement."""
    assert result.judgement.verdict in EXPECTED[STATUS[result.number]], result.judgement
    assert ClaimResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.evidence.figures
    for figure in result.evidence.figures:
        assert figure.series
        for series in figure.series:
            assert np.isfinite(series.x).all(), (figure.title, series)
            assert np.isfinite(series.y).all(), (figure.title, series)
            if figure.y_scale == "log":
                assert min(series.y) > 0
    for one in result.evidence.quantities:
        assert one.interval[0] <= one.value <= one.interval[1], one


@pytest.fixture(scope="module")
def exact_results():
    return {number: run_claim(number, quick=True) for number in BY_EXACT_SOLUTION}


@pytest.mark.parametrize("number", BY_EXACT_SOLUTION)
def test_exact_claims(exact_results, number):
    check(exact_results[number])


def test_exact_numbers_against_other_sources(exact_results, oracle):
    """Against the reference values and closed forms, not the claims' own predictions."""
    rest = {number: result.evidence for number, result in exact_results.items()}
    limit = rest[6]["eta E[nu] / E[tau] as eta vanishes, s = 1"]
    assert limit.value == pytest.approx(1.89283735, abs=2e-3)
    assert limit.interval[0] < 1.89283735 < limit.interval[1]
    edge = rest[20]["V0 of a ball at eta lambda_max = 1.96"]
    assert edge.value == pytest.approx(oracle("D04")["value"], rel=1e-9)
    # Ten dimensions: E[tau] = R^2 / (2 d D) 2F2(1, 1; 2, 1 + d / 2; z), by its series.
    b, dim = 12.0, 10
    terms, term = 0.0, 1.0
    for k in range(200):
        terms += term / (k + 1)
        term *= b / (k + 1 + dim / 2)
    mean = b * terms / dim * math.exp(-b)
    assert rest[1]["E[tau] / exp(b) at b = 12, d = 10"].value == pytest.approx(mean, rel=1e-9)


@pytest.mark.slow
def test_exponents_of_eight_examples(oracle):
    from escapade.reproduction.claims.examples import exponent_to

    assert exponent_to(0.6)[0] == pytest.approx(oracle("B01")["value"], rel=1e-6)
    assert exponent_to(-0.6)[0] == pytest.approx(oracle("B02")["value"], rel=1e-6)
    without = exponent_to(0.6, "without_replacement")[0]
    assert without == pytest.approx(oracle("B03")["value"], rel=1e-6)
    assert exponent_to(0.6, None)[0] == pytest.approx(0.356113336, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 9, 12, 16, 17, 18])
def test_other_claims(number):
    check(run_claim(number, quick=True))


@pytest.mark.slow
@pytest.mark.parametrize("number", ON_THE_NETWORK)
def test_claims_on_the_network(monkeypatch, avila_archive, number):
    monkeypatch.setenv("ESCAPADE_DATA", str(avila_archive))
    network._trained_network.cache_clear()
    network.slab_exits.cache_clear()
    result = run_claim(number, quick=True)
    check(result)
    assert any("escapade study avila" in note for note in result.evidence.notes)


@pytest.mark.slow
def test_another_seed_gives_the_same_verdicts(monkeypatch, avila_archive):
    """Verdicts of statistical measurements do not hang on the seed."""
    monkeypatch.setenv("ESCAPADE_DATA", str(avila_archive))
    for number in (9, 12, 14, 15, 17, 18):
        check(run_claim(number, quick=True, key=7))


@pytest.mark.slow
def test_without_avila_another_network_serves(monkeypatch):
    monkeypatch.delenv("ESCAPADE_DATA", raising=False)
    network._trained_network.cache_clear()
    network.slab_exits.cache_clear()
    result = run_claim(14, quick=True)
    check(result)
    assert "escapade study digits" in result.evidence.notes[0]
    assert "ESCAPADE_DATA" in result.evidence.notes[0]
    network._trained_network.cache_clear()
    network.slab_exits.cache_clear()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: exit code, output and errors."""
    from escapade import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["escapade", "claims", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


def test_command_shows_the_table_and_explains(run, tmp_path):
    code, shown, _ = run()
    assert code == 0
    assert shown.count("not run yet") == len(CLAIMS)
    code, shown, _ = run(19, 20, "--quick")
    assert code == 0
    claim = find_claim(19)
    for text in (claim.statement, claim.source, claim.regime, claim.test, claim.rule.words):
        assert text in shown
    assert "supported in regime" in shown
    assert "escapade claims 19 --quick --again" in shown
    assert "Claim 20." in shown
    code, shown, _ = run()
    assert shown.count("not run yet") == len(CLAIMS) - 2
    assert (tmp_path / "results" / "claims" / "19-quick.json").is_file()


def test_command_goes_on_after_a_failure(run, monkeypatch):
    def fail(quick, key, progress):
        raise EscapadeError("no luck")

    claims = tuple(replace(one, measure=fail) if one.number == 19 else one for one in CLAIMS)
    monkeypatch.setattr(ledger, "CLAIMS", claims)
    code, shown, complained = run(19, 20, "--quick")
    assert code == 1
    assert "claim 19 failed: no luck" in complained
    assert "Claim 20." in shown


def test_command_complains(run):
    code, _, complained = run(99)
    assert code == 2
    assert "number is 99; the ledger has claims 1 to 20" in complained
    assert run("--seed", -1)[0] == 2
    assert "either numbers or --all" in run(3, "--all")[2]
