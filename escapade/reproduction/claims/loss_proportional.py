"""Claim 16: noise that grows with the loss, and escape rates that are powers of it."""

import numpy as np

from escapade.dynamics import AbstractDynamics
from escapade.exact import ExactExit
from escapade.noise import LossProportional
from escapade.region import Sublevel
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Numbers,
    Progress,
    Quantity,
    line,
    points,
    power,
)
from escapade.reproduction.claims.exact_exits import chain, diffusion, from_quadratic
from escapade.reproduction.claims.rule import Rule, near

POWER_LAW = "Mori et al."

LEAST = 0.2
"""Loss at the minimum."""

NOISE = LossProportional(c=2.0, offset=-LEAST)
"""``C = 2 L H``, where the loss is counted from the minimum and `LEAST` is added."""


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, h* = 1: exits at losses that are multiples of that at the bottom."""
    ratios = np.geomspace(8, 64, 4 if quick else 7)
    quantities, series = [], []
    for scale in (0.25, 0.1):
        progress(f"exact diffusions at epsilon^2 = {scale:g}")
        found = _leave(diffusion(scale, NOISE), ratios)
        quantities.append(
            _quotient(f"continuous, B / (eta h*) = {1 / scale:g}", ratios, found, scale)
        )
        series.append(points(f"continuous, B / (eta h*) = {1 / scale:g}", ratios,
                             [one.log_mean - found[0].log_mean for one in found]))  # fmt: skip
        series.append(line(f"power {1 / scale + 0.5:g}", ratios,
                           (1 / scale + 0.5) * np.log(ratios / ratios[0]), POWER_LAW))  # fmt: skip
    for rate in (0.1, 0.5) if quick else (0.05, 0.1, 0.2, 0.5, 0.8):
        progress(f"exact chains at eta h* = {rate:g}")
        found = _leave(chain(rate, 0.25, NOISE), ratios)
        quantities.append(_quotient(f"chain, eta h* = {rate:g}", ratios, found, 0.25))
        series.append(points(f"chain, eta h* = {rate:g}, B / (eta h*) = 4", ratios,
                             [one.log_mean - found[0].log_mean for one in found]))  # fmt: skip
    if not quick:
        progress("two dimensions, on a lattice")
        near_ratios = np.geomspace(8, 32, 4)
        found = _leave(diffusion(0.25, NOISE), near_ratios, dim=2)
        quantities.append(
            _quotient("continuous, n = 2, B / (eta h*) = 4", near_ratios, found, 0.25, dim=2)
        )
    figure = Figure(
        "Noise proportional to the loss", "L^s / L*", "log E[nu] relative to L^s / L* = 8",
        tuple(series), "log",
    )  # fmt: skip
    return Evidence(tuple(quantities), (figure,))


def _leave(dynamics: AbstractDynamics, ratios: Numbers, dim: int = 1) -> list[ExactExit]:
    """Exact exits at losses that are multiples of the least."""
    return [
        from_quadratic(np.ones(dim), dynamics, Sublevel(LEAST * (ratio - 1))) for ratio in ratios
    ]


def _quotient(
    label: str, ratios: Numbers, found: list[ExactExit], scale: float, dim: int = 1
) -> Quantity:
    """Local slopes in log(L^s / L*), as a fraction of ``B / (eta h*) + 1 - n / 2``."""
    claimed = 1 / scale + 1 - dim / 2
    relative = [np.exp(one.log_mean - found[0].log_mean) for one in found]
    slopes = power("", ratios, relative, [one.error for one in found], {})
    low, high = slopes.interval
    return Quantity(
        f"slope over B / (eta h*) + 1 - n / 2, {label}",
        slopes.value / claimed,
        (low / claimed, high / claimed),
        {POWER_LAW: 1.0},
    )


POWER_OF_LOSS = Claim(
    number=16,
    slug="power-of-loss",
    statement="With the square loss the escape rate is a power of the loss, "
    "(L^s / L*)^-(B / (eta h*) + 1 - n / 2).",
    source="Mori, Ziyin, Liu and Ueda, ICML 2022, beside which version 1's table has its "
    "exponential law",
    regime="noise 2 L H as in their decoupling approximation, continuous SGD, L^s well above L*; "
    "beyond it: finite eta h*",
    test="Solve exits exactly where the noise grows with the loss and measure the slope of "
    "log E[nu] in log(L^s / L*).",
    rule=Rule(
        within=(
            near("slope over B / (eta h*) + 1 - n / 2, continuous, B / (eta h*) = 4", 1.0),
            near("slope over B / (eta h*) + 1 - n / 2, continuous, B / (eta h*) = 10", 1.0),
        ),
        beyond=(near("slope over B / (eta h*) + 1 - n / 2, chain, eta h* = 0.5", 1.0),),
    ),
    measure=_measure,
)
