"""The corrected protocol: fits with known answers, calibrated intervals, and a run end to end."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from escapade.errors import StudyError
from escapade.exits import ExitSample, RareExit, log_slope
from escapade.reproduction.corrected import CONTRASTS, Contrast, CorrectedResult, Estimate, fit
from escapade.reproduction.corrected.contrasts import VARIABLES
from escapade.reproduction.corrected.result import collect
from escapade.reproduction.corrected.run import (
    STUDIES,
    load_corrected,
    run_corrected,
    specification,
)
from escapade.study import Cell, CellResult
from escapade.study.problem import Problem, build_landscape, find_study_minimum
from escapade.theory import Diagnosis, Groups, Prediction

DEPTHS = (1.0, 2.0, 4.0, 8.0)
LAW = Contrast("law", "?", "synthetic", {}, "size", 1.0, "", {"linear": 1.0, "square": 2.0})


def groups_of(barrier):
    return Groups(barrier, 1.0, 0.1, 2.0, 0.1, (100.0, 10.0))


def sample_of(times):
    times = np.asarray(times)
    flags = np.zeros(times.size, bool)
    return ExitSample(
        times=times,
        censored=flags,
        diverged=flags,
        exit_points=np.zeros((times.size, 1)),
        start=np.zeros(1),
        max_steps=int(times.max()),
        seconds=0.0,
        precision="float32",
        engine="synthetic",
        key="0",
    )


def rare_of(random, mean, runs=16, spread=0.4):
    """Unbiased estimates of the rate 1 / mean with a relative spread."""
    rates = random.gamma(spread**-2, spread**2 / mean, runs)
    return RareExit(
        rates=rates,
        fluxes=np.ones(runs),
        probabilities=rates,
        threshold=0.0,
        exit_points=np.zeros((1, 1)),
        exit_weights=np.ones(1),
        paths=(),
        steps_used=1,
        burn_in=1,
        relaxation_time=None,
        method="splitting",
        seconds=0.0,
    )


def result_of(measured, size, log_predicted, barrier, error=0.0):
    """A cell of batch size and learning rate 1, so that the exponent is the barrier."""
    groups = groups_of(barrier)
    prediction = Prediction("law", log_predicted, error, barrier, groups, (), "")
    rare = measured if isinstance(measured, RareExit) else None
    return CellResult(
        cell=Cell("gaussian", 1.0, 1, 1.0, "sublevel", size, 8, 100, runs=16 if rare else 0),
        sample=None if rare else measured,
        rare=rare,
        prediction=prediction,
        exponential_law=prediction,
        diagnosis=Diagnosis("activated", "b", groups),
        exit_shares=np.ones(1),
    )


def synthetic(random, barrier, prefactor=5.0, replicas=400, rare_above=6.0, error=0.0):
    """Exits that follow log E = log prefactor + barrier(depth); the law predicted is depth^1."""
    results = []
    for depth in DEPTHS:
        mean = prefactor * np.exp(barrier(depth))
        deep = depth > rare_above
        measured = (
            rare_of(random, mean) if deep else sample_of(random.geometric(1 / mean, replicas))
        )
        results.append(result_of(measured, depth, np.log(5.0) + 1.5 * depth, 1.5 * depth, error))
    return results


def test_a_law_that_holds_is_found():
    found = fit(LAW, synthetic(np.random.default_rng(0), lambda depth: 1.5 * depth))
    assert found.x == DEPTHS
    assert found.barriers == pytest.approx([1.5 * depth for depth in DEPTHS])
    for estimate, truth in (
        (found.law_slope, 1.0),
        (found.law_intercept, 0.0),
        (found.log_ratio, 0.0),
        (found.line_slope, 1.5),
        (found.line_intercept, np.log(5.0)),
        (found.power, 1.0),
    ):
        assert estimate.predicted == pytest.approx(truth, abs=1e-12)
        assert estimate.low < truth < estimate.high
        assert estimate.systematic == 0
    assert found.line_slope.agrees
    assert found.rivals == {"linear": (1.0, True), "square": (2.0, False)}
    assert found.p_value > 0.01


def test_another_law_is_told_apart():
    # The exponent grows as the square root of the depth; so does nothing that is predicted.
    found = fit(LAW, synthetic(np.random.default_rng(0), lambda depth: 3 * depth**0.5))
    assert found.power.low < 0.5 < found.power.high
    assert found.power.high < 0.7
    assert not found.law_slope.covers
    assert not found.line_slope.agrees
    assert found.rivals["linear"] == (1.0, False)
    assert found.p_value < 1e-6


def test_another_prefactor_is_told_apart():
    found = fit(LAW, synthetic(np.random.default_rng(0), lambda depth: 1.5 * depth, prefactor=10))
    assert found.law_slope.covers
    assert found.log_ratio.low < np.log(2) < found.log_ratio.high
    assert found.line_intercept.low < np.log(10) < found.line_intercept.high
    assert not found.law_intercept.covers


def test_rivals_are_judged_in_the_limit_of_small_steps():
    # A barrier depth (1 - depth / 40): the finite step bends the power, for every law alike.
    random, results = np.random.default_rng(0), []
    for depth in DEPTHS:
        barrier = 1.5 * depth * (1 - depth / 40)
        times = random.geometric(np.exp(-barrier) / 5, 4000)
        results.append(result_of(sample_of(times), depth, np.log(5.0) + barrier, barrier))
    found = fit(LAW, results)
    assert found.power.high < 1
    assert found.power.predicted == pytest.approx(found.power.value, abs=0.03)
    assert found.rivals["linear"][1]


def test_stated_errors_widen_what_is_allowed():
    def at(error):
        results = synthetic(np.random.default_rng(0), lambda depth: 1.5 * depth, 5.5, error=error)
        return fit(LAW, results).log_ratio

    # Errors of the predictions all act together here: the mean is off by as much.
    assert at(0.3).systematic == pytest.approx(0.3)
    assert not at(0.0).allows(0.0)
    assert at(0.3).allows(0.0)
    assert not at(0.3).covers


def test_intervals_cover():
    # 95 % intervals of slopes, intercepts and powers, over samples and splittings together.
    random, trials = np.random.default_rng(5), 200
    truths = {"law_slope": 1.0, "line_slope": 1.5, "line_intercept": np.log(5.0), "power": 1.0}
    inside = dict.fromkeys(truths, 0)
    for _ in range(trials):
        results = synthetic(random, lambda depth: 1.5 * depth, replicas=150)
        found = fit(LAW, results, resamples=400)
        for name, truth in truths.items():
            estimate = getattr(found, name)
            inside[name] += estimate.low <= truth <= estimate.high
    # Binomial: the standard error of the coverage is 1.5 %.
    for name, count in inside.items():
        assert abs(count / trials - 0.95) < 3.5 * 0.0154, name


def test_rare_exits_stand_beside_samples_in_regressions():
    random = np.random.default_rng(1)
    means = np.exp([4.0, 6.0, 20.0, 30.0])
    samples = [sample_of(random.geometric(1 / mean, 500)) for mean in means[:2]]
    line = log_slope([*samples, *(rare_of(random, mean) for mean in means[2:])], np.log(means))
    assert line.slope_interval[0] < 1 < line.slope_interval[1]
    assert line.errors[2:] == pytest.approx(0.1, rel=0.6)
    # Half a Student's interval with 15 degrees of freedom, not a normal one.
    low, high = log_slope([rare_of(random, mean) for mean in means[2:]], [0.0, 1.0]).slope_interval
    errors = np.hypot(*log_slope([rare_of(random, mean) for mean in means[2:]], [0.0, 1.0]).errors)
    assert high - low == pytest.approx(2 * 2.1 * errors, rel=0.6)


def test_equal_predictions_give_a_ratio_but_no_slope():
    random = np.random.default_rng(2)
    results = [
        result_of(sample_of(random.geometric(1 / 220, 400)), depth, np.log(200.0), 4.0)
        for depth in DEPTHS
    ]
    found = fit(replace(LAW, variable=""), results)
    assert found.law_slope is None
    assert found.power is None
    assert found.log_ratio.low < np.log(1.1) < found.log_ratio.high
    assert "slope" not in str(found)


def test_cells_without_exits_or_predictions_are_left_out():
    results = synthetic(np.random.default_rng(0), lambda depth: 1.5 * depth)
    silent = replace(results[0], prediction=None)
    assert fit(LAW, [silent, *results[1:]]).x == DEPTHS[1:]
    with pytest.raises(StudyError, match="contrast 'law' has 1 cells"):
        fit(LAW, [silent, results[1]])


# The protocol


def test_studies_and_contrasts_belong_together():
    assert [specification(name).name for name in STUDIES] == list(STUDIES)
    assert {contrast.study for contrast in CONTRASTS} == set(STUDIES)
    assert {contrast.variable for contrast in CONTRASTS} - {""} <= set(VARIABLES)
    assert len({contrast.name for contrast in CONTRASTS}) == len(CONTRASTS)


def planned(name):
    """Every cell of an analytic study, as results without a measurement."""
    study = specification(name)
    landscape = build_landscape(study.landscape, study.seed)
    problem = Problem(study, landscape, find_study_minimum(study, landscape).theta)
    sample = sample_of(np.arange(1, 9))
    return [replace(result_of(sample, 1.0, 1.0, 1.0), cell=cell) for cell in problem.plan(False)]


@pytest.mark.parametrize(
    "name", ["quadratic", pytest.param("styblinski_tang", marks=pytest.mark.slow)]
)
def test_every_contrast_varies_one_thing_over_a_decade(name):
    results = planned(name)
    for contrast in (one for one in CONTRASTS if one.study == name):
        cells = [result.cell for result in contrast.select(results)]
        if not contrast.variable:
            assert len(cells) >= 8
            continue
        values = [contrast.value(cell) for cell in cells]
        assert values == sorted(set(values))
        # Of a length the barrier grows as the square.
        decade = 3 if contrast.power == 2 else 9.9
        assert values[-1] / values[0] > decade, contrast.name
        ignored = {contrast.variable, "replicas", "runs", "max_steps", "burn_in"}
        if contrast.name == "constant B / eta":
            ignored.add("batch_size")
        for entry in set(asdict(cells[0])) - ignored:
            assert len({getattr(cell, entry) for cell in cells}) == 1, (contrast.name, entry)


@pytest.mark.slow
def test_a_quick_run_from_end_to_end(tmp_path):
    result = run_corrected(tmp_path, quick=True, workers=2, studies=("quadratic",), command="this")
    assert result.planned == len(result.points) == 12
    assert result.seeds == {"quadratic": 0}
    found = result.fit("depth, C = cH, lambda_max")
    # Deep cells are split, and have no exit times.
    points = result.points_of(found)
    assert [point.cell.splits for point in points] == [True, True, False, False]
    assert np.isnan(points[0].variation)
    assert points[-1].exponential
    assert max(found.barriers) > 30
    # The power of sharpness at a fixed depth is -1, not -1/2.
    assert found.rivals == {
        name: (power, power == -1.0) for name, (power, _) in found.rivals.items()
    }
    assert len(found.rivals) == 2
    assert abs(found.law_slope.value - 1) < 0.05
    # At a fixed radius there is none, as version 1 says of the largest eigenvalue, too.
    radius = result.fit("radius, C = cH, lambda_max")
    assert all(allowed == (power == 0.0) for power, allowed in radius.rivals.values())
    assert radius.power.allows(radius.power.predicted)
    assert any("Avila" in text for text in result.missing)

    loaded = load_corrected(tmp_path)
    assert json.dumps(asdict(loaded)) == json.dumps(asdict(result))
    assert isinstance(loaded, CorrectedResult)
    assert loaded.points[0].cell == result.points[0].cell
    assert loaded.fits[0].power == result.fits[0].power


def test_agreement_of_small_and_large_powers():
    assert Estimate(0.04, -0.01, 0.09, predicted=0.01, systematic=0.0).agrees
    assert not Estimate(0.2, -0.1, 0.5, predicted=0.01, systematic=0.0).agrees
    assert not Estimate(0.04, 0.02, 0.06, predicted=0.01, systematic=0.0).agrees
    assert Estimate(1.9, 1.7, 2.1, predicted=2.0, systematic=0.0).agrees


def test_version_1_is_about_the_smallest_eigenvalue():
    """Its power is that of the exponent it prints, along each contrast that names it."""
    results, powers = planned("quadratic"), []
    for contrast in CONTRASTS:
        claimed = [power for name, power in contrast.rivals.items() if "lambda_min" in name]
        if not claimed:
            continue
        cells = [result.cell for result in contrast.select(results)]
        assert {cell.region for cell in cells} == {"ball"}
        # The other eigenvalues, 0.2 and 0.1, follow the factor and not the largest.
        smallest = [0.1 * cell.sharpness for cell in cells]
        x = [contrast.value(cell) for cell in cells]
        slope = np.polyfit(np.log(x), np.log(smallest), 1)[0] / 2
        assert claimed == [pytest.approx(slope, abs=1e-12)]
        powers += claimed
    assert powers == [0.0, 0.5]


def test_nothing_finished_gives_no_fit():
    nothing = collect([], quick=True, command="", seconds=0.0)
    assert nothing.fits == ()
    assert len(nothing.missing) == len(CONTRASTS)
    with pytest.raises(KeyError):
        nothing.fit("radius, C = cH, radius")
