"""The public experiment: its loop against PyTorch, its gradient by differences, its numbers."""

import sys
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from escapade import cli
from escapade.cli.reproduction import app
from escapade.data import Dataset, avila
from escapade.errors import DataError, InvalidArgument, StudyError
from escapade.exits.statistics import Estimate
from escapade.reproduction import load_reproduction, reproduce
from escapade.reproduction.published import (
    BASE,
    Experiment,
    PublishedResult,
    check_reparametrisation,
    measure,
    results,
    run_published,
    scan,
    variations,
)
from escapade.reproduction.published import run as running
from escapade.reproduction.published.reference import arrays, published_slope, reference
from escapade.reproduction.published.results import Scan, to_point
from escapade.reproduction.published.trial import CHUNK, Weights, _Loss, _norm, draw, run

SMALL = Experiment(width=300, radius=0.3, learning_rate=4e-3, trials=6)
"""Few hidden units, so that a run takes milliseconds; it leaves after some twenty steps."""


@pytest.fixture(scope="module")
def rows():
    """Rows of the shape of AVILA's: centred, of length one, with two classes; two chunks and more.

    Only the loop is tested with them; every published number needs the data themselves.
    """
    random = np.random.default_rng(5)
    inputs = random.standard_normal((2 * CHUNK + 137, 10))
    inputs -= inputs.mean(axis=1, keepdims=True)
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    return Dataset("rows", inputs, random.integers(2, size=len(inputs)), 2, "paper", "random")


@pytest.fixture(scope="module")
def pages(avila_archive):
    return avila(path=avila_archive)


# The loop, against an independent one


def in_torch(experiment, dataset, drawn):
    """The public code's way: autograd, `backward` without `zero_grad`, a plain update."""
    torch = pytest.importorskip("torch")
    root = torch.sqrt(torch.tensor(experiment.sharpness))
    inputs = torch.tensor(dataset.inputs, dtype=torch.float)
    one_hot = torch.nn.functional.one_hot(torch.tensor(dataset.labels), dataset.classes)
    layers = [
        torch.nn.Linear(dataset.features, experiment.width, bias=False),
        torch.nn.Linear(experiment.width, dataset.classes, bias=False),
    ]
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor(drawn.start.first.T) / root)
        layers[1].weight.copy_(torch.tensor(drawn.start.second) / root)
    start = [layer.weight.detach().clone() for layer in layers]

    def loss(x, y):
        hidden = {"relu": torch.relu, "tanh": torch.tanh}[experiment.activation]
        scores = root * layers[1](hidden(root * layers[0](x)))
        return (torch.softmax(scores, dim=1) - y).norm(dim=1, p=2).mean()

    steps, distance = 0, 0.0
    while distance < experiment.radius and steps < experiment.max_steps:
        if experiment.gradients == "zeroed":
            for layer in layers:
                layer.zero_grad()
        loss(inputs[drawn.rows[steps]], one_hot[drawn.label_rows[steps]]).backward()
        with torch.no_grad():
            for layer in layers:
                layer.weight -= experiment.learning_rate * layer.weight.grad
            distance = sum(
                torch.norm(layer.weight - first).item()
                for layer, first in zip(layers, start, strict=True)
            )
        steps += 1
    return steps, distance


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sharpness": 1.7},
        {"batch_size": 29, "labels": "paired"},
        {"activation": "tanh", "radius": 0.2},
        {"gradients": "zeroed", "learning_rate": 0.1},
    ],
)
def test_the_loop_is_that_of_pytorch(rows, changed):
    experiment = replace(SMALL, **changed)
    for trial in range(3):
        drawn = draw(experiment, rows, 11, trial)
        steps, distance = in_torch(experiment, rows, drawn)
        outcome = run(experiment, rows, drawn)
        assert outcome.steps == steps
        assert outcome.distance == pytest.approx(distance, rel=1e-4)
        assert 5 < steps < experiment.max_steps


def test_sgld_adds_chunks_and_normal_numbers(rows):
    experiment = Experiment(optimiser="sgld", width=100, radius=1e-9, learning_rate=1.0)
    slope = jax.jit(jax.grad(_Loss(np.float32(1), "relu")))
    drawn = draw(experiment, rows, 0, 0)
    targets = np.eye(2, dtype=np.float32)[rows.labels]
    inputs = rows.inputs.astype(np.float32)
    by_hand = [0.0, 0.0]
    for first in range(0, rows.examples, CHUNK):
        one = slice(first, first + CHUNK)
        gradient = slope(drawn.start, inputs[one], targets[one])
        by_hand = [total + np.asarray(part) for total, part in zip(by_hand, gradient, strict=True)]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(np.uint32(drawn.noise_seed)), 0), 2)
    moved = [
        total / CHUNK + np.asarray(jax.random.normal(key, total.shape))
        for total, key in zip(by_hand, keys, strict=True)
    ]
    outcome = run(experiment, rows, drawn)
    assert outcome.steps == 1
    assert outcome.distance == pytest.approx(sum(map(np.linalg.norm, moved)), rel=1e-5)
    # A walk of independent normal steps meets the shell of radius r when (theory.md, 1.5):
    walk = replace(experiment, learning_rate=1e-3, radius=0.3, trials=8)
    expected = (walk.radius / (walk.learning_rate * (np.sqrt(1000) + np.sqrt(200)))) ** 2
    sample = measure(rows, walk)
    # The step after the crossing is counted, half a step later on average.
    assert abs(sample.mean - expected - 0.5) < 3 * sample.standard_error


