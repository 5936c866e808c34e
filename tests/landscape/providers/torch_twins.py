"""The twins in PyTorch; without it nothing is registered."""

import importlib.util

from landscape.providers.twins import Built, builds

if importlib.util.find_spec("torch"):
    import torch
    from torch import nn

    def holding(module, twin, names):
        """The module in double precision, with the twin's weights under its own names."""
        module = module.double()
        state = {name: torch.tensor(twin.weights[source]) for name, source in names.items()}
        left = module.load_state_dict(state, strict=False)
        assert not left.unexpected_keys
        return module.eval()

    @builds("torch", "mlp")
    @builds("torch", "scaled")
    @builds("torch", "frozen")
    def dense(twin):
        layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        names = {"0.weight": "w1", "0.bias": "b1", "2.weight": "w2", "2.bias": "b2"}
        return Built(holding(layers, twin, names), names, {"only": "2.*"} if twin.moving else {})

    class Convolutional(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(2, 3, 3, stride=2, padding=1)
            self.readout = nn.Linear(3, 3)

        def forward(self, x):
            hidden = nn.functional.softplus(self.convolution(x))
            return self.readout(hidden.mean((2, 3)))

    @builds("torch", "convolutional")
    def convolutional(twin):
        names = {"convolution.weight": "k", "convolution.bias": "c"}
        names |= {"readout.weight": "w", "readout.bias": "b"}
        return Built(holding(Convolutional(), twin, names), names)

    class Shared(nn.Module):
        """One parameter under two names."""

        def __init__(self, weight, bias):
            super().__init__()
            self.encoder, self.decoder = nn.Module(), nn.Module()
            self.encoder.weight = nn.Parameter(torch.tensor(weight))
            self.decoder.weight = self.encoder.weight
            self.bias = nn.Parameter(torch.tensor(bias))

        def forward(self, x):
            hidden = torch.tanh(x @ self.encoder.weight.T)
            return hidden @ self.decoder.weight + self.bias

    @builds("torch", "tied")
    def tied(twin):
        network = Shared(twin.weights["w"], twin.weights["b"])
        return Built(network.eval(), {"bias": "b", "encoder.weight": "w"})

    @builds("torch", "batch_norm")
    def normalised(twin):
        layers = nn.Sequential(
            nn.Linear(3, 4, bias=False),
            nn.BatchNorm1d(4),
            nn.Dropout(0.5),
            nn.Tanh(),
            nn.Linear(4, 3, bias=False),
        )
        names = {"0.weight": "w1", "1.weight": "gain", "1.bias": "shift", "4.weight": "w2"}
        buffers = {"1.running_mean": "mean", "1.running_var": "variance"}
        return Built(holding(layers, twin, names | buffers), names)
