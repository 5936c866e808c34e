"""Mean exit times of many problems, each found in up to five ways that share little.

    python benchmarks/consistency.py            every problem, about fifteen minutes
    python benchmarks/consistency.py 3 7        some of them

Prints the table of docs/consistency.md: `solve`, `predict`, `simulate`, `split` and
`importance_sample` beside each other, and how often the intervals hold the exact value.
"""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import escapade as esc

SIMULATED = 4096
"""Replicas of a direct run, where there is time for all."""

FEWEST = 100
"""Exits below which no direct run is made."""

SECONDS = 10.0
"""Time that a direct run may take, about."""

PROBE = 1024
"""Replicas of the run that times a step."""

THREADS = 2
RIDGE = 0.1
RUNS = 16
WALKERS = 1024
Z = 1.96

WELL = esc.landscapes.DoubleWell()
ISOTROPIC = esc.noise.Isotropic()
DENSE = esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]])
LIKE_HESSIAN = esc.noise.HessianProportional()
TILTED = esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]])
CURVATURES = np.array([0.5, 1.5, 1.0, 2.0, 0.8, 1.2, 0.7, 1.3])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6, 2.2, -0.4])


def bent(theta):
    """A valley that bends, stiffens on one side and softens on the other."""
    x, y = theta[0], theta[1] - 0.3 * theta[0] ** 2
    return 0.5 * x**2 + 0.75 * y**2 + 0.1 * x**3


def turning(theta):
    """A cubic well with rotation: no loss has this drift."""
    x, y = theta[0], theta[1]
    force = jnp.stack([x + 0.3 * x**3, 1.5 * y + 0.3 * x * y])
    return -force + 0.8 * jnp.stack([-y, x])


def coupled(theta):
    """A double well along the first of three coordinates, the others coupled to it."""
    x, y, z = theta[0], theta[1], theta[2]
    return x**4 / 4 - x**2 / 2 + (y - 0.3 * (x**2 - 1)) ** 2 / 2 + (z - 0.5 * y) ** 2


def parabola(theta, example):
    """Loss of one example of a regression with one weight."""
    curvature, centre = example
    return 0.5 * curvature * (theta[0] - centre) ** 2


def residual(theta, example):
    """Loss of one example of a ridge regression."""
    inputs, label = example
    return 0.5 * (jnp.dot(inputs, theta) - label) ** 2 + 0.5 * RIDGE * jnp.dot(theta, theta)


VALLEY = esc.landscapes.Function(bent, 2, minima=[[0.0, 0.0]])
WHIRL = esc.landscapes.Drift(turning, 2, minima=[[0.0, 0.0]])
COUPLED = esc.landscapes.Function(coupled, 3, minima=[[-1.0, 0.0, 0.0]])
LINE = esc.landscapes.Empirical(
    parabola,
    np.zeros(1),
    (CURVATURES, CENTRES),
    minima=[[CURVATURES @ CENTRES / CURVATURES.sum()]],
)


def discrete(noise_scale, noise=ISOTROPIC, learning_rate=0.1):
    """Gaussian SGD of a noise scale eta / B."""
    return esc.GaussianSGD(learning_rate, learning_rate / noise_scale, noise)


def continuous(noise_scale, noise=ISOTROPIC, learning_rate=0.1):
    """Continuous SGD of a noise scale eta / B."""
    return esc.ContinuousSGD(learning_rate, learning_rate / noise_scale, noise)


def growing(theta):
    """Noise that grows away from zero."""
    return 1 + theta[0] ** 2 / 2


def growing_matrix(theta):
    """Correlated noise that grows away from zero."""
    return jnp.array([[1.0, 0.3], [0.3, 0.6]]) * (1 + theta[0] ** 2 / 2)


def regression(learning_rate, batch_size, half_width):
    """Ridge regression on the breast cancer data, out of a slab across the sharpest direction."""
    data = esc.data.load("breast_cancer", preprocessing="paper")
    inputs = np.column_stack([data.inputs, np.ones(len(data.labels))]).astype(float)
    labels = np.asarray(data.labels, dtype=float)
    hessian = inputs.T @ inputs / len(inputs) + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(hessian, inputs.T @ labels / len(labels))
    landscape = esc.landscapes.Empirical(
        residual, np.zeros(len(weights)), (inputs, labels), minima=[weights]
    )
    sharpest = np.linalg.eigh(hessian)[1][:, -1]
    return esc.Escape(
        landscape, esc.MinibatchSGD(learning_rate, batch_size), esc.Slab(sharpest, half_width)
    )


