"""A residual network with batch normalisation, inspected whole: a million parameters, or ten.

What one learns: how a checkpoint of ordinary size is inspected in a few lines, with the statistics
of batch normalisation as they are at evaluation, what it costs in time and memory, and what a time
budget leaves out. The network is trained for a few seconds on the digits of scikit-learn, so the
honest answer may be that this is no minimum yet.

    python examples/resnet.py                                  # 1.1 million parameters
    python examples/resnet.py --channels 64 --examples 64      # 11 million
    python examples/resnet.py --time-budget 60

The four stages have `channels`, twice, four and eight times as many channels, as in ResNet-18.
"""

import argparse
import os
import resource
import time
from pathlib import Path

# Before torch: its waiting threads otherwise spin, and starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn

import escapade as esc
from escapade.report import write_inspection


class Block(nn.Module):
    """Two convolutions, each normalised, around a short cut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.short = nn.Identity()
        if stride > 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.short = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
        self.activation = nn.SiLU()

    def forward(self, x):
        inner = self.activation(self.norms[0](self.first(x)))
        return self.activation(self.norms[1](self.second(inner)) + self.short(x))


def resnet(channels):
    torch.manual_seed(0)
    widths = [channels, channels, 2 * channels, 4 * channels, 8 * channels]
    blocks = [
        Block(widths[stage] if first else widths[stage + 1], widths[stage + 1], stride)
        for stage in range(4)
        for first, stride in ((True, 2 if stage else 1), (False, 1))
    ]
    stem = [nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.SiLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * channels, 10)]
    return nn.Sequential(*stem, *blocks, *head)


def train(model, images, labels, steps, weight_decay):
    """Half of the steps with the statistics of each batch, half with those that were gathered."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=weight_decay)
    for step in range(steps):
        model.train(step < steps // 2)
        batch = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=20, help="64 for 11 million parameters")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--time-budget", type=float, default=None, help="seconds of inspection")
    parser.add_argument("--out", type=Path, default=Path("results/examples/resnet"))
    options = parser.parse_args(arguments)

    data = esc.data.load("digits", preprocessing="none").subset(options.examples)
    images = torch.tensor(data.inputs / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(data.labels)
    model = train(resnet(options.channels), images, labels, options.steps, weight_decay=1e-3)
    landscape = esc.landscapes.network_landscape(model, (images, labels), weight_decay=1e-3)
    before, began = peak_memory(), time.process_time()
    found = esc.inspect(
        landscape,
        learning_rate=0.01,
        batch_size=64,
        time_budget=options.time_budget,
        progress=lambda stage: print(f"{time.process_time() - began:7.1f} s  {stage}", flush=True),
    )
    print(found)
    print(f"\nshare of each layer in the sharpest direction of {landscape.dim:,} parameters:")
    shares = found.layers(found.curvature.vectors[:, 0])
    for name in sorted(shares, key=shares.get, reverse=True)[:5]:
        print(f"  {name:40}{shares[name]:8.1%}")
    print(f"\n{time.process_time() - began:.0f} s of processor time in {found.seconds:.0f} s")
    print(f"peak memory {peak_memory():.2f} GB, {before:.2f} GB before the inspection")
    print(f"page: {write_inspection(found, options.out)}")
    return found


def peak_memory():
    """Largest resident memory of this process so far, in gigabytes (Linux counts kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
