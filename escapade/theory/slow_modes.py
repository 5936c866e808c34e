"""Slow modes: what an exit that comes before they have spread, or mixed, owes to them.

Part 3 of `escapade.theory.uniform`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from escapade.steepness.prefactor.extremal_index import log_delay
from escapade.theory.level_exit import AbstractLevel, GaussianLevel, RadialLevel

Matrix = Float[np.ndarray, "dim dim"]
Vector = Float[np.ndarray, " dim"]


class SlowModes(NamedTuple):
    """Slow modes: log of the delay they cause if well separated, the share of it to apply."""

    late: float
    share: float
    quenched: float
    """Variance of the log hazard over modes too slow to be averaged before the exit."""


def slow_modes(weights: Vector, rates: Vector, level: float, learning_rate: float) -> SlowModes:
    """For a quadratic form.

    The hazard at a time is that of the stationary level with mode i narrowed to the share
    ``1 - exp(-2 a_i t)`` of its spread, relative to that share of the modes that carry the exit
    (their own transient is part of the level's mean exit time).
    """
    stationary = RadialLevel(weights, rates, np.ones_like(weights))

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


def relaxing_modes(weights: Vector, drift: Matrix) -> tuple[Vector, Vector, float]:
    """Weights and relaxation rates of modes, and how strongly noise couples the leading ones.

    Weights within 10 % of each other say nothing about which directions of their span relax on
    their own, so that the noise is diagonalised there. The coupling is the sum of the squared
    noise between the leading mode and the other groups, relative to its own.
    """
    starts = [0]
    for index, weight in enumerate(weights):
        if weight < 0.9 * weights[starts[-1]]:
            starts.append(index)
    blocks = [slice(*ends) for ends in zip(starts, [*starts[1:], len(weights)], strict=True)]
    noise = (drift + drift.T) / 2
    turned, rates = [], []
    for block in blocks:
        rate, basis = np.linalg.eigh(noise[block, block])
        turned.append((basis**2).T @ weights[block])
        rates.append(rate)
    lead = noise[blocks[0]]
    coupling = np.linalg.norm(lead[:, blocks[0].stop :]) / np.max(np.diag(lead))
    return np.concatenate(turned), np.maximum(np.concatenate(rates), 0.0), float(coupling**2)


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
