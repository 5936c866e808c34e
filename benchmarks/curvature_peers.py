"""Sharpness and gradient noise of a network, beside curvlinops and PyHessian.

The peers want an environment of their own: they ask for torchvision, whose newest wheel replaces
the CPU build of torch by one for CUDA. Nothing here imports it, so no stub is needed.

    python -m venv peers
    peers/bin/pip install -c constraints.txt -e '.[torch]'
    peers/bin/pip install --no-deps -r benchmarks/curvature_peers.requirements.txt
    peers/bin/python benchmarks/curvature_peers.py [--rounds 3] [--only small|large]

First the problems small enough for dense matrices, which PyTorch's own `hessian` and `vmap` of
gradients fill: the leading eigenvalues, side by side. Then a network of a million parameters on ten
thousand images: the largest Hessian eigenvalue to 1e-3 and the top 10 of the gradient noise, with
everything in the time, construction included; process CPU time of one thread, the packages in turn,
in reversed order every other round. Fashion-MNIST where the Debian package dataset-fashion-mnist is
installed, otherwise the digits at 28 x 28, repeated with noise.

The peers have no centred covariance. curvlinops has the uncentred one (its empirical Fisher, here
with scipy's eigsh), which exceeds it by g g^T; PyHessian has none, so that it is compared on the
largest eigenvalue alone, in both of its modes: all data in one batch, whose graph it keeps, and a
loader. It computes in single precision only.
"""

import os
import sys

# Before torch: waiting threads that spin make it many times slower on a busy machine.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import time
from functools import partial

import numpy as np
import pyhessian
import scipy.sparse.linalg
import torch
from curvlinops import EFLinearOperator, HessianLinearOperator
from torch import nn

import escapade as esc
from escapade.errors import DataError
from escapade.minimum.krylov import largest_eigenpairs

torch.set_num_threads(1)


# --- the packages ---------------------------------------------------------------------------------


class Counted:
    """A product that counts its calls."""

    def __init__(self, product):
        self.product, self.calls = product, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.product(*arguments)


def escapade(product, model, data, count, tolerance, precision="float32", of="values"):
    landscape = esc.landscapes.network_landscape(model, data, weight_decay=0.0)
    around = landscape.expand(landscape.initial, precision=precision)
    found = largest_eigenpairs(
        getattr(around, product),
        around.dim,
        count,
        tolerance=tolerance,
        of=of,
        precision=precision,
    )
    return found.values, found.products


escapade_hessian = partial(escapade, "hessian_product")
escapade_noise = partial(escapade, "noise_product")


def curvlinops(operator, model, data, count, tolerance, batch=1000):
    parameters = list(model.parameters())
    linear = operator(
        model,
        nn.CrossEntropyLoss(),
        parameters,
        list(zip(*(part.split(batch) for part in data), strict=True)),
        check_deterministic=False,
    ).to_scipy()
    product = Counted(linear.matvec)
    counted = scipy.sparse.linalg.LinearOperator(linear.shape, product, dtype=linear.dtype)
    values = scipy.sparse.linalg.eigsh(
        counted,
        count,
        which="LA",
        tol=tolerance,
        return_eigenvectors=False,
        v0=np.random.default_rng(0).standard_normal(linear.shape[0]).astype(linear.dtype),
    )
    return np.sort(values)[::-1], product.calls


def py_hessian(model, data, count, tolerance, loader=False):
    torch.manual_seed(0)
    model.zero_grad()  # what is left there would be added to the gradient
    given = {"data": data}
    if loader:
        given = {"dataloader": list(zip(*(part.split(1000) for part in data), strict=True))}
    problem = pyhessian.hessian(model, nn.CrossEntropyLoss(), cuda=False, **given)
    product = Counted(problem.dataloader_hv_product if loader else one_batch_product)
    if loader:
        problem.dataloader_hv_product = product
    else:
        sys.modules["pyhessian.hessian"].hessian_vector_product = product
    values, _ = problem.eigenvalues(maxIter=1000, tol=tolerance, top_n=count)
    model.zero_grad()
    return np.array(values), product.calls


