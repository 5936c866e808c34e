"""Nanoseconds per walker-step of ensemble simulation, Escapade beside NumPy and diffrax.

All engines run in one process on one thread, in short bursts, in shuffled order, and the 25th
percentile of each is reported, so that other work on the machine does not decide the ratios.

    make benchmark
"""

import os

os.environ.setdefault("NPROC", "1")  # one thread for XLA, read when JAX starts
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import escapade as esc
from escapade.dynamics.streams import seed_words
from escapade.exits.lanes import Lanes, advance_on
from escapade.precision import place

ROUNDS = 15
Burst = Callable[[], int]


class Problem:
    """One landscape with Gaussian SGD and isotropic noise, far from exit unless said."""

    def __init__(self, name, landscape, start, gradient, learning_rate, noise_std, radius):
        self.name, self.landscape, self.start = name, landscape, np.asarray(start, float)
        self.gradient, self.learning_rate, self.noise_std = gradient, learning_rate, noise_std
        self.radius = radius

    def escape(self, radius: float) -> esc.Escape:
        batch_size = (self.learning_rate / self.noise_std) ** 2
        dynamics = esc.GaussianSGD(self.learning_rate, batch_size, esc.noise.Isotropic(1.0))
        return esc.Escape(self.landscape, dynamics, esc.Ball(radius), start=self.start)


def problems() -> list[Problem]:
    tang = esc.landscapes.StyblinskiTang(10)
    return [
        Problem("1-D double well", esc.landscapes.DoubleWell(), [-1.0],
                lambda x: x * (x * x - 1), 0.05, 0.09, 0.95),
        Problem("10-D Styblinski-Tang", tang, tang.minima[0],
                lambda x: x * (2 * x * x - 16) + 2.5, 0.002, 0.1414, 2.3),
    ]  # fmt: skip


def escapade_kernel(problem: Problem, lanes: int) -> Burst:
    """The compiled loop alone, in a region that is never left."""
    escape = place(problem.escape(1e6))
    state = Lanes(
        jnp.tile(jnp.asarray(problem.start, jnp.float32)[:, None], (1, lanes)),
        jnp.zeros(lanes, jnp.uint32),
        jnp.arange(lanes, dtype=jnp.uint32),
    )
    advance, seed = advance_on(jax.default_backend()), jnp.asarray(seed_words(0))
    pairs = 16 if problem.landscape.dim == 1 else 8
    blocks = max(1, int(2e6 / (lanes * problem.landscape.dim * 2 * pairs)))
    last = jnp.uint32(2**31)

    def burst() -> int:
        moved, _ = advance(escape, state, seed, last, jnp.uint32(blocks), pairs)
        moved.theta.block_until_ready()
        return lanes * blocks * 2 * pairs

    return burst


def escapade_simulate(problem: Problem, replicas: int) -> Burst:
    """`simulate` whole: exits found, lanes refilled, tail waited for."""
    escape = problem.escape(problem.radius)
    runs = iter(range(10**9))

    def burst() -> int:
        return esc.simulate(escape, replicas, key=next(runs)).walker_steps

    return burst


def numpy_lockstep(problem: Problem, walkers: int) -> Burst:
    """Vectorised NumPy with an exit test each step."""
    rng = np.random.Generator(np.random.SFC64(0))
    dim = problem.landscape.dim
    steps = max(1, int(3e5 / (walkers * dim)))

    def burst() -> int:
        theta = np.tile(problem.start[:, None], (1, walkers))
        for _ in range(steps):
            noise = rng.standard_normal((dim, walkers))
            noise *= problem.noise_std
            theta -= problem.learning_rate * problem.gradient(theta)
            theta += noise
            displacement = theta - problem.start[:, None]
            (np.einsum("ij,ij->j", displacement, displacement) >= 1e12).any()
        return steps * walkers

    return burst


def diffrax_euler(problem: Problem, walkers: int) -> Burst:
    """`diffrax` Euler steps with its unsafe (fastest) Brownian path, vectorised."""
    steps = 50
    rate, dim = problem.learning_rate, problem.landscape.dim
    diffusion = problem.noise_std / rate**0.5
    start = jnp.asarray(problem.start, jnp.float32)

    def one(key):
        path = diffrax.UnsafeBrownianPath((dim,), key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: -problem.gradient(y)),
            diffrax.ControlTerm(lambda t, y, args: diffusion * jnp.eye(dim), path),
        )
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, steps * rate, rate, start, max_steps=steps + 1,
            adjoint=diffrax.ForwardMode(),
        ).ys  # fmt: skip

    run = jax.jit(jax.vmap(one))
    keys = jax.random.split(jax.random.key(0), walkers)

    def burst() -> int:
        run(keys).block_until_ready()
        return steps * walkers

    return burst


def measure(bursts: dict[str, Burst]) -> dict[str, float]:
    """25th percentile of ns per walker-step, bursts shuffled within each round."""
    for burst in bursts.values():
        burst()
    times: dict[str, list[float]] = {name: [] for name in bursts}
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in rng.permutation(list(bursts)):
            began = time.perf_counter()
            steps = bursts[name]()
            times[name].append((time.perf_counter() - began) / steps * 1e9)
            time.sleep(0.005)
    return {name: float(np.percentile(values, 25)) for name, values in times.items()}


def main() -> None:
    results = {}
    for problem in problems():
        small = problem.landscape.dim == 1
        found = measure(
            {
                "escapade, compiled loop": escapade_kernel(problem, 4096 if small else 1024),
                "escapade, simulate": escapade_simulate(problem, 100_000 if small else 20_000),
                "numpy": numpy_lockstep(problem, 4096 if small else 512),
                "diffrax": diffrax_euler(problem, 1024 if small else 256),
            }
        )
        results[problem.name] = found
        print(f"\n{problem.name} ({platform.processor() or platform.machine()}, one thread)")
        for name, value in found.items():
            ratio = found["numpy"] / value
            print(f"  {name:26s} {value:9.2f} ns per walker-step   {ratio:7.1f} x numpy's speed")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
