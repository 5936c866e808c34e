"""Claims 8 and 18: minibatch noise, its law and its sampling."""

import numpy as np
from scipy import stats

from escapade.dynamics import SAMPLINGS, MinibatchSGD
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exits import iterates, simulate
from escapade.region import Ball, HalfSpace
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Numbers,
    Progress,
    Quantity,
    exact,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.examples import CENTRES, evenly_curved, exponent_to, skewed
from escapade.reproduction.claims.network import lost, slab_exits, trained_network
from escapade.reproduction.claims.rule import Band, Rule, near

GAUSSIAN, CUMULANT = "Gaussian noise", "minibatch cumulant"
INDEPENDENT, SAMPLED = "independent noise", "the sampling as it is"
DISPLACEMENTS = {"right": 0.6, "left": -0.6}


def _measure_gaussian(quick: bool, key: int, progress: Progress) -> Evidence:
    quantities, series = [], []
    distances = np.linspace(0.1, 0.6, 3 if quick else 11)
    for side, furthest in DISPLACEMENTS.items():
        progress(f"steepness of minibatches to the {side}")
        value, error = exponent_to(furthest)
        gaussian, gaussian_error = exponent_to(furthest, None)
        quantities.append(
            exact(f"exponent over the Gaussian one, eight examples, {side}", value / gaussian,
                  (error + gaussian_error) / gaussian, {GAUSSIAN: 1.0})
        )  # fmt: skip
        sign = np.sign(furthest)
        series.append(
            points(f"minibatch, {side}", distances, [exponent_to(sign * d)[0] for d in distances])
        )
        series.append(
            line(f"Gaussian, {side}", distances,
                 [exponent_to(sign * d, None)[0] for d in distances], GAUSSIAN)
        )  # fmt: skip
        if not quick:
            quantities.append(_exact_slope(side, value, gaussian, progress))
    network = trained_network()
    batches = (64,) if quick else (4, 16, 64, 256)
    ratios, bars = [], []
    failed: tuple[str, ...] = ()
    for batch in batches:
        progress(f"real minibatches of {batch} on the network")
        sample = slab_exits(4.0, batch, 512 if quick else 2048, key)
        surrogate = network.surrogate(4.0, batch)
        low, high = (np.log(end) - surrogate.log_mean for end in sample.interval)
        ratios.append(np.log(sample.mean) - surrogate.log_mean)
        bars.append((low, high))
        failed += lost(sample)
        quantities.append(
            measured(f"log E[nu] on the network less that of Gaussian noise, B = {batch}",
                     ratios[-1], (low, high), {GAUSSIAN: 0.0})
        )  # fmt: skip
    figures = (
        Figure("Eight skewed examples: exponents as eta vanishes", "distance from the minimum",
               "minimum steepness V", tuple(series)),
        Figure("Network, slab across the sharpest direction, b = 4", "batch size B",
               "log E[nu], minibatch less Gaussian",
               (points("measured", batches, ratios, bars),
                line("Gaussian noise", batches, [0.0] * len(batches), GAUSSIAN)), "log"),
    )  # fmt: skip
    return Evidence(tuple(quantities), figures, (network.note, network.groups(4.0, 64)), failed)


def _exact_slope(side: str, cumulant: float, gaussian: float, progress: Progress) -> Quantity:
    """Slope of the log mean exit time in 1 / eta of chains with every minibatch enumerated."""
    rates = (0.1, 0.05)
    sign = np.sign(DISPLACEMENTS[side])
    exits = []
    for rate in rates:
        progress(f"exact chain of single examples to the {side}, eta = {rate:g}")
        region = HalfSpace([sign], 0.6)
        exits.append(solve(Escape(skewed(), MinibatchSGD(rate, 1), region)))
    change = 1 / rates[1] - 1 / rates[0]
    slope = (exits[1].log_mean - exits[0].log_mean) / change
    return exact(f"slope of log E[nu] in 1 / eta, single examples, {side}", slope,
                 sum(one.error for one in exits) / change,
                 {CUMULANT: cumulant, GAUSSIAN: gaussian})  # fmt: skip