# The pieces


def test_the_gradient_by_differences(rows):
    jax.config.update("jax_enable_x64", True)
    try:
        random = np.random.default_rng(2)
        weights = Weights(random.standard_normal((10, 7)), random.standard_normal((2, 7)))
        loss = _Loss(np.float64(1.3), "tanh")
        inputs, targets = rows.inputs[:9], np.eye(2)[rows.labels[:9]]
        gradient = jax.jit(jax.grad(loss))(weights, inputs, targets)
        value = jax.jit(loss)
        shift = Weights(random.standard_normal((10, 7)), random.standard_normal((2, 7)))
        ends = [
            float(
                value(
                    jax.tree.map(lambda w, s, size=size: w + size * s, weights, shift),
                    inputs,
                    targets,
                )
            )
            for size in (1e-5, -1e-5)
        ]
        along = sum(np.sum(np.asarray(g) * s) for g, s in zip(gradient, shift, strict=True))
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-7)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_the_norm_has_no_slope_at_zero():
    norms = jax.jacobian(lambda rows: _norm(rows).sum())(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(norms, [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_a_draw_is_a_permutation_s_beginning_and_ignores_sharpness(rows):
    experiment = replace(SMALL, batch_size=29, max_steps=400)
    drawn = draw(experiment, rows, 3, 1)
    for batch in (drawn.rows, drawn.label_rows):
        assert batch.shape == (400, 29)
        assert all(len(set(row)) == 29 for row in batch.tolist())
    assert (drawn.rows != drawn.label_rows).mean() > 0.99
    sharper = draw(replace(experiment, sharpness=2.0), rows, 3, 1)
    np.testing.assert_array_equal(sharper.start.first, drawn.start.first)
    np.testing.assert_array_equal(sharper.rows, drawn.rows)
    paired = draw(replace(experiment, labels="paired"), rows, 3, 1)
    assert paired.rows is paired.label_rows
    # Uniform within 1 / sqrt(inputs): the largest of thousands is just below, the variance a third.
    bound = 10**-0.5
    first = draw(replace(experiment, width=3000), rows, 3, 1).start.first
    assert 0.999 * bound < abs(first).max() <= bound
    assert first.var() == pytest.approx(bound**2 / 3, rel=4 * np.sqrt(0.8 / first.size))
    assert BASE["sgd"].width * (10 + 2) == 600_000


def test_reparametrisation_holds_run_by_run(rows):
    for factor in (2.0, 4.0):
        check = check_reparametrisation(rows, SMALL, factor, key=4)
        assert check.differing == 0
        assert len(set(check.scaled)) > 1
        # The factor matters: the runs at sharpness 1 leave at other steps.
        assert check.scaled != tuple(measure(rows, SMALL, 4).times.tolist())


def test_censored_and_diverged_runs_are_not_exits(rows):
    capped = measure(rows, replace(SMALL, max_steps=12))
    assert capped.censored.any()
    assert capped.times[capped.censored].tolist() == [12] * capped.censored.sum()
    broken = measure(rows, replace(SMALL, learning_rate=float("nan")))
    assert broken.diverged.all()
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        measure(rows, SMALL, cancelled=stop)


# Scans, references and results


def test_the_scans_are_the_published_ones():
    for quantity, table in arrays()["sgd"].items():
        points = scan("sgd", quantity, 20, 1)
        values = [getattr(one, quantity) for one in points]
        np.testing.assert_allclose(values, [row[0] for row in table], rtol=5e-4)
        assert all(reference("sgd", quantity, value) is not None for value in values)
        few = scan("sgd", quantity, 5, 1)
        assert [few[0], few[-1]] == [points[0], points[-1]]
        assert set(few) < set(points)
    assert reference("sgd", "radius", 0.51) is None
    assert reference("sgld", "radius", 1.0) is None
    assert {one.batch_size for one in scan("sgd", "batch_size", 20, 1)} == set(range(10, 30))


def test_slopes_of_the_published_arrays():
    """The log-log slopes of the theory sheet (1.5), found from the arrays themselves."""
    for quantity, slope, error in (
        ("learning_rate", -0.568, 0.011),
        ("radius", 0.875, 0.011),
        ("sharpness", -0.135, 0.013),
        ("batch_size", 0.043, 0.007),
    ):
        assert published_slope("sgd", quantity) == pytest.approx((slope, error), abs=6e-4)


def test_a_result_survives_json(rows, tmp_path, monkeypatch):
    small = {name: replace(one, width=60, radius=0.05) for name, one in BASE.items()}
    monkeypatch.setattr(running, "avila", lambda: rows)
    monkeypatch.setattr(running, "_dataset", lambda: rows)
    monkeypatch.setattr(running, "BASE", small)
    monkeypatch.setattr(results, "BASE", small)
    monkeypatch.setattr(
        running, "scan", lambda kind, quantity, values, trials: reduced(small[kind], quantity)
    )
    monkeypatch.setattr(running, "variations", lambda quick: [])
    folder = tmp_path / "published"
    result = run_published(folder, quick=True, command="the command")
    assert running.load_published(folder).to_json() == result.to_json()
    assert isinstance(result, PublishedResult)
    assert result.base("sgd").replicas == 4 * 3
    assert [check.differing for check in result.reparametrisations] == [0, 0]
    assert result.failed == ()
    # The command finds the cells, writes the same numbers and shows them.
    command = ["reproduce", "ibayashi-imaizumi-2022", "--protocol", "published", "--quick"]
    shown = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "SGLD, batch size" in shown.output
    assert (tmp_path / "reproduction.html").is_file()
    assert "4 of 4 runs leave at the same step" in shown.output
    found = load_reproduction(tmp_path)
    assert found.described is None
    assert found.published is not None
    assert found.quick
    assert found.published.scans[0].means.tolist() == result.scans[0].means.tolist()


def reduced(base, quantity):
    start = getattr(base, quantity)
    return [replace(base, scan=quantity, trials=3, **{quantity: f * start}) for f in (1, 2)]


def test_what_cannot_be_reproduced(tmp_path):
    with pytest.raises(InvalidArgument, match="paper is 'hu-2019'; choose one of ibayashi"):
        reproduce("hu-2019", tmp_path)
    with pytest.raises(InvalidArgument, match="protocol is 'printed'; choose one of published"):
        reproduce("ibayashi-imaizumi-2022", tmp_path, "printed")
    with pytest.raises(StudyError, match="holds no reproduction"):
        load_reproduction(tmp_path)


@pytest.mark.parametrize(
    "wrong", [["hu-2019"], ["ibayashi-imaizumi-2022", "--protocol", "printed"]]
)
def test_the_command_refuses_before_it_shows_any_progress(wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["escapade", "reproduce", *wrong, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    complained = capsys.readouterr().err
    assert "choose one of" in complained
    assert "starting" not in complained


def test_without_the_data_there_is_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("ESCAPADE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="ESCAPADE_DATA"):
        run_published(tmp_path)


# The published numbers, on AVILA


def in_errors(estimate, value, error=0.0):
    """Deviation of an estimate from a value in standard errors of both."""
    return abs(estimate.value - value) / np.hypot(estimate.standard_error, error)


def test_base_point(pages):
    experiment = replace(BASE["sgd"], trials=24)
    sample = measure(pages, experiment)
    published = reference("sgd", "learning_rate", 1e-3)
    error = published.mean * published.relative_error
    assert in_errors(Estimate(sample.mean, sample.standard_error), published.mean, error) < 3
    assert sample.coefficient_of_variation == pytest.approx(0.11, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["learning_rate", "batch_size", "radius", "sharpness"])
def test_every_scan_is_within_three_per_cent(pages, quantity):
    points = [
        to_point(one, measure(pages, one, key=index))
        for index, one in enumerate(scan("sgd", quantity, 5, 60))
    ]
    ratio, error = Scan("sgd", quantity, tuple(points)).ratio
    assert error < 0.01
    assert abs(ratio - 1) < 0.03


@pytest.mark.slow
def test_what_the_public_code_is_not(pages):
    by_name = {one.name: one.experiment for one in variations(quick=True)}
    zeroed = measure(pages, by_name["gradients zeroed"])
    assert zeroed.censored.all()
    # Other hidden units leave later than the published 24.3 steps by many standard errors.
    for name in ("hidden units tanh", "hidden units linear"):
        sample = measure(pages, replace(by_name[name], trials=60))
        assert in_errors(Estimate(sample.mean, sample.standard_error), 24.3) > 5
    # The pairing of labels explains nothing.
    paired = measure(pages, replace(by_name["labels paired"], trials=60))
    assert in_errors(Estimate(paired.mean, paired.standard_error), 24.3, 0.25) < 3


@pytest.mark.slow
def test_sgld_base_point(pages):
    sample = measure(pages, replace(BASE["sgld"], trials=10))
    assert sample.mean == pytest.approx(arrays()["sgld"]["base"], rel=0.02)
    twice = measure(pages, replace(BASE["sgld"], trials=10, learning_rate=2e-3))
    assert twice.mean == pytest.approx(arrays()["sgld"]["twice_the_learning_rate"], rel=0.05)
