"""One network, in PyTorch and in JAX: the same sharpness, the same noise, the same expected exit.

What one learns: networks are inspected by the framework they are written in, nothing is converted,
and the numbers do not depend on it. A small network is trained to a minimum on real images in
PyTorch, its weights are copied into an Equinox module, and both are inspected.

    python examples/one_network_two_frameworks.py
    python examples/one_network_two_frameworks.py --network conv --data fashion_mnist

Fashion-MNIST comes from the Debian package dataset-fashion-mnist; the digits need nothing.
"""

import argparse
import os
from pathlib import Path

# Before torch: its waiting threads otherwise spin, and starve each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import scipy.optimize
import torch
from torch import nn

import escapade as esc
from escapade.report import write_inspection


def in_pytorch(network, side):
    torch.manual_seed(0)
    if network == "mlp":
        return nn.Sequential(nn.Linear(side**2, 16), nn.Tanh(), nn.Linear(16, 10))
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(16 * (-(-side // 4)) ** 2, 10),
    )


def in_jax(network, side, weights):
    key = jax.random.key(0)
    if network == "mlp":
        layers = [eqx.nn.Linear(side**2, 16, key=key), jnp.tanh, eqx.nn.Linear(16, 10, key=key)]
    else:
        layers = [
            lambda row: row.reshape(1, side, side),
            eqx.nn.Conv2d(1, 8, 3, stride=2, padding=1, key=key),
            jnp.tanh,
            eqx.nn.Conv2d(8, 16, 3, stride=2, padding=1, key=key),
            jnp.tanh,
            jnp.ravel,
            eqx.nn.Linear(16 * (-(-side // 4)) ** 2, 10, key=key),
        ]
    modules = [x if isinstance(x, eqx.Module) else eqx.nn.Lambda(x) for x in layers]
    arrays, rest = eqx.partition(eqx.nn.Sequential(modules), eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    copied = [w.reshape(leaf.shape) for w, leaf in zip(weights, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, copied), rest)


def descend(landscape, iterations=1000):
    """Full-batch L-BFGS: it needs gradients only, so it works for networks of any size."""

    def loss_and_gradient(theta):
        around = landscape.expand(theta)
        return around.loss, around.gradient

    options = {"maxiter": iterations, "maxcor": 30, "ftol": 0.0, "gtol": 1e-8}
    start = landscape.initial
    return scipy.optimize.minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options
    ).x


def figures(found):
    """What the two frameworks must agree on."""
    return {
        "loss": found.loss,
        "sharpness (largest eigenvalue of H)": found.sharpness,
        "trace of H": found.alignment.hessian_trace.value,
        "noise: largest eigenvalue of C": found.noise.values[0],
        "noise: tenth eigenvalue of C": found.noise.values[9],
        "trace of C": found.noise_trace.value,
        **{f"steps until SGD leaves the {o.region}": o.steps for o in found.outlooks},
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp", choices=["mlp", "conv"])
    parser.add_argument("--data", default="digits", choices=["digits", "fashion_mnist"])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=1000, help="of the descent")
    parser.add_argument("--out", type=Path, default=Path("results/examples"))
    options = parser.parse_args(arguments)

    split = {} if options.data == "digits" else {"split": "test"}
    data = esc.data.load(options.data, preprocessing="none", **split).subset(options.examples)
    images, side = data.inputs / data.inputs.max(), round(data.features**0.5)
    model = in_pytorch(options.network, side)
    weights = [value.detach().numpy() for value in model.parameters()]
    pair = (images, data.labels)
    landscapes = {
        "PyTorch": esc.landscapes.network_landscape(model, pair, weight_decay=1e-2),
        "JAX": esc.landscapes.network_landscape(
            in_jax(options.network, side, weights), pair, weight_decay=1e-2
        ),
    }
    theta = descend(landscapes["PyTorch"], options.iterations)
    setting = {"learning_rate": 0.1, "batch_size": 32, "depth": 0.01}
    found = {name: esc.inspect(one, theta, **setting) for name, one in landscapes.items()}
    print(found["PyTorch"])

    print(f"\n{'':55}{'PyTorch':>16}{'JAX':>16}   relative difference")
    table = list(zip(*(figures(one).items() for one in found.values()), strict=True))
    for (name, one), (_, other) in table:
        print(f"{name:55}{one:16.9g}{other:16.9g}   {abs(one - other) / abs(one):.1e}")

    panels, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, marker in (("PyTorch", "o"), ("JAX", "+")):
        style = {"marker": marker, "linestyle": "", "markersize": 9, "fillstyle": "none"}
        axes[0].semilogy(found[name].curvature.values, label=name, **style)
        axes[1].semilogy(found[name].noise.values, label=name, **style)
    axes[0].set(title="curvature", xlabel="direction", ylabel="eigenvalue of H")
    axes[1].set(title="gradient noise", xlabel="direction", ylabel="eigenvalue of C")
    axes[0].legend()
    folder = options.out / f"{options.network}-{options.data}"
    page = write_inspection(found["PyTorch"], folder)
    panels.savefig(folder / "two_frameworks.png", dpi=120)
    print(f"\npage: {page}\nfigure: {folder / 'two_frameworks.png'}")
    return [(name, float(one), float(other)) for (name, one), (_, other) in table]


if __name__ == "__main__":
    main()
