"""Claims 9 and 19: exits before stationarity, and from anywhere in the region."""

import numpy as np
from scipy import stats

from escapade.escape import Escape
from escapade.exact import ExactExit, solve
from escapade.exits import simulate
from escapade.landscape import Quadratic
from escapade.region import Ball, Sublevel
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    exact,
    line,
    measured,
    points,
)
from escapade.reproduction.claims.exact_exits import ALIGNED, chain, diffusion
from escapade.reproduction.claims.rule import Rule, at_least, near
from escapade.theory import hazard_ratio

PAPER, STATIONARY = "before stationarity", "only when stationary"
LATE = "after the exit direction relaxed"

SHARP, FLAT = 1.0, 1e-3
"""Curvatures of the two directions."""


def _measure_early(quick: bool, key: int, progress: Progress) -> Evidence:
    """Chain with eta lambda = 0.1 and 0.0001, C = H, level set, barrier 4."""
    barrier, rate = 4.0, 0.1
    dynamics = chain(rate, 1 / barrier, ALIGNED)
    escape = Escape(Quadratic([SHARP, FLAT]), dynamics, Sublevel(0.5))
    progress("simulating exits over a flat direction")
    sample = simulate(escape, 1024 if quick else 65536, 10**6, key)
    slowest = int(1 / (rate * FLAT))
    early = int(np.count_nonzero((sample.times <= slowest) & ~sample.censored))
    share = stats.binomtest(early, sample.replicas).proportion_ci(method="exact")
    own = Escape(Quadratic([SHARP]), dynamics, Ball(1.0))
    alone = solve(own)
    relaxation = round(-1 / np.log(abs(1 - rate * SHARP)))
    before = float(alone.exit_probability(relaxation))
    settled = 1 / alone.rate
    progress("the law of the hazard")
    edges = np.unique(np.round(np.geomspace(5 * relaxation, 4 * settled, 5 if quick else 9)))
    hazard = sample.hazard(edges)
    bars = list(zip(hazard.lower / alone.rate, hazard.upper / alone.rate, strict=True))
    middle = (hazard.edges[1:] + hazard.edges[:-1]) / 2
    law = hazard_ratio(escape, np.round(middle))
    everywhere = sample.hazard(np.array([5 * relaxation, sample.times.max()]))
    times = np.arange(1, 10 * relaxation)
    quantities = (
        measured("share that left before the flat direction relaxed", early / sample.replicas,
                 (share.low, share.high), {PAPER: 1.0, STATIONARY: 0.0}),
        measured("hazard over that of the sharp direction alone, after 5 of its relaxations",
                 everywhere.rate[0] / alone.rate,
                 (everywhere.lower[0] / alone.rate, everywhere.upper[0] / alone.rate),
                 {"h(t) / h_inf": float(law[-1])}),
        exact("share that left before the sharp direction relaxed", before,
              before * alone.error + 1e-15, {PAPER: 1.0, LATE: 0.0}),
        exact("E[nu] from the minimum less that once settled, in relaxation times",
              (alone.mean - settled) / relaxation, 2 * alone.error * alone.mean / relaxation, {}),
    )  # fmt: skip
    figures = (
        Figure(
            "Hazard before the flat direction has relaxed", "steps",
            "hazard over that of the sharp direction alone",
            (
                points("measured", middle, hazard.rate / alone.rate, bars),
                line("h(t) / h_inf", middle, law, "h(t) / h_inf"),
            ),
            "log",
        ),
        Figure(
            "Before the sharp direction has relaxed", "steps", "share that left",
            (line("exact, sharp direction alone", times, np.asarray(alone.exit_probability(times))),
             line("if the hazard were settled at once", times, -np.expm1(-alone.rate * times),
                  STATIONARY)),
            "log", "log",
        ),
    )  # fmt: skip
    failed = () if sample.exits == sample.replicas else (
        f"{sample.replicas - sample.exits} replicas are censored or diverged",
    )  # fmt: skip
    return Evidence(quantities, figures, failed=failed)


def _measure_start(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, C = H, unit ball, continuous: starts from the minimum to near the boundary."""
    places = [0.0, 0.5, 0.9] if quick else [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    barriers = [5.0, 10.0, 20.0, 40.0, 80.0]
    quantities, series = [], []
    at_minimum: list[ExactExit] = []
    for place in places:
        progress(f"exact exits from {place:g} of the radius")
        exits = [
            solve(Escape(Quadratic([1.0]), diffusion(1 / b, ALIGNED), Ball(1.0)), [place])
            for b in barriers
        ]
        slope = (exits[-1].log_mean - exits[-2].log_mean) / 40
        quantities.append(
            exact(f"exponent from {place:g} of the radius", slope,
                  (exits[-1].error + exits[-2].error) / 40, {"version 1": 1.0})
        )  # fmt: skip
        relative = [
            one.mean / from_minimum.mean
            for one, from_minimum in zip(exits, at_minimum or exits, strict=True)
        ]
        at_minimum = at_minimum or exits
        series.append(points(f"start at {place:g} r", barriers, relative))
    series.append(line("independent of the start", barriers, np.ones(len(barriers)), "version 1"))
    near_exit = Escape(Quadratic([1.0]), diffusion(1 / 5, ALIGNED), Ball(1.0))
    late, full = solve(near_exit, [0.99]), solve(near_exit)
    ratio = late.mean / full.mean
    quantities.append(
        exact("mean from 0.99 of the radius over that from the minimum, b = 5", ratio,
              ratio * (late.error + full.error), {"version 1": 1.0})
    )  # fmt: skip
    figure = Figure(
        "Mean exit time from different starts",
        "barrier b",
        "E[tau] over that from the minimum",
        tuple(series),
    )
    return Evidence(tuple(quantities), (figure,))


BEFORE_STATIONARITY = Claim(
    number=9,
    slug="before-stationarity",
    statement="SGD escapes in the non-stationary regime, before it has reached a stationary law.",
    source="title and abstract of version 2; table of version 1",
    regime="stationarity of every direction of the basin; beyond it: of the exit direction itself",
    test="Count exits before the flat of two directions relaxes (measured) and before the sharp "
    "one does (exact), and compare the hazard with the law of its relaxation.",
    rule=Rule(
        within=(at_least("share that left before the flat direction relaxed", 0.95),),
        beyond=(at_least("share that left before the sharp direction relaxed", 0.5),),
    ),
    measure=_measure_early,
)

ANY_START = Claim(
    number=19,
    slug="any-start",
    statement="The exponent is the same from any initial point of the region.",
    source="version 1, theorems 1 and 2, whose mean exit time names no start (by assumption 5 the "
    "gradient flow leads from all of D to the minimum)",
    regime="exponents; beyond it: mean exit times at a barrier of 5",
    test="Solve exactly from starts between the minimum and the boundary.",
    rule=Rule(
        within=(
            near("exponent from 0.5 of the radius", 1.0),
            near("exponent from 0.9 of the radius", 1.0),
        ),
        beyond=(near("mean from 0.99 of the radius over that from the minimum, b = 5", 1.0, 0.2),),
    ),
    measure=_measure_start,
)