def network(learning_rate, batch_size, half_width):
    """A perceptron on the breast cancer data, out of a slab across the sharpest direction."""
    data = esc.data.load("breast_cancer", preprocessing="paper")
    perceptron = esc.landscapes.MLP((data.inputs.shape[1], 2, 2), key=0)
    landscape = esc.landscapes.network_landscape(perceptron, data, 1e-2, "cross_entropy")
    minimum = esc.find_minimum(landscape)
    sharpest = np.linalg.eigh(minimum.jacobian)[1][:, -1]
    return esc.Escape(
        landscape,
        esc.MinibatchSGD(learning_rate, batch_size),
        esc.Slab(sharpest, half_width),
        minimum=minimum.theta,
    )


def ready(*parts):
    """The escape of landscape, dynamics and region, built when its row is made."""
    return lambda: esc.Escape(*parts)


class Problem(NamedTuple):
    """One row: words for landscape, noise and region, and what builds the escape."""

    landscape: str
    noise: str
    region: str
    escape: Callable[[], esc.Escape]


def quadratic(dim):
    """Curvatures from one half to two."""
    return esc.landscapes.Quadratic(np.linspace(0.5, 2.0, dim))


def mixed(dim):
    """A dense covariance that commutes with nothing."""
    factor = np.random.default_rng(4).standard_normal((dim, dim))
    return esc.noise.Constant(factor @ factor.T / dim)


def axis(dim, number):
    """Unit vector."""
    return np.eye(dim)[number]


PROBLEMS = [
    Problem(
        "double well",
        "constant",
        "half-space",
        ready(WELL, continuous(0.067), esc.HalfSpace([1.0], 0.6)),
    ),
    Problem(
        "double well",
        "constant",
        "half-space",
        ready(WELL, discrete(0.0125), esc.HalfSpace([1.0], 0.6)),
    ),
    Problem(
        "double well",
        "constant",
        "to the saddle",
        ready(WELL, discrete(0.1), esc.HalfSpace([1.0], 1.0)),
    ),
    Problem(
        "double well",
        "constant",
        "beyond the saddle",
        ready(WELL, continuous(0.02), esc.HalfSpace([1.0], 1.8)),
    ),
    Problem(
        "double well",
        "1 + x²/2",
        "half-space",
        ready(WELL, continuous(0.045, esc.noise.Function(growing)), esc.HalfSpace([1.0], 0.6)),
    ),
    Problem(
        "Styblinski-Tang",
        "constant",
        "ball",
        ready(esc.landscapes.StyblinskiTang(1), discrete(8.0, learning_rate=0.005), esc.Ball(1.5)),
    ),
    Problem(
        "quadratic",
        "C = H",
        "ball",
        ready(esc.landscapes.Quadratic([1.0]), discrete(0.45, LIKE_HESSIAN, 0.2), esc.Ball(1.0)),
    ),
    Problem(
        "quadratic",
        "C = H",
        "ball",
        ready(esc.landscapes.Quadratic([1.0]), discrete(0.0225, LIKE_HESSIAN, 0.2), esc.Ball(1.0)),
    ),
    Problem(
        "quadratic",
        "Student-t, 1.5 degrees",
        "ball",
        ready(esc.landscapes.Quadratic([1.0]), esc.HeavyTailedSGD(0.1, 1.5, 0.005), esc.Ball(0.3)),
    ),
    Problem(
        "quadratic",
        "Student-t, 3 degrees",
        "ball",
        ready(esc.landscapes.Quadratic([1.0]), esc.HeavyTailedSGD(0.1, 3.0, 0.02), esc.Ball(0.5)),
    ),
    Problem(
        "regression, 8 examples",
        "minibatch",
        "half-space",
        ready(LINE, esc.MinibatchSGD(0.1, 2), esc.HalfSpace([1.0], 0.6)),
    ),
    Problem(
        "regression, 8 examples",
        "minibatch",
        "half-space, other side",
        ready(LINE, esc.MinibatchSGD(0.1, 2), esc.HalfSpace([-1.0], 0.6)),
    ),
    Problem(
        "quadratic", "dense C", "ball", ready(TILTED, discrete(0.16, DENSE, 0.2), esc.Ball(1.0))
    ),
    Problem(
        "quadratic", "dense C", "ball", ready(TILTED, discrete(0.036, DENSE, 0.3), esc.Ball(1.0))
    ),
    Problem(
        "quadratic",
        "C = H",
        "sublevel set",
        ready(
            esc.landscapes.Quadratic([1.0, 0.3]),
            discrete(0.2, LIKE_HESSIAN, 0.2),
            esc.Sublevel(0.5),
        ),
    ),
    Problem(
        "quadratic",
        "dense C",
        "ball",
        ready(TILTED, continuous(0.04, DENSE), esc.Ball(1.0)),
    ),
    Problem(
        "bent valley",
        "constant",
        "half-space",
        ready(VALLEY, continuous(0.02), esc.HalfSpace([1.0, 0.3], 0.7)),
    ),
    Problem(
        "bent valley",
        "(1 + x²/2) dense",
        "ball",
        ready(VALLEY, discrete(0.05, esc.noise.Function(growing_matrix), 0.2), esc.Ball(0.9)),
    ),
    Problem(
        "Maier-Stein, beta = 3",
        "constant",
        "half-space",
        ready(
            esc.landscapes.MaierStein(3.0),
            discrete(0.015, learning_rate=0.2),
            esc.HalfSpace([1.0, 0.0], 0.5),
        ),
    ),
    Problem(
        "Maier-Stein, beta = 3",
        "constant",
        "to the saddle",
        ready(esc.landscapes.MaierStein(3.0), continuous(0.02), esc.HalfSpace([1.0, 0.0], 1.0)),
    ),
    Problem(
        "well with rotation",
        "dense C",
        "ball",
        ready(WHIRL, discrete(0.1, DENSE), esc.Ball(0.7)),
    ),
    Problem(
        "well with rotation",
        "constant",
        "half-space",
        ready(WHIRL, continuous(0.03), esc.HalfSpace([1.0, 0.0], 0.8)),
    ),
    Problem(
        "quadratic",
        "Student-t, 3 degrees",
        "ball",
        ready(TILTED, esc.HeavyTailedSGD(0.2, 3.0, 0.05), esc.Ball(1.0)),
    ),
    Problem(
        "coupled double well",
        "constant",
        "half-space",
        ready(COUPLED, continuous(0.03), esc.HalfSpace([1.0, 0.0, 0.0], 0.8)),
    ),
    Problem(
        "quadratic",
        "dense C",
        "slab",
        ready(quadratic(5), discrete(0.05, mixed(5)), esc.Slab(axis(5, 2), 0.8)),
    ),
    Problem(
        "quadratic",
        "constant",
        "ball",
        ready(esc.landscapes.Quadratic(np.ones(10)), discrete(0.024), esc.Ball(1.0)),
    ),
    Problem(
        "ridge regression, breast cancer",
        "minibatch",
        "slab",
        lambda: regression(0.02, 16, 0.04),
    ),
    Problem(
        "ridge regression, breast cancer",
        "minibatch",
        "slab",
        lambda: regression(0.02, 16, 0.09),
    ),
    Problem(
        "quadratic",
        "C = H",
        "half-space",
        ready(quadratic(50), discrete(0.03, LIKE_HESSIAN), esc.HalfSpace(axis(50, 49), 1.0)),
    ),
    Problem(
        "perceptron, breast cancer",
        "minibatch",
        "slab",
        lambda: network(0.05, 16, 0.1),
    ),
]


