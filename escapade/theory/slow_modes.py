"""Slow modes: what an exit that comes before they have spread, or mixed, owes to them.

Part 3 of `escapade.theory.uniform`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from escapade.theory.extremal_index import log_delay
from escapade.theory.level_exit import AbstractLevel, GaussianLevel, RadialLevel

Matrix = Float[np.ndarray, "dim dim"]
Vector = Float[np.ndarray, " dim"]


class SlowModes(NamedTuple):
    """Slow modes: log of the delay they cause if well separated, the share of it to apply."""

    late: float
    share: float
    quenched: float
    """Variance of the log hazard over modes too slow to be averaged before the exit."""


def slow_modes(stationary: RadialLevel, level: float, learning_rate: float) -> SlowModes:
    """For a quadratic form.

    The hazard at a time is that of the stationary level with mode i narrowed to the share
    ``1 - exp(-2 a_i t)`` of its spread, relative to that share of the modes that carry the exit
    (their own transient is part of the level's mean exit time).
    """
    weights, rates = stationary.weights, stationary.rates

    def log_mean(spread: Float[np.ndarray, " modes"]) -> float:
        process = RadialLevel(weights, rates, spread)
        return _log_mean(process, level, process.diffusivity(level), learning_rate)

    settled = log_mean(np.ones_like(weights))
    tilt = stationary.law.saddle(level**2)
    carried = weights**2 * rates / (1 - 2 * tilt * weights)
    carrier = np.average(rates, weights=carried)
    averaged = 1 + np.exp(np.minimum((settled + np.log(np.maximum(rates, 1e-300))) / 2, 300.0))
    slower = np.maximum(1 - rates / carrier, 0.0)
    quenched = float(np.sum(2 * (max(tilt, 0.0) * weights * slower) ** 2 / averaged))
    if settled > 600 or settled + np.log(max(np.min(rates), 1e-300)) > np.log(50.0):
        return SlowModes(0.0, 1.0, quenched)

    def hazard(time: float) -> tuple[float, bool]:
        relaxed = -np.expm1(-2 * rates * time)
        spread = np.minimum(1.0, relaxed / np.average(relaxed, weights=carried))
        return -log_mean(spread), bool(np.min(spread) > 0.999)

    growth = weights * rates
    moments = (np.sum(growth), np.sum(growth * rates), np.sum(growth * rates**2))
    return SlowModes(_lateness(settled, hazard), _separation(*moments), quenched)


def slow_projection(
    drift: Matrix,
    normal: Vector,
    process: GaussianLevel,
    level: float,
    learning_rate: float,
) -> SlowModes:
    """For a linear form, whose level is a sum of modes, found by Krylov's method.

    The level is narrowed to its actual share of the stationary variance, relative to that of one
    mode with its initial rate.
    """
    projected = _krylov(drift.T, normal)

    def log_mean(spread: float) -> float:
        narrowed = GaussianLevel(process.rate / spread, process.two_sided)
        return _log_mean(narrowed, level / np.sqrt(spread), narrowed.rate, learning_rate)

    settled = log_mean(1.0)
    if settled + np.log(process.rate) > np.log(1e6):
        return SlowModes(0.0, 1.0, 0.0)

    def hazard(time: float) -> tuple[float, bool]:
        remembered = np.sum(scipy.linalg.expm(-time * projected)[:, 0] ** 2)
        spread = min(1.0, (1 - remembered) / -np.expm1(-2 * process.rate * time))
        return -log_mean(spread), bool(spread > 0.999)

    pushed = projected[:, 0]
    moments = (process.rate, pushed @ pushed, pushed @ projected @ pushed)
    return SlowModes(_lateness(settled, hazard), _separation(*moments), 0.0)


def _log_mean(
    process: AbstractLevel, level: float, diffusivity: float, learning_rate: float
) -> float:
    """Log mean exit time with the delay of the average step."""
    log_means, slopes = process.log_mean_exit(np.array([level]))
    step = np.sqrt(2 * learning_rate * diffusivity)
    return float(log_means[0] + log_delay(step * slopes[0] / 2))


def _lateness(settled: float, hazard: Callable[[float], tuple[float, bool]]) -> float:
    """Log mean exit time of a hazard that grows to its final value, minus that of the final value.

    `hazard` gives its logarithm at a time, and whether it has settled.
    """
    time, times, log_hazards, spent, done = 0.02 * np.exp(settled), [], [], 0.0, False
    # Doubling times, until nobody is left or every mode has settled.
    while not done and spent < 30:
        log_hazard, done = hazard(time)
        times.append(time)
        log_hazards.append(log_hazard)
        spent += np.exp(log_hazard) * time / 2
        time *= 2
    if len(times) == 1:
        return 0.0
    fine = np.linspace(np.log(times[0]), np.log(times[-1]), 64 * (len(times) - 1) + 1)
    rates, moments = np.exp(PchipInterpolator(np.log(times), log_hazards)(fine)), np.exp(fine)
    survival = np.exp(-moments[0] * rates[0] - _running_integral(rates, moments))
    mean = moments[0] + _running_integral(survival, moments)[-1] + survival[-1] / rates[-1]
    return float(max(np.log(mean) - settled, 0.0))


def _separation(first: float, second: float, third: float) -> float:
    """Share of part 3 from the growth rates of the level weighted by powers 0, 1, 2 of the rates.

    1 when one group of modes carries all growth, 0 when slow modes carry most of it. The constant
    is fitted to exact solutions.
    """
    return float(1 / (1 + 2.7 * (first * third / second**2 - 1) ** 2))


def _krylov(matrix: Matrix, start: Vector) -> Matrix:
    """Projection of a matrix on its first 40 powers on a unit vector (Arnoldi)."""
    basis = [start]
    for _ in range(min(len(matrix), 40) - 1):
        vector = matrix @ basis[-1]
        for _ in range(2):
            vector = vector - np.array(basis).T @ (np.array(basis) @ vector)
        if np.linalg.norm(vector) < 1e-10 * np.linalg.norm(matrix, 1):
            break
        basis.append(vector / np.linalg.norm(vector))
    subspace = np.array(basis)
    return subspace @ matrix @ subspace.T


def _running_integral(
    values: Float[np.ndarray, " times"], at: Float[np.ndarray, " times"]
) -> Float[np.ndarray, " times"]:
    return np.concatenate([[0.0], np.cumsum(np.diff(at) * (values[1:] + values[:-1]) / 2)])
