"""The page is complete, self-contained and safe."""

import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from report.pages import Page

from escapade.report import figures
from escapade.report.page import render
from escapade.report.reading import read_all


def rendered(study):
    return render(study, {name: getattr(figures, name)(study) for name in figures.__all__})


@pytest.fixture(scope="module")
def good_page(good):
    return rendered(good)


@pytest.fixture(scope="module")
def troubled_page(troubled):
    return rendered(troubled)


@pytest.fixture(scope="module")
def pages(good_page, troubled_page, empty, diffusive):
    return [good_page, troubled_page, rendered(empty), rendered(diffusive)]


def test_pages_parse_and_their_identifiers_are_unique(pages):
    for text in pages:
        names = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
        assert len(names) == len(set(names))


def test_pages_need_nothing_from_outside(pages):
    for text in pages:
        assert "://" not in text
        for tag, attributes in Page(text).elements:
            assert "src" not in attributes
            assert tag not in ("iframe", "object", "embed", "base")
            if "href" in attributes:
                assert attributes["href"].startswith("#") or attributes["href"] == "data:,"
        assert not re.search(r"@import|url\((?!#)", text)
        assert len(text) < 4e6


def test_every_reference_within_the_page_leads_somewhere(good_page):
    page = Page(good_page)
    names = {attributes.get("id") for _, attributes in page.elements}
    links = {attributes["href"][1:] for _, attributes in page.elements if "href" in attributes}
    assert links - {"ata:,"} <= names
    assert set(re.findall(r"url\(#([^)]+)\)", good_page)) <= names


def test_the_table_has_every_cell_with_its_numbers(good, good_page):
    for reading in read_all(good):
        body = re.search(rf'<tbody id="{reading.anchor}">(.*?)</tbody>', good_page, re.S)[1]
        keys = re.findall(r'data-key="([^"]*)"', body)
        result, cell = reading.result, reading.cell
        groups, sample = result.diagnosis.groups, result.sample
        numbers = [float(keys[place]) for place in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)]
        mean = sample.times.sum() / sample.exits
        assert numbers == pytest.approx(
            [
                cell.learning_rate,
                cell.batch_size,
                cell.sharpness,
                cell.size,
                groups.barrier,
                groups.signal_to_noise,
                groups.stiffness,
                mean,
                result.prediction.log_mean,
                np.log(mean / result.prediction.mean),
                sample.coefficient_of_variation,
                sample.exits,
                sample.exponentiality.p_value,
            ]
        )
        assert result.diagnosis.reason in body
        assert result.prediction.assumptions[0] in body.replace("&gt;", ">")


def test_unusual_cells_are_in_the_table_too(troubled, troubled_page):
    for reading in read_all(troubled):
        assert f'<tbody id="{reading.anchor}">' in troubled_page
    text = " ".join(Page(troubled_page).texts)
    assert "all diverged" in text
    assert "no exit" in text
    assert "64 censored" in text
    assert "40 diverged" in text
    assert "No prediction: the noise does not reach." in text
    assert "1.97×10⁴³⁴" in text  # noqa: RUF001
    assert "1.02×10¹²" in text  # noqa: RUF001


def test_text_stays_text(troubled, troubled_page):
    page = Page(troubled_page)
    scripts = [tag for tag, _ in page.elements if tag == "script"]
    assert len(scripts) == 1
    assert not [tag for tag, _ in page.elements if tag in ("b", "c")]
    text = "".join(page.texts)
    for given in (
        troubled.title,
        troubled.description,
        troubled.command,
        troubled.specification,
        troubled.provenance["machine"],
        "a&b<c>",
        '"ball"',
    ):
        assert given in text


def test_the_answer_comes_first_then_the_figure(good_page):
    places = [
        good_page.index(piece)
        for piece in (
            "<h1>",
            'class="headline"',
            'id="figure-agreement"',
            'id="minimum"',
            'id="figure-spectrum"',
            'id="route"',
            'id="figure-easiest_path"',
            'id="figure-mean_against_barrier"',
            'id="figure-survival"',
            'id="figure-exit_directions"',
            'id="figure-regimes"',
            'id="cells"',
            'id="limits"',
            'id="reproduce"',
        )
    ]
    assert places == sorted(places)


def test_figures_have_alternative_text_captions_and_tooltips(good, good_page):
    page = Page(good_page)
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawings) == len(figures.__all__)
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 20
    assert sum(tag == "figcaption" for tag, _ in page.elements) == len(figures.__all__)
    for reading in read_all(good):
        assert f"measured {reading.mean_text} steps" in good_page


def test_colours_of_the_drawings_follow_the_page(good_page):
    defined = set(re.findall(r"--([a-z]+):", good_page))
    used = set(re.findall(r"var\(--([a-z]+)", good_page))
    assert used <= defined
    assert "#1f2328" not in good_page.split("</style>")[1]


def test_the_page_tells_how_to_reproduce_it(good, good_page):
    text = "".join(Page(good_page).texts)
    for given in (good.command, str(good.seed), good.specification, "0.10.1", "x86_64, 2 cores"):
        assert given in text


def test_an_unfinished_study_says_so_first(troubled_page):
    assert troubled_page.index("Provisional: 8 of 20") < troubled_page.index('class="tiles"')


def test_a_study_without_cells_has_no_empty_figures(pages):
    text = pages[2]
    assert "figure-spectrum" in text
    assert "figure-agreement" not in text
    assert "No cell is finished yet." in text


def test_the_route_is_told_where_it_is_known(good, good_page, pages):
    section = re.search(r'<section id="route">(.*?)</section>', good_page, re.S)[1]
    text = " ".join(" ".join(Page(section).texts).split())
    found = good.instanton
    for given in (f"{found.value:g}", f"{found.quadratic_value:g}", found.method, "2×10⁻⁷"):  # noqa: RUF001
        assert given in text
    assert "out of a slab" in text
    assert f"batch size {found.cell.batch_size}" in text
    assert 'id="route"' not in pages[2]
    assert "easiest_path" not in pages[2]
    blank = {name: Figure() for name in figures.__all__}
    assert 'id="route"' in render(good, blank)
    assert 'id="route"' not in render(replace(good, instanton=None), blank)


def test_the_same_result_gives_the_same_page(diffusive, pages):
    assert rendered(diffusive) == pages[3]
