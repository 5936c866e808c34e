"""How long SGD will stay within a slab around the point it is at, and why it will leave."""

from typing import NamedTuple

import numpy as np

from escapade.errors import EscapadeError
from escapade.inspection.stability import Stability
from escapade.region.forms import LinearForm
from escapade.theory.uniform import uniform_mean_exit_time

RARE = 2.0
"""Barrier from which an exit is a rare event."""


class SlabExit(NamedTuple):
    """Expected steps to the exit, and its mechanism in a word."""

    steps: float
    mechanism: str


def slab_exit(
    slope: float,
    curvature: float,
    noise: float,
    half_width: float,
    stability: Stability,
    batch_size: float,
) -> SlabExit:
    """Exit from ``|u . (theta - here)| < half_width``.

    Along u the loss is ``slope x + curvature x^2 / 2``, one example's gradient has variance
    `noise`, and `batch_size` is that of independent minibatches of as much noise. The minimum lies
    at ``-slope / curvature``; where that is inside the slab, the two faces are left at the
    rates of symmetric slabs of their distances, half each: right to a few per cent from a barrier
    of 3.5 to the nearer face on, and up to 15 % too early at 2.5 (simulated chains, in the tests).
    """
    rate = stability.learning_rate
    if not stability.stable:
        return SlabExit(_growth(half_width, stability.growth, noise, rate, batch_size), "unstable")
    fall = _fall(slope, curvature, half_width, rate)
    if curvature <= 0:
        growth = (1 - rate * curvature) ** 2
        return SlabExit(min(fall, _growth(half_width, growth, noise, rate, batch_size)), "drift")
    if np.isfinite(fall):
        return SlabExit(fall, "drift")
    distances = half_width + np.array([-1.0, 1.0]) * abs(slope) / curvature
    try:
        exits = [
            uniform_mean_exit_time(
                np.array([[curvature]]),
                np.array([[noise]]),
                LinearForm([1.0], distance, two_sided=True),
                rate,
                batch_size,
            )
            for distance in distances
        ]
    except EscapadeError:  # no noise along u, or a slab that a single step leaves
        return SlabExit(float("inf") if noise <= 0 else float("nan"), "activated")
    log_rates = -np.array([exit.log_mean for exit in exits]) - np.log(2)
    log_steps = -float(np.logaddexp(*log_rates))
    mechanism = "activated" if exits[0].barrier >= RARE else "diffusive"
    return SlabExit(float(np.exp(log_steps)) if log_steps < 700 else float("inf"), mechanism)


def _fall(slope: float, curvature: float, half_width: float, rate: float) -> float:
    """Steps after which descent alone is outside; infinite where it ends inside."""
    if slope == 0 or (curvature > 0 and abs(slope) / curvature < half_width):
        return float("inf")
    if rate * curvature >= 1:
        return 1.0
    reach = half_width / abs(slope)
    if rate * abs(curvature) < 1e-12:
        return max(reach / rate, 1.0)
    return float(max(np.ceil(np.log1p(-curvature * reach) / np.log1p(-rate * curvature)), 1.0))


def _growth(
    half_width: float, growth: float, noise: float, rate: float, batch_size: float
) -> float:
    """Steps until the noise of one step, its variance multiplied at each, fills the slab."""
    seed = rate**2 / batch_size * noise
    if not (seed > 0 and growth > 1):
        return float("inf") if not seed > 0 else float("nan")
    return float(max(np.log1p(half_width**2 * (growth - 1) / seed) / np.log(growth), 1.0))
