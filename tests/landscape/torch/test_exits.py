"""The engine on PyTorch networks: the same exits as on their JAX twins."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import escapade as esc  # noqa: E402
from escapade.landscape.torch import torch_network  # noqa: E402


@pytest.fixture(scope="module")
def twins():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((60, 4))
    labels = (rows[:, 0] + generator.standard_normal(60) > 0).astype(int)
    network = esc.landscapes.MLP((4, 5, 2), key=1)
    dataset = esc.data.Dataset("rows", rows, labels, 2, "none", "drawn")
    in_jax = esc.landscapes.network_landscape(network, dataset, weight_decay=0.02)
    layers = torch.nn.Sequential(
        torch.nn.Linear(4, 5, False), torch.nn.Tanh(), torch.nn.Linear(5, 2, False)
    )
    ours = torch_network(layers, "cross_entropy", (rows, labels), weight_decay=0.02)
    minimum = esc.find_minimum(in_jax).theta
    return ours.at_minimum(minimum), in_jax.at_minimum(minimum)


def exits(landscape, region):
    escape = esc.Escape(landscape, esc.MinibatchSGD(0.4, 4), region)
    return esc.simulate(escape, replicas=64, max_steps=1500, key=3, precision="float32")


@pytest.mark.parametrize(
    "region",
    [
        pytest.param(esc.Ball(0.9), id="ball"),
        pytest.param(esc.Sublevel(0.12), id="sublevel set", marks=pytest.mark.slow),
    ],
)
def test_exit_steps_are_those_of_jax(twins, region):
    ours, in_jax = (exits(landscape, region) for landscape in twins)
    assert not in_jax.censored.all()
    assert len(np.unique(in_jax.times)) > 20
    same = (ours.times == in_jax.times) & (ours.censored == in_jax.censored)
    assert same.sum() >= 63


@pytest.mark.slow
def test_dynamics_of_the_whole_gradient(twins):
    ours, in_jax = twins
    noise = esc.noise.Empirical()
    results = []
    for landscape in (ours, in_jax):
        escape = esc.Escape(landscape, esc.GaussianSGD(0.4, 4, noise), esc.Ball(0.9))
        results.append(esc.simulate(escape, replicas=16, max_steps=400, key=1))
    assert (results[0].times == results[1].times).sum() >= 15
