"""Escape before stationarity, exactly in two dimensions and measured on a network.

    ESCAPADE_DATA=folder python benchmarks/stationarity.py [--replicas 32768] [--folder docs/images]

Draws stationarity.svg and prints the numbers of docs/stationarity.md, in a minute or two.
The Avila data is found as in the studies (`escapade data`).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.polynomial import hermite_e, legendre
from scipy.special import gammaln
from scipy.stats import beta

import escapade as esc
from escapade.report.figures import Course, stationarity
from escapade.report.svg import save
from escapade.theory.relaxation import hazard_ratio, relaxation

STIFFNESS, RATIO, BARRIER = 0.1, 1e-3, 4.0
HALF_WIDTH, LEARNING_RATE, BATCH_SIZE = 0.083, 0.1, 64
TITLE = (
    "Most exits come before the slow directions relax,\n"
    "almost none before the direction of the exit does"
)


def main():
    """Draw the figure and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=32_768)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    courses = [two_dimensions(), network(options.replicas)]
    deep()
    isotropic(options.replicas)
    figure = stationarity(courses, TITLE)
    (options.folder / "stationarity.svg").write_bytes(save(figure, "svg"))


def two_dimensions():
    """C = H, left through a level set."""
    depth = BARRIER * STIFFNESS / (2 - STIFFNESS)
    escape = esc.Escape(
        esc.landscapes.Quadratic([STIFFNESS, STIFFNESS * RATIO]),
        esc.GaussianSGD(1.0, 1.0, esc.noise.HessianProportional()),
        esc.Sublevel(depth),
    )
    survival, settled, rate, forgetting = exact_exit(STIFFNESS, STIFFNESS * RATIO, depth, 60_000)
    found = relaxation(escape)
    predicted = found.exit_time
    found = replace(
        found, exit_time=float(1 / rate), quasi_stationary=float(forgetting), exact=True
    )
    steps = _steps(60_000)
    hazard = -np.diff(survival) / survival[:-1] / rate
    law = hazard_ratio(escape, steps)
    mean = survival.sum()
    print("## two directions, exact")
    print(found)
    print(f"E_0 nu = {mean:.6g}, E_qsd nu = {1 / rate:.6g}, difference {mean - 1 / rate:.3g}")
    print(f"predicted mean {predicted:.6g}, error {predicted / mean - 1:+.2%}")
    exact = hazard[steps - 1]
    for multiple in (0.5, 1, 2, 3, 5, 10):
        index = np.argmin(np.abs(steps - multiple * found.times[0]))
        print(f"after {steps[index]} steps: h/h_inf exact {exact[index]:.5f}, law {law[index]:.5f}")
    late = steps > 5 * found.times[0]
    difference = np.abs(law - exact)
    print(f"largest difference {difference.max():.2g}, from there on {difference[late].max():.1e}")
    print(f"smallest h/h_inf from there on {exact[late].min():.6f}")
    for time, name in zip(found.times, ("sharp", "slow"), strict=True):
        first = int(time)
        print(
            f"step {first}, when the {name} direction relaxes: left {1 - survival[first]:.4g}, "
            f"inside {survival[first]:.3g}; from the settled law {1 - settled[first]:.4g}, "
            f"{settled[first]:.3g}"
        )
    return Course(
        "Exact: two directions, C = H, level set",
        found,
        steps,
        law,
        exact_hazard=exact,
        exact_survival=survival[steps],
        settled_survival=settled[steps],
    )


