"""The chapter page of a reproduction, on made-up results."""

import re
from dataclasses import replace

import numpy as np
import pytest
from report.pages import Page

from escapade.errors import StudyError
from escapade.exits import ExitSample
from escapade.report.formats import number
from escapade.report.reproduction import write_reproduction
from escapade.report.reproduction.figures import drawn
from escapade.report.reproduction.ledger import claim_row, headline, quantity_row
from escapade.report.reproduction.page import render
from escapade.report.reproduction.symbols import formula
from escapade.reproduction import Reproduction
from escapade.reproduction.claims import CLAIMS, ClaimResult, Evidence, Figure, Quantity, Series
from escapade.reproduction.corrected import CONTRASTS, CorrectedResult, fit
from escapade.reproduction.corrected.result import Point
from escapade.reproduction.described import OPENINGS, DescribedPoint, DescribedResult, DescribedScan
from escapade.reproduction.described.results import DescribedMinimum
from escapade.reproduction.published import PublishedResult, Reparametrisation, Scan, VariedPoint
from escapade.reproduction.published import scan as experiments
from escapade.reproduction.published.experiment import QUANTITIES, variations
from escapade.reproduction.published.results import to_point
from escapade.study import Cell, CellResult
from escapade.theory import Diagnosis, Groups, Prediction

RANDOM = np.random.default_rng(0)


def sample_of(mean, spread=0.1, replicas=40, max_steps=10**6):
    """Exit times of a gamma law, or runs that are all censored."""
    censored = np.full(replicas, not np.isfinite(mean))
    times = RANDOM.gamma(spread**-2, spread**2 * (mean if np.isfinite(mean) else 1.0), replicas)
    return ExitSample(
        times=np.where(censored, max_steps, np.ceil(times)).astype(np.int64),
        censored=censored,
        diverged=np.zeros(replicas, bool),
        exit_points=np.zeros((replicas, 0)),
        start=np.zeros(0),
        max_steps=max_steps,
        seconds=0.0,
        precision="float32",
        engine="made up",
        key="0",
    )


@pytest.fixture(scope="module")
def published():
    scans = []
    for optimiser in ("sgd", "sgld"):
        for quantity in QUANTITIES:
            points = [
                to_point(one, sample_of(24.0)) for one in experiments(optimiser, quantity, 4, 9)
            ]
            scans.append(Scan(optimiser, quantity, tuple(points)))
    varied = [
        VariedPoint(one.name, one.reads,
                    to_point(one.experiment, sample_of(np.inf if i == 0 else 25.0)))
        for i, one in enumerate(variations(True))
    ]  # fmt: skip
    check = Reparametrisation(2.0, (3, 4, 5), (3, 4, 6))
    return PublishedResult(True, 0, tuple(scans), tuple(varied), (check,), (), "command", 1.0)


@pytest.fixture(scope="module")
def described():
    scans = []
    for quantity in ("learning_rate", "batch_size", "size", "sharpness"):
        values = (1.0, 1.5, 2.0)
        points = tuple(
            DescribedPoint(sample_of(300.0 / value), 5.0, np.nan if value == 2.0 else 20.0, "",
                           "diffusive", "the region lies inside the typical shell", 9.0, 2.0, 20.0)
            for value in values
        )  # fmt: skip
        scans.append(DescribedScan(quantity, values, points))
    minimum = DescribedMinimum((0.0, 1.0), 0.2, 1e-12, (2.0, 0.1))
    return DescribedResult(True, 0, tuple(scans), (), minimum, OPENINGS, "command", 1.0)


def cell_result(contrast, value, barrier, mechanism="activated"):
    cell = Cell("minibatch", 0.05, value, 1.0, "half_space", 0.1, 40, 10**6)
    groups = Groups(barrier, 1.0, 0.1, 2.0, 0.1, (100.0, 10.0))
    log_mean = np.log(5.0) + barrier
    prediction = Prediction("quadratic", log_mean, 0.05, barrier * 0.05 / value, groups, (), "")
    sample = sample_of(np.exp(log_mean), spread=1.0, replicas=400)
    diagnosis = Diagnosis(mechanism, "many directions spread at once", groups)
    return CellResult(cell, sample, prediction, prediction, diagnosis, np.ones(1))


