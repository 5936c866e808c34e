"""The page of an inspection tells what was found, with errors, and needs nothing but itself."""

import json
import re
from dataclasses import replace

import equinox as eqx
import numpy as np
import pytest
from report.pages import Page

import escapade as esc
from escapade.errors import StudyError
from escapade.inspection import inspect
from escapade.inspection.text import answer, failure_names, reliability, summary
from escapade.report import formats, write_inspection
from escapade.report.inspection.figures import drawn
from escapade.report.inspection.figures.escape_map import escape_map
from escapade.report.inspection.page import render
from escapade.report.inspection.words import changes, directions, estimates, exit_row


@pytest.fixture(scope="module")
def landscape():
    network = esc.landscapes.MLP((30, 2, 2))
    raw = esc.landscapes.network_landscape(network, esc.data.breast_cancer(), weight_decay=1e-2)
    return raw.at_minimum(esc.train(raw, steps=300).theta)


@pytest.fixture(scope="module")
def unstable(landscape):
    return inspect(landscape, learning_rate=50.0, batch_size=16, count=3)


@pytest.fixture(scope="module")
def found(landscape, unstable):
    """Two exits along the sharpest direction."""
    along = unstable.curvature.vectors[:, 0]
    reach = np.sqrt(0.2 / unstable.sharpness)
    regions = [esc.Slab(along, 0.5 * reach), esc.HalfSpace(along, 0.7 * reach)]
    return inspect(landscape, learning_rate=0.2, batch_size=32, count=3, regions=regions)


@pytest.fixture(scope="module")
def trusted(found):
    """The same, were all assumptions to hold."""
    outlooks = []
    for outlook in found.outlooks:
        lines = tuple(line.replace("FAILS", "holds") for line in outlook.prediction.assumptions)
        outlooks.append(eqx.tree_at(lambda o: o.prediction.assumptions, outlook, lines))
    return replace(found, outlooks=tuple(outlooks))


@pytest.fixture(scope="module")
def hurried(found):
    """Everything left out that a time budget can leave out, and a name to be escaped."""
    return replace(
        found,
        network="<script>alert('x')</script> & more",
        noise=None,
        density=None,
        outlooks=(),
        escape_map=None,
        changes=(),
        skipped=("escape map", "exit from the <b>"),
    )


@pytest.fixture(scope="module")
def pages(found, trusted, unstable, hurried):
    return {
        name: render(inspection, drawn(inspection), "escapade inspect 'a b.py' <x>")
        for name, inspection in (
            ("found", found), ("trusted", trusted), ("unstable", unstable), ("hurried", hurried)
        )
    }  # fmt: skip


def test_pages_parse_and_their_identifiers_are_unique(pages):
    for text in pages.values():
        names = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
        assert len(names) == len(set(names))


def test_pages_need_nothing_from_outside(pages):
    for text in pages.values():
        assert "://" not in text
        for tag, attributes in Page(text).elements:
            assert "src" not in attributes
            assert tag not in ("iframe", "object", "embed", "base")
            if "href" in attributes:
                assert attributes["href"].startswith("#") or attributes["href"].startswith("data:")


def test_pages_are_accessible(pages):
    for text in pages.values():
        elements = Page(text).elements
        assert dict(elements[0][1]).get("lang") == "en"
        assert sum(tag == "h1" for tag, _ in elements) == 1
        assert all(attributes.get("aria-label") for tag, attributes in elements if tag == "svg")
        assert all(attributes.get("scope") for tag, attributes in elements if tag == "th")
        assert "prefers-color-scheme: dark" in text


def test_figures_follow_the_colours_of_the_page(pages):
    assert "var(--vermillion)" in pages["found"]
    assert "var(--ink)" in pages["found"]


def test_the_answer_comes_first_and_says_how_far_to_trust_it(pages, found, trusted):
    for name, inspection in (("found", found), ("trusted", trusted)):
        text = Page(pages[name]).text
        what, trust = (formats.typeset(sentence) for sentence in answer(inspection))
        assert text.index(what) < text.index(trust) < text.index("Expected steps")
    fails = failure_names(found.first_exit)
    assert fails
    assert "; ".join(fails) in answer(found)[1]
    assert "is predicted to " in answer(found)[0]
    assert "is predicted to " not in answer(trusted)[0]
    sure = eqx.tree_at(lambda o: o.prediction.relative_error, trusted.outlooks[0], 0.02)
    vague = eqx.tree_at(lambda o: o.prediction.relative_error, trusted.outlooks[0], 7.0)
    for outlook, said in ((sure, "± 2 %"), (vague, "is large (factor 8)")):
        assert said in answer(replace(trusted, outlooks=(outlook,)))[1]


def test_every_exit_is_in_the_table(pages, trusted):
    text = Page(pages["trusted"]).text
    for outlook in trusted.outlooks:
        row = exit_row(outlook)
        assert row.steps == formats.number(outlook.prediction.mean)
        assert row.barrier == formats.number(outlook.prediction.groups.barrier)
        assert f"{row.steps} {row.error} {row.barrier}" in text
        assert len(row.holding) == len(outlook.prediction.assumptions)
        assert row.failing == []


