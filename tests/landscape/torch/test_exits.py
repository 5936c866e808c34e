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


@pytest.fixture(scope="module")
def lines():
    """One weight on four examples, in both frameworks."""
    rows = np.array([[0.5], [1.0], [1.5], [-0.8]])
    targets = np.array([[0.9], [0.2], [-0.6], [0.3]])
    model = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(0.3)
    given = {"weight_decay": 0.05, "loss": "square"}
    return (
        esc.landscapes.network_landscape(model, (rows, targets), **given),
        esc.landscapes.network_landscape(
            lambda weights, row: weights @ row,
            (rows, targets),
            parameters=np.array([[0.3]]),
            **given,
        ),
    )


def test_training_is_that_of_jax(lines):
    ours, in_jax = (esc.train(landscape, batch_size=2, steps=60) for landscape in lines)
    np.testing.assert_allclose(ours.theta, in_jax.theta, rtol=1e-6)


def test_the_enumerated_chain_is_that_of_jax(lines):
    laws = []
    for landscape in lines:
        minimum = esc.find_minimum(landscape).theta
        escape = esc.Escape(landscape, esc.MinibatchSGD(0.3, 2), esc.Ball(0.45), minimum, minimum)
        laws.append(esc.solve(escape))
    assert laws[0].mean == pytest.approx(laws[1].mean, rel=1e-9)


def test_a_subset_is_a_network_of_its_own(twins):
    ours, in_jax = twins
    index = np.array([3, 7, 8, 20])
    for landscape in (ours, in_jax):
        some = landscape.subset(index)
        theta = landscape.initial
        expected = landscape.example_losses(theta)[index]
        np.testing.assert_allclose(some.example_losses(theta), expected, rtol=1e-12)
        assert (some.examples, landscape.examples) == (4, 60)
    some = ours.subset(index)
    assert some.network is not ours.network
    assert (ours.title, in_jax.title) == ("PyTorch Sequential", "Equinox MLP")


def test_calls_of_pytorch_are_shared_by_more_lanes(twins):
    from escapade.exits.ensemble import _width

    ours, in_jax = (
        esc.Escape(landscape, esc.MinibatchSGD(0.4, 16), esc.Ball(0.9)) for landscape in twins
    )
    assert _width(in_jax, 2**16) == 256  # 30 parameters and 16 rows of 5 numbers: 2^15 / 110 = 297
    assert _width(ours, 2**16) == 4096
    assert _width(ours, 64) == 64


def test_values_of_sizes_alone_are_recorded_once():
    from escapade.landscape.torch.tracing import record

    def scaled(x):
        return x * (torch.full((2, 3), 2.0, dtype=x.dtype).sum(1, keepdim=True) + 1)

    def written(x):
        rows = torch.zeros(2, 3, dtype=x.dtype)
        rows[:, 1] += x[:, 1]
        return rows

    for function, constants in ((scaled, 1), (written, 0)):
        recording = record(function, [torch.ones(2, 3)])
        assert len([n for n in recording.graph.nodes if n.op == "get_attr"]) == constants
        for scale in (1.0, 3.0):  # the second replay starts from the same constants
            given = scale * torch.arange(6.0).reshape(2, 3)
            assert torch.equal(recording(given), function(given))


def test_a_recorded_tanh_is_exact_in_float64_and_within_its_stated_error_in_float32():
    from escapade.landscape.torch.tracing import record

    values = torch.linspace(-12, 12, 10001, dtype=torch.float64)[None]
    assert torch.equal(record(torch.tanh, [values])(values), torch.tanh(values))
    single = values.float()
    error = (record(torch.tanh, [single])(single).double() - torch.tanh(single.double())).abs()
    assert 0 < error.max() < 2e-7
