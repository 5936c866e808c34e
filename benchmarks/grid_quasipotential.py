"""Errors and seconds of the grid quasipotential, beside the published figures.

Closed-form fields on N x N grids against OLIM (manyuantao/olim2D, measurements/*.txt) and the
jet marcher EJM (npaskal/EfficientJetMarcher); the grid cases of CriticalTransitions.jl, for which
no time is published. Seconds are CPU seconds of one thread after compilation, drift included.

    python benchmarks/grid_quasipotential.py [N ...]
"""

import os

os.environ.setdefault("NPROC", "1")  # one thread for XLA, read when JAX starts
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import escapade as esc
from escapade.minimum.lyapunov import stationary_covariance
from escapade.steepness.grid import quasipotential_on_grid

UNIT = esc.noise.Isotropic(1.0)


class Case(NamedTuple):
    """A field with a known V, and what others publish for it: {N: figure}."""

    field: Callable
    exact: Callable
    lower: list[float]
    upper: list[float]
    source: object
    published: dict[int, str]


def rotating(x, c=10.0):
    q = 2 * x[0] * (x[0] ** 2 - 1)
    return jnp.stack([-q - c * x[1], -x[1] + c * q])


def circular(c):
    def field(x):
        r2 = x[0] ** 2 + x[1] ** 2
        return jnp.stack([c * x[1] - x[0] * (1 - r2), -c * x[0] - x[1] * (1 - r2)])

    return field


def circular_value(x):
    r2 = (x**2).sum(axis=-1)
    return np.where(r2 <= 1, r2 * (1 - r2 / 2), np.inf)


def linear(x, a=2.0, b=10.0):
    return jnp.stack([-a * x[0] - b * x[1], a * b * x[0] - x[1]])


def degenerate(x, a=2.0, b=3.0):
    return jnp.stack([-a * x[0] ** 3 - b * x[1] ** 3, a * b * x[0] ** 3 - x[1] ** 3])


def shear(x, a=1.0, b=10.0):
    pull = 2 * x[0] + 0.75 * a * x[0] ** 2
    return jnp.stack([-pull - b * x[1], b * pull - x[1]])


def cycle(x, mu=0.2):
    r2 = x[0] ** 2 + x[1] ** 2
    return jnp.stack([-x[1] + mu * x[0] * (1 - r2), x[0] + mu * x[1] * (1 - r2)])


def cycle_value(x):
    r2 = (x**2).sum(axis=-1)
    return np.where(r2 > 0.04, 0.1 * (1 - r2) ** 2, np.inf)


ANGLES = np.linspace(0, 2 * np.pi, 100, endpoint=False)
WIDE = ([-4 / 3, -2.0], [4 / 3, 2.0])
OLIM_D = {129: "6.95e-3 5.08e-3 .017 s", 257: "2.60e-3 1.75e-3 .084 s",
          513: "1.23e-3 8.25e-4 .461 s", 1025: "4.56e-4 2.85e-4 2.51 s"}  # fmt: skip
OLIM_Y4 = {129: "4.82e-3 2.98e-3", 257: "1.90e-3 1.14e-3", 513: "7.60e-4 4.50e-4",
           1025: "3.43e-4 1.86e-4"}  # fmt: skip
OLIM_Y10 = {129: "1.19e-2 6.36e-3", 257: "5.95e-3 2.60e-3", 513: "2.33e-3 1.00e-3",
            1025: "1.36e-3 4.82e-4"}  # fmt: skip
EJM_5 = {257: "EJM |e| 6.1e-4, 3 s", 513: "EJM |e| 1.7e-4, 11 s"}
EJM_0 = {257: "EJM |e| 6.2e-4", 513: "EJM |e| 1.7e-4"}

CASES = {
    "d, c=10": Case(
        rotating, lambda x: x[..., 0] ** 4 - 2 * x[..., 0] ** 2 + x[..., 1] ** 2 + 1,
        [-2, -1], [0, 1], [-1, 0], OLIM_D,
    ),
    "y, c=4": Case(circular(4.0), circular_value, [-1, -1], [1, 1], [0, 0], OLIM_Y4),
    "y, c=10": Case(circular(10.0), circular_value, [-1, -1], [1, 1], [0, 0], OLIM_Y10),
    "EJM key 5": Case(
        shear, lambda x: 2 * x[..., 0] ** 2 + x[..., 0] ** 3 / 2 + x[..., 1] ** 2, *WIDE, [0, 0],
        EJM_5,
    ),
    "EJM key 0": Case(
        linear, lambda x: 2 * x[..., 0] ** 2 + x[..., 1] ** 2, *WIDE, [0, 0], EJM_0
    ),
    "EJM key 3, zero Jacobian": Case(
        degenerate, lambda x: x[..., 0] ** 4 + x[..., 1] ** 4 / 2, [-1, -1], [1, 1], [0, 0], {}
    ),
    "stable cycle": Case(
        cycle, cycle_value, [-1.5, -1.5], [1.5, 1.5],
        np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), {},
    ),
}  # fmt: skip


