"""The answer in words says what the numbers say."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from escapade.report import words
from escapade.report.reading import TOLERANCE, read_all

from .conftest import cell_result, study_of

MANY = 20_000  # exits, for an interval of about 1.4 %


def activated(ratio, replicas=MANY, dynamics="minibatch", **more):
    """An activated cell with exactly this ratio of measured and predicted mean."""
    times = np.random.default_rng(5).geometric(1 / 400, replicas)
    return cell_result(dynamics, times=times, predicted=times.mean() / ratio, **more)


def by_hand(result):
    """Mean and 95 % interval of a sample, from its times alone."""
    sample = result.sample
    kept = ~sample.diverged
    times, inside = sample.times[kept].astype(float), sample.censored[kept]
    exits = np.sum(~inside)
    mean = times.sum() / exits
    if inside.any():
        bounds = stats.chi2.ppf([0.975, 0.025], [2 * exits + 2, 2 * exits]) / 2
        return mean, times.sum() / bounds
    error = stats.t.ppf(0.975, exits - 1) * times.std(ddof=1) / np.sqrt(exits) / mean
    return mean, mean * np.exp([-error, error])


def verdict_by_hand(result):
    if result.diagnosis.mechanism != "activated" or result.prediction is None:
        return ""
    if result.diagnosis.groups.shell_ratio >= 0.25:
        return ""
    low, high = by_hand(result)[1] / np.exp(result.prediction.log_mean)
    if low >= 0.85 and high <= 1.15:
        return "agrees"
    return "deviates" if high < 0.85 or low > 1.15 else "open"


def test_readings_and_verdicts_follow_from_the_raw_times(good):
    for result, reading in zip(good.cells, read_all(good), strict=True):
        mean, interval = by_hand(result)
        assert reading.mean == pytest.approx(mean, rel=1e-12)
        assert (reading.lower, reading.upper) == pytest.approx(tuple(interval), rel=1e-9)
        assert np.exp(reading.log_ratio[1]) == pytest.approx(mean / result.prediction.mean)
        assert reading.verdict == verdict_by_hand(result)


def test_the_headline_counts_the_verdicts(good):
    verdicts = [verdict_by_hand(result) for result in good.cells]
    agree, deviate, undecided = map(verdicts.count, ("agrees", "deviates", "open"))
    assert agree
    assert deviate
    deviating = [result for result in good.cells if verdict_by_hand(result) == "deviates"]
    assert all("FAILS" in " ".join(result.prediction.assumptions) for result in deviating)
    headline = words.answer(good).headline
    found = re.search(
        r"within 15 % wherever its assumptions hold and the measurement can tell \((\d+) cells?\); "
        r"where it warns that they fail, it is off by up to a factor of ([\d.]+) \((\d+) cells?\)",
        headline,
    )
    assert [int(found[1]), int(found[3])] == [agree, deviate]
    ratios = [by_hand(result)[0] / result.prediction.mean for result in deviating]
    worst = np.exp(max(abs(np.log(ratio)) for ratio in ratios))
    assert float(found[2]) == pytest.approx(worst, rel=0.05)
    assert f"{undecided} more cells are too uncertain to tell" in headline


def test_a_deviation_without_warning_is_in_the_headline(good):
    def silenced(result):
        holds = ("holds: everything, it says",)
        return replace(result, prediction=replace(result.prediction, assumptions=holds))

    cells = tuple(
        silenced(result) if verdict_by_hand(result) == "deviates" else result
        for result in good.cells
    )
    verdicts = [verdict_by_hand(result) for result in cells]
    agree, deviate, undecided = map(verdicts.count, ("agrees", "deviates", "open"))
    headline = words.answer(replace(good, cells=cells)).headline
    found = re.search(r"within 15 % in (\d+) of (\d+) cells compared; (\d+) deviates", headline)
    assert [int(text) for text in found.groups()] == [agree, agree + deviate + undecided, deviate]
    assert f"{undecided} are too uncertain to tell" in headline


def test_the_lead_gives_the_range_of_ratios_and_barriers(good):
    judged = [result for result in good.cells if verdict_by_hand(result)]
    ratios = [by_hand(result)[0] / result.prediction.mean for result in judged]
    barriers = [result.diagnosis.groups.barrier for result in judged]
    plain = [
        np.exp(abs(np.log(by_hand(result)[0]) - result.exponential_law.log_mean))
        for result in judged
    ]
    lead = words.answer(good).lead
    assert f"{len(judged)} cells" in lead
    assert f"b = {min(barriers):.1f} to {max(barriers):.1f}" in lead
    assert f"{min(ratios):.2f} to {max(ratios):.2f};" in lead
    intervals = [by_hand(result)[1] / result.prediction.mean for result in judged]
    inside = sum(low <= 1 <= high for low, high in intervals)
    assert f"contains the prediction in {inside} of {len(judged)}." in lead
    assert f"off by a factor of {min(plain):.2f} to {max(plain):.2f}" in lead


def test_support_is_given_by_dynamics(good):
    support = words.answer(good).support
    assert [line.split(",")[0] for line in support] == [
        "Minibatch SGD",
        "Minibatch SGD without replacement",
        "Gaussian SGD",
    ]
    gaussian = [
        result
        for result in good.cells
        if result.cell.dynamics == "gaussian" and verdict_by_hand(result)
    ]
    times = [result.sample.times for result in gaussian]
    variations = [t.std(ddof=1) / t.mean() for t in times]
    assert f"{min(variations):.2f} to {max(variations):.2f}" in support[2]
    assert support[2].startswith(f"Gaussian SGD, {len(gaussian)} cells")


def test_a_deviating_cell_is_named_with_its_ratio_and_the_warning_of_the_prediction(good):
    (result,) = [cell for cell in good.cells if verdict_by_hand(cell) == "deviates"]
    line, separation = words.answer(good).failures
    mean, interval = by_hand(result)
    low, middle, high = np.array([interval[0], mean, interval[1]]) / result.prediction.mean
    assert "B = 16, slab of half-width 0.15" in line
    assert f"ratio {middle:.2f} ({low:.2f} to {high:.2f})" in line
    assert "warns that this fails: Gaussian noise" in line
    # Every agreeing cell of this study has a larger batch.
    assert separation == "This cell has a batch size of 16 or less; no agreeing cell has."


def test_no_separation_is_claimed_where_there_is_none():
    cells = [
        activated(1.5, batch_size=16),
        activated(1.0, batch_size=16),
        activated(1.5, batch_size=64),
    ]
    assert all("agreeing" not in line for line in words.answer(study_of(cells)).failures)


def test_other_mechanisms_are_named_and_not_counted(good):
    elsewhere = words.answer(good).elsewhere
    assert [line.split(" (")[0] for line in elsewhere] == ["Diffusive", "Drift"]
    diffusive = [r for r in good.cells if r.diagnosis.mechanism == "diffusive"]
    means = [result.sample.times.mean() for result in diffusive]
    assert f"Mean exit after {min(means):.1f} to {max(means):.0f} steps" in elsewhere[0]


def test_cells_called_activated_from_their_exits_are_no_evidence(good):
    reading = read_all(good)[0]
    assert reading.activated
    assert reading.promoted
    assert reading.verdict == ""
    assert any(
        line.startswith("1 cell called activated only") for line in words.answer(good).cautions
    )
    alone = study_of([good.cells[0]])
    assert "no independent comparison is left" in words.answer(alone).headline


@pytest.mark.parametrize(
    ("cells", "pattern"),
    [
        ([1.0], r"minibatch SGD leaves the minimum .* to within 15 %: in the one cell compared"),
        ([1.0, 0.95], r"leaves the minimum .* to within 15 %: in all 2 cells compared"),
        ([1.0, 1.15], r"in 1 of 2 cells compared; 1 is too uncertain to tell"),
        ([1.0, 1.15, 0.85], r"^In the activated regime, 1 of 3 cells compared confirms"),
        ([1.15, 0.85], r"^Not decided: .* is 0.85 to 1.15, but in all 2 cells compared"),
        ([1.15], r"^Not decided: .* in the one cell compared"),
        ([1.5], r"^Theory fails here: in 1 of 1 cell"),
        ([1.5, 0.5, 1.15], r"^Theory fails here: in 2 of 3 cells .* 1 is too uncertain"),
        ([1.0, 1.5, 2.0], r"minibatch SGD to within 15 % in 1 of 3 cells compared; 2 deviate by"),
    ],
)
def test_every_case_of_the_headline(cells, pattern):
    study = study_of([activated(ratio) for ratio in cells])
    assert re.search(pattern, words.answer(study).headline)


def test_a_minority_of_agreement_is_no_claim():
    study = study_of([activated(1.0), *[activated(1.0, replicas=30)] * 5])
    headline = words.answer(study).headline
    assert "leaves the minimum" not in headline
    assert "1 of 6 cells compared confirms" in headline


def test_only_dynamics_that_agree_are_credited():
    study = study_of([activated(1.0), activated(1.0, replicas=30, dynamics="gaussian")])
    headline = words.answer(study).headline
    assert "minibatch SGD leaves the minimum" in headline
    assert "Gaussian" not in headline


def test_many_dynamics_are_counted_instead_of_named():
    names = ["minibatch", "gaussian", "continuous", "langevin"]
    study = study_of([activated(1.0, dynamics=name) for name in names])
    assert "SGD in 4 variants leaves the minimum" in words.answer(study).headline


def test_without_activated_cells_nothing_is_claimed(diffusive):
    answer = words.answer(diffusive)
    assert answer.headline.startswith("No finished cell is in the activated regime")
    assert "diffusive (3 cells)" in answer.headline
    assert answer.lead == ""
    assert answer.support == answer.failures == ()


def test_without_predictions_nothing_is_compared():
    times = np.random.default_rng(2).geometric(0.01, 100)
    answer = words.answer(study_of([cell_result(times=times, silence="the noise is degenerate")]))
    assert "no theory predicts them" in answer.headline
    assert any("the noise is degenerate" in line for line in answer.cautions)


def test_when_all_replicas_diverged_there_is_nothing_to_compare():
    study = study_of([cell_result(times=[], diverged=9, predicted=10.0)])
    assert "diverged, so there is nothing to compare" in words.answer(study).headline


def test_an_empty_study_has_no_answer(empty):
    answer = words.answer(empty)
    assert answer.headline == "No cell is finished yet, so there is no answer."
    assert answer.cautions == ("Provisional: 0 of 12 planned cells are finished.",)


def test_a_bound_above_the_prediction_deviates_and_one_below_it_says_nothing():
    inside = np.full(200, 10**6)  # none out by step 1000: mean above about 67,000 at 95 %
    bound = 200 * 1000 / -np.log(0.05)
    for predicted, verdict in [(bound / 2, "deviates"), (bound * 2, "")]:
        study = study_of([cell_result(times=inside, max_steps=1000, predicted=predicted)])
        (reading,) = read_all(study)
        assert np.isinf(reading.mean)
        assert reading.lower == pytest.approx(bound)
        assert reading.verdict == verdict
        headline = words.answer(study).headline
        assert headline.startswith("Theory fails" if verdict else "No replica left")


def test_cautions_name_everything_that_limits_the_answer(troubled):
    cautions = " ".join(words.answer(troubled).cautions)
    assert "Provisional: 8 of 20 planned cells are finished." in cautions
    assert "quick run" in cautions
    assert "1 activated cell without a prediction cannot be compared" in cautions
    assert "2 cells without any exit" in cautions
    assert "104 replicas in 2 cells diverged" in cautions


def test_means_that_lean_on_the_exponential_law_are_flagged():
    times = np.random.default_rng(4).geometric(1 / 400, 2000)
    study = study_of([cell_result(times=times, predicted=400.0, max_steps=800)])
    share = np.mean(times > 800)
    assert share > 0.1
    assert any("rests on the exponential law" in line for line in words.answer(study).cautions)


def test_cells_set_aside_as_drift_are_declared(good):
    (result,) = [r for r in good.cells if r.diagnosis.mechanism == "drift"]
    ratio = result.sample.times.mean() / result.prediction.mean
    (line,) = [line for line in words.answer(good).cautions if "drift" in line]
    assert f"measured / predicted {ratio:.2g}." in line


def test_checks_count_the_cells_in_which_they_hold(good):
    found = {check.claim.split(":")[0]: check for check in words.checks(good)}
    barriers = np.array([result.diagnosis.groups.barrier for result in good.cells])
    rare = found["Leaving is rare"]
    assert (rare.status, rare.verdict) == ("partly", f"in {np.sum(barriers >= 4)} of 16")
    assert found["The learning rate is stable at the minimum"].status == "holds"
    assert found["No replica diverged."].status == "holds"
    stated = found["The prediction's own assumptions, as it checks them cell by cell."]
    assert stated.status == "partly"
    assert "Gaussian noise in 15 of 16" in stated.evidence


def test_checks_say_where_they_fail(troubled):
    found = {check.claim.split(":")[0]: check for check in words.checks(troubled)}
    assert found["The learning rate is stable at the minimum"].verdict == "in 7 of 8"
    assert found["No replica diverged."].verdict == "in 6 of 8"
    assert "unknown in 1 cell" in found["Leaving is rare"].evidence


def test_the_rules_state_the_tolerance_used():
    assert any(
        f"{1 - TOLERANCE:.2f}" in rule and f"{1 + TOLERANCE:.2f}" in rule for rule in words.rules()
    )


def test_the_slope_of_the_logarithms_is_that_of_a_weighted_fit(good):
    judged = [reading for reading in read_all(good) if reading.verdict and reading.exits > 1]
    samples = [reading.result.sample for reading in judged]
    x = np.array([reading.log_predicted for reading in judged])
    assert np.ptp(x) > 1
    weights = [sample.mean / sample.standard_error for sample in samples]
    slope = np.polyfit(x, np.log([sample.mean for sample in samples]), 1, w=weights)[0]
    text = words._slope(judged)
    assert f"slope {slope:.3f} (95 %" in text
    assert text in words.answer(good).lead
    assert words._slope(judged[:2]) == ""
