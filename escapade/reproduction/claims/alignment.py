"""Claim 11: how close the noise covariance is to the Hessian."""

import numpy as np

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.landscape.descent import jacobian
from escapade.minimum import Neighbourhood, neighbourhood
from escapade.noise import Empirical as EmpiricalNoise
from escapade.region import Ball
from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import Evidence, Figure, Progress, computed, line, points
from escapade.reproduction.claims.examples import least_squares
from escapade.reproduction.claims.network import trained_network
from escapade.reproduction.claims.rule import Rule, at_least, at_most, near

ALIGNED = "C = H"


def _regression(spread: float, key: int) -> Neighbourhood:
    """Least squares whose label noise grows along the first feature; its own minimum."""
    random = np.random.default_rng(key)
    features = random.normal(size=(2000, 3))
    noise = 0.5 * np.sqrt(1 + spread * features[:, 0] ** 2) * random.normal(size=2000)
    labels = features @ np.array([1.0, -1.0, 0.5]) + noise

    landscape, minimum = least_squares(features, labels)
    return neighbourhood(Escape(landscape, MinibatchSGD(0.1, 8), Ball(1.0), minimum=minimum))


def _ball_exponent(around: Neighbourhood) -> float:
    """V0 of a ball of radius 1 with the covariance as measured."""
    return 1 / (2 * float(np.linalg.eigvalsh(around.stationary_covariance())[-1]))


def _measure(quick: bool, key: int, progress: Progress) -> Evidence:
    progress("Hessian and noise of the network")
    network = trained_network()
    problems = {
        "network": network.around,
        "regression, even label noise": _regression(0.0, key),
        "regression, uneven label noise": _regression(4.0, key),
    }
    quantities, panels = [], []
    for label, around in problems.items():
        found = around.alignment
        size = np.linalg.norm(around.covariance)
        off = float(np.linalg.norm(around.covariance - around.drift_matrix) / size)
        top = around.eigenvalues > 1e-3 * around.sharpness
        panels.append(points(label, around.eigenvalues[top], around.noise_along[top]))
        for name, value, claimed in (
            ("cosine of C and H", found.cosine, 1.0),
            ("c of C = c H", found.c, 1.0),
            ("|C - H| / |C|", off, 0.0),
            ("|C - c H| / |C|", found.relative_residual, 0.0),
            ("|C H - H C| / (|C| |H|)", found.commutator, 0.0),
            ("V0 of a unit ball", _ball_exponent(around), 1.0),
        ):
            quantities.append(computed(f"{name}, {label}", value, {ALIGNED: claimed}))
    away = network.theta * 1.5
    landscape = network.landscape
    hessian, covariance = jacobian(landscape, away), EmpiricalNoise().covariance(landscape, away)
    cosine = float((hessian * covariance).sum())
    cosine /= float(np.linalg.norm(hessian) * np.linalg.norm(covariance))
    quantities.append(
        computed("cosine of C and H, network at 1.5 times the weights", cosine, {ALIGNED: 1.0})
    )
    span = np.array([1e-2, 10.0])
    figure = Figure(
        "Noise along each Hessian eigenvector", "eigenvalue of H", "v' C v",
        (*panels, line("C = H", span, span, ALIGNED)), "log", "log",
    )  # fmt: skip
    notes = (
        network.note,
        "C = H is not free of units: with the loss counted in other units (L to a L), H becomes "
        "a H and C becomes a^2 C, so only C = c H with c in units of loss can be meant.",
    )
    return Evidence(tuple(quantities), (figure,), notes)


ALIGNMENT = Claim(
    number=11,
    slug="alignment",
    statement="Around a minimum the noise covariance equals the Hessian, C = H.",
    source="version 1, assumption A2",
    regime="the direction of the matrices, at the minimum of a network with cross-entropy; beyond "
    "it: their size, and the square loss with noisy labels",
    test="Measure C and H at the minimum of a network and of regressions, and the exponent of a "
    "ball from the Lyapunov equation with the measured C.",
    rule=Rule(
        within=(
            at_least("cosine of C and H, network", 0.95),
            near("c of C = c H, network", 1.0, 0.25),
        ),
        beyond=(
            near("c of C = c H, regression, even label noise", 1.0, 0.25),
            at_least("cosine of C and H, regression, uneven label noise", 0.95),
            at_most("|C - H| / |C|, network", 0.05),
            near("V0 of a unit ball, network", 1.0, 0.25),
        ),
    ),
    measure=_measure,
)
