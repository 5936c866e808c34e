"""Claims 1 and 10: what the exponential law says, and in which sense it is fast."""

import numpy as np
from scipy.special import gamma

from escapade.dynamics import AbstractDynamics
from escapade.region import AbstractRegion, Ball, Sublevel
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    exact,
    line,
    points,
    power,
)
from escapade.reproduction.claims.exact_exits import (
    ALIGNED,
    RATE,
    chain,
    diffusion,
    from_quadratic,
)
from escapade.reproduction.claims.rule import Rule, at_most, near

PAPER, PREFACTOR = "version 1", "with prefactor"


def _measure_law(quick: bool, key: int, progress: Progress) -> Evidence:
    """Continuous SGD on |x|^2 / 2, C = H, out of the unit ball: V0 = 1, b = 1 / epsilon^2."""
    barriers = np.array([3.0, 6.0, 12.0, 24.0, 48.0] if quick else np.geomspace(2, 2048, 11))
    quantities, series = [], []
    for dim in (1, 10) if quick else (1, 2, 5, 10, 20):
        progress(f"exact exits in {dim} dimensions")
        exits = [
            from_quadratic(np.ones(dim), diffusion(1 / b, ALIGNED), Ball(1.0)) for b in barriers
        ]
        excess = np.array([one.log_mean + np.log(RATE) for one in exits]) - barriers
        series.append(points(f"exact, d = {dim}", barriers, excess))
        if dim == 1:
            deep = from_quadratic([1.0], diffusion(1 / 2000, ALIGNED), Ball(1.0))
            share = (deep.log_mean + np.log(RATE)) / 2000
            quantities.append(
                exact("log E[tau] over b at b = 2000", share, deep.error / 2000, {PAPER: 1.0})
            )
            settled = exits[1].mean * exits[1].rate
            quantities.append(
                exact("mean exit time times settled rate, b = 6", settled,
                      2 * exits[1].error * settled, {"exponential law of the time": 1.0})
            )  # fmt: skip
        b = 12.0
        at = from_quadratic(np.ones(dim), diffusion(1 / b, ALIGNED), Ball(1.0))
        ratio = np.exp(at.log_mean + np.log(RATE) - b)
        quantities.append(
            exact(f"E[tau] / exp(b) at b = 12, d = {dim}", ratio, ratio * at.error,
                  {PAPER: 1.0, PREFACTOR: _prefactor(dim, b)})
        )  # fmt: skip
        deep_pair = [
            from_quadratic(np.ones(dim), diffusion(1 / b, ALIGNED), Ball(1.0)) for b in (400, 800)
        ]
        factors = [np.exp(one.log_mean + np.log(RATE) - b)
                   for one, b in zip(deep_pair, (400, 800), strict=True)]  # fmt: skip
        quantities.append(
            power(f"power of epsilon^2 in the prefactor, d = {dim}", [1 / 400, 1 / 800], factors,
                  [one.error for one in deep_pair], {PAPER: 0.0, PREFACTOR: dim / 2})
        )  # fmt: skip
    law = [line("exp(b) alone", barriers, 0 * barriers, PAPER)]
    law += [line(f"leading prefactor, d = {dim}", barriers,
                 np.log([_prefactor(dim, b) for b in barriers]), PREFACTOR)
            for dim in (1, 10)]  # fmt: skip
    figure = Figure(
        "What the exponential law leaves out",
        "barrier b = (B / eta) V0",
        "log E[tau] - b",
        (*series, *law),
        x_scale="log",
    )
    return Evidence(tuple(quantities), (figure,))


def _prefactor(dim: int, barrier: float) -> float:
    """``Gamma(d / 2) / 2 (epsilon^2 / R^2)^(d / 2)`` of a ball with C = H = I."""
    return float(gamma(dim / 2) / 2 * barrier ** (-dim / 2))


