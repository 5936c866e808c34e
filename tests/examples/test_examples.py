"""The examples run, and the two frameworks agree in them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

import escapade as esc
from escapade.minimum.krylov import largest_eigenpairs, trace

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("network", ["mlp", pytest.param("conv", marks=pytest.mark.slow)])
def test_the_two_frameworks_agree(network):
    """Sharpness, traces and the noise, at a point on the way down."""
    script = example("one_network_two_frameworks")
    data = esc.data.digits("none").subset(60)
    pair = (data.inputs / 16, data.labels)
    model = script.in_pytorch(network, 8)
    ours = esc.landscapes.network_landscape(model, pair, weight_decay=1e-2)
    twin = esc.landscapes.network_landscape(script.in_jax(network, 8, model), pair, 1e-2)
    theta = script.descend(ours, iterations=15)
    assert ours.loss(theta) < 0.8 * ours.loss(ours.initial)
    found = []
    for landscape in (ours, twin):
        around = landscape.expand(theta)
        hessian = largest_eigenpairs(around.hessian_product, around.dim, 3)
        noise = largest_eigenpairs(around.noise_product, around.dim, 10)
        size = trace(around.hessian_product, around.dim, max_products=5)
        found.append([around.loss, size.value, *hessian.values, *noise.values])
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_the_residual_network_is_evaluated_with_its_statistics():
    script = example("resnet")
    data = esc.data.digits("none").subset(16)
    images = torch.tensor(data.inputs / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(data.labels)
    model = script.train(script.resnet(1), images, labels, 4, 1e-3)
    landscape = esc.landscapes.network_landscape(model, (images, labels), weight_decay=0.0)
    with torch.no_grad():
        alone = torch.nn.functional.cross_entropy(model(images), labels)
    assert landscape.loss(landscape.initial) == pytest.approx(float(alone), rel=1e-5)
    assert 1.0e6 < sum(value.numel() for value in script.resnet(20).parameters()) < 1.2e6


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_two_frameworks_give_the_same_inspection(network, tmp_path, capsys):
    """Exits from balls too, though they are averages over random points of the boundary."""
    script = example("one_network_two_frameworks")
    table = script.main(["--network", network, "--examples", "300", "--out", str(tmp_path)])
    assert len(table) == 9
    for name, one, other in table:
        assert other == pytest.approx(one, rel=1e-8), name
    folder = tmp_path / f"{network}-digits"
    assert (folder / "two_frameworks.png").stat().st_size > 10_000
    assert json.loads((folder / "inspection.json").read_text())["examples"] == 300
    assert "relative difference" in capsys.readouterr().out


@pytest.mark.slow
def test_a_residual_network_is_inspected_whole(tmp_path, capsys):
    """At a saddle, where typical fluctuations grow beyond all numbers."""
    script = example("resnet")
    arguments = ["--channels", "4", "--examples", "64", "--steps", "60", "--out", str(tmp_path)]
    found = script.main(arguments)
    assert found.stationarity.verdict == "saddle"
    assert {outlook.diagnosis.mechanism for outlook in found.outlooks} <= {"unstable", "drift"}
    assert found.dim == 44_550
    assert not found.skipped
    assert found.precision == "float32"
    assert np.all(found.curvature.residuals < 2e-3 * found.sharpness)
    assert script.peak_memory() < 24
    assert (tmp_path / "inspection.html").is_file()
    assert "peak memory" in capsys.readouterr().out
