"""All theories over all cells of a study."""

import json

import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.study.comparison import compare_study

THEORIES = ("quadratic", "exponential_law", "kramers", "ibayashi_imaizumi_v1", "levy")


def cell(width, region=esc.Slab):
    return esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(0.1, 10, esc.noise.Isotropic()),
        region([1.0], width) if region is esc.Slab else region(width),
    )


@pytest.fixture(scope="module")
def pairs():
    found = []
    for key, width in enumerate((0.12, 0.15, 0.18)):
        escape = cell(width)
        found.append((escape, esc.simulate(escape, 300, key=key)))
    ball = cell(0.2, esc.Ball)
    return [*found, (ball, esc.simulate(ball, 4, max_steps=10))]


@pytest.fixture(scope="module")
def comparison(pairs):
    return compare_study(pairs, theories=THEORIES)


def test_scores(comparison, pairs):
    assert comparison.measured == 3  # no replica left the ball
    assert len(comparison.cells) == 4
    scores = {score.theory: score for score in comparison.scores}
    assert comparison.scores[0].theory == "quadratic"
    assert scores["quadratic"].cells == 3
    errors = [
        np.log(esc.predict(escape, "kramers").mean / sample.mean) for escape, sample in pairs[:3]
    ]
    kramers = scores["kramers"]
    assert kramers.root_mean_square == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert kramers.worst == pytest.approx(max(errors, key=abs))
    low, high = scores["quadratic"].slope_interval
    assert low < 1 < high
    assert low < scores["quadratic"].slope < high


def test_the_silent_come_last_with_their_reasons(comparison):
    assert [score.theory for score in comparison.scores[-2:]] == ["ibayashi_imaizumi_v1", "levy"]
    levy = comparison.scores[-1]
    assert levy.cells == 0
    assert np.isnan(levy.root_mean_square)
    assert levy.reasons == (("needs noise with a power-law tail", 4),)
    kramers = next(score for score in comparison.scores if score.theory == "kramers")
    assert ("continuous time", 4) in kramers.reasons


def test_forms(comparison):
    assert "3 of 4 cells" in str(comparison)
    content = json.loads(comparison.to_json())
    assert content["scores"][-1]["root_mean_square"] is None
    assert len(content["cells"]) == 4


def test_rare_exits_have_slopes_too(pairs):
    """Exact means with their errors in the place of ensembles."""
    exact = [(escape, esc.solve(escape)) for escape, _ in pairs]
    found = compare_study(exact, theories=("quadratic",))
    score = found.scores[0]
    assert found.measured == 4
    assert abs(score.worst) < 0.01
    low, high = score.slope_interval
    assert low <= score.slope <= high
    assert score.slope == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("study", [3, [cell(0.12)], [(1, 2, 3)]])
def test_what_is_no_study(study):
    with pytest.raises(InvalidArgument, match="pairs"):
        compare_study(study)


def test_no_cell():
    with pytest.raises(InvalidArgument, match="no cell"):
        compare_study([])
