"""Thirty-seven ways in which people write modules, against eager float64 autograd.

All but two must give gradients and Hessian products, alone and side by side; the others, an error
that names the module and the way out.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from escapade.errors import InvalidArgument  # noqa: E402
from escapade.landscape.torch import torch_network  # noqa: E402

PATTERNS = {}
REFUSED = {"batch_norm_in_training": "1", "dropout_in_training": "1"}


def pattern(build):
    PATTERNS[build.__name__] = build
    return build


def rows(examples=5, features=4, seed=0):
    return torch.randn(examples, features, generator=torch.Generator().manual_seed(seed))


def images(channels=2, size=6):
    return rows(5, channels * size * size).view(5, channels, size, size)


def sequences(length=3, features=4):
    return rows(5, length * features).view(5, length, features)


class Forward(nn.Module):
    """A module of parts and a function of them."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._function = forward

    def forward(self, *inputs, **keywords):
        return self._function(self, *inputs, **keywords)


def mlp(activation=None):
    return nn.Sequential(nn.Linear(4, 5), activation or nn.Tanh(), nn.Linear(5, 3))


@pattern
def mlp_tanh():
    return mlp(), rows()


@pattern
def mlp_relu():
    return mlp(nn.ReLU()), rows()


@pattern
def convolution():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)), images()


@pattern
def pooling():
    layers = nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.Tanh(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten()), images()


@pattern
def transposed_convolution():
    layers = nn.ConvTranspose2d(2, 3, 2), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers), images(size=4)


@pattern
def upsampling():
    layers = nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2, 3, 3), nn.Tanh()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), images(size=3)


@pattern
def layer_norm():
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)), rows()


@pattern
def group_norm():
    layers = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)), images()


@pattern
def embedding():
    network = Forward(
        lambda self, words: self.head(torch.tanh(self.table(words)).mean(1)),
        table=nn.Embedding(7, 4),
        head=nn.Linear(4, 3),
    )
    return network, torch.arange(15).view(5, 3) % 7


@pattern
def dictionary_output():
    return Forward(lambda self, x: {"scores": self.layers(x)}, layers=mlp()), rows()


@pattern
def einsum():
    weight = nn.Parameter(rows(3, 16, 1).view(3, 4, 4))
    return Forward(lambda self, x: torch.einsum("ni,kij,nj->nk", x, self.w, x), w=weight), rows()


@pattern
def fourier():
    def forward(self, x):
        return self.head(torch.fft.rfft(torch.tanh(self.first(x))).abs())

    return Forward(forward, first=nn.Linear(4, 4), head=nn.Linear(3, 3)), rows()


@pattern
def frozen_layer():
    network = mlp()
    network[0].requires_grad_(False)
    return network, rows()


@pattern
def tied_weights():
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    network[2].weight = network[0].weight
    return network, rows()


@pattern
def bilinear():
    network = Forward(lambda self, x: self.layer(x, torch.tanh(x)), layer=nn.Bilinear(4, 4, 3))
    return network, rows()


@pattern
def residual():
    def forward(self, x):
        hidden = functional.relu(self.norm(self.first(x)), inplace=True)
        hidden = self.second(hidden)
        hidden += x
        return self.head(functional.relu_(hidden).mean((2, 3)))

    network = Forward(
        forward,
        first=nn.Conv2d(2, 2, 3, padding=1),
        norm=nn.BatchNorm2d(2),
        second=nn.Conv2d(2, 2, 3, padding=1),
        head=nn.Linear(2, 3),
    )
    network.norm.running_mean += 0.3
    return network.eval(), images()


@pattern
def batch_norm_in_training():
    layers = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)
    return nn.Sequential(*layers).train(), rows()


@pattern
def dropout_in_training():
    return nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.3), nn.Linear(5, 3)).train(), rows()


@pattern
def lstm():
    network = Forward(
        lambda self, x: self.head(self.core(x)[0][:, -1]),
        core=nn.LSTM(4, 3, batch_first=True),
        head=nn.Linear(3, 3),
    )
    return network, sequences()


@pattern
def gru():
    network = Forward(
        lambda self, x: self.head(self.core(x)[0][:, -1]),
        core=nn.GRU(4, 3, batch_first=True),
        head=nn.Linear(3, 3),
    )
    return network, sequences()


@pattern
def attention():
    network = Forward(
        lambda self, x: self.head(self.core(x, x, x, need_weights=False)[0].mean(1)),
        core=nn.MultiheadAttention(4, 2, batch_first=True),
        head=nn.Linear(4, 3),
    )
    return network, sequences()


@pattern
def transformer_layer():
    core = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu").eval()
    return Forward(
        lambda self, x: self.head(self.core(x).mean(1)), core=core, head=nn.Linear(4, 3)
    ), sequences()


@pattern
def weight_norm():
    first = nn.utils.weight_norm(nn.Linear(4, 5))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3)), rows()


@pattern
def weight_norm_parametrised():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3)), rows()


@pattern
def spectral_norm():
    first = nn.utils.spectral_norm(nn.Linear(4, 5))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(5, 3)).eval(), rows()


