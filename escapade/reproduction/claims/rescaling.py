"""Claim 12: what the sharpness construction L_alpha changes."""

import numpy as np
from scipy import stats

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.exits import ExitSample, log_slope, simulate
from escapade.landscape import Empirical, rescale
from escapade.region import Ball
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.exact_exits import ALIGNED, chain, from_quadratic
from escapade.reproduction.claims.examples import least_squares
from escapade.reproduction.claims.rule import Rule, at_least

ISOLATES, IDENTITY = "isolates sharpness", "identity N(eta, k, r) = N(k eta, 1, sqrt(k) r)"


def _regression(rows: int, seed: int) -> tuple[Empirical, np.ndarray]:
    """Least squares on a few examples with noisy labels, and its minimum."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 3)) * [1.5, 1.0, 0.5]
    labels = features @ np.array([1.0, -1.0, 0.5]) + 0.7 * random.normal(size=rows)

    return least_squares(features, labels)


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    """Real minibatches on a regression: the same random numbers on both sides."""
    rate, batch, radius = 0.05, 4, 0.17
    landscape, minimum = _regression(64, key)
    replicas = 512 if quick else 4096

    def leave(factor: float, eta: float, size: float) -> ExitSample:
        scaled = landscape if factor == 1 else rescale(landscape, factor)
        at = minimum / np.sqrt(factor)
        escape = Escape(scaled, MinibatchSGD(eta, batch), Ball(size), minimum=at)
        return simulate(escape, replicas, 20_000, key, precision="float64")

    factors = [1.0, 1.5, 2.0] if quick else [1.0, 1.25, 1.5, 2.0, 3.0]
    scaled, other, different, total = [], [], 0, 0
    for factor in factors:
        progress(f"sharpness factor {factor:g}, and its twin in learning rate and radius")
        scaled.append(leave(factor, rate, radius))
        other.append(leave(1.0, factor * rate, np.sqrt(factor) * radius))
        if factor != 1:
            different += int(np.count_nonzero(scaled[-1].times != other[-1].times))
            total += replicas
    share = stats.binomtest(different, total).proportion_ci(method="exact")
    slope = log_slope(scaled, np.log(factors), key=key)
    twin = log_slope(other, np.log(factors), key=key)
    barrier = 8.0
    exact_slope = [
        from_quadratic([k], chain(0.01, 1 / barrier, ALIGNED), Ball(1.0)) for k in (1, 2)
    ]
    predicted = (exact_slope[1].log_mean - exact_slope[0].log_mean) / np.log(2)
    quantities = (
        measured("share of exits that differ from those at (alpha eta, sqrt(alpha) r)",
                 different / total, (share.low, share.high), {ISOLATES: 1.0, IDENTITY: 0.0}),
        measured("power of alpha in E[nu]", slope.slope, slope.slope_interval,
                 {"exact chain, C = H, b = 8": predicted}),
        measured("power of alpha in E[nu] of the twin scan", twin.slope, twin.slope_interval,
                 {IDENTITY: slope.slope}),
        measured("fall of log E[nu] from alpha = 1 to 2",
                 -slope.slope * np.log(2),
                 tuple(sorted(-np.log(2) * end for end in slope.slope_interval)),
                 {"exponent falls as 1 / alpha, b = 8": barrier / 2, IDENTITY: np.log(2)}),
    )  # fmt: skip
    figure = Figure(
        "Sharpness by rescaling, and its twin", "factor alpha", "E[nu] in steps",
        (
            points("L(sqrt(alpha) theta), eta, r", factors, [one.mean for one in scaled],
                   [one.interval for one in scaled]),
            points("L(theta), alpha eta, sqrt(alpha) r", factors, [one.mean for one in other],
                   [one.interval for one in other]),
            line("1 / alpha", factors, scaled[0].mean / np.array(factors), IDENTITY),
        ),
        "log", "log",
    )  # fmt: skip
    lost = [one for one in scaled + other if one.exits < one.replicas]
    failed = ("some replicas are censored or diverged",) if lost else ()
    return Evidence(quantities, (figure,), failed=failed)


CONSTRUCTION = Claim(
    number=12,
    slug="construction",
    statement="Scanning L_alpha(theta) = L(sqrt(alpha) theta) at fixed learning rate and radius "
    "isolates the effect of sharpness.",
    source="version 1, experiments; public experiment code, sharpness scan",
    regime="any SGD: real minibatches here; beyond it: at fixed radius the exponent would have to "
    "fall with alpha",
    test="Run the scan and the one in learning rate and radius with shared random numbers, and "
    "compare exits one by one.",
    rule=Rule(
        within=(
            at_least("share of exits that differ from those at (alpha eta, sqrt(alpha) r)", 0.05),
        ),
        beyond=(at_least("fall of log E[nu] from alpha = 1 to 2", 2.0),),
    ),
    measure=_measure,
)