def _measure_sampling(quick: bool, key: int, progress: Progress) -> Evidence:
    quantities = []
    with_replacement, first = exponent_to(0.6)
    without, second = exponent_to(0.6, "without_replacement")
    quantities.append(
        exact("exponent without over with replacement, B = 3 of N = 8",
              without / with_replacement,
              (second + first * without / with_replacement) / with_replacement,
              {INDEPENDENT: 1.0, "Gaussian, (N - 1) / (N - B)": 7 / 5})
    )  # fmt: skip
    rates = np.array([0.01, 0.02, 0.04])
    series = []
    # Batches of one are the same with and without replacement.
    for sampling, power in (("with_replacement", 1.0), ("shuffled_epochs", 3.0)):
        name = sampling.replace("_", " ")
        progress(f"stationary variance, {name}")
        variances = _variances(sampling, rates, 40_000 if quick else 800_000, key)
        slopes = np.polyfit(np.log(rates), np.log(variances), 1)[0]
        error = stats.t.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / len(slopes) ** 0.5
        slope = float(slopes.mean())
        quantities.append(
            measured(f"power of eta in the stationary variance, {name}", slope,
                     (slope - error, slope + error), {INDEPENDENT: 1.0, SAMPLED: power})
        )  # fmt: skip
        series.append(points(name, rates, variances.mean(axis=1)))
    scaled = variances.mean(axis=1)[-1] * (rates / rates[-1]) ** 3
    series.append(line("eta^3", rates, scaled, SAMPLED))
    left = []
    for sampling in SAMPLINGS:
        name = sampling.replace("_", " ")
        progress(f"exits, {name}")
        escape = Escape(skewed(), MinibatchSGD(0.1, 2, sampling), Ball(0.5))
        sample = simulate(escape, 256 if quick else 2048, 5000, key)
        share = stats.binomtest(sample.exits, sample.replicas).proportion_ci(method="exact")
        left.append(sample.exits / sample.replicas)
        quantities.append(
            measured(f"share that left in 5000 steps, B = 2 of 8, {name}", left[-1],
                     (share.low, share.high), {})
        )  # fmt: skip
    figure = Figure(
        "Variance at the ends of epochs, eight examples, B = 1", "learning rate eta",
        "variance of theta", tuple(series), "log", "log",
    )  # fmt: skip
    return Evidence(tuple(quantities), (figure,))


def _variances(sampling: str, rates: Numbers, steps: int, key: int, blocks: int = 16) -> np.ndarray:
    """Variance of theta at the ends of epochs around the minimum, in blocks of one long run."""
    landscape = evenly_curved()
    found = []
    for rate in rates:
        escape = Escape(landscape, MinibatchSGD(rate, 1, sampling), Ball(1e3))
        run = iterates(escape, steps, key, precision="float64")
        ends = np.array([theta[0] for k, theta in enumerate(run) if k % len(CENTRES) == 0])
        settled = ends[len(ends) // 10 :] - CENTRES.mean()
        found.append([np.mean(block**2) for block in np.array_split(settled, blocks)])
    return np.array(found)


GAUSSIAN_NOISE = Claim(
    number=8,
    slug="gaussian-noise",
    statement="Minibatch noise may be replaced by Gaussian noise of the same covariance "
    "('Gaussian SGD').",
    source="version 1, section 2; abstract of version 2",
    regime="a network with batches of 64, b = 4; beyond it: few, skewed examples",
    test="Compare real minibatch exits of a network with the exact Gaussian chain of the measured "
    "curvature and noise, and minibatch with Gaussian exponents on eight examples.",
    rule=Rule(
        within=(Band("log E[nu] on the network less that of Gaussian noise, B = 64", -0.3, 0.3),),
        beyond=(
            near("exponent over the Gaussian one, eight examples, right", 1.0),
            near("exponent over the Gaussian one, eight examples, left", 1.0),
        ),
    ),
    measure=_measure_gaussian,
)

SAMPLING = Claim(
    number=18,
    slug="sampling",
    statement="Noise that is independent from step to step describes SGD as it is run; whether "
    "batches are drawn with or without replacement is a detail.",
    source="an assumption in applying the theory, whose noise is independent (version 1, section "
    "2), to training that shuffles epochs",
    regime="batches of one, small learning rate; beyond it: batches that are a part of the data",
    test="Measure how the stationary variance scales with the learning rate under the three "
    "samplings, and the exponent of fresh subsets.",
    rule=Rule(
        within=(near("power of eta in the stationary variance, shuffled epochs", 1.0, 0.5),),
        beyond=(near("exponent without over with replacement, B = 3 of N = 8", 1.0),),
    ),
    measure=_measure_sampling,
)
