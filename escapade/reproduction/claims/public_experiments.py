"""Claim 13: what the published experiments measured."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from escapade.data import avila
from escapade.exits.regression import weighted_line
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    Quantity,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.network import at_hand, lost, slab_exits, trained_network
from escapade.reproduction.claims.rule import Band, Rule, near
from escapade.reproduction.claims.width import variation
from escapade.reproduction.published import BASE, measure
from escapade.reproduction.published.experiment import Quantity as Scanned
from escapade.reproduction.published.reference import arrays, published_slope

FIGURES, FREE = "figures of version 2", "undamped motion without a barrier"

SCANS: dict[Scanned, tuple[str, Callable[[Any], Any], float | None]] = {
    "learning_rate": ("eta", lambda ratio: 1 / ratio, -0.5),
    "batch_size": ("B", lambda ratio: ratio, 0.0),
    "radius": ("r", lambda ratio: ratio**2, None),
    "sharpness": ("lambda", lambda ratio: 1 / ratio, None),
}
"""Symbol; by what the claimed law multiplies log E[nu]; the log-log slope of undamped motion."""

TRAINED = (3.0, 4.0)
"""Barriers of the corrected runs."""


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    content = arrays()
    trials = content["trials"]
    quantities, series = [], []
    for scan, (symbol, law, free) in SCANS.items():
        table = np.array(content["sgd"][scan])
        values, means, errors = table[:, 0], table[:, 1], table[:, 2] / trials**0.5
        logs = np.log(means)
        share = logs[-1] / logs[0]
        error = (
            1.96
            * share
            * np.hypot(errors[-1] / means[-1] / logs[-1], errors[0] / means[0] / logs[0])
        )
        ratio = values[-1] / values[0]
        quantities.append(
            measured(f"log E[nu] at the end over the beginning of the scan in {symbol}", share,
                     (share - error, share + error), {FIGURES: law(ratio)})
        )  # fmt: skip
        slope, deviation = published_slope("sgd", scan)
        quantities.append(
            measured(f"log-log slope of the published means in {symbol}", slope,
                     (slope - 2.1 * deviation, slope + 2.1 * deviation),
                     {} if free is None else {FREE: free})
        )  # fmt: skip
        relative = values / values[0]
        quantities.append(free_prefactor(symbol, law(relative), means, errors))
        bars = list(zip(means - 1.96 * errors, means + 1.96 * errors, strict=True))
        series.append(points(f"published, {symbol}", relative, means, bars))
        series.append(line(f"claimed law, {symbol}", relative, means[0] ** law(relative), FIGURES))
    spread = float(np.mean([row[2] / row[1] for row in content["sgd"]["learning_rate"]]))
    error = 1.96 * spread / (2 * 20 * (trials - 1)) ** 0.5
    quantities.append(
        measured("coefficient of variation of the published exits", spread,
                 (spread - error, spread + error), {FIGURES: 1.0})
    )  # fmt: skip
    if not quick and at_hand():
        quantities += _run_again(key, progress)
    network = trained_network()
    progress("minibatch exits from the minimum of the network")
    replicas = 512 if quick else 2048
    samples = [slab_exits(barrier, 64, replicas, key) for barrier in TRAINED]
    for barrier, sample in zip(TRAINED, samples, strict=True):
        name = f"coefficient of variation from a minimum, zeroed gradients, b = {barrier:g}"
        quantities.append(variation(name, sample))
    figure = Figure(
        "The published scans", "scanned quantity over its first value", "E[nu] in steps",
        tuple(series), "log", "log",
    )  # fmt: skip
    notes = (
        network.note,
        network.groups(TRAINED[-1], 64),
        "The claimed laws are taken as version 1 prints its own, without a prefactor. The barriers "
        "fitted with a free prefactor say how much of log E[nu] such a law would still explain; "
        "where they are far below one there is no barrier, and no exponential law of the times.",
        "Published arrays: 100 trials a value. In the public experiment code each trial starts at "
        "random weights and gradients add up over the steps.",
    )
    return Evidence(tuple(quantities), (figure,), notes, lost(*samples))


def _run_again(key: int, progress: Progress) -> list[Quantity]:
    """The public protocol at its base point, at twice the learning rate, and repaired."""
    progress("the public protocol again")
    data, base = avila(), replace(BASE["sgd"], trials=30)
    first = measure(data, base, key)
    second = measure(data, replace(base, learning_rate=2 * base.learning_rate), key)
    share = np.log(second.mean) / np.log(first.mean)
    errors = [one.standard_error / one.mean / np.log(one.mean) for one in (first, second)]
    error = 1.96 * share * float(np.hypot(*errors))
    progress("the public protocol with gradients zeroed")
    zeroed = measure(data, replace(base, gradients="zeroed", trials=3, max_steps=1000), key)
    left = stats.binomtest(zeroed.exits, zeroed.replicas).proportion_ci(method="exact")
    return [
        measured("log E[nu] at twice eta over that at eta, run again", share,
                 (share - error, share + error), {FIGURES: 0.5}),
        measured("share that left in 1000 steps with gradients zeroed",
                 zeroed.exits / zeroed.replicas, (left.low, left.high), {}),
        variation("coefficient of variation, run again", first),
    ]  # fmt: skip


def free_prefactor(symbol: str, law: np.ndarray, means: np.ndarray, errors: np.ndarray) -> Quantity:
    """The barrier at the first point, where log E[nu] is a constant plus it times the law."""
    relative = errors / means
    barrier = float(weighted_line(law, np.log(means), relative)[0])
    coefficients = weighted_line(law, np.eye(len(law)), relative)[0]
    error = 1.96 * float(np.linalg.norm(coefficients * relative))
    return measured(f"barrier of the law with a free prefactor, scan in {symbol}", barrier,
                    (barrier - error, barrier + error), {})  # fmt: skip


def _claimed(symbol: str, value: float) -> Band:
    return near(f"log E[nu] at the end over the beginning of the scan in {symbol}", value, 0.15)


EXPERIMENTS = Claim(
    number=13,
    slug="experiments",
    statement="The experiments show E[nu] growing as exp(eta^-1), exp(B), exp(Delta L) and "
    "exp(lambda_max^-1).",
    source="figures of the public repository (version 2) and its result arrays",
    regime="the published arrays as they are; beyond it: exits that are memoryless, as over a "
    "barrier",
    test="Compare the logarithms of the published means at both ends of each scan with the claimed "
    "laws, and their scatter with an exponential law; beside exits of a network from its minimum.",
    rule=Rule(
        within=(
            _claimed("eta", 0.5),
            _claimed("B", 2.9),
            _claimed("r", 4.0),
            _claimed("lambda", 0.5),
        ),
        beyond=(Band("coefficient of variation of the published exits", 0.85, 1.15),),
    ),
    measure=_measure,
)
