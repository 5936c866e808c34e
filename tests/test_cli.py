"""The command line: what it teaches, what it answers, how it complains, with which exit code."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from escapade import cli
from escapade.errors import EscapadeError
from escapade.inspection import inspect
from escapade.inspection.specification import load_subject
from escapade.study import load_specification, load_study, problem

TINY = """
name = "tiny"
[landscape]
data = "breast_cancer"
preprocessing = "paper"
widths = [2]
[training]
steps = 200
[[grid]]
region = ["half_space"]
stiffness = [0.2]
batch_size = [16]
barrier = [1.5]
replicas = 32
"""

WELL = """
from escapade import landscapes
study = {{
    "landscape": {{"build": landscapes.DoubleWell}},
    "grid": [{{
        "dynamics": {dynamics}, "learning_rate": 0.05, "batch_size": 4, "size": [0.15, 0.2],
        "replicas": 16, "quick": {quick}, "quick_replicas": 8,
    }}],
}}
"""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for variable in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["escapade", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def refused(run):
    """Run a command that must be refused in one line, and give that line."""

    def refused(*arguments):
        code, out, errors = run(*arguments)
        assert code == 2
        assert out == ""
        assert "Traceback" not in errors
        (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
        # A progress bar may have been drawn before; nothing comes after.
        assert errors.rstrip().endswith(line)
        return line

    return refused


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the drawing of the report, which takes seconds."""
    monkeypatch.setattr("escapade.report.write_report", lambda _, folder: folder / "report.html")


def well(folder, dynamics=("gaussian",), quick=True):
    path = folder / "well.py"
    path.write_text(WELL.format(dynamics=dynamics, quick=quick))
    return path


def words(text):
    """Text without boxes and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


MEAN = """
import jax.numpy as jnp
import numpy as np
from escapade import landscapes

POINTS = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 0.7, 0.5]

def loss(theta, point):
    return 0.5 * jnp.sum(jnp.array([1.0, 2.0, 3.0]) * (theta - point) ** 2)

def landscape():
    return landscapes.Empirical(loss, POINTS.mean(axis=0), POINTS)