def _measure_speed(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, C = H = lambda, from lambda = 1 to 2, at barrier 10 before the change."""
    noise_scale, sharpness = 0.1, np.array([1.0, 2.0])
    lines = np.linspace(1, 4, 4 if quick else 13)
    # L(sqrt(k) theta) at a fixed learning rate is the chain, steps included.
    ways: dict[str, tuple[AbstractRegion, AbstractDynamics]] = {
        "equal depth": (Sublevel(0.5), diffusion(noise_scale, ALIGNED)),
        "equal radius": (Ball(1.0), diffusion(noise_scale, ALIGNED)),
        "rescaled loss, equal radius": (Ball(1.0), chain(0.02, noise_scale, ALIGNED)),
    }
    correct = {
        "equal depth": -5.0 - 0.5 * np.log(2),
        "equal radius": -np.log(2),
        "rescaled loss, equal radius": -np.log(2),
    }
    quantities, series = [], []
    for way, (region, dynamics) in ways.items():
        progress(f"exact exits at {way}")
        first, second = (from_quadratic([k], dynamics, region) for k in sharpness)
        change = second.log_mean - first.log_mean
        quantities.append(
            exact(f"change of log E[nu] as sharpness doubles, {way}", change,
                  first.error + second.error,
                  {"exponentially fast": -5.0, "Freidlin-Wentzell": correct[way]})
        )  # fmt: skip
        means = [from_quadratic([k], dynamics, region).log_mean - first.log_mean for k in lines]
        series.append(points(way, lines, means))
    deeper = [
        from_quadratic([1.0], diffusion(scale, ALIGNED), Ball(1.0)) for scale in (0.05, 0.025)
    ]
    growth = (deeper[1].log_mean - deeper[0].log_mean) / 20
    quantities.append(
        exact("growth of log E[nu] per unit of barrier", growth,
              (deeper[0].error + deeper[1].error) / 20, {"exponentially long times": 1.0})
    )  # fmt: skip
    series.append(
        line("exponent 2 depth / lambda", lines, 10 * (1 / lines - 1), "exponentially fast")
    )
    figure = Figure(
        "Three meanings of a sharper minimum, b = 10 at lambda = 1",
        "sharpness lambda",
        "log E[nu] relative to lambda = 1",
        tuple(series),
    )
    return Evidence(
        tuple(quantities),
        (figure,),
        ("Exit times are exponentially long in the barrier; 'fast' can only mean that the barrier "
         "is lower at a sharper minimum.",),
    )  # fmt: skip


EXPONENTIAL_LAW = Claim(
    number=1,
    slug="exponential-law",
    statement="The mean exit time is E[tau] = exp[(B / eta) V0], V0 the quasi-potential.",
    source="version 1, theorems 1 and 2, printed as equalities",
    regime="logarithms in deep barriers; beyond it: the mean exit time itself",
    test="Solve the exit from a quadratic minimum with C = H exactly, from b = 2 to 2000 and in 1 "
    "to 20 dimensions, and divide by the law.",
    rule=Rule(
        within=(
            near("log E[tau] over b at b = 2000", 1.0, 0.02),
            near("mean exit time times settled rate, b = 6", 1.0),
        ),
        beyond=(
            near("E[tau] / exp(b) at b = 12, d = 1", 1.0, 0.2),
            near("E[tau] / exp(b) at b = 12, d = 10", 1.0, 0.2),
        ),
    ),
    measure=_measure_law,
)

EXPONENTIALLY_FAST = Claim(
    number=10,
    slug="exponentially-fast",
    statement="SGD escapes from sharp minima exponentially fast.",
    source="title and abstract of version 2; introduction of version 1",
    regime="equal depth of the minima; beyond it: equal radius, and the same loss rescaled",
    test="Double the sharpness at equal depth, at equal radius and by rescaling the parameters, "
    "and compare exact mean exit times.",
    rule=Rule(
        within=(at_most("change of log E[nu] as sharpness doubles, equal depth", -2.5),),
        beyond=(
            at_most("change of log E[nu] as sharpness doubles, equal radius", -2.5),
            at_most("change of log E[nu] as sharpness doubles, rescaled loss, equal radius", -2.5),
        ),
    ),
    measure=_measure_speed,
)
