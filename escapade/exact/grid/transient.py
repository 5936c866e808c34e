"""How a killed jump process forgets its start: exits at times before it has relaxed.

The matrix exponential of the generator acts through a Krylov space of its shifted inverse (van den
Eshof and Hochbruck, SIAM Journal on Scientific Computing 27, 2006). Probabilities are divided by
the mean time spent at each node before the exit; what is computed then is of the size of the exit
rate, so that a small one has as many digits as a large one.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.linalg import expm

from escapade.exact.grid.recurrence import Recurrence, factorise

STEPS = 44
"""Dimension of the Krylov spaces."""

SHIFTED = 0.1
"""Shift, in units of the longest time computed from it."""


class Transient(eqx.Module):
    """Survival, flux and exit probability at times."""

    survival: Float[np.ndarray, " times"]
    flux: Float[np.ndarray, " times"]
    exited: Float[np.ndarray, " times"]


def transient(split: Recurrence, start: int, times: Float[np.ndarray, " times"]) -> Transient:
    """Survival, flux and exit probability of a process started at a node; times are positive."""
    survival, flux, exited = np.ones(len(times)), np.zeros(len(times)), np.zeros(len(times))
    source = np.zeros(len(split.others))
    source[start] = 1.0
    spent = np.maximum(split.occupation(source), 1e-290)
    decades = np.ceil(np.log10(times) - 1e-9)
    for decade in np.unique(decades):
        chosen = np.flatnonzero(decades == decade)
        values = _krylov(split, start, spent, times[chosen])
        survival[chosen], flux[chosen], exited[chosen] = values
    return Transient(survival, flux, exited)


def _krylov(
    split: Recurrence, start: int, spent: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    process = split.process
    size = len(spent)
    length = SHIFTED * times.max()
    factors = factorise(process, np.ones(size, dtype=bool), shift=1 / length)
    leaving = process.leaving * spent
    # One more component gathers what has left, in units of what leaves within `length`.
    basis = np.zeros((STEPS + 1, size + 1))
    projected = np.zeros((STEPS + 1, STEPS))
    basis[0, start] = 1.0
    steps = STEPS
    for step in range(STEPS):
        vector = np.empty(size + 1)
        vector[:size] = factors.solve_transposed(basis[step, :size] * spent) / (length * spent)
        vector[size] = basis[step, size] + leaving @ vector[:size]
        for _ in range(2):
            overlaps = basis[: step + 1] @ vector
            vector -= overlaps @ basis[: step + 1]
            projected[: step + 1, step] += overlaps
        projected[step + 1, step] = np.linalg.norm(vector)
        if projected[step + 1, step] < 1e-14 * np.abs(projected[: step + 1, step]).max():
            steps = step + 1
            break
        basis[step + 1] = vector / projected[step + 1, step]
    inverse = np.linalg.inv(projected[:steps, :steps])
    exponent = (np.eye(steps) - inverse) / length
    coefficients = np.array([expm(time * exponent)[:, 0] for time in times])
    first = 1 / spent[start]
    measured = basis[:steps] @ np.column_stack(
        [np.append(spent, 0.0), np.append(leaving, 0.0), np.append(np.zeros(size), length)]
    )
    survival, flux, exited = first * (coefficients @ measured).T
    exited = np.clip(exited, 0.0, 1.0)
    survival = np.where(exited < 0.5, 1 - exited, np.clip(survival, 0.0, 1.0))
    return survival, np.maximum(flux, 0.0), exited
