"""Claim 17: what momentum does to the exponent."""

import numpy as np
from scipy import stats

from escapade.dynamics import MomentumSGD
from escapade.escape import Escape
from escapade.exits import ExitSample, iterates, log_slope, simulate
from escapade.landscape import Quadratic
from escapade.minimum import neighbourhood
from escapade.region import Ball
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
from escapade.reproduction.claims.exact_exits import ISOTROPIC, chain, exponent, from_quadratic
from escapade.reproduction.claims.network import lost
from escapade.reproduction.claims.rule import Rule, near
from escapade.theory import Prediction
from escapade.theory.momentum import momentum_law

NEUTRAL, CORRECT = "momentum is neutral", "law of momentum SGD"
MOMENTUM = 0.9
BARRIERS = (4.0, 5.0, 6.0)

COMPARED = {
    "equal eta / (1 - mu) = 0.1": (0.01, 0.1),
    "equal eta = 0.01": (0.01, 0.01),
    "equal eta / (1 - mu) = 1.5": (0.15, 1.5),
}
"""Learning rates with momentum and without."""


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, C = H = R = 1, momentum 0.9, barriers 4 to 6."""
    quantities, series = [], []
    samples: dict[float, list[ExitSample]] = {}
    for rate in (0.01, 0.15):
        progress(f"exits of momentum SGD at eta = {rate:g}")
        escapes = [_escape(rate, batch) for batch in _batches(rate)]
        samples[rate] = [
            simulate(escape, 1024 if quick else 8192, 10**6, key) for escape in escapes
        ]
        means = [sample.mean for sample in samples[rate]]
        bars = [sample.interval for sample in samples[rate]]
        series.append(points(f"eta = {rate:g}", BARRIERS, means, bars))
        laws = [_law(escape).mean for escape in escapes]
        series.append(line(f"law, eta = {rate:g}", BARRIERS, laws, CORRECT))
        progress(f"stationary variance of momentum SGD at eta = {rate:g}")
        quantities.append(_stationary_variance(rate, 50_000 if quick else 1_000_000, key))
    for label, (rate, plain) in COMPARED.items():
        batches = _batches(rate)
        # Against B / eta: the slope is the exponent.
        slope = log_slope(samples[rate], batches / rate, key=key)
        laws = [_law(_escape(rate, batch)).log_mean for batch in (batches[0], batches[-1])]
        predicted = (laws[1] - laws[0]) / (batches[-1] - batches[0]) * rate
        scales = (1 / 50, 1 / 100)
        exits = [from_quadratic([1.0], chain(plain, e, ISOTROPIC), Ball(1.0)) for e in scales]
        # At equal eta / (1 - mu) barriers are compared per B / eta_eff, at equal eta per B / eta.
        unit = plain / rate / exponent(scales, exits).value
        low, high = slope.slope_interval
        quantities.append(
            measured(f"exponent over that of plain SGD, {label}", slope.slope * unit,
                     (low * unit, high * unit), {NEUTRAL: 1.0, CORRECT: predicted * unit})
        )  # fmt: skip
    figure = Figure(
        "Momentum 0.9, C = H",
        "barrier b = (B / eta) (1 - mu) (2 - eta lambda / (1 + mu)) R^2 / 2",
        "E[nu] in steps",
        tuple(series),
        "linear",
        "log",
    )
    notes = (
        "Powers of the barrier in the mean exit time, which are not the same with and without "
        "momentum, move a slope measured between barriers 4 and 6 by up to a tenth.",
    )
    everything = [one for each in samples.values() for one in each]
    return Evidence(tuple(quantities), (figure,), notes, lost(*everything))


def _escape(rate: float, batch: float) -> Escape:
    dynamics = MomentumSGD(rate, batch, MOMENTUM, noise=ISOTROPIC)
    return Escape(Quadratic([1.0]), dynamics, Ball(1.0))


def _law(escape: Escape) -> Prediction:
    return momentum_law(escape, neighbourhood(escape))


def _batches(rate: float) -> np.ndarray:
    """Batch sizes of the barriers; the exponent does not depend on them."""
    return np.array(BARRIERS) * rate / _law(_escape(rate, 1.0)).exponent


def _stationary_variance(rate: float, steps: int, key: int, blocks: int = 16) -> Quantity:
    """In units of ``eta_eff / B``, from blocks of one long run; those of plain SGD have 1 / 2."""
    escape = Escape(Quadratic([1.0]), MomentumSGD(rate, 1.0, MOMENTUM, noise=ISOTROPIC), Ball(1e3))
    path = np.array([theta[0] for theta in iterates(escape, steps, key)])[steps // 20 :]
    parts = np.array([np.mean(block**2) for block in np.array_split(path, blocks)])
    found = parts * (1 - MOMENTUM) / rate
    error = stats.t.ppf(0.975, blocks - 1) * found.std(ddof=1) / blocks**0.5
    value = float(found.mean())
    return measured(
        f"stationary variance over eta / (B (1 - mu)), eta = {rate:g}", value,
        (value - error, value + error),
        {NEUTRAL: 0.5, CORRECT: 1 / (2 - rate / (1 + MOMENTUM))},
    )  # fmt: skip


MOMENTUM_NEUTRAL = Claim(
    number=17,
    slug="momentum",
    statement="Momentum does not change which minima SGD selects.",
    source="an assumption in applying the theory, which has none, to training with momentum",
    regime="compared at equal eta / (1 - mu), small eta lambda; beyond it: equal eta, and large "
    "eta lambda",
    test="Measure the slope of log E[nu] in B / eta with momentum 0.9 and divide by that of exact "
    "plain chains.",
    rule=Rule(
        within=(near("exponent over that of plain SGD, equal eta / (1 - mu) = 0.1", 1.0, 0.2),),
        beyond=(
            near("exponent over that of plain SGD, equal eta = 0.01", 1.0, 0.2),
            near("exponent over that of plain SGD, equal eta / (1 - mu) = 1.5", 1.0, 0.2),
        ),
    ),
    measure=_measure,
)
