"""Splitting against direct simulation, and its cost per model step.

    python benchmarks/splitting.py

Prints, for an exit in 1e8 steps in one, two and twenty dimensions: the steps that splitting uses,
those that direct simulation would need for the same relative standard error (mean / error^2 for
exponential exits), and their ratio; for an exit in 1e12 steps, the time and the standard error;
and the nanoseconds of one walker-step on the two-well example of pyTAMS (its own figure: 0.3 to
0.5 ms). Times include compilation.
"""

import time

import jax.numpy as jnp
import numpy as np

import escapade as esc

ISOTROPIC = esc.noise.Isotropic()


def saddle(batch_size):
    """Out of a double well, over its saddle, in one dimension."""
    return esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, batch_size, ISOTROPIC),
        esc.HalfSpace([1.0], 1.0),
        minimum=[-1.0],
    )


def ball(dim, batch_size):
    """Isotropic, out of a ball around the minimum."""
    return esc.Escape(
        esc.landscapes.Quadratic(np.ones(dim)),
        esc.GaussianSGD(0.05, batch_size, ISOTROPIC),
        esc.Ball(1.0),
    )


PROBLEMS = [
    saddle(3.05),
    ball(2, 0.92),
    ball(20, 1.963),
    saddle(4.9),
    ball(2, 1.4),
    ball(20, 2.564),
]
"""Mean exit times of about 1e8 steps, three times, and of 1e12."""


def wells(theta):
    """x^4 / 4 - x^2 / 2 + y^2."""
    return theta[0] ** 4 / 4 - theta[0] ** 2 / 2 + theta[1] ** 2


def score(theta):
    """0 at the left well, 1 at the right one."""
    left = jnp.sum((theta - jnp.array([-1.0, 0.0])) ** 2)
    right = jnp.sum((theta - jnp.array([1.0, 0.0])) ** 2)
    return 0.5 - 0.5 * jnp.exp(-8 * left) + 0.5 * jnp.exp(-8 * right)


def main():
    """Print the tables."""
    print("| dimension | exact | split | standard error | seconds | steps | direct steps / steps |")
    print("|---|---|---|---|---|---|---|")
    for escape in PROBLEMS:
        exact = esc.solve(escape)
        began = time.perf_counter()
        found = esc.split(escape, key=1, walkers=2048, workers=2)
        seconds = time.perf_counter() - began
        direct = found.mean / found.relative_error**2
        print(
            f"| {escape.landscape.dim} | {exact.mean:.4g} | {found.mean:.4g} "
            f"| {100 * found.relative_error:.1f} % | {seconds:.1f} | {found.steps_used:.3g} "
            f"| {direct / found.steps_used:.3g} |",
            flush=True,
        )
    landscape = esc.landscapes.Function(wells, 2, minima=[[-1.0, 0.0], [1.0, 0.0]])
    escape = esc.Escape(
        landscape,
        esc.GaussianSGD(0.01, 0.1, ISOTROPIC),
        esc.Where(lambda theta: score(theta) < 0.95),
        minimum=[-1.0, 0.0],
    )
    for key in range(2):  # the second without compilation
        began = time.perf_counter()
        found = esc.exit_probability(escape, 1000, key, runs=200, walkers=50, coordinate=score)
        seconds = time.perf_counter() - began
    print(f"\ntwo wells: {found.probability:.5f} ± {found.relative_error * found.probability:.5f}")
    print(f"{1e9 * seconds / found.steps_used:.0f} ns per walker-step")


if __name__ == "__main__":
    main()
