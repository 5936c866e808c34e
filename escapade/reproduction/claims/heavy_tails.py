"""Claim 15: whether single large steps carry exits."""

from itertools import pairwise

import numpy as np
from scipy import stats

from escapade.dynamics import GaussianSGD, HeavyTailedSGD
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exits import iterates
from escapade.landscape import Quadratic
from escapade.landscape.examples import AbstractEmpirical
from escapade.region import Ball
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    Quantity,
    exact,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.exact_exits import ISOTROPIC
from escapade.reproduction.claims.network import lost, slab_exits, trained_network
from escapade.reproduction.claims.rule import Rule, at_least, at_most

LEVY, DIFFUSIVE = "heavy tails (alpha < 2)", "exit over a barrier"
DEGREES = 1.5
"""Degrees of freedom of the chain that does have heavy tails."""


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    network = trained_network()
    barriers, batch = (3.0, 4.0), 64
    replicas = 512 if quick else 2048
    samples = []
    for barrier in barriers:
        progress(f"exits of the network at b = {barrier:g}")
        samples.append(slab_exits(barrier, batch, replicas, key))
    widths = [network.half_width(barrier, batch) for barrier in barriers]
    apart = float(np.log(widths[1] / widths[0]))
    slope = np.log(samples[1].mean / samples[0].mean) / apart
    error = 1.96 * np.linalg.norm([one.standard_error / one.mean for one in samples]) / apart
    surrogate = [network.surrogate(barrier, batch).log_mean for barrier in barriers]
    progress("the last step before each exit of one long run")
    normal = network.around.sharpest_direction
    escape = network.slab(barriers[1], batch)
    run = iterates(escape, 40_000 if quick else 400_000, key)
    along = np.array([(theta - network.theta) @ normal for theta in run]) / widths[1]
    jumps = last_steps(along)
    quantities = [
        _share("share of exits by one step of half the way, network", jumps),
        measured("power of the half-width in E[nu], network, b = 3 to 4", slope,
                 (slope - error, slope + error),
                 {LEVY: 2.0, DIFFUSIVE: (surrogate[1] - surrogate[0]) / apart}),
    ]  # fmt: skip
    quantities.append(_tail(network.landscape, network.theta, normal))
    progress("a chain that does have heavy tails")
    heavy = Escape(Quadratic([1.0]), HeavyTailedSGD(0.1, DEGREES, 0.005), Ball(0.3))
    heavy_run = iterates(heavy, 100_000 if quick else 1_000_000, key)
    heavy_along = np.array([theta[0] for theta in heavy_run]) / 0.3
    quantities.append(
        _share("share of exits by one step of half the way, Student-t chain",
               last_steps(heavy_along))
    )  # fmt: skip
    depths = np.array([1.0, 2.0, 4.0])
    heavy_times, gaussian_times = (
        [solve(Escape(Quadratic([depth]), dynamics, Ball(0.3))) for depth in depths]
        for dynamics in (HeavyTailedSGD(0.05, DEGREES, 0.005), GaussianSGD(0.05, 2.0, ISOTROPIC))
    )
    for name, found, claimed in (
        ("Student-t chain", heavy_times, {LEVY: 0.0}),
        ("Gaussian chain", gaussian_times, {}),
    ):
        change = found[-1].log_mean - found[0].log_mean
        quantities.append(
            exact(f"change of log E[nu] as the depth grows fourfold at fixed radius, {name}",
                  change, found[0].error + found[-1].error, claimed)
        )  # fmt: skip
    edges = np.linspace(0, 1.5, 16)
    middle = (edges[1:] + edges[:-1]) / 2
    shares = [np.histogram(np.minimum(part, edges[-1]), edges)[0] / max(len(part), 1)
              for part in (jumps, last_steps(heavy_along))]  # fmt: skip
    figures = (
        Figure("The step that leaves (last bin: all above)", "last step over the half-width",
               "share of exits",
               (points("network, minibatches", middle, shares[0]),
                points("Student-t chain", middle, shares[1]),
                line("half of the way", [0.5, 0.5], [0.0, 1.0], LEVY))),
        Figure("Depth at a fixed radius", "depth, relative", "log E[nu] in steps",
               (points("Student-t chain", depths, [one.log_mean for one in heavy_times]),
                points("Gaussian chain", depths, [one.log_mean for one in gaussian_times])), "log"),
    )  # fmt: skip
    failed = lost(*samples)
    if len(jumps) < 20:
        failed += (f"only {len(jumps)} exits of the long run were seen",)
    return Evidence(
        tuple(quantities), figures, (network.note, network.groups(barriers[1], batch)), failed
    )


def last_steps(along: np.ndarray) -> np.ndarray:
    """Length of the step of each first exit from (-1, 1), counted again after a return to 1/4."""
    found, inside = [], True
    for before, after in pairwise(along):
        if inside and abs(after) >= 1:
            found.append(abs(after - before))
            inside = False
        elif abs(after) < 0.25:
            inside = True
    return np.array(found)


def _share(name: str, steps: np.ndarray) -> Quantity:
    large = int(np.count_nonzero(steps >= 0.5))
    limits = stats.binomtest(large, max(len(steps), 1)).proportion_ci(method="exact")
    return measured(name, large / max(len(steps), 1), (limits.low, limits.high),
                    {LEVY: 1.0, DIFFUSIVE: 0.0})  # fmt: skip


def _tail(landscape: AbstractEmpirical, theta: np.ndarray, normal: np.ndarray) -> Quantity:
    """Hill's tail index of the examples' gradients along the exit, of the largest tenth."""
    expansion = landscape.expand(theta)
    slopes = np.asarray(expansion.example_slopes(normal), dtype=float)
    sizes = np.sort(np.abs(slopes - slopes.mean()))[::-1]
    most = max(len(sizes) // 10, 10)
    index = 1 / np.mean(np.log(sizes[:most] / sizes[most]))
    error = 1.96 * index / most**0.5
    return measured("tail index of the examples' gradients along the exit (Hill)", index,
                    (index - error, index + error), {LEVY: 2.0})  # fmt: skip


HEAVY_TAILS = Claim(
    number=15,
    slug="heavy-tails",
    statement="Heavy-tailed noise dominates: SGD leaves by single jumps, after a time that is a "
    "power of the width and does not depend on the depth.",
    source="Simsekli et al. and Nguyen et al. 2019, a row of version 1's table of earlier work",
    regime="a network with batches of 64, across its sharpest direction",
    test="Measure the last step before each exit, how the mean exit time grows with the width, and "
    "the tail of the examples' gradients; beside a chain that does have heavy tails.",
    rule=Rule(
        within=(
            at_least("share of exits by one step of half the way, network", 0.5),
            at_most("power of the half-width in E[nu], network, b = 3 to 4", 2.0),
        ),
        beyond=(at_most("tail index of the examples' gradients along the exit (Hill)", 2.0),),
    ),
    measure=_measure,
)