class Found(NamedTuple):
    """One number: mean, its two bounds, and whether its method warns."""

    mean: float
    low: float
    high: float
    doubtful: bool = False
    barrier: float = np.nan

    def __str__(self):
        mark = " †" if self.doubtful else ""
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]{mark}"

    def holds(self, exact):
        """Whether the interval meets that of the exact value."""
        return self.low <= exact.high and exact.low <= self.high

    def deviations(self, exact):
        """Distance from the exact mean in standard errors, counted in the logarithm."""
        return np.log(self.mean / exact.mean) / (np.log(self.high / self.low) / 2 / Z)


class Row(NamedTuple):
    """What was found for one problem: numbers by verb, and the remarks of every verb."""

    found: dict[str, Found]
    remarks: list[str]


def exactly(escape):
    """The exact mean, its error as bounds."""
    exact = esc.solve(escape)
    return Found(exact.mean, exact.mean / (1 + exact.error), exact.mean * (1 + exact.error)), ()


def predicted(escape):
    """The prediction, its stated error as bounds; doubtful where an assumption fails."""
    law = esc.predict(escape)
    share = 1 + law.relative_error
    failing = [line for line in law.assumptions if not line.startswith("holds")]
    bounds = law.mean / share, law.mean * share
    return Found(law.mean, *bounds, bool(failing), law.groups.barrier), failing


def directly(escape, expected):
    """The mean of a direct run, or None if too few replicas would leave in time."""
    # The first run compiles; the second one tells how long a step of a replica takes.
    for _ in range(2):
        probe = esc.simulate(escape, PROBE, 2000, lanes=PROBE)
    steps = SECONDS * probe.walker_steps / probe.seconds
    replicas = int(min(SIMULATED, steps / expected))
    if replicas < FEWEST:
        return None, ()
    sample = esc.simulate(escape, replicas, int(20 * expected), key=1)
    return Found(sample.mean, *sample.interval), ()


def rare(result):
    """The mean of a rare exit with its interval."""
    return Found(result.mean, *result.interval, bool(result.cautions)), result.cautions