def exact_exit(fast, slow, depth, last, nodes=(64, 12)):
    """Survival from the minimum and from the quasi-stationary law, its rate, and its relaxation.

    The chain with H = diag(fast, slow) = C, eta = B = 1, out of the level set, solved spectrally:
    the slow coordinate is an autoregression whose transitions are diagonal in Hermite polynomials
    (Mehler), and for each of its Gauss-Hermite nodes the fast one has Gauss-Legendre nodes between
    the two boundary points. Needs a slow coordinate that never reaches the boundary alone.
    """
    slow_nodes, slow_weights = hermite_e.hermegauss(nodes[1])
    orders = np.arange(nodes[1])

    def hermite(at):
        return hermite_e.hermevander(at, nodes[1] - 1) / np.exp(gammaln(orders + 1) / 2)

    decay = (1 - slow) ** orders
    onto = hermite(slow_nodes).T * slow_weights / np.sqrt(2 * np.pi)
    slow_step = (hermite(slow_nodes) * decay) @ onto
    slow_start = (hermite(np.zeros(1)) * decay) @ onto
    slow_x = slow_nodes * np.sqrt(slow / (1 - (1 - slow) ** 2))
    reach = np.sqrt((2 * depth - slow * slow_x**2) / fast)
    unit, weights = legendre.leggauss(nodes[0])
    x = reach[:, None] * unit

    def kernel(at):
        scaled = (x - (1 - fast) * at[..., None, None]) / np.sqrt(fast)
        return np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi * fast) * reach[:, None] * weights

    matrix = (slow_step[:, None, :, None] * kernel(x)).reshape(x.size, x.size)
    start = (slow_start[0][:, None] * kernel(np.zeros(()))).ravel()
    eigenvalues, right = np.linalg.eig(matrix)
    order = np.argsort(-np.abs(eigenvalues))[:80]  # the others are gone after a few hundred steps
    eigenvalues, right = eigenvalues[order], right[:, order]
    survival, alive = np.ones(last + 1), np.ones(x.size)
    for step in range(1, 401):
        survival[step] = start @ alive
        alive = matrix @ alive
    amplitudes = (start @ right) * np.linalg.lstsq(right, alive.astype(complex))[0]
    later = np.arange(last - 400)
    survival[401:] = sum(
        (amplitude * value**later).real
        for amplitude, value in zip(amplitudes, eigenvalues, strict=True)
    )
    rate = 1 - eigenvalues[0].real
    settled = (1 - rate) ** np.arange(last + 1)
    return survival, settled, rate, 1 / (np.abs(eigenvalues[0]) - np.abs(eigenvalues[1]))


def network(replicas):
    """Minibatch SGD on the network of the built-in study, out of a slab."""
    dataset = esc.data.load("avila", preprocessing="paper")
    multilayer = esc.landscapes.MLP((10, 8, 2), key=0)
    landscape = esc.landscapes.network_landscape(multilayer, dataset, weight_decay=1e-3)
    minimum = esc.find_minimum(landscape)
    normal = np.linalg.eigh(minimum.jacobian)[1][:, -1]
    escape = esc.Escape(
        landscape,
        esc.MinibatchSGD(LEARNING_RATE, BATCH_SIZE),
        esc.Slab(normal, HALF_WIDTH),
        minimum=minimum.theta,
    )
    around = esc.neighbourhood(escape)
    prediction = esc.predict(escape, neighbourhood=around)
    found = relaxation(escape, neighbourhood=around)
    sample = esc.simulate(escape, replicas, max_steps=100_000, key=7)
    steps = _steps(60_000)
    law = hazard_ratio(escape, steps, neighbourhood=around)
    every = np.arange(1, steps[-1] + 1)
    hazard = np.interp(np.log(every), np.log(steps), law) / found.exit_time
    survival = np.cumprod(1 - hazard)[steps - 1]
    print("\n## network")
    print(prediction)
    print(found)
    print(sample)
    settled = sample.hazard(np.array([0, int(5 * found.times[0]), int(sample.times.max())]))
    print(
        f"hazard after 5 relaxation times of the exit direction, times the predicted mean: "
        f"{settled.rate[1] * found.exit_time:.3f} "
        f"[{settled.lower[1] * found.exit_time:.3f}, {settled.upper[1] * found.exit_time:.3f}]"
    )
    # Along an eigenvector the linear-Gaussian chain moves in one dimension, which is solved.
    line = esc.solve(
        esc.Escape(
            esc.landscapes.Quadratic([around.sharpness]),
            esc.GaussianSGD(
                LEARNING_RATE,
                BATCH_SIZE,
                esc.noise.Constant([[normal @ around.covariance @ normal]]),
            ),
            esc.Slab([1.0], HALF_WIDTH),
        )
    )
    print(f"linear-Gaussian chain along the slab's normal, exactly: mean {line.mean:.5g}")
    for time, name in (
        (found.times[0], "exit direction"),
        (np.median(found.times), "median direction"),
        (found.times[-1], "slowest direction"),
    ):
        first = int(time)
        left = int(np.count_nonzero(sample.times[~sample.censored] <= first))
        low, high = _binomial(left, replicas)
        print(
            f"left by step {first}, before the {name} relaxes: {left} of {replicas}, "
            f"{left / replicas:.4f} [{low:.4f}, {high:.4f}]; linear-Gaussian chain "
            f"{line.exit_probability(first):.4f}"
        )
    before = np.array([np.mean(sample.times <= time) for time in found.times])
    print(
        f"directions that relax only after half of the replicas have left: "
        f"{np.count_nonzero(before >= 0.5)} of {before.size}; after 99 %: "
        f"{np.count_nonzero(before >= 0.99)}"
    )
    return Course(
        "Measured: MLP on Avila, real minibatch SGD",
        found,
        steps,
        law,
        survival=survival,
        sample=sample,
    )


