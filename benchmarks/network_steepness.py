"""How far the steepness of a network's exits is from its quadratic approximation.

    python benchmarks/network_steepness.py [--data avila|digits|breast_cancer] [--widths 8]

The multilayer perceptron of the built-in studies, with the noise of minibatches of 64, out of
slabs across the sharpest direction, sublevel sets and balls that grow. Prints the table of
docs/steepness.md. The Avila data is found as in the studies (`escapade data`).
"""

import argparse
import sys
import time

import numpy as np

import escapade as esc
from escapade.errors import EscapadeError
from escapade.landscape.descent import jacobian
from escapade.steepness.local import minimum_over_boundary

STIFFNESS = 0.2
BATCH_SIZE = 64
SIZES = {
    "slab": (0.05, 0.1, 0.2, 0.3, 0.4),
    "sublevel set": (0.001, 0.003, 0.01, 0.03),
    "ball": (0.05, 0.1, 0.2),
}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="avila", choices=["avila", "digits", "breast_cancer"])
    parser.add_argument("--widths", type=int, nargs="*", default=[8])
    options = parser.parse_args()
    dataset = esc.data.load(options.data, preprocessing="paper")
    inputs, classes = dataset.inputs.shape[1], len(np.unique(dataset.labels))
    network = esc.landscapes.MLP((inputs, *options.widths, classes), key=0)
    landscape = esc.landscapes.network_landscape(network, dataset, 1e-3, "cross_entropy")
    theta = esc.train(landscape).theta
    eigenvalues, vectors = np.linalg.eigh(jacobian(landscape, theta))
    rate = STIFFNESS / eigenvalues[-1]
    dynamics = esc.MinibatchSGD(rate, BATCH_SIZE)
    print(f"{options.data}, {landscape.dim} parameters, eta = {rate:.3g}, B = {BATCH_SIZE}\n")
    print("| region | size | V0 | quadratic | ratio | steps | relative error |")
    print("|---|---|---|---|---|---|---|")
    around = None
    for name, sizes in SIZES.items():
        for size in sizes:
            regions = {
                "slab": lambda size: esc.Slab(vectors[:, -1], size),
                "sublevel set": esc.Sublevel,
                "ball": esc.Ball,
            }
            escape = esc.Escape(landscape, dynamics, regions[name](size), minimum=theta)
            around = around or esc.neighbourhood(escape)
            form = escape.region.local_form(theta, around.drift_matrix)
            local = minimum_over_boundary(around.stationary_covariance(rate), form).value
            began = time.perf_counter()
            try:
                found = esc.minimum_steepness(escape, neighbourhood=around, tolerance=1e-4)
            except EscapadeError as error:
                print(f"| {name} | {size} | not found: {error} | {local:.5g} | | | |", flush=True)
                break
            print(
                f"| {name} | {size} | {found.value:.5g} | {local:.5g} "
                f"| {found.value / local:.4f} | {-found.times[0]:.0f} | {found.error:.1e} |",
                flush=True,
            )
            seconds = time.perf_counter() - began
            print(f"{name} {size}: {seconds:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
