"""Seconds for minimum-action paths: Escapade beside the published figures of others.

The fixed-iteration cases repeat the definitions of CriticalTransitions.jl (benchmarks/*.jl; figures
published on its issue #339 and pull request #427, on its continuous-integration machine). They say
how fast a step is, not how good the path: the converged value and its accuracy are printed beside.
The last table is the time Escapade's own solver takes from no guess at all to 1e-8.

    python benchmarks/instantons.py
"""

import os

os.environ.setdefault("NPROC", "1")  # one thread for XLA, read when JAX starts
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from escapade import landscapes, noise
from escapade.steepness.continuous.orbits import continuous_orbits
from escapade.steepness.continuous.path_descent import geometric_minimum_action, string_method
from escapade.steepness.hamiltonian import GaussianHamiltonian

ROUNDS = 7


def best_time(run: Callable[[], Any]) -> tuple[Any, float]:
    """Result and shortest of several runs, compilation left out."""
    result = run()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return result, min(times)


def kerr() -> GaussianHamiltonian:
    pump, loss = 3 / 1.21 * 2 / 295, 1 / 295

    def field(x):
        square = 3 * (x[0] ** 2 + x[1] ** 2)
        return jnp.stack([
            (-4 * loss * x[0] - 2 * pump * x[1] + square * x[1]) / 8,
            (-4 * loss * x[1] - 2 * pump * x[0] - square * x[0]) / 8,
        ])  # fmt: skip

    return GaussianHamiltonian(landscapes.Drift(field, 2), noise.Isotropic(), None)


def kerr_guess(points: int) -> np.ndarray:
    s, start = np.linspace(0, 1, points), np.array([-0.0208, 0.0991])
    line = start + np.outer(s, -2 * start)
    line[:, 1] += 0.01 * np.sin(2 * np.pi * s)
    return line


def maier_stein(beta: float) -> GaussianHamiltonian:
    return GaussianHamiltonian(landscapes.MaierStein(beta), noise.Isotropic(), None)


def maier_stein_guess(points: int) -> np.ndarray:
    x = np.linspace(-1, 1, points)
    return np.stack([x, 0.3 * (1 - x**2)], axis=1)


def additive() -> GaussianHamiltonian:
    return GaussianHamiltonian(landscapes.Quadratic(np.eye(2)), noise.Isotropic(), None)


def diagonal() -> GaussianHamiltonian:
    covariance = noise.Function(lambda x: (1 + 0.3 * x[0] ** 2) * jnp.eye(1))
    return GaussianHamiltonian(landscapes.Quadratic(np.eye(1)), covariance, None)


def coupled() -> GaussianHamiltonian:
    def covariance(x):
        factor = jnp.array([[1 + 0.2 * x[0], 0.3 * x[1]], [0.3 * x[0], 1 + 0.2 * x[1]]])
        return factor @ factor.T

    return GaussianHamiltonian(landscapes.Quadratic(np.eye(2)), noise.Function(covariance), None)


LINE_1D = np.linspace(1.0, -1.0, 80)[:, None]
LINE_2D = np.linspace([1.0, 0.0], [0.0, 1.0], 60)

# name, Hamiltonian, guess, method, step, iterations, published seconds (None: not published)
FIXED = [
    ("Kerr sgMAM, 100 points", kerr, kerr_guess(100), geometric_minimum_action, 1e3, 10_000, None),
    ("Kerr sgMAM, 500 points", kerr, kerr_guess(500), geometric_minimum_action, 1e3, 100, 25.8e-3),
    ("Kerr string, 100 points", kerr, kerr_guess(100), string_method, 0.5, 10_000, None),
    ("Maier-Stein gMAM, 30 points", lambda: maier_stein(10.0), maier_stein_guess(30),
     geometric_minimum_action, 0.1, 1000, None),
    ("Maier-Stein gMAM, 30 points", lambda: maier_stein(10.0), maier_stein_guess(30),
     geometric_minimum_action, 0.1, 100, 1.515e-3),
    ("additive sgMAM, 60 points", additive, LINE_2D, geometric_minimum_action, 1.0, 10, 96.7e-6),
    ("multiplicative sgMAM, 1-D, 80 points", diagonal, LINE_1D,
     geometric_minimum_action, 1.0, 10, 147.5e-6),
    ("multiplicative sgMAM, 1-D, 80 points", diagonal, LINE_1D,
     geometric_minimum_action, 1.0, 100, None),
    ("coupled sgMAM, 2-D, 60 points", coupled, LINE_2D,
     geometric_minimum_action, 1.0, 10, 499.5e-6),
    ("coupled sgMAM, 2-D, 60 points", coupled, LINE_2D,
     geometric_minimum_action, 1.0, 100, None),
]  # fmt: skip


def fitzhugh_nagumo() -> GaussianHamiltonian:
    def field(u):
        return jnp.stack([(u[0] - u[0] ** 3 - u[1]) / 0.1, -3 * u[1] + u[0]])

    return GaussianHamiltonian(landscapes.Drift(field, 2), noise.Isotropic(), None)


SOLVED = [
    ("Maier-Stein beta = 10 to its saddle", lambda: maier_stein(10.0), [-1.0, 0.0],
     0.3400414033301534),
    ("Kerr to its saddle", kerr, [-0.0208693, 0.0990889], 5.4993e-6),
    ("FitzHugh-Nagumo to its saddle", fitzhugh_nagumo, [np.sqrt(2 / 3), np.sqrt(2 / 27)], 0.17979),
]  # fmt: skip


def main() -> None:
    print(f"{'fixed iterations':38s}{'steps':>7s}{'seconds':>11s}{'published':>11s}{'value':>13s}")
    for name, hamiltonian, guess, method, step, iterations, published in FIXED:
        model = hamiltonian()
        result, seconds = best_time(
            lambda model=model, guess=guess, method=method, step=step, iterations=iterations: (
                method(model, guess, step, iterations)
            )
        )
        beside = "-" if published is None else f"{published:.3e}"
        print(f"{name:38s}{iterations:7d}{seconds:11.3e}{beside:>11s}{result.value:13.6g}")
    print()
    titles = f"{'seconds':>9s}{'value':>21s}{'estimate':>11s}{'known':>20s}"
    print(f"{'solved to 1e-8, no guess':38s}{titles}")
    for name, hamiltonian, start, known in SOLVED:
        model = hamiltonian()
        end = np.zeros(len(start))
        orbits, seconds = best_time(
            lambda model=model, start=start, end=end: continuous_orbits(model, start, to=end)
        )
        best = orbits[0]
        print(f"{name:38s}{seconds:9.3f}{best.value:21.13g}{best.error:11.1e}{known:20.12g}")


if __name__ == "__main__":
    main()