@pattern
def parameter_list():
    weights = nn.ParameterList([nn.Parameter(rows(4, 5, 1)), nn.Parameter(rows(5, 3, 2))])
    return Forward(lambda self, x: torch.tanh(x @ self.w[0]) @ self.w[1], w=weights), rows()


@pattern
def parameter_dictionary():
    weights = nn.ParameterDict(
        {"second": nn.Parameter(rows(5, 3, 2)), "first": nn.Parameter(rows(4, 5, 1))}
    )
    return Forward(
        lambda self, x: torch.tanh(x @ self.w["first"]) @ self.w["second"], w=weights
    ), rows()


@pattern
def constant_made_in_forward():
    return Forward(lambda self, x: self.layers(x @ torch.ones(4, 4)), layers=mlp()), rows()


@pattern
def range_made_in_forward():
    return Forward(lambda self, x: self.layers(x * torch.arange(4)), layers=mlp()), rows()


@pattern
def index_assignment():
    def forward(self, x):
        hidden = torch.zeros(len(x), 6)
        hidden[:, 1:6] = torch.tanh(self.first(x))
        return self.head(hidden)

    return Forward(forward, first=nn.Linear(4, 5), head=nn.Linear(6, 3)), rows()


@pattern
def branch_on_a_value():
    def forward(self, x):
        return self.layers(x) if self.layers[0].weight.sum() > 0 else self.layers(-x)

    return Forward(forward, layers=mlp()), rows()


@pattern
def value_on_the_host():
    def forward(self, x):
        return self.layers(x) * (1 + self.layers[0].weight.detach()[0, 0].item())

    return Forward(forward, layers=mlp()), rows()


@pattern
def numpy_in_forward():
    def forward(self, x):
        return self.layers(x * torch.from_numpy(np.sign(x.detach().numpy())))

    return Forward(forward, layers=mlp()), rows()


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        return 3 * ctx.saved_tensors[0] ** 2 * slope


class SeparateCube(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    backward = Cube.backward


@pattern
def own_function():
    layers = mlp()
    return Forward(lambda self, x: self.layers[2](Cube.apply(self.layers[0](x))), layers=layers), (
        rows()
    )


@pattern
def own_function_with_context():
    def forward(self, x):
        return self.layers[2](SeparateCube.apply(self.layers[0](x)))

    return Forward(forward, layers=mlp()), rows()


@pattern
def recomputed_activations():
    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(self.layers, x, use_reentrant=False)

    return Forward(forward, layers=mlp()), rows()


@pattern
def torch_script():
    return torch.jit.script(mlp()), rows()


def test_there_are_thirty_seven():
    assert len(PATTERNS) == 37


def loss(outputs, labels):
    scores = outputs["scores"] if isinstance(outputs, dict) else outputs
    return functional.cross_entropy(scores, labels, reduction="none")


def eager(network, inputs, labels, theta, vector):
    """Gradient and Hessian product of the mean loss in the module's own parameters."""
    moving = [value for value in network.parameters() if value.requires_grad]
    sizes = [value.numel() for value in moving]
    with torch.no_grad():
        for value, new in zip(moving, torch.tensor(theta).split(sizes), strict=True):
            value.copy_(new.view_as(value))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
            mean = loss(network(inputs), labels).mean()
            slopes = torch.autograd.grad(mean, moving, create_graph=True)
            along = sum(
                (slope * part.view_as(slope)).sum()
                for slope, part in zip(slopes, torch.tensor(vector).split(sizes), strict=True)
            )
            products = torch.autograd.grad(along, moving, materialize_grads=True)
    finally:
        torch.set_default_dtype(before)
    flat = [
        torch.cat([part.detach().reshape(-1) for part in parts]) for parts in (slopes, products)
    ]
    return [vector.numpy() for vector in flat]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_pattern(name):
    torch.manual_seed(0)
    network, inputs = PATTERNS[name]()
    labels = torch.arange(5) % 3
    if name in REFUSED:
        with pytest.raises(InvalidArgument, match=rf"{REFUSED[name]}.*model\.eval\(\)"):
            torch_network(network, loss, (inputs, labels))
        return
    before = [value.detach().clone() for value in network.state_dict().values()]
    landscape = torch_network(network, loss, (inputs, labels))
    generator = np.random.default_rng(0)
    theta = landscape.initial
    vector = generator.standard_normal(landscape.dim)
    around = landscape.expand(theta)
    product = around.hessian_product(vector)
    assert all(map(torch.equal, before, network.state_dict().values()))

    network = network.double()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    slope, expected = eager(network, inputs, labels, theta, vector)
    np.testing.assert_allclose(around.gradient, slope, atol=1e-12)
    np.testing.assert_allclose(product, expected, atol=1e-11)
    points = theta + 0.05 * generator.standard_normal((3, landscape.dim))
    index = np.array([[0, 1, 4], [3, 3, 2], [2, 0, 1]])
    stacked = landscape.derivatives(False, points, index, None, [])
    for point, chosen, found in zip(points, index, stacked, strict=True):
        alone, _ = eager(network, inputs[chosen], labels[chosen], point, vector)
        np.testing.assert_allclose(found, alone, atol=1e-12)
