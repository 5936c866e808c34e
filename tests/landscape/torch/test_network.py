"""PyTorch landscapes: what they refuse, what they leave alone, and that JAX agrees."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import escapade as esc  # noqa: E402
from escapade.errors import Diverged, InvalidArgument  # noqa: E402
from escapade.landscape.torch import load_checkpoint, torch_network  # noqa: E402
from escapade.precision import float64, in_float64, place  # noqa: E402

GENERATOR = np.random.default_rng(3)
ROWS, LABELS = GENERATOR.standard_normal((40, 4)), GENERATOR.integers(0, 3, 40)
DATA = (ROWS, LABELS)


def mlp(*before):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), *before, nn.Tanh(), nn.Linear(5, 3))


def twins(weight_decay=0.01):
    """The same network in PyTorch and in JAX."""
    network = esc.landscapes.MLP((4, 6, 3), key=2)
    dataset = esc.data.Dataset("rows", *DATA, 3, "none", "drawn")
    in_jax = esc.landscapes.network_landscape(network, dataset, weight_decay)
    layers = nn.Sequential(nn.Linear(4, 6, False), nn.Tanh(), nn.Linear(6, 3, False)).double()
    for own, layer in zip((layers[0], layers[2]), network.layers, strict=True):
        own.weight.data = torch.tensor(np.asarray(layer.weight, np.float64))
    return torch_network(layers, "cross_entropy", DATA, weight_decay=weight_decay), in_jax


def test_the_model_is_left_alone():
    model = mlp(nn.BatchNorm1d(5), nn.Dropout(0.2))
    model.train()
    before = copy.deepcopy(model.state_dict())
    grad = torch.ones(5, 4)
    model[0].weight.grad = grad.clone()
    landscape = torch_network(model, "cross_entropy", DATA, frozen_statistics=True)
    theta = landscape.initial + 0.1
    expansion = landscape.expand(theta)
    expansion.noise_product(theta)
    landscape.gradient(theta)
    assert model.training
    assert model[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, grad)
    assert model[0].bias.grad is None
    assert model[0].weight.requires_grad
    assert torch.get_default_dtype() == torch.float32


def test_the_landscape_is_left_alone_by_the_model():
    model = mlp()
    landscape = torch_network(model, "cross_entropy", DATA)
    theta = landscape.initial
    before = landscape.loss(theta)
    model.load_state_dict({name: 0 * value for name, value in model.state_dict().items()})
    assert landscape.loss(theta) == before
    np.testing.assert_array_equal(landscape.initial, theta)


def test_building_twice_changes_nothing():
    # A peer doubles the trace when it is built a second time on gradients that were left there.
    model = mlp()
    first, second = (torch_network(model, "cross_entropy", DATA) for _ in range(2))
    theta, vector = first.initial, np.ones(first.dim)
    np.testing.assert_array_equal(
        first.expand(theta).hessian_product(vector), second.expand(theta).hessian_product(vector)
    )


def test_unequal_batches_are_weighted_by_size():
    # A peer averages batches whatever their sizes, and finds another sharpness.
    batches = [(ROWS[:33], LABELS[:33]), (ROWS[33:], LABELS[33:])]
    whole = torch_network(mlp(), "cross_entropy", DATA)
    parts = torch_network(mlp(), "cross_entropy", batches)
    sharpness = [
        np.linalg.eigvalsh(
            np.array([case.expand(case.initial).hessian_product(v) for v in np.eye(case.dim)])
        )
        for case in (whole, parts)
    ]
    np.testing.assert_allclose(sharpness[0], sharpness[1], atol=1e-14)


def test_eigenvalues_and_covariance_agree_with_jax():
    ours, in_jax = twins()
    for precision, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        spectra = []
        for landscape in (ours, in_jax):
            around = landscape.expand(landscape.initial, precision=precision)
            units = np.eye(around.dim, dtype=precision)
            hessian = np.array([around.hessian_product(unit) for unit in units])
            noise = np.array([around.noise_product(unit) for unit in units])
            spectra.append([np.linalg.eigvalsh(hessian), np.linalg.eigvalsh(noise)])
            spectra[-1].append(around.gradient)
        for a, b in zip(*spectra, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def third_derivatives(landscape, theta, u, v):
    def bend(point):
        return jax.jvp(landscape._gradient, (point,), (u,))[1] @ v

    losses = landscape.example_losses
    return (
        jax.grad(bend)(theta),
        jax.jvp(lambda point: jax.vjp(losses, point)[1](losses(point))[0], (theta,), (u,))[1],
        jax.jacfwd(landscape.example_gradients)(theta) @ u,
        jax.vmap(jax.hessian(landscape._loss))(jnp.stack([theta, theta + u])),
    )


def test_derivatives_to_third_order_agree_with_jax():
    ours, in_jax = twins()
    theta = ours.initial
    u, v = np.random.default_rng(0).standard_normal((2, ours.dim))
    found = in_float64(third_derivatives, ours, theta, u, v)
    expected = in_float64(third_derivatives, in_jax, theta, u, v)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("lanes", [3, 12], ids=["stacked", "recorded"])
def test_many_replicas_agree_with_jax(lanes):
    ours, in_jax = twins()
    generator = np.random.default_rng(1)
    theta = ours.initial + 0.1 * generator.standard_normal((lanes, ours.dim))
    index = generator.integers(0, 40, (lanes, 5))
    with float64():
        found, expected = (
            jax.vmap(landscape.batch_gradient)(jnp.asarray(theta), jnp.asarray(index))
            for landscape in (ours, in_jax)
        )
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert bool(ours.derivatives._recorded) == (lanes == 12)


def test_placed_and_rescaled():
    ours, _ = twins()
    theta = ours.initial
    with float64():
        placed = place(ours)
        assert float(placed._loss(jnp.asarray(theta))) == ours.loss(theta)
    sharper = esc.landscapes.rescale(ours.at_minimum(theta), 4.0)
    assert sharper.loss(theta / 2) == pytest.approx(ours.loss(theta), rel=1e-14)
    np.testing.assert_allclose(sharper.minima[0], theta / 2)
    np.testing.assert_allclose(sharper.gradient(theta / 2), 2 * ours.gradient(theta), rtol=1e-12)


def test_state_goes_back_into_the_model():
    model = mlp()
    landscape = torch_network(model, "cross_entropy", DATA, only="2")
    theta = landscape.initial + 1.0
    model.load_state_dict(landscape.state(theta), strict=False)
    again = torch_network(model, "cross_entropy", DATA, only="2")
    np.testing.assert_allclose(again.initial, theta, rtol=1e-6)
    assert landscape.parameter_names == ["2.weight (3, 5)", "2.bias (3,)"]


def test_kinks_are_named():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    assert torch_network(model, "cross_entropy", DATA).kinks == ["1"]
    assert torch_network(mlp(), "cross_entropy", DATA).kinks == []


# Losses.


def weighted(outputs, labels):
    return functional.cross_entropy(outputs, labels, label_smoothing=0.1)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        weighted,
        lambda scores, labels: functional.cross_entropy(
            scores, labels, label_smoothing=0.1, reduction="none"
        ),
        lambda scores, labels: weighted(scores, labels) if labels[0].item() >= 0 else None,
    ],
    ids=["module", "scalar", "per example", "branching"],
)
def test_losses_of_each_example(loss):
    landscape = torch_network(mlp(), loss, DATA)
    model = mlp().double()
    scores = model(torch.tensor(ROWS))
    expected = functional.cross_entropy(
        scores, torch.tensor(LABELS), label_smoothing=0.1, reduction="none"
    )
    around = landscape.expand(landscape.initial)
    np.testing.assert_allclose(around.example_losses, expected.detach(), rtol=1e-12)
    slope = torch.autograd.grad(expected.mean(), model.parameters())
    np.testing.assert_allclose(around.gradient, torch.cat([g.flatten() for g in slope]), atol=1e-14)


def test_mean_squared_error_over_several_outputs():
    targets = np.random.default_rng(0).standard_normal((40, 3))
    landscape = torch_network(mlp(), nn.MSELoss(), (ROWS, targets))
    outputs = mlp().double()(torch.tensor(ROWS)).detach().numpy()
    expected = ((outputs - targets) ** 2).mean()
    assert landscape.loss(landscape.initial) == pytest.approx(expected, rel=1e-13)
    square = torch_network(mlp(), "square", (ROWS, targets))
    assert square.loss(square.initial) == pytest.approx(1.5 * expected, rel=1e-13)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("hinge", "choose one of cross_entropy, square"),
        (3, "give 'cross_entropy'"),
        (nn.CrossEntropyLoss(reduction="sum"), "reduction='mean'"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0])), "class weights"),
        (lambda scores, labels: scores, "shape .4, 3."),
        (lambda scores, labels: scores.sum(1)[1:], "3 numbers for 4 examples"),
        (lambda scores, labels: None, "NoneType"),
        (lambda scores, labels: scores.missing, "cannot be computed"),
    ],
)
def test_refused_losses(loss, words):
    with pytest.raises(InvalidArgument, match=words):
        torch_network(mlp(), loss, DATA)


# Modules.


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        return self.layers(functional.dropout(x, 0.5))


class Cliff(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


class Once(Noisy):
    def forward(self, x):
        return Cliff.apply(self.layers(x))


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_refused_modules():
    cases = [
        (mlp(nn.BatchNorm1d(5)), r"1 would make.*model.eval\(\).*frozen_statistics"),
        (mlp(nn.BatchNorm1d(5, track_running_stats=False)).eval(), r"of the batch \(1\)"),
        (Noisy(), "two different losses"),
        (Once(), "differentiated twice"),
        (nn.Sequential(nn.Linear(3, 3)), "does not accept the inputs"),
        (mlp().requires_grad_(False), "requires_grad"),
        (nn.Sequential(nn.Linear(4, 3).to(torch.complex64)), "complex"),
        (lambda x: x, "torch.nn.Module"),
    ]
    for model, words in cases:
        with pytest.raises(InvalidArgument, match=words):
            torch_network(model, "cross_entropy", DATA)
    broken = mlp()
    broken[2].bias.data[1] = torch.nan
    with pytest.raises(InvalidArgument, match=r"examples \[0, 1"):
        torch_network(broken, "cross_entropy", DATA)
    with pytest.raises(InvalidArgument, match=r"2\.weight"):
        torch_network(mlp(), "cross_entropy", DATA, only="head")


def test_points_without_a_finite_loss_name_the_examples():
    def roots(outputs, targets):
        return torch.sqrt(outputs[:, 0] - targets)

    model = nn.Sequential(nn.Linear(1, 1))
    model[0].weight.data.fill_(1.0), model[0].bias.data.fill_(5.0)
    landscape = torch_network(model, roots, (np.zeros((5, 1)), np.arange(5.0)))
    assert np.isfinite(landscape.loss(np.array([1.0, 4.5])))
    with pytest.raises(Diverged, match="examples 3, 4"):
        landscape.expand(np.array([1.0, 2.5]))
    with pytest.raises(Diverged, match="derivative at zero"):
        landscape.expand(np.array([1.0, 4.0]))


def test_checkpoints(tmp_path):
    trained, other = mlp(), mlp()
    with torch.no_grad():
        for value in trained.parameters():
            value.add_(1.0)
    state = trained.state_dict()
    lightning = {"epoch": 3, "state_dict": {f"model.{name}": v for name, v in state.items()}}
    parallel = {"model": {f"module.{name}": value for name, value in state.items()}}
    for number, content in enumerate([state, lightning, parallel, {"model_state_dict": state}]):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        loaded = load_checkpoint(other, path)
        assert all(torch.equal(v, state[name]) for name, v in loaded.state_dict().items())
    assert not torch.equal(other[0].weight, trained[0].weight)
    torch.save(trained, tmp_path / "pickled.pt")
    wrong = {"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(5), "9.bias": torch.zeros(1)}
    cases = [
        (tmp_path / "none.pt", "no file"),
        (tmp_path / "pickled.pt", r"model.state_dict\(\) alone"),
        (wrong, r"missing: 2.bias, 2.weight; unexpected: 9.bias; .*0.weight \(2, 4\) for \(5, 4\)"),
        ({"epoch": 3}, "no state dictionary"),
    ]
    for checkpoint, words in cases:
        with pytest.raises(InvalidArgument, match=words):
            load_checkpoint(other, checkpoint)
