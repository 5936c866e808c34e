"""The figure of escape before stationarity shows the numbers it is given."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.report import formats, svg
from escapade.report.figures import Course, stationarity
from escapade.theory.relaxation import hazard_ratio, relaxation

STEPS = np.unique(np.geomspace(1, 30_000, 60).astype(int))


@pytest.fixture(scope="module")
def escape():
    return esc.Escape(
        esc.landscapes.Quadratic([1.0, 0.1, 1e-3]),
        esc.GaussianSGD(0.2, 1.0, esc.noise.HessianProportional()),
        esc.Slab([1.0, 0, 0], 0.85),
    )


@pytest.fixture(scope="module")
def courses(escape):
    found = relaxation(escape)
    law = hazard_ratio(escape, STEPS)
    survival = np.exp(-STEPS / found.exit_time)
    return [
        Course(
            "exact",
            found,
            STEPS,
            law,
            exact_hazard=law + 1e-4,
            exact_survival=survival,
            settled_survival=survival**1.01,
        ),
        Course(
            "measured",
            found,
            STEPS,
            law,
            survival=survival,
            sample=esc.simulate(escape, 600, max_steps=20_000, key=1),
        ),
    ]


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_curves_and_measurements_stand_where_they_are(courses):
    figure = stationarity(courses, "a title")
    exact_top, measured_top, exact_bottom, measured_bottom = figure.axes[:4]
    assert figure.get_suptitle() == "a title"
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["exact", "measured"]
    for axes, course in ((exact_top, courses[0]), (measured_top, courses[1])):
        (law,) = lines(axes, "law")
        assert np.array_equal(law.get_xdata(), STEPS)
        assert np.array_equal(law.get_ydata(), course.law)
    assert np.array_equal(lines(exact_top, "exact-hazard")[0].get_ydata(), courses[0].exact_hazard)
    (settled,) = lines(exact_bottom, "settled-survival")
    assert np.array_equal(settled.get_ydata(), courses[0].settled_survival)

    sample, scale = courses[1].sample, courses[1].relaxation.exit_time
    drawn = {float(x.get_xdata()[0]): x.get_ydata()[0] for x in lines(measured_top, "measured")}
    first_steps = [(sample.times == step).sum() for step in (1, 2, 3)]
    inside = 600 - np.cumsum([0, *first_steps[:-1]])
    for step, exits, at_risk in zip((1, 2, 3), first_steps, inside, strict=True):
        assert drawn[float(step)] == pytest.approx(scale * exits / at_risk)
    (curve,) = lines(measured_bottom, "measured-survival")
    half = np.searchsorted(STEPS, np.median(sample.times))
    assert curve.get_ydata()[half] == pytest.approx(np.mean(sample.times > STEPS[half]))


def test_every_direction_is_marked_on_the_curve(courses):
    found = courses[0].relaxation
    assert found.unrelaxed == 1
    for axes in stationarity(courses).axes[2:4]:
        before, after = lines(axes, "directions")
        assert before.get_xdata() == pytest.approx(found.times[:2])
        assert after.get_xdata() == pytest.approx(found.times[2:])
        assert before.get_markerfacecolor() != after.get_markerfacecolor()
        assert axes.texts[1].get_text() == "1 of 3 directions\nnot relaxed yet"
    # The direction of the exit relaxes within 4.5 steps, so step 4 is the last before.
    exact, measured = (axes.texts[0].get_text() for axes in stationarity(courses).axes[2:4])
    assert exact == f"{formats.percent(1 - np.exp(-4 / found.exit_time))} have left"
    left = np.mean(courses[1].sample.times <= 4)
    assert measured == f"{formats.percent(left)} have left"


def test_a_user_needs_a_prediction_and_a_sample_only(escape, courses):
    alone = Course("mine", courses[1].relaxation, STEPS, courses[1].law)
    figure = stationarity([alone])
    assert not lines(figure.axes[1], "directions")
    assert svg.save(figure, "svg") == svg.save(stationarity([alone]), "svg")
    measured = Course("mine", alone.relaxation, STEPS, alone.law, sample=courses[1].sample)
    assert len(lines(stationarity([measured]).axes[1], "directions")) == 2


def test_an_empty_figure_is_refused():
    with pytest.raises(InvalidArgument, match="at least one Course"):
        stationarity([])