def splitting(escape, key):
    """Adaptive multilevel splitting."""
    return rare(esc.split(escape, key, runs=RUNS, walkers=WALKERS, workers=THREADS))


def tilting(escape, key):
    """Importance sampling along the paths of least steepness; None where noise is not Gaussian."""
    if not isinstance(escape.dynamics, esc.GaussianSGD | esc.ContinuousSGD):
        return None, ()
    paths = esc.minimum_steepness(escape)
    return rare(esc.importance_sample(escape, paths, key, runs=RUNS, walkers=WALKERS))


def row(number):
    """Print one row, and return what it holds."""
    problem, remarks, seconds, found = PROBLEMS[number - 1], [], {}, {}
    escape = problem.escape()

    def cell(name, function, *arguments):
        """Words for what a verb finds; a failure is shown and does not end the table."""
        began = time.perf_counter()
        try:
            value, cautions = function(escape, *arguments)
        except esc.errors.Unsupported as error:
            value, cautions = None, [str(error)]
        except Exception as error:
            value, cautions = " ".join(str(error).split()[:6]) + " ...", [str(error)]
        seconds[name] = time.perf_counter() - began
        remarks.extend(f"row {number}, `{name}`: {caution}" for caution in cautions)
        if isinstance(value, Found):
            found[name] = value
        return "-" if value is None else str(value)

    exact = cell("solve", exactly)
    theory = cell("predict", predicted)
    split = cell("split", splitting, number)
    tilted = cell("importance_sample", tilting, number)
    known = found.get("solve", found.get("split"))
    simulated = cell("simulate", directly, known.mean) if known else "-"
    if "solve" in found:
        value = found["solve"]
        exact = f"{value.mean:.6g} ± {value.high / value.mean - 1:.0e}"
    barrier = "-"
    if "predict" in found:
        law = found["predict"]
        barrier = f"{law.barrier:.2f}"
        theory = f"{law.mean:.4g} ± {100 * (law.high / law.mean - 1):.2g} %"
        theory += " ‡" if law.doubtful else ""
    dynamics = escape.dynamics
    kind = "continuous" if dynamics.continuous else f"η = {dynamics.learning_rate:g}"
    cells = [
        *(number, problem.landscape, escape.landscape.dim, problem.noise, kind, problem.region),
        *(barrier, exact, theory, simulated, split, tilted),
    ]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    spent = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    print(f"{number}: {sum(seconds.values()):.1f} s ({spent})", file=sys.stderr, flush=True)
    return Row(found, remarks)


def summary(rows):
    """How often each verb's interval holds the exact value, and where it is farthest off."""
    for name in ("simulate", "split", "importance_sample", "predict"):
        pairs = [
            (number, row.found[name], row.found["solve"])
            for number, row in rows.items()
            if name in row.found and "solve" in row.found
        ]
        for doubtful in (False, True):
            chosen = [pair for pair in pairs if pair[1].doubtful == doubtful]
            if not chosen:
                continue
            held = sum(value.holds(exact) for _, value, exact in chosen)
            number, value, exact = max(
                chosen, key=lambda pair: abs(np.log(pair[1].mean / pair[2].mean))
            )
            print(
                f"- `{name}`{', marked' if doubtful else ''}: {held} of {len(chosen)} intervals "
                f"hold the exact value; the mean farthest off is {value.mean / exact.mean:.4g} "
                f"times the exact one (row {number})"
            )
            if name != "predict" and not doubtful:
                off = [(value.deviations(exact), number) for number, value, exact in chosen]
                spread = np.sqrt(np.mean([deviation**2 for deviation, _ in off]))
                deviation, number = max(off, key=lambda pair: abs(pair[0]))
                print(
                    f"  - in standard errors: root mean square {spread:.2f}, farthest "
                    f"{deviation:+.1f} (row {number})"
                )
    for number, row in rows.items():
        if "solve" not in row.found and {"simulate", "split"} <= row.found.keys():
            ratio = row.found["split"].mean / row.found["simulate"].mean
            print(f"- row {number} has no exact value; split over simulated is {ratio:.3f}")


def main():
    """Print the table."""
    chosen = [int(word) for word in sys.argv[1:]] or range(1, len(PROBLEMS) + 1)
    began = time.perf_counter()
    print(
        "| | landscape | dim | noise | dynamics | left through | b | exact | predicted "
        "| simulated | split | importance sampling |"
    )
    print("|" + "---|" * 12)
    rows = {number: row(number) for number in chosen}
    print()
    summary(rows)
    print(f"- total time {(time.perf_counter() - began) / 60:.1f} minutes\n")
    for row_found in rows.values():
        for remark in row_found.remarks:
            print(f"- {remark}")


if __name__ == "__main__":
    main()