@pytest.fixture(scope="module")
def corrected():
    contrast = replace(next(one for one in CONTRASTS if one.variable == "batch_size"), where={})
    cells = [cell_result(contrast, batch, batch / 20.0) for batch in (60, 120, 180)]
    cells.append(cell_result(contrast, 40, 2.0, "diffusive"))
    points = [
        Point("avila", one.cell, one.sample.mean, *one.sample.interval, 400, 0, 1.0, 0.05, 0.5,
              one.prediction.log_mean, 0.05, "quadratic", one.prediction.log_mean + 3,
              one.diagnosis.groups.barrier, 1.0, 0.1, 2.0, 0.1, one.diagnosis.mechanism,
              one.diagnosis.reason, 1.0)
        for one in cells
    ]  # fmt: skip
    fits = (fit(contrast, cells[:3]),)
    return CorrectedResult(
        True, tuple(points), 5, fits, ("contrast x has 1 cell",), "command", 1.0, {"avila": 0}
    )


def evidence(claim, agree=True):
    """Numbers in the middle of every band of a claim's rule, or all far outside."""
    quantities = []
    for band in (*claim.rule.within, *claim.rule.beyond):
        ends = [end for end in (band.low, band.high) if np.isfinite(end)]
        value = float(np.mean(ends)) + (0.0 if len(ends) == 2 else np.inf)
        if not np.isfinite(value):
            value = ends[0] + (1.0 if band.low == ends[0] else -1.0)
        value += 0.0 if agree else 1e6
        quantities.append(Quantity(band.quantity, value, (value, value), {"version 1": 0.5}))
    series = (
        Series("measured at eta = 0.1", (1.0, 2.0), (3.0, 4.0), (2.0, 3.0), (4.0, 5.0)),
        Series("law", (1.0, 2.0), (3.0, 9.0), line=True, position="version 1"),
    )
    panel = Figure("E[nu] <against> lambda", "lambda", "E[nu]", series, "log", "log")
    return Evidence(tuple(quantities), (panel,), ("a note on <data>",))


def result_of(claim, **options):
    return ClaimResult(claim.number, evidence(claim, **options), True, 0, 1.0, "today", "0.1.0")


@pytest.fixture(scope="module")
def claims():
    return tuple(result_of(claim, agree=claim.number % 2 == 0) for claim in CLAIMS[:5])


@pytest.fixture(scope="module")
def whole(published, described, corrected, claims):
    return Reproduction(
        "ibayashi-imaizumi-2022", published, described, corrected, claims, {"python": "3.x"}
    )


@pytest.fixture(scope="module")
def text(whole):
    return render(whole, drawn(whole), "escapade reproduce <paper>")


def test_elements_nest_and_names_are_unique(text):
    names = [given["id"] for _, given in Page(text).elements if "id" in given]
    assert len(names) == len(set(names))
    links = re.findall(r'href="#([^"]+)"', text)
    assert set(links) <= set(names)


def test_nothing_is_loaded_from_elsewhere(text):
    for _, given in Page(text).elements:
        for name in ("src", "href"):
            assert not given.get(name, "").startswith(("http", "//"))


def test_every_claim_stands_there_with_its_verdict(text, claims):
    page = Page(text).text
    for result in claims:
        row = claim_row(result)
        assert row.statement in page
        section = re.search(rf'<article id="claim-{row.number}">(.*?)</article>', text, re.S)[1]
        words = Page(section).text
        assert row.verdict == str(result.judgement.verdict)
        for expected in (row.verdict, row.rule, row.command, "a note on <data>"):
            assert expected in words
        assert words.count("the claim:") == len(result.judgement.comparisons)
        assert section.count("<svg") == 1


def test_the_headline_counts_verdicts(claims):
    # Two of five agree throughout, three contradict in their regime.
    assert headline(claims, 5) == "Of 5 claims, 2 are supported and 3 are refuted."
    assert headline(claims[:1], 3) == "Of 1 claim, 1 is refuted; 2 claims not measured yet."
    assert headline((), 3) == "No claim has been measured yet."


def test_marks_follow_the_comparisons(claims):
    marks = {row.number: {one.mark for one in row.comparisons} for row in map(claim_row, claims)}
    assert marks[2] == {"agrees"}
    assert marks[1] == {"deviates"}


def test_the_numbers_are_those_measured(text, published, described, corrected):
    page = Page(text).text
    base = published.base("sgd")
    assert f"{base.mean:.1f} (" in page
    ratio, error = published.scans[0].ratio
    assert f"{ratio:.3f} ± {error:.3f}" in page
    assert "2 of 3 runs at k = 2 leave at the very step" in page
    assert "0 of 40 runs left" in page
    power = corrected.fits[0].power
    assert f"{power.value:.3f} ({power.low:.3f} to {power.high:.3f})" in page
    assert "contrast x has 1 cell" in page
    for opening in OPENINGS:
        assert formula(opening.choice) in page
    slope = described.scans[0].slope
    assert f"{abs(slope.slope):.3f}" in page


