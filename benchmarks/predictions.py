"""Predicted mean exit times against exact or simulated ones, on many kinds of problem.

    python benchmarks/predictions.py            every pair, about ten minutes
    python benchmarks/predictions.py 3 7        some of them

Prints the table of docs/predictions.md. Exact values are those of `escapade.solve`; where it has
none, the mean of 4096 simulated exits, with its standard error.
"""

import sys
import time

import jax.numpy as jnp
import numpy as np

import escapade as esc

REPLICAS = 4096
MAX_STEPS = 10**6

WELL = esc.landscapes.DoubleWell()
ISOTROPIC = esc.noise.Isotropic()
DENSE = esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]])


def bent(theta):
    """A valley that bends, stiffens on one side and softens on the other."""
    x, y = theta[0], theta[1] - 0.3 * theta[0] ** 2
    return 0.5 * x**2 + 0.75 * y**2 + 0.1 * x**3


def turning(theta):
    """A cubic well with rotation: no loss has this drift."""
    x, y = theta[0], theta[1]
    force = jnp.stack([x + 0.3 * x**3, 1.5 * y + 0.3 * x * y])
    return -force + 0.8 * jnp.stack([-y, x])


VALLEY = esc.landscapes.Function(bent, 2, minima=[[0.0, 0.0]])
WHIRL = esc.landscapes.Drift(turning, 2, minima=[[0.0, 0.0]])


def discrete(noise_scale, noise=ISOTROPIC, learning_rate=0.1):
    """Gaussian SGD of a noise scale eta / B."""
    return esc.GaussianSGD(learning_rate, learning_rate / noise_scale, noise)


def continuous(noise_scale, noise=ISOTROPIC, learning_rate=0.1):
    """Continuous SGD of a noise scale eta / B."""
    return esc.ContinuousSGD(learning_rate, learning_rate / noise_scale, noise)


def growing(theta):
    """Noise that grows away from zero."""
    return 1 + theta[0] ** 2 / 2


PAIRS = [
    ("double well", "half-space", WELL, continuous(0.067), esc.HalfSpace([1.0], 0.6)),
    ("double well", "half-space", WELL, discrete(0.067), esc.HalfSpace([1.0], 0.6)),
    ("double well", "ball", WELL, discrete(0.06), esc.Ball(0.5)),
    ("double well", "to the saddle", WELL, continuous(0.1), esc.HalfSpace([1.0], 1.0)),
    ("double well", "to the saddle", WELL, discrete(0.1), esc.HalfSpace([1.0], 1.0)),
    ("double well", "beyond the saddle", WELL, continuous(0.1), esc.HalfSpace([1.0], 1.8)),
    (
        "double well, C(theta)",
        "half-space",
        WELL,
        continuous(0.045, esc.noise.Function(growing)),
        esc.HalfSpace([1.0], 0.6),
    ),
    (
        "Styblinski-Tang",
        "ball",
        esc.landscapes.StyblinskiTang(1),
        discrete(8.0, learning_rate=0.005),
        esc.Ball(1.5),
    ),
    (
        "quadratic, dense C",
        "ball",
        esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]]),
        discrete(0.16, DENSE, 0.2),
        esc.Ball(1.0),
    ),
    (
        "quadratic, C = H",
        "sublevel set",
        esc.landscapes.Quadratic([1.0, 0.3]),
        discrete(0.2, esc.noise.HessianProportional(), 0.2),
        esc.Sublevel(0.5),
    ),
    (
        "quadratic, ten dimensions",
        "ball",
        esc.landscapes.Quadratic(np.ones(10)),
        continuous(0.05),
        esc.Ball(1.0),
    ),
    ("bent valley", "half-space", VALLEY, discrete(0.09), esc.HalfSpace([1.0, 0.3], 0.7)),
    ("bent valley, dense C", "ball", VALLEY, discrete(0.07, DENSE), esc.Ball(0.7)),
    ("bent valley", "sublevel set", VALLEY, discrete(0.09), esc.Sublevel(0.25)),
    (
        "Maier-Stein, beta = 1",
        "half-space",
        esc.landscapes.MaierStein(1.0),
        discrete(0.07),
        esc.HalfSpace([1.0, 0.0], 0.6),
    ),
    (
        "Maier-Stein, beta = 3",
        "half-space",
        esc.landscapes.MaierStein(3.0),
        discrete(0.055),
        esc.HalfSpace([1.0, 0.0], 0.5),
    ),
    ("well with rotation", "half-space", WHIRL, discrete(0.12), esc.HalfSpace([1.0, 0.0], 0.8)),
    ("well with rotation, dense C", "ball", WHIRL, discrete(0.1, DENSE), esc.Ball(0.7)),
    (
        "Mueller-Brown",
        "ball",
        esc.landscapes.MuellerBrown(),
        discrete(16.0, learning_rate=2e-4),
        esc.Ball(0.5),
    ),
]


def reference(escape):
    """Mean exit time, its relative standard error and how it was found."""
    try:
        exact = esc.solve(escape)
        return float(np.exp(exact.log_mean)), 0.0, "exact"
    except esc.errors.Unsupported:
        sample = esc.simulate(escape, REPLICAS, MAX_STEPS, key=0)
        return sample.mean, 1 / np.sqrt(sample.exits), "simulated"


def main():
    """Print the table."""
    chosen = [int(word) for word in sys.argv[1:]] or range(1, len(PAIRS) + 1)
    print("| | landscape | left through | dynamics | b | predicted | reference | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for number in chosen:
        landscape_name, region_name, landscape, dynamics, region = PAIRS[number - 1]
        began = time.perf_counter()
        escape = esc.Escape(landscape, dynamics, region)
        predicted = esc.predict(escape)
        mean, error, how = reference(escape)
        kind = "continuous" if dynamics.continuous else f"eta = {dynamics.learning_rate:g}"
        spread = f" ± {100 * error:.1f} %" if error else ""
        print(
            f"| {number} | {landscape_name} | {region_name} | {kind} "
            f"| {predicted.groups.barrier:.2f} | {predicted.mean:.5g} "
            f"(± {100 * predicted.relative_error:.2g} %) | {mean:.5g} {how}{spread} "
            f"| {predicted.mean / mean:.3f} |",
            flush=True,
        )
        print(f"{number}: {time.perf_counter() - began:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
