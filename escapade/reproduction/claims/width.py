"""Claim 14: exits where many directions fluctuate at once."""

import numpy as np

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.exits import ExitSample, simulate, statistics
from escapade.landscape import Quadratic
from escapade.minimum import effective_dimension
from escapade.region import Ball
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    Quantity,
    computed,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.exact_exits import ISOTROPIC, chain
from escapade.reproduction.claims.network import lost, slab_exits, trained_network
from escapade.reproduction.claims.rule import Band, Rule, near

THEORY, SHELL = "exit over a barrier", "law of large numbers"
BATCH = 16


def variation(name: str, sample: ExitSample) -> Quantity:
    """The coefficient of variation with its interval; one for an exponential law."""
    kept = ~sample.diverged
    found = statistics.coefficient_of_variation(sample.times[kept], sample.censored[kept])
    value, error = float(found.value), 1.96 * float(found.standard_error)
    return measured(name, value, (value - error, value + error), {THEORY: 1.0})


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    network = trained_network()
    progress("exits across the sharpest direction of the network")
    across = slab_exits(4.0, 64, 512 if quick else 2048, key)
    surrogate = network.surrogate(4.0, 64)
    # A ball whose barrier is 4, too, by the quadratic theory.
    rate = network.learning_rate
    stationary = network.around.stationary_covariance(rate)
    spread = rate / BATCH * stationary
    progress("exits from a ball around the minimum of the network")
    radii = np.sqrt(2 * np.linalg.eigvalsh(spread)[-1] * np.array([4.0] if quick else [4.0, 8.0]))
    balls = []
    for radius in radii:
        dynamics = MinibatchSGD(rate, BATCH)
        escape = Escape(network.landscape, dynamics, Ball(radius), minimum=network.theta)
        balls.append(simulate(escape, 256 if quick else 1024, 20_000, key))
    trace = float(np.trace(spread))
    low, high = (end / surrogate.mean for end in across.interval)
    quantities = [
        measured("E[nu] over the exact chain in one dimension, network, slab, b = 4",
                 across.mean / surrogate.mean, (low, high), {THEORY: 1.0}),
        variation("coefficient of variation, network, slab, b = 4", across),
        variation("coefficient of variation, network, ball, b = 4", balls[0]),
        measured("log E[nu] over b, network, ball, b = 4",
                 np.log(balls[0].mean * rate) / 4.0,
                 tuple(np.log(np.array(balls[0].interval) * rate) / 4.0), {THEORY: 1.0}),
        computed("effective dimension Tr S / lambda_max(S) of the network",
                 effective_dimension(stationary)),
        computed("epsilon^2 Tr S / R^2, network, ball, b = 4", trace / radii[0] ** 2),
    ]  # fmt: skip
    # Isotropic, in 30 dimensions: from inside the typical shell outwards.
    dim, scale, outward = (
        30,
        0.02,
        np.array([0.5, 1.6] if quick else [0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9]),
    )
    variations, bars, samples = [], [], []
    for ratio in outward:
        progress(f"30 directions, R^2 = {ratio:g} epsilon^2 Tr S")
        radius = np.sqrt(ratio * scale * dim / (2 - 0.05))
        escape = Escape(Quadratic(np.ones(dim)), chain(0.05, scale, ISOTROPIC), Ball(radius))
        samples.append(simulate(escape, 512 if quick else 2048, 200_000, key))
        found = variation("", samples[-1])
        variations.append(found.value)
        bars.append(found.interval)
    quantities.append(
        measured("coefficient of variation, 30 directions, R^2 = 0.5 epsilon^2 Tr S",
                 variations[0], bars[0], {THEORY: 1.0})
    )  # fmt: skip
    quantities.append(
        measured(f"coefficient of variation, 30 directions, R^2 = {outward[-1]:g} epsilon^2 Tr S",
                 variations[-1], bars[-1], {THEORY: 1.0})
    )  # fmt: skip
    measured_balls = [variation("", one) for one in balls]
    figure = Figure(
        "From a law of large numbers to a rare event", "R^2 / (epsilon^2 Tr S)",
        "coefficient of variation of the exit time",
        (
            points("30 equal directions", outward, variations, bars),
            points("network, ball", radii**2 / trace, [one.value for one in measured_balls],
                   [one.interval for one in measured_balls]),
            line("exponential law", outward, np.ones(len(outward)), THEORY),
        ),
    )  # fmt: skip
    return Evidence(
        tuple(quantities),
        (figure,),
        (network.note, network.groups(4.0, 64)),
        lost(across, *balls, *samples),
    )


WIDE_NETWORKS = Claim(
    number=14,
    slug="wide-networks",
    statement="The theory of exits over a barrier describes how SGD leaves minima of networks.",
    source="version 1 and 2: theory without a condition on the dimension, experiments on networks "
    "of up to 600 000 parameters",
    regime="one direction decides (a slab across the sharpest one); beyond it: a ball, in which "
    "all directions add up",
    test="Compare real minibatch exits of a network from a slab and from a ball of the same "
    "barrier, and follow the coefficient of variation as R^2 / (epsilon^2 Tr S) passes one.",
    rule=Rule(
        within=(
            near("E[nu] over the exact chain in one dimension, network, slab, b = 4", 1.0, 0.25),
            Band("coefficient of variation, network, slab, b = 4", 0.85, 1.15),
        ),
        beyond=(
            Band("coefficient of variation, network, ball, b = 4", 0.85, 1.15),
            Band("coefficient of variation, 30 directions, R^2 = 0.5 epsilon^2 Tr S", 0.85, 1.15),
        ),
    ),
    measure=_measure,
)