def timed(*arguments, **options):
    """Result and CPU seconds of the second of two runs, the first of which compiles."""
    quasipotential_on_grid(*arguments, **options)
    start = time.process_time()
    result = quasipotential_on_grid(*arguments, **options)
    return result, time.process_time() - start


def errors(found, exact):
    """Largest absolute error, the same and the RMS as shares of max V, where V is complete."""
    value = exact(np.stack(np.meshgrid(*found.axes, indexing="ij"), axis=-1))
    edge = np.ones(value.shape, bool)
    edge[(slice(1, -1),) * value.ndim] = False
    inside = np.isfinite(value) & (value <= value[edge].min())
    error, top = (found.values - value)[inside], value[inside].max()
    return np.abs(error).max(), np.abs(error).max() / top, np.sqrt(np.mean(error**2)) / top


def closed_forms(sizes: list[int]) -> None:
    print(f"{'field':26}{'N':>5}{'max|e|':>10}{'/max V':>10}{'RMS':>10}{'order':>7}"
          f"{'s':>8}   published")  # fmt: skip
    for name, case in CASES.items():
        previous = None
        for n in sizes:
            landscape = esc.landscapes.Drift(case.field, 2)
            found, seconds = timed(landscape, UNIT, case.lower, case.upper, n, source=case.source)
            largest, share, rms = errors(found, case.exact)
            order = "" if previous is None else f"{np.log2(previous / rms):.1f}"
            previous = rms
            print(f"{name:26}{n:5d}{largest:10.1e}{share:10.1e}{rms:10.1e}{order:>7}"
                  f"{seconds:8.2f}   {case.published.get(n, '')}", flush=True)  # fmt: skip


def critical_transitions() -> None:
    for beta, exact, shape in (
        (5.0, 0.483070, (121, 81)), (10.0, 0.3400414, (121, 81)), (10.0, 0.3400414, (513, 513)),
    ):  # fmt: skip
        found, seconds = timed(
            esc.landscapes.MaierStein(beta), UNIT, [-1.5, -1], [1.5, 1], shape, source=[-1, 0]
        )
        error = float(found.at([0.0, 0.0])) - exact
        print(f"Maier-Stein beta={beta:g}, {shape}: error at the saddle {error:.1e} of {exact}, "
              f"{seconds:.2f} s (their test allows 15 %)", flush=True)  # fmt: skip
    found, seconds = timed(
        esc.landscapes.Quadratic(np.eye(3)), UNIT, [-1] * 3, [1] * 3, 11, source=[0, 0, 0]
    )
    largest, *_ = errors(found, lambda x: (x**2).sum(axis=-1))
    print(f"3-D quadratic, 11^3: max|e| {largest:.1e}, {seconds:.2f} s (their test allows 10 %)")
    found, seconds = timed(
        esc.landscapes.Drift(lambda x: -x, 2), esc.noise.Function(lambda x: jnp.diag(0.4 + x**2)),
        [-1.1, -1.1], [1.1, 1.1], 81, source=[0, 0],
    )  # fmt: skip
    largest, *_ = errors(found, lambda x: np.log(1 + 2.5 * x**2).sum(axis=-1))
    print(f"2-D multiplicative, 81^2: max|e| {largest:.1e}, {seconds:.2f} s")


def three_dimensions(sizes: list[int]) -> None:
    A = np.array([[1.0, 2.0, 0.0], [-1.5, 1.2, 0.5], [0.3, -0.4, 0.8]])
    C = np.array([[1.0, 0.2, 0.0], [0.2, 0.8, 0.1], [0.0, 0.1, 1.2]])
    precision = np.linalg.inv(stationary_covariance(A, C))
    landscape = esc.landscapes.Drift(lambda x: -jnp.asarray(A) @ x, 3)
    for n in sizes:
        found, seconds = timed(
            landscape, esc.noise.Constant(C), [-1] * 3, [1] * 3, n, source=[0, 0, 0]
        )
        _, share, rms = errors(found, lambda x: 0.5 * np.einsum("...i,ij,...j", x, precision, x))
        print(f"3-D linear, non-normal, {n}^3: {share:.1e} {rms:.1e}, {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    closed_forms([int(n) for n in sys.argv[1:]] or [129, 257, 513, 1025])
    critical_transitions()
    three_dimensions([33, 65, 129])
