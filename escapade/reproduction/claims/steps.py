"""Claims 6, 7 and 20: how discrete steps differ from continuous SGD."""

import numpy as np

from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.noise import Isotropic
from escapade.region import Ball
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import (
    Evidence,
    Figure,
    Progress,
    exact,
    line,
    points,
)
from escapade.reproduction.claims.exact_exits import (
    ALIGNED,
    ISOTROPIC,
    chain,
    diffusion,
    exponent,
    from_quadratic,
)
from escapade.reproduction.claims.rule import Band, Rule, near
from escapade.steepness import minimum_steepness
from escapade.steepness.prefactor.extremal_index import log_delay
from escapade.theory import predict

FIRST, UNIFORM = "version 1", "uniform formula"


def _limit(signal: float) -> float:
    """``2 s^2 exp(-s^2 / 2) / theta(s)``, the ratio left as the learning rate vanishes."""
    return float(np.exp(log_delay(np.array([signal]))[0] - signal**2 / 2))


def _measure_vanishing(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, C = H = R = 1: s = sqrt(B) at any learning rate."""
    quantities, series = [], []
    for signal in (1.0, 3.0) if quick else (0.5, 1.0, 2.0, 3.0):
        progress(f"exact chains and diffusions at s = {signal:g}")
        lowest = -6.5 if signal < 3 else -5.5
        rates = 2.0 ** np.arange(-2.0, lowest, -1)
        ratios, errors = [], []
        for rate in rates:
            scale = rate / signal**2
            steps = from_quadratic([1.0], chain(rate, scale, ISOTROPIC), Ball(1.0))
            limit = from_quadratic([1.0], diffusion(scale, ISOTROPIC), Ball(1.0))
            # The diffusion's clock has its own learning rate: compare times t = eta nu.
            time = limit.log_mean + np.log(1e-3)
            ratios.append(np.exp(steps.log_mean + np.log(rate) - time))
            errors.append(steps.error + limit.error)
        # Halving the rate halves the distance to the limit: one step of Richardson, and its change.
        extrapolated = 2 * np.array(ratios[1:]) - np.array(ratios[:-1])
        doubt = abs(extrapolated[-1] - extrapolated[-2]) + 4 * max(errors)
        quantities.append(
            exact(f"eta E[nu] / E[tau] as eta vanishes, s = {signal:g}", extrapolated[-1], doubt,
                  {FIRST: 1.0, UNIFORM: _limit(signal)})
        )  # fmt: skip
        series.append(points(f"exact, s = {signal:g}", rates, ratios))
        series.append(line(f"limit, s = {signal:g}", rates, [_limit(signal)] * len(rates), UNIFORM))
    series.append(line("equal up to O(sqrt(eta))", rates, np.ones_like(rates), FIRST))
    figure = Figure(
        "Shrinking the learning rate at a fixed batch size",
        "learning rate eta (lambda = 1)",
        "eta E[nu] / E[tau]",
        tuple(series),
        "log",
        "log",
    )
    return Evidence(tuple(quantities), (figure,))


def _measure_quotient(quick: bool, key: int, progress: Progress) -> Evidence:
    """One dimension, H = R = 1; C is such that B = 1 and 10 are real batch sizes."""
    quantities, measured, predicted, signals = [], [], [], []
    pairs: tuple[tuple[float, float], ...] = ((3e-4, 4.0), (0.03, 20.0))
    if not quick:
        pairs += ((1e-3, 4.0), (3e-3, 4.0), (0.01, 4.0), (0.03, 4.0), (0.01, 20.0), (0.1, 20.0))
    for stiffness, barrier in pairs:
        progress(f"exact chains at eta lambda = {stiffness:g} and ten times that")
        noise = Isotropic(1 / (barrier * stiffness))
        escapes = [
            Escape(Quadratic([1.0]), chain(eta, stiffness, noise), Ball(1.0))
            for eta in (stiffness, 10 * stiffness)
        ]
        exits = [from_quadratic([1.0], escape.dynamics, Ball(1.0)) for escape in escapes]
        # Times t = eta nu: what a theory in eta / B alone predicts to be the same.
        change = exits[1].log_mean - exits[0].log_mean + np.log(10)
        laws = [predict(escape).log_mean for escape in escapes]
        expected = laws[1] - laws[0] + np.log(10)
        name = _change(stiffness, barrier)
        quantities.append(
            exact(name, change, exits[0].error + exits[1].error,
                  {"eta / B only": 0.0, UNIFORM: float(expected)})
        )  # fmt: skip
        signals.append((barrier * stiffness) ** 0.5)
        measured.append(change)
        predicted.append(expected)
    figure = Figure(
        "Learning rate and batch size ten times as large",
        "s = sqrt(b eta lambda) before",
        "change of log E[tau]",
        (
            points("exact", signals, measured),
            points("uniform formula", signals, predicted),
            line("only eta / B matters", sorted(signals), np.zeros(len(measured)), "eta / B only"),
        ),
        "log",
    )
    return Evidence(tuple(quantities), (figure,))


def _measure_edge(quick: bool, key: int, progress: Progress) -> Evidence:
    """Exponents of chains at fixed learning rate, C = H, ball of radius 1."""
    progress("exact chains up to the edge of stability")
    stiffness = np.array(
        [0.05, 0.5, 1.0, 1.5] if quick else [0.05, 0.1, 0.2, 0.5, 1, 1.5, 1.8, 1.9]
    )
    quantities, found = [], []
    for one in stiffness:
        noise_scales = (1 / 300, 1 / 600)
        exits = tuple(
            from_quadratic([1.0], chain(one, e, ALIGNED), Ball(1.0)) for e in noise_scales
        )
        found.append(exponent(noise_scales, exits))
        quantities.append(
            exact(f"discrete over continuous exponent, eta lambda = {one:g}", found[-1].value,
                  found[-1].error, {FIRST: 1.0, "finite-step action": 1 - one / 2})
        )  # fmt: skip
    edge = Escape(Quadratic([4.9, 1.0]), chain(0.4, 0.01, ALIGNED), Ball(1.0))
    easiest = minimum_steepness(edge)
    quantities.append(
        exact("V0 of a ball at eta lambda_max = 1.96", easiest.value,
              max(easiest.error, 1e-12), {FIRST: 1.0, "finite-step action": 0.02})
    )  # fmt: skip
    figure = Figure(
        "The exponent at a finite learning rate",
        "eta lambda",
        "exponent (continuous: 1)",
        (
            points("exact", stiffness, [one.value for one in found]),
            line("same as continuous", stiffness, np.ones_like(stiffness), FIRST),
            line("1 - eta lambda / 2", stiffness, 1 - stiffness / 2, "finite-step action"),
        ),
    )
    return Evidence(tuple(quantities), (figure,))


def _change(stiffness: float, barrier: float) -> str:
    return f"change of log E[tau] by ten times both, b = {barrier:g}, eta lambda = {stiffness:g}"


DISCRETE_EQUALS_CONTINUOUS = Claim(
    number=6,
    slug="discrete-equals-continuous",
    statement="The mean exit time of discrete SGD is that of continuous SGD, up to O(sqrt(eta)).",
    source="version 1, theorem 3 (with Gobet and Menozzi, where noise and grid are separate)",
    regime="learning rate to zero at a fixed batch size, where the theorem says that the ratio "
    "tends to 1",
    test="Divide exact mean exit times of chains by those of the diffusion with the same eta / B, "
    "and extrapolate to a vanishing learning rate.",
    rule=Rule(
        within=(near("eta E[nu] / E[tau] as eta vanishes, s = 1", 1.0),),
        beyond=(near("eta E[nu] / E[tau] as eta vanishes, s = 3", 1.0),),
    ),
    measure=_measure_vanishing,
)

ONLY_THE_QUOTIENT = Claim(
    number=7,
    slug="only-the-quotient",
    statement="Learning rate and batch size enter through eta / B only.",
    source="version 1, theorems 1 and 2, and earlier theories of escape",
    regime="steps much smaller than the noise's reach: s well below 1 and eta lambda small",
    test="Multiply learning rate and batch size by ten and compare exact mean exit "
    "times t = eta nu.",
    rule=Rule(
        within=(Band(_change(3e-4, 4), -0.2, 0.2),),
        beyond=(Band(_change(0.03, 20), -0.2, 0.2),),
    ),
    measure=_measure_quotient,
)

SAME_EXPONENT = Claim(
    number=20,
    slug="same-exponent",
    statement="Discrete SGD has the exponent of continuous SGD.",
    source="abstract of version 2 (continuous and discrete alike); version 1, theorem 3",
    regime="eta lambda = 0.05; beyond it: any stable learning rate",
    test="Measure the slope of log E[nu] in B / eta of exact chains at fixed learning rates up to "
    "the edge of stability.",
    rule=Rule(
        within=(near("discrete over continuous exponent, eta lambda = 0.05", 1.0),),
        beyond=(
            near("discrete over continuous exponent, eta lambda = 0.5", 1.0),
            near("discrete over continuous exponent, eta lambda = 1.5", 1.0),
        ),
    ),
    measure=_measure_edge,
)