def deep():
    """The third sense at a barrier of 8.6, in one dimension."""
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(0.1, 10.0, esc.noise.Constant([[1.0]])),
        esc.Ball(0.3),
    )
    exact = esc.solve(escape)
    found = relaxation(escape, exact=exact)
    first = int(found.times[0])
    left = exact.exit_probability(first)
    settled = -np.expm1(first * np.log1p(-exact.rate))
    print("\n## one direction, b = 8.6, exact")
    print(found)
    print(f"E_0 nu = {exact.mean:.8g}, E_qsd nu = {1 / exact.rate:.8g}")
    print(
        f"left by step {first}: from the minimum {left:.4g}, from the settled law {settled:.4g}, "
        f"{settled / left:.3g} times as many"
    )


def isotropic(replicas):
    """Where it fails: with isotropic noise the slow direction is an equally easy way out."""
    ratio, barrier = 0.05, 7.0
    escape = esc.Escape(
        esc.landscapes.Quadratic([STIFFNESS, STIFFNESS * ratio]),
        esc.GaussianSGD(1.0, 1.0, esc.noise.Isotropic()),
        esc.Sublevel(barrier / (2 - STIFFNESS)),
    )
    found = relaxation(escape)
    sample = esc.simulate(escape, 4 * replicas, max_steps=1_000_000, key=8)
    early = np.arange(int(5 * found.times[0]), 2 * int(5 * found.times[0]))
    late = int(3 * found.times[1])
    measured = sample.hazard(np.array([early[0], early[-1] + 1, late, sample.times.max()]))
    law = hazard_ratio(escape, early + 1).mean() / hazard_ratio(escape, np.array([2 * late]))[0]
    share = measured.rate[0] / measured.rate[-1]
    error = share * np.sqrt(1 / measured.exits[0] + 1 / measured.exits[-1])
    print("\n## isotropic noise, level set, b = 7, lambda_2 / lambda_1 = 0.05")
    print(found)
    print(
        f"hazard between {early[0]} and {early[-1] + 1} steps over that after {late}: measured "
        f"{share:.3f} +- {error:.3f}, law {law:.3f}"
    )


def _steps(last):
    return np.unique(np.geomspace(1, last, 220).astype(int))


def _binomial(count, total):
    """Exact 95 % interval of a probability (Clopper and Pearson)."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return low, high


if __name__ == "__main__":
    main()