one_batch_product = pyhessian.hessian_vector_product
sharpest_by_curvlinops = partial(curvlinops, HessianLinearOperator)
fisher_by_curvlinops = partial(curvlinops, EFLinearOperator)


# --- problems -------------------------------------------------------------------------------------


def images(count):
    """Images of 784 pixels in 0..1, and their labels."""
    try:
        data = esc.data.load("fashion_mnist", split="test", preprocessing="none")
        rows = data.inputs[:count] / 255
        name, labels = "Fashion-MNIST", data.labels[:count]
    except DataError:
        data, generator = esc.data.load("digits", preprocessing="none"), np.random.default_rng(0)
        chosen = generator.integers(data.examples, size=count)
        small = torch.tensor(data.inputs[chosen] / 16).reshape(-1, 1, 8, 8)
        rows = nn.functional.interpolate(small, size=(28, 28), mode="bilinear").reshape(-1, 784)
        rows = rows.numpy() + 0.1 * generator.standard_normal(rows.shape)
        name, labels = "digits at 28 x 28", data.labels[chosen]
    return name, (torch.tensor(rows, dtype=torch.float32), torch.tensor(labels))


def trained(model, data, steps, rate=0.1):
    """Part of the way, as a user's checkpoint is: the gradient is not zero."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(steps):
        batch = torch.randint(len(data[0]), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0][batch]), data[1][batch]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def mlp(*widths):
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))[:-1]


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


# --- small: eigenvalues side by side --------------------------------------------------------------


def dense(model, data):
    """Hessian and gradients of all examples, by PyTorch alone, in double precision."""
    names, values = zip(*((n, v.detach()) for n, v in model.named_parameters()), strict=True)
    sizes, shapes = [v.numel() for v in values], [v.shape for v in values]

    def losses(flat, rows, labels):
        parts = flat.split(sizes)
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(model, named, (rows,))
        return nn.functional.cross_entropy(outputs, labels)

    flat = torch.cat([v.reshape(-1) for v in values])
    hessian = torch.func.jacrev(torch.func.grad(lambda t: losses(t, *data)), chunk_size=64)(flat)
    each = torch.func.vmap(
        torch.func.grad(lambda t, row, label: losses(t, row[None], label[None])),
        in_dims=(None, 0, 0),
        chunk_size=100,
    )(flat, *data)
    return hessian.numpy(), each.numpy()


def side_by_side(name, model, data):
    double = tuple(part.double() if part.is_floating_point() else part for part in data)
    hessian, gradients = dense(model.double(), double)
    exact = np.linalg.eigvalsh(hessian)[::-1][:5]
    centred = np.linalg.eigvalsh(np.cov(gradients.T, bias=True))[::-1][:5]
    uncentred = np.linalg.eigvalsh(gradients.T @ gradients / len(gradients))[::-1][:5]
    columns = {
        "H, dense": (exact, exact),
        "H, Escapade": (escapade_hessian(model, double, 5, 1e-8, "float64")[0], exact),
        "H, curvlinops": (sharpest_by_curvlinops(model, double, 5, 1e-8)[0], exact),
        "H, PyHessian": (py_hessian(model.float(), data, 5, 1e-6)[0], exact),
        "C, dense": (centred, centred),
        "C, Escapade": (escapade_noise(model, double, 5, 1e-8, "float64")[0], centred),
        "C + g g^T, dense": (uncentred, uncentred),
        "C + g g^T, curvlinops": (
            fisher_by_curvlinops(model.double(), double, 5, 1e-8)[0],
            uncentred,
        ),
    }
    model.float()
    print(f"\n{name}: {len(hessian)} parameters, |g| = {np.linalg.norm(gradients.mean(0)):.3g}\n")
    print("| | eigenvalues | largest relative difference from dense |\n|---|---|---|")
    for label, (values, truth) in columns.items():
        shown = ", ".join(f"{value:.7g}" for value in values)
        print(f"| {label} | {shown} | {np.abs(values / truth - 1).max():.1e} |", flush=True)


# --- large: time ----------------------------------------------------------------------------------


def timed(contestants, rounds):
    """Seconds of CPU of each contestant in each round, and what each found."""
    seconds = {name: [] for name in contestants}
    found = {}
    for number in range(rounds):
        order = list(contestants)[:: 1 if number % 2 == 0 else -1]
        for name in order:
            began = time.process_time()
            found[name] = contestants[name]()
            seconds[name].append(time.process_time() - began)
            print(f"round {number + 1}, {name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    return seconds, found


def compared(title, contestants, ours, exact, rounds):
    seconds, found = timed(contestants, rounds)
    print(f"\n{title}\n")
    print("| | CPU s | times Escapade | products | largest relative error |\n|---|---|---|---|---|")
    for name, (values, products) in found.items():
        ratio = np.median(np.divide(seconds[name], seconds[ours]))
        error = np.abs(np.asarray(values) / exact[name] - 1).max()
        median = np.median(seconds[name])
        print(f"| {name} | {median:.1f} | {ratio:.2f} | {products} | {error:.1e} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--only", choices=["small", "large"])
    options = parser.parse_args()

    if options.only != "large":
        data = esc.data.load("digits", preprocessing="none")
        pair = torch.tensor(data.inputs / 16, dtype=torch.float32), torch.tensor(data.labels)
        side_by_side("MLP 64-16-10 on the digits", trained(mlp(64, 16, 10), pair, 2000), pair)
        side_by_side("Convolutions on the digits", trained(convolutional(), pair, 500), pair)
    if options.only == "small":
        return

    source, data = images(options.examples)
    model = trained(mlp(784, 1000, 200, 10), data, 1000)
    count = sum(value.numel() for value in model.parameters())
    print(f"\nMLP 784-1000-200-10 on {len(data[0])} images of {source}: {count} parameters")
    exact = escapade_hessian(model, data, 1, 1e-5)[0]
    contestants = {
        "Escapade": lambda: escapade_hessian(model, data, 1, 1e-3),
        "curvlinops, eigsh": lambda: sharpest_by_curvlinops(model, data, 1, 1e-3),
        "PyHessian, one batch": lambda: py_hessian(model, data, 1, 1e-3),
        "PyHessian, loader": lambda: py_hessian(model, data, 1, 1e-3, loader=True),
        # Its tolerance is that of the last change; this is what an error of 1e-3 takes.
        "PyHessian, one batch, 1e-4": lambda: py_hessian(model, data, 1, 1e-4),
        "PyHessian, loader, 1e-4": lambda: py_hessian(model, data, 1, 1e-4, loader=True),
    }
    truth = dict.fromkeys(contestants, exact)
    title = "Largest Hessian eigenvalue, tolerance 1e-3 unless said otherwise"
    compared(title, contestants, "Escapade", truth, options.rounds)
    compared(
        "Top 10 of the gradient noise to 1e-3 (curvlinops: uncentred)",
        {
            # The tolerance is relative to the largest, and the tenth is far smaller.
            "Escapade, C": lambda: escapade_noise(model, data, 10, 1e-3, of="vectors"),
            "curvlinops, eigsh, C + g g^T": lambda: fisher_by_curvlinops(model, data, 10, 1e-3),
        },
        "Escapade, C",
        {
            "Escapade, C": escapade_noise(model, data, 10, 1e-5)[0],
            "curvlinops, eigsh, C + g g^T": fisher_by_curvlinops(model, data, 10, 1e-6)[0],
        },
        options.rounds,
    )


if __name__ == "__main__":
    main()