def test_where_the_law_fails_the_reason_is_shown(text):
    assert "many directions spread at once" in Page(text).text
    assert "1 diffusive" in Page(text).text


def test_text_stays_text(text):
    assert "<paper>" not in text
    assert "<data>" not in text
    assert "escapade reproduce <paper>" in Page(text).text


@pytest.mark.parametrize("missing", ["published", "described", "corrected", "claims"])
def test_a_part_that_was_not_run_is_left_out(whole, missing):
    less = replace(whole, **{missing: () if missing == "claims" else None})
    text = render(less, {})
    names = [given.get("id") for _, given in Page(text).elements]
    assert ("ledger" if missing == "claims" else missing) not in names
    assert "protocols" in names


def only(described, kept):
    """The described scans with those of their points that are kept."""
    scans = []
    for scan in described.scans:
        pairs = [
            (value, point)
            for value, point in zip(scan.values, scan.points, strict=True)
            if kept(scan.quantity, value)
        ]
        values, points = zip(*pairs, strict=True) if pairs else ((), ())
        scans.append(replace(scan, values=values, points=points))
    return replace(described, scans=tuple(scans))


@pytest.mark.parametrize(
    "kept",
    [
        lambda quantity, value: quantity != "learning_rate",
        lambda quantity, value: quantity == "sharpness",
        lambda quantity, value: (quantity, value) == ("size", 1.5),
        lambda quantity, value: value > 1.0,
        lambda quantity, value: False,
    ],
    ids=["a scan missing", "one scan", "one point", "without the base", "nothing"],
)
def test_what_was_computed_is_shown_where_cells_failed(whole, kept):
    partly = replace(whole, described=only(whole.described, kept))
    page = Page(render(partly, drawn(partly)))
    points = [point for scan in partly.described.scans for point in scan.points]
    names = [given.get("id") for _, given in page.elements]
    assert ("described" in names) == bool(points)
    for point in points:
        assert f"{number(point.sample.mean)} (" in page.text


def test_runs_that_all_stayed_are_bounds(whole):
    stayed = replace(
        whole.described,
        scans=tuple(
            replace(scan, points=tuple(
                replace(point, sample=sample_of(np.inf)) for point in scan.points
            ))
            for scan in whole.described.scans
        ),
    )  # fmt: skip
    partly = replace(whole, described=stayed)
    low = stayed.scans[0].points[0].sample.interval[0]
    assert f"> {number(low)}" in Page(render(partly, drawn(partly))).text


def test_a_full_run_says_nothing_of_quick(whole):
    full = replace(
        whole,
        published=replace(whole.published, quick=False),
        described=replace(whole.described, quick=False),
        corrected=replace(whole.corrected, quick=False),
    )
    assert "quick run" in Page(render(whole, {})).text
    assert "quick run" not in Page(render(full, {})).text


def test_page_and_figures_are_written(whole, tmp_path):
    only = Reproduction(whole.paper, claims=whole.claims[:1])
    page = write_reproduction(only, tmp_path / "new")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "new" / "figures" / "claim-1.png").stat().st_size > 1000
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        write_reproduction(only, tmp_path / "file")


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ("E[nu] ~ exp(lambda_max^(-1))", "E[ν] ~ exp(λ_max⁻¹)"),
        ("(B / eta) V0 and r^2", "(B / η) V₀ and r²"),
        ("theta, beta, mean_nu", "θ, beta, mean_ν"),
        ("lambda_min^(1/2) at 1.5e-07", "λ_min^(1/2) at 1.5×10⁻⁷"),  # noqa: RUF001
    ],
)
def test_formulas(plain, shown):
    assert formula(plain) == shown


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (1.2345678, (1.2345678 - 1e-9, 1.2345678 + 1e-9), ("1.2346", "exact to 1×10⁻⁹")),  # noqa: RUF001
        (0.5, (0.4, 0.6), ("0.500", "0.400 – 0.600")),  # noqa: RUF001
        (0.0, (0.0, 0.0), ("0", "exact to 0")),
        (-3e-18, (-2e-14, 2e-14), ("0", "exact to 2×10⁻¹⁴")),  # noqa: RUF001
    ],
)
def test_how_well_a_number_is_known(value, interval, shown):
    row = quantity_row(Quantity("x", value, interval))
    assert (row.value, row.interval) == shown
