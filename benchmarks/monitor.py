"""What watching costs: a small convolutional net on 28 x 28 images, with and without a monitor.

    python benchmarks/monitor.py [--steps 3000] [--every 0]

Trains in PyTorch, minibatches of 64, alternating blocks of steps with and without the monitor so
that a busy machine treats both alike. Prints the overhead that the monitor reports, and the one
measured from outside: the excess of the time of the watched steps. Uses Fashion-MNIST where the
Debian package dataset-fashion-mnist is installed, the digits of scikit-learn at 28 x 28 otherwise.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import torch

import escapade as esc
from escapade.training import Monitor

FASHION = Path("/usr/share/datasets/fashion-mnist")


def images(count):
    if FASHION.is_dir():
        with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16)
        with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
        name, inputs = "Fashion-MNIST", torch.tensor(pixels.reshape(-1, 1, 28, 28) / 255.0)
        return name, inputs.float(), torch.tensor(labels).long()
    data = esc.data.load("digits")
    inputs = torch.tensor(data.inputs).float().reshape(-1, 1, 8, 8)
    larger = torch.nn.functional.interpolate(inputs, size=(28, 28), mode="bilinear")
    return "digits at 28 x 28", larger, torch.tensor(data.labels).long()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 49, 10),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--every", type=int, default=0, help="0: the monitor's own choice")
    parser.add_argument("--examples", type=int, default=0, help="0: the monitor's default")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--folder", default=None, help="where the watched run's records go")
    options = parser.parse_args()

    name, inputs, labels = images(10_000)
    watched, alone = network(), network()
    landscape = esc.landscapes.network_landscape(watched.eval(), (inputs, labels), weight_decay=0.0)
    monitor = Monitor(
        landscape,
        options.learning_rate,
        64,
        every=options.every or None,
        examples=options.examples or None,
        sampling="shuffled_epochs",
        folder=options.folder,
    )
    optimizers = {
        model: torch.optim.SGD(model.parameters(), options.learning_rate)
        for model in (watched, alone)
    }
    monitor.torch_hook(optimizers[watched], watched)
    loss = torch.nn.CrossEntropyLoss()

    def train(model, batches):
        began = time.perf_counter()
        for batch in batches:
            optimizers[model].zero_grad()
            loss(model(inputs[batch]), labels[batch]).backward()
            optimizers[model].step()
        return time.perf_counter() - began

    generator = torch.Generator().manual_seed(0)
    batches = []
    while len(batches) < options.steps:
        batches.extend(torch.randperm(len(inputs), generator=generator).split(64)[:-1])
    seconds = {watched: 0.0, alone: 0.0}
    for first in range(0, options.steps, 50):
        block = batches[first : min(first + 50, options.steps)]
        for model in (watched, alone):
            seconds[model] += train(model, block)
    monitor.close()
    same = all(
        torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True)
    )
    print(f"{name}: {landscape.dim} parameters, {len(inputs)} examples, batches of 64")
    print(f"one step of training: {1e3 * seconds[alone] / options.steps:.2f} ms")
    print(f"one record: {1e3 * monitor.record_seconds:.1f} ms, every {monitor.every} steps")
    print(f"preparation: {monitor.preparation:.2f} s, once")
    spent = monitor.seconds
    print(
        f"in the monitor: {spent:.2f} s, {100 * spent / seconds[watched]:.2f} % of the watched run"
    )
    print(f"measured from outside: {100 * (seconds[watched] / seconds[alone] - 1):.2f} %")
    print(f"same parameters with and without: {same}")
    for record in monitor.records[-3:]:
        print(record)
    return monitor


if __name__ == "__main__":
    main()
