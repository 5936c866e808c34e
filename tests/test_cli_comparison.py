"""The command compare, on a folder of results and on one escape."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from escapade.cli import app
from escapade.errors import EscapadeError, InvalidArgument, StudyError
from escapade.study import load_study, run_study
from escapade.study.comparison import compare_study

TINY = """
name = "tiny"
[landscape]
function = "quadratic"
eigenvalues = [1.0]
[[grid]]
dynamics = ["gaussian"]
region = ["slab"]
learning_rate = [0.1]
batch_size = [8]
barrier = [1.5, 2.5]
replicas = 96
"""


def compare(*arguments):
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    study = folder / "tiny.toml"
    study.write_text(TINY)
    run_study(str(study), folder / "results" / "tiny", workers=1)
    return folder


def test_a_study(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    content = json.loads(compare("tiny", "--json"))  # by name, from results/tiny
    assert content["name"] == "tiny"
    assert content["measured"] == 2
    best = content["scores"][0]
    assert best["root_mean_square"] < 0.4
    assert best["title"].startswith("Escapade")
    shown = compare(tiny / "results" / "tiny", "--cells", "--theory", "kramers")
    assert "log E[nu]" in shown
    assert shown.count("Eyring and Kramers") == 3  # once in the ranking, once for each cell
    assert "Hu et al." not in shown


def test_one_escape(tiny):
    where = (tiny / "tiny.toml", "-e", 0.1, "-b", 8, "--barrier", 2)
    assert "fails here: continuous time" in compare(*where)
    measured = json.loads(compare(*where, "--replicas", 64, "--json"))["measured"]
    assert measured["source"] == "64 exits of 64 replicas"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("nowhere",), "escapade study nowhere"),
        (("tiny", "--size", "1"), "need --learning-rate"),
        (("tiny", "-e", "0.1"), "--batch-size"),
        (("tiny", "-e", "0.1", "-b", "8"), "--size or --barrier"),
    ],
)
def test_what_is_refused(arguments, match, tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    with pytest.raises(EscapadeError, match=match):
        compare(*arguments)


def test_an_unknown_theory(tiny):
    with pytest.raises(InvalidArgument, match="arrhenius"):
        compare(tiny / "results" / "tiny", "--theory", "arrhenius")


def test_a_study_written_in_python_gives_no_landscape(tiny):
    result = replace(load_study(tiny / "results" / "tiny"), specification="from mine import study")
    with pytest.raises(StudyError, match="give compare_study pairs"):
        compare_study(result)
