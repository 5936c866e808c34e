"""One network, in PyTorch and in JAX: the same sharpness, the same noise, the same expected exit.

What one learns: a network is inspected by the framework it is written in, nothing is converted, and
the numbers do not depend on it. The minimum, on real images, is found in PyTorch.

    python examples/one_network_two_frameworks.py
    python examples/one_network_two_frameworks.py --network conv --data fashion_mnist

Fashion-MNIST comes from the Debian package dataset-fashion-mnist; the digits need nothing.
"""

import argparse
import os
from functools import partial
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

# Brighter images make sharper minima: at 0.1 SGD does not stay at those of Fashion-MNIST.
LEARNING_RATES = {"digits": 0.1, "fashion_mnist": 0.01}


def in_pytorch(network, side):
    torch.manual_seed(0)
    if network == "mlp":
        return nn.Sequential(nn.Linear(side**2, 16), nn.Tanh(), nn.Linear(16, 10))
    layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.Tanh(), nn.Conv2d(8, 16, 3, 2, 1), nn.Tanh()]
    head = [nn.Flatten(), nn.Linear(side**2, 10)]
    return nn.Sequential(nn.Unflatten(1, (1, side, side)), *layers, *head)


def in_jax(network, side, twin):
    dense, convolution = (partial(f, key=jax.random.key(0)) for f in (eqx.nn.Linear, eqx.nn.Conv2d))
    if network == "mlp":
        layers = [dense(side**2, 16), jnp.tanh, dense(16, 10)]
    else:
        layers = [convolution(1, 8, 3, 2, 1), jnp.tanh, convolution(8, 16, 3, 2, 1), jnp.tanh]
        layers = [lambda row: row.reshape(1, side, side), *layers, jnp.ravel, dense(side**2, 10)]
    modules = [x if isinstance(x, eqx.Module) else eqx.nn.Lambda(x) for x in layers]
    arrays, rest = eqx.partition(eqx.nn.Sequential(modules), eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    pairs = zip(twin.parameters(), leaves, strict=True)
    copied = [value.detach().numpy().reshape(leaf.shape) for value, leaf in pairs]
    return eqx.combine(jax.tree.unflatten(structure, copied), rest)


def descend(landscape, iterations=1000):
    """Full-batch L-BFGS: it needs gradients only, so it works for networks of any size."""

    def loss_and_gradient(theta):
        around = landscape.expand(theta)
        return around.loss, around.gradient

    options = {"maxiter": iterations, "maxcor": 30, "ftol": 0.0, "gtol": 1e-8}
    return scipy.optimize.minimize(
        loss_and_gradient, landscape.initial, jac=True, method="L-BFGS-B", options=options
    ).x


def figures(found):
    """What the two frameworks must agree on."""
    return {
        "loss": found.loss,
        "sharpness (largest eigenvalue of H)": found.sharpness,
        "trace of H": found.alignment.hessian_trace.value,
        "largest eigenvalue of the noise covariance C": found.noise.values[0],
        "tenth eigenvalue of C": found.noise.values[9],
        "trace of C": found.noise_trace.value,
        **{f"steps until SGD leaves the {o.region}": o.steps for o in found.outlooks},
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mlp", choices=["mlp", "conv"])
    parser.add_argument("--data", default="digits", choices=[*LEARNING_RATES])
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/examples"))
    options = parser.parse_args(arguments)
    data = esc.data.load(options.data, preprocessing="none").subset(options.examples)
    images, side = data.inputs / data.inputs.max(), round(data.features**0.5)
    networks = {"PyTorch": in_pytorch(options.network, side)}
    networks["JAX"] = in_jax(options.network, side, networks["PyTorch"])
    found, theta = {}, None
    for name, network in networks.items():
        landscape = esc.landscapes.network_landscape(network, (images, data.labels), 1e-2)
        theta = descend(landscape) if theta is None else theta
        found[name] = esc.inspect(
            landscape,
            theta,
            learning_rate=LEARNING_RATES[options.data],
            batch_size=32,
            depth=0.01,
        )
    print(found["PyTorch"])

    print(f"\n{'':55}{'PyTorch':>16}{'JAX':>16}   relative difference")
    ours, other = (figures(one) for one in found.values())
    table = [(name, float(ours[name]), float(other[name])) for name in ours]
    for name, one, other in table:
        print(f"{name:55}{one:16.9g}{other:16.9g}   {abs(one - other) / abs(one):.1e}")

    panels, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, part in zip(axes, ("curvature", "noise"), strict=True):
        for name, marker in (("PyTorch", "o"), ("JAX", "+")):
            axis.semilogy(getattr(found[name], part).values, marker, fillstyle="none", label=name)
        axis.set(title=part, xlabel="direction", ylabel="eigenvalue")
    axes[0].legend()
    folder = options.out / f"{options.network}-{options.data}"
    print(f"page: {write_inspection(found['PyTorch'], folder)}")
    panels.savefig(folder / "two_frameworks.png", dpi=120)
    return table


if __name__ == "__main__":
    main()