@pytest.mark.parametrize(
    ("error", "told"),
    [(1e-9, "± 0.1 %"), (0.0312, "± 3.1 %"), (1.5, "factor 2.5"), (1e6, "exponent only"),
     (np.inf, "exponent only")],
)  # fmt: skip
def test_stated_errors_are_told(trusted, error, told):
    outlook = eqx.tree_at(lambda o: o.prediction.relative_error, trusted.outlooks[0], error)
    assert reliability(outlook) == told


def test_failed_assumptions_replace_the_stated_error(pages, found):
    text = Page(pages["found"]).text
    for outlook in found.outlooks:
        assert exit_row(outlook).error == "assumptions fail"
        for line in exit_row(outlook).failing:
            assert line in text


def test_an_exit_that_is_no_prediction_is_an_order_of_magnitude(unstable):
    assert all(reliability(outlook) == "order of magnitude" for outlook in unstable.outlooks)
    assert "does not stay here" in answer(unstable)[0]
    assert "UNSTABLE" in summary(unstable)


def test_an_exit_later_than_any_run_is_none(trusted):
    late = eqx.tree_at(lambda o: o.steps, trusted.outlooks[0], 1e30)
    for steps in (1e30, np.inf):
        late = eqx.tree_at(lambda o: o.steps, late, steps)
        what, _ = answer(replace(trusted, outlooks=(late,)))
        assert "stays: no exit from" in what


def test_a_point_that_is_no_minimum_is_said_to_be_none(trusted):
    at = eqx.tree_at(lambda s: s.verdict, trusted.stationarity, "saddle")
    assert "a saddle: the loss curves downwards" in answer(replace(trusted, stationarity=at))[1]


def test_directions_and_sizes_are_those_found(found):
    rows = directions(found)
    assert [row[1] for row in rows] == [formats.number(v, 4) for v in found.curvature.values]
    ratio = found.noise_shape.variance[0] / (found.alignment.c.value * found.curvature.values[0])
    assert rows[0][4] == formats.ratio(float(ratio))
    told = {name: (value, error) for name, value, error in estimates(found)}
    assert told["cosine of C and H"] == (formats.number(found.alignment.cosine.value, 4), "exact")


def test_changes_are_told_as_factors(found):
    for (text, _, _, _, factor, mechanism), change in zip(
        changes(found), found.changes, strict=True
    ):
        assert (text, mechanism) == (change.text, change.mechanism)
        assert factor == formats.ratio(change.steps / found.first_exit.steps)


def test_what_was_left_out_is_named_and_nothing_is_executed(pages):
    text = Page(pages["hurried"]).text
    assert "exit from the <b>" in text
    assert "escapade inspect 'a b.py' <x>" in text
    assert "<script>alert" not in pages["hurried"]
    assert "How long SGD stays" not in text
    assert "was not followed out of here" in text


def test_the_map_shows_every_setting_and_rings_this_one(found):
    figure = escape_map(found)
    axes = figure.axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert len(shown) == found.escape_map.steps.size
    quick = found.escape_map.steps[found.escape_map.steps < 999]
    assert sum(text.isascii() for text in shown) == len(quick)
    (ring,) = (line for line in axes.lines if line.get_gid() == "here")
    assert ring.get_xydata().tolist() == [[found.batch_size, found.learning_rate]]
    # At the batch size of the inspection, the curve is the limit that was measured.
    (curve,) = (line for line in axes.lines if line.get_gid() == "limit-square")
    at = np.interp(np.log(found.batch_size), np.log(curve.get_xdata()), curve.get_ydata())
    assert at == pytest.approx(found.stability.mean_square_limit, rel=1e-2)


def test_the_density_of_one_eigenvalue_has_height_one(found):
    axes = drawn(found)["spectrum"].axes[0]
    (curve,) = (line for line in axes.lines if line.get_label() == "spectral density")
    x, y = curve.get_xdata(), curve.get_ydata()
    top = found.curvature.values[0]
    assert y[np.argmin(abs(x - top))] == pytest.approx(1, abs=0.05)


def test_files_are_written_whole(found, tmp_path):
    page = write_inspection(found, tmp_path / "new", command="escapade inspect x")
    assert page == tmp_path / "new" / "inspection.html"
    stored = json.loads((page.parent / "inspection.json").read_text())
    assert stored["curvature"]["values"] == found.curvature.values.tolist()
    names = {path.name for path in (page.parent / "figures").iterdir()}
    assert names == {f"{name}.{form}" for name in drawn(found) for form in ("png", "svg")}
    assert not list(page.parent.glob(".*"))


def test_a_folder_that_is_a_file_is_named(hurried, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StudyError, match=r"taken.*choose another folder"):
        write_inspection(hurried, tmp_path / "taken")


@pytest.mark.parametrize(
    ("plain", "natural"),
    [
        ("about 1.34e+03 steps", "about 1,340 steps"),
        ("1e+05 and 3e-31", "100,000 and 3×10⁻³¹"),  # noqa: RUF001
        ("change by -1.6e+02", "change by −160"),  # noqa: RUF001
        ("in float64, layer-2, v1.2", "in float64, layer-2, v1.2"),
    ],
)
def test_sentences_are_typeset(plain, natural):
    assert formats.typeset(plain) == natural


def test_a_summary_fits_a_terminal(found, unstable, hurried):
    for inspection in (found, unstable, hurried):
        lines = summary(inspection).splitlines()
        assert max(map(len, lines)) <= 100
        for sentence in answer(inspection):
            assert sentence in re.sub(r"\s+", " ", " ".join(lines))