"""


# What it teaches


def test_help_says_where_to_begin(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "escapade study digits --quick" in words(out)
    for command in ("study", "inspect", "report", "predict", "data"):
        assert f" {command} " in words(out)


def test_help_of_study_shows_the_format_and_the_format_is_right(run, tmp_path):
    code, out, _ = run("study", "--help")
    assert code == 0
    for option in ("--quick", "--out", "--workers", "--scheduler"):
        assert option in words(out)
    # The examples in the help are studies.
    lines = cli.studies.study.__doc__.split("TOML file:")[1].splitlines()
    text = "\n".join(line.strip() for line in lines).replace("\\[", "[")
    network, formula = re.split(r"^Or of a formula.*$", text, flags=re.MULTILINE)
    for name, example in (("network", network), ("formula", formula)):
        (tmp_path / f"{name}.toml").write_text(example)
    study = load_specification(str(tmp_path / "network.toml"))
    assert study.name == "mine"
    assert study.grid[0].barrier == (3.0, 5.0)
    study = load_specification(str(tmp_path / "formula.toml"))
    assert study.landscape.eigenvalues == (1.0, 0.2)
    assert study.grid[0].method == "auto"


def test_help_of_inspect_shows_a_file_that_can_be_read(run, tmp_path):
    code, out, _ = run("inspect", "--help")
    assert code == 0
    for table in ("[model]", "[data]", "[sgd]"):
        assert table in out
    lines = cli.inspection.inspect_network.__doc__.split("the last table:")[1].splitlines()
    example = "\n".join(line.strip() for line in lines).replace("\\[", "[")
    (tmp_path / "example.toml").write_text(example.replace("run/weights.pt", "weights.npz"))
    (tmp_path / "mine.py").write_text(
        "import escapade as esc\n"
        "def Net(width):\n    return esc.landscapes.MLP((3, 2), 'identity')\n"
    )
    np.savez(tmp_path / "data.npz", inputs=np.eye(3), targets=np.array([0, 1, 1]))
    np.savez(tmp_path / "weights.npz", **{"layers/0/weight": np.ones((2, 3))})
    subject = load_subject(str(tmp_path / "example.toml"))
    assert subject.settings == {"learning_rate": 0.1, "batch_size": 64}
    assert subject.landscape.initial.tolist() == [1.0] * 6


@pytest.mark.parametrize("command", ["report", "predict", "data"])
def test_every_command_has_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_without_a_command_help_is_shown(run):
    code, out, errors = run()
    assert code == 2
    assert "escapade study digits --quick" in words(out + errors)


# How it complains


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("study", "digits", "--nope"), "--nope"),
        (("study",), "name"),
        (("sutdy", "digits"), "sutdy"),
        (("study", "digits", "--workers", "0"), "--workers"),
        (("predict", "digits", "-b", "64", "--size", "1"), "--learning-rate"),
        (("predict", "digits", "-e", "fast", "-b", "64", "--size", "1"), "valid number"),
    ],
)
def test_wrong_usage_is_explained(run, arguments, wanted):
    code, _, errors = run(*arguments)
    assert code == 2
    assert wanted in errors
    assert "Traceback" not in errors


def test_the_console_script_refuses_in_one_line(tmp_path):
    script = Path(sys.executable).with_name("escapade")
    if not script.is_file():
        pytest.skip(f"{script} is not installed")
    arguments = [script, "study", "digit"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown study 'digit'; did you mean digits?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("study", "none.toml"), "none.toml does not exist"),
        (("inspect", "none.toml"), "none.toml does not exist"),
        (("inspect", "digits", "-b", "64"), "give --learning-rate"),
        (("inspect", "digits", "-e", "0.1"), "give --batch-size"),
        (("inspect", "digit", "-e", "0.1", "-b", "64"), "did you mean digits?"),
        (("inspect", "x.py", "-e", "1", "-b", "1", "--memory", "much"), "--memory is 'much'"),
        (("data", "digit"), "did you mean 'digits'"),
        (("data", "digits", "--path", "x"), "path='x'"),
        (("data", "avila", "--path", "none.zip"), "none.zip"),
        (("report", "none"), "none holds no study"),
        (("report", "."), ". holds no study"),
        (("predict", "digits", "-e", "0.1", "-b", "64"), "either --size or --barrier"),
        (
            ("predict", "digits", "-e", "0.1", "-b", "64", "--size", "1", "--barrier", "2"),
            "either --size or --barrier",
        ),
        (("predict", "digit", "-e", "0.1", "-b", "64", "--size", "1"), "did you mean digits?"),
        (("predict", "digits", "-e", "-1", "-b", "64", "--size", "1"), "learning_rate is -1"),
        (("predict", "digits", "-e", "0.1", "-b", "64", "--barrier", "-3"), "barrier is -3"),
        (("predict", "digits", "-e", "0.1", "-b", "0", "--barrier", "3"), "batch_size is 0"),
        (
            ("predict", "digits", "-e", "1", "-b", "4", "--size", "1", "--region", "basin"),
            "region is 'basin'; choose one of slab, half_space",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(refused, arguments, wanted):
    assert wanted in refused(*arguments)


def test_messages_of_several_lines_are_told_in_one(refused, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from escapade import landscapes\n"
        "from escapade.errors import InvalidArgument\n"
        "def build():\n"
        "    raise InvalidArgument('first [b]line[/b]\\nsecond line')\n"
        "study = {'landscape': {'build': build}, 'grid': [{'stiffness': 1, 'size': 1}]}\n"
    )
    assert "first [b]line[/b] second line" in refused("study", "bad.py")


def test_a_results_folder_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused("study", well(tmp_path), "--out", "file/below")
    assert "file/below cannot be written" in line


def test_ctrl_c_has_its_own_code(run, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("escapade.study.run_study", interrupt)
    code, _, errors = run("study", well(tmp_path))
    assert code == 130
    assert "interrupted; finished cells are saved" in errors
    assert "Traceback" not in errors


# Data


def test_data_are_listed(run):
    code, out, _ = run("data")
    assert code == 0
    for name in ("digits", "avila", "breast_cancer"):
        assert name in out


def test_data_are_loaded_and_described(run):
    code, out, _ = run("data", "digits")
    assert code == 0
    assert "1797 examples, 64 features, 10 classes" in words(out)
    assert "Alpaydin" in out


def test_avila_is_loaded_from_a_local_copy(run, avila_archive):
    code, out, _ = run("data", "avila", "--path", avila_archive)
    assert code == 0
    assert "10430 examples" in words(out)


# Studies


def test_a_study_of_a_python_file_reports(run, tmp_path):
    code, out, errors = run("study", well(tmp_path), "--workers", "1")
    assert code == 0, errors
    folder = tmp_path / "results" / "well"
    result = load_study(folder)
    assert [cell.sample.replicas for cell in result.cells] == [16, 16]
    for cell in result.cells:
        row = next(line for line in out.splitlines() if str(cell.cell) in line)
        assert f"{cell.sample.mean:.4g} (" in row
        assert f"{cell.prediction.mean:.4g}" in row
        assert f"{cell.sample.mean / cell.prediction.mean:.2f}" in row
        assert cell.diagnosis.mechanism in row
    assert "report: results/well/report.html" in out
    assert (folder / "report.html").stat().st_size > 10_000
    assert "2/2 cells" in errors


def test_a_quick_study_has_a_folder_of_its_own(run, tmp_path, undrawn):
    for _ in range(2):  # the second time, everything is found finished
        code, out, _ = run("study", well(tmp_path), "--quick")
        assert code == 0
        assert "report: results/well-quick/report.html" in out
        result = load_study("results/well-quick")
        assert {cell.sample.replicas for cell in result.cells} == {8}
        assert result.quick
        assert result.command == f"escapade study {tmp_path}/well.py --quick"
    assert not (tmp_path / "results" / "well").exists()


def test_a_failing_cell_is_reported_and_gives_exit_code_1(run, tmp_path, undrawn):
    path = well(tmp_path, dynamics=("minibatch", "gaussian"))
    code, out, errors = run("study", path, "--out", "out", "--workers", "1")
    assert code == 1
    failed = [line for line in errors.splitlines() if line.startswith("cell failed: ")]
    assert len(failed) == 2
    for line, size in zip(failed, ("0.15", "0.2"), strict=True):
        assert f"minibatch, eta 0.05, B 4, slab {size}: " in line
        assert "MinibatchSGD needs a loss over examples" in line
    assert "2 of 4 cells are not finished" in out
    assert len(load_study("out").cells) == 2


def test_a_study_in_which_every_cell_fails_is_refused(refused, tmp_path):
    path = well(tmp_path, dynamics=("minibatch",))
    assert "every cell failed; the first, minibatch" in refused("study", path, "--workers", "1")


def test_a_quick_study_without_cells_is_refused(refused, tmp_path):
    path = well(tmp_path, quick=False)
    assert "--quick leaves no cell" in refused("study", path, "--quick")


def test_replicas_that_all_diverge_are_shown(run, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import jax.numpy as jnp\n"
        "from escapade import landscapes\n"
        "def loss(x):\n"
        "    return 0.5 * x[0] ** 2 + 0 * jnp.sqrt(1 - x[0] ** 2)\n"
        "def build():\n"
        "    return landscapes.Function(loss, 1, minima=[[0.0]])\n"
        "study = {'landscape': {'build': build}, 'grid': [{'dynamics': 'gaussian', 'size': 50,\n"
        "    'learning_rate': 0.5, 'batch_size': 0.01, 'replicas': 8, 'max_steps': 500}]}\n"
    )
    code, out, errors = run("study", "bad.py", "--workers", "1")
    assert code == 0, errors
    assert "all diverged" in out


def test_a_network_is_predicted_as_it_is_studied(run, tmp_path, undrawn, monkeypatch):
    # One landscape for all commands: each new one is compiled anew, for seconds.
    build = functools.cache(problem.build_landscape)
    monkeypatch.setattr("escapade.study.run.build_landscape", build)
    monkeypatch.setattr("escapade.study.single.build_landscape", build)
    (tmp_path / "tiny.toml").write_text(TINY)
    code, _, errors = run("study", "tiny.toml", "--out", "out", "--workers", "1")
    assert code == 0, errors
    (cell,) = load_study("out").cells
    options = ("-e", cell.cell.learning_rate, "-b", 16, "--region", "half_space")
    for choice in (("--barrier", 1.5), ("--size", cell.cell.size)):
        code, out, errors = run("predict", "tiny.toml", *options, *choice)
        assert code == 0, errors
        assert str(cell.cell) in out
        assert f"{cell.prediction}\n" in out
        assert f"{cell.exponential_law}\n" in out
        assert f"mechanism {cell.diagnosis}\n" in out


def test_a_report_is_written_again_finished_or_not(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("escapade.report.write_report", lambda _, folder: folder / "report.html")
        assert run("study", well(tmp_path), "--out", "out[1]", "--workers", "1")[0] == 0
    folder = tmp_path / "out[1]"
    cells = sorted((folder / "cells").iterdir())
    cells[0].unlink()
    (kept,) = load_study("out[1]").cells
    code, out, _ = run("report", "out[1]")
    assert code == 0
    assert str(kept.cell) in out
    assert "1 of 2 cells are not finished" in out
    assert "report: out[1]/report.html" in out
    assert (folder / "report.html").stat().st_size > 10_000
    assert any((folder / "figures").glob("*.png"))
    assert sorted((folder / "cells").iterdir()) == cells[1:]


# Inspections


def test_a_network_is_inspected(run, tmp_path, monkeypatch):
    (tmp_path / "mean.py").write_text(MEAN)
    found = []

    def once(*arguments, **options):
        found.append(inspect(*arguments, **options))
        return found[0]

    monkeypatch.setattr("escapade.inspection.inspect", once)
    options = ("mean.py", "-e", "0.3", "-b", "8", "--count", "2", "--seed", "3", "--depth", "0.5")
    code, out, errors = run("inspect", *options, "--memory", "1MB")
    assert code == 0, errors
    *_, last = out.splitlines()
    assert last == "page: results/mean-inspection/inspection.html"
    stored = json.loads((tmp_path / "results/mean-inspection/inspection.json").read_text())
    assert stored["curvature"]["values"] == pytest.approx([3.0, 2.0], rel=1e-9)
    assert (stored["learning_rate"], stored["batch_size"], stored["key"]) == (0.3, 8, 3)
    assert [outlook["region"].get("depth") for outlook in stored["outlooks"]][1] == 0.5
    assert "sublevel set of depth 0.5" in out
    page = (tmp_path / "results/mean-inspection/inspection.html").read_text()
    assert "escapade inspect mean.py -e 0.3 -b 8" in page
    # The same numbers as JSON alone, and nothing else.
    monkeypatch.setattr("escapade.inspection.inspect", lambda *_, **__: found[0])
    code, out, _ = run("inspect", *options, "--json", "--out", "other")
    assert code == 0
    again = json.loads(out)
    assert again["outlooks"] == stored["outlooks"]
    assert (tmp_path / "other" / "inspection.html").is_file()


def test_options_win_over_the_file(run, tmp_path, monkeypatch):
    asked = {}

    def inspect(landscape, **options):
        asked.update(options)
        raise EscapadeError("seen")

    monkeypatch.setattr("escapade.inspection.inspect", inspect)
    np.savez(tmp_path / "data.npz", inputs=np.eye(3), targets=np.array([0, 1, 1]))
    (tmp_path / "run.toml").write_text(
        '[model]\nfactory = "escapade.landscape:MLP"\narguments = {widths = [3, 2]}\n'
        '[data]\nnpz = "data.npz"\n'
        '[sgd]\nlearning_rate = 0.5\nbatch_size = 2\nsampling = "shuffled_epochs"\n'
    )
    code, _, errors = run(
        "inspect", "run.toml", "-e", "0.25", "--time-budget", "9", "--memory", "2KiB"
    )
    assert (code, errors.strip()) == (2, "error: seen")
    wanted = {"learning_rate": 0.25, "batch_size": 2, "sampling": "shuffled_epochs"}
    assert {name: asked[name] for name in wanted} == wanted
    assert (asked["time_budget"], asked["memory"]) == (9.0, 2048.0)


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 5e8), ("2 GiB", 2**31), ("1e6", 1e6), ("3k", 3e3), ("7b", 7.0)]
)
def test_sizes_are_read(text, size):
    assert cli.inspection._bytes(text) == size
