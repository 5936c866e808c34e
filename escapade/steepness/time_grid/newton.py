"""Newton's method for the stationary points of an action on a grid of times.

The action is minimised over points and maximised over momenta and multipliers, so its second
derivative is symmetric, indefinite and banded: one overlapping block per panel of the grid. A
banded LU solves it; the signs of its block pivots (Sylvester's law of inertia) tell a minimum
over the points from every other stationary point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.linalg import lapack

SMALLEST_DAMPING = 1e-3
TOLERANCE = 1e-11
"""Size of a last correction, in the units of each unknown."""
ROUNDING = 1e-8
"""Size below which a correction that no longer shrinks is taken for rounding."""


@dataclass(frozen=True)
class SaddleMatrix:
    """A symmetric matrix of the unknowns (head, panel, panel, ..., tail).

    Attributes:
        head: block of the first ``2 overlap`` unknowns, shape (2 overlap, 2 overlap).
        panels: shape (count, overlap + size, overlap + size); each panel's block spans the last
            `overlap` unknowns before it and its own; blocks add where they overlap.
        tail: block of the last unknowns, shape (tail, tail).
        coupling: of the tail with the last `overlap` unknowns before it, (tail, overlap).
    """

    head: Float[np.ndarray, "head head"]
    panels: Float[np.ndarray, "count window window"]
    tail: Float[np.ndarray, "tail tail"]
    coupling: Float[np.ndarray, "tail overlap"]

    def merged(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """Head and panels, where every block holds the full sum on the parts that overlap."""
        overlap = self.coupling.shape[1]
        head, panels = self.head.copy(), self.panels.copy()
        corners = panels[:, :overlap, :overlap].copy()
        head[-overlap:, -overlap:] += corners[0]
        panels[:-1, -overlap:, -overlap:] += corners[1:]
        panels[0, :overlap, :overlap] = head[-overlap:, -overlap:]
        panels[1:, :overlap, :overlap] = panels[:-1, -overlap:, -overlap:]
        return head, panels

    def factored(self) -> Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]] | None:
        """The solver of linear systems with this matrix; None when it is singular."""
        head, panels = self.merged()
        first, (count, window), (last, overlap) = len(head), panels.shape[:2], self.coupling.shape
        size = window - overlap
        total = first + count * size + last
        width = max(first, window, overlap + last) - 1
        # Row j of this array is column j of the matrix, the diagonal at 2 width: what LAPACK reads
        # as its banded storage. Stepping by one row less one element moves along the diagonal.
        rows = 3 * width + 1
        bands = np.zeros((total, rows))

        def window_at(start: int, shape: tuple[int, ...], jump: int) -> Float[np.ndarray, "..."]:
            flat = bands.reshape(-1)[start * rows + 2 * width :]
            strides = (jump * rows, rows - 1, 1)
            return np.lib.stride_tricks.as_strided(
                flat, shape, tuple(8 * step for step in strides[-len(shape) :])
            )

        window_at(0, head.shape, 0)[:] = head
        window_at(first - overlap, panels.shape, size)[:] = panels
        ends = total - last
        together = np.zeros((overlap + last, overlap + last))
        together[:overlap, :overlap] = (panels[-1] if count else head)[-overlap:, -overlap:]
        together[overlap:, :overlap] = self.coupling
        together[:overlap, overlap:] = self.coupling.T
        together[overlap:, overlap:] = self.tail
        window_at(ends - overlap, together.shape, 0)[:] = together
        factors, pivots, info = lapack.dgbtrf(bands.T, width, width, overwrite_ab=True)
        if info != 0:
            return None
        return lambda right: lapack.dgbtrs(factors, width, width, right, pivots)[0]

    def negative_eigenvalues(self) -> int:
        """How many eigenvalues are negative."""
        overlap = self.coupling.shape[1]
        head, panels = self.merged()
        pivots = np.empty_like(panels[:, overlap:, overlap:])
        passed_on = np.linalg.inv(head)[-overlap:, -overlap:]
        for index, panel in enumerate(panels):
            across = panel[overlap:, :overlap]
            pivots[index] = panel[overlap:, overlap:] - across @ passed_on @ across.T
            passed_on = np.linalg.inv(pivots[index])[-overlap:, -overlap:]
        last = self.tail - self.coupling @ passed_on @ self.coupling.T
        return sum(int((np.linalg.eigvalsh(block) < 0).sum()) for block in (head, pivots, last))


class Expansion(Protocol):
    """A function and its derivative at a point."""

    residual: Float[np.ndarray, " n"]

    def matrix(self) -> SaddleMatrix:
        """The derivative."""


AnyExpansion = TypeVar("AnyExpansion", bound=Expansion)


def damped_newton(
    expand: Callable[[Float[np.ndarray, " n"]], AnyExpansion],
    guess: Float[np.ndarray, " n"],
    most_iterations: int,
) -> AnyExpansion | None:
    """The expansion at a zero near a guess, in unknowns of order one; None when not found.

    Steps are damped until the next simplified correction is smaller (the natural monotonicity
    test of Deuflhard, "Newton Methods for Nonlinear Problems", 2004, section 3.3).
    """
    z, here, damping = guess, expand(guess), 1.0
    for _ in range(most_iterations):
        solve = here.matrix().factored()
        if solve is None:
            return None
        step = -solve(here.residual)
        size = np.abs(step).max()
        if not np.isfinite(size):
            return None
        damping = min(1.0, 4 * damping)
        while True:
            trial = z + damping * step
            there = expand(trial)
            finite = np.isfinite(there.residual).all()
            left = np.abs(solve(there.residual)).max() if finite else np.inf
            if left <= (1 - damping / 4) * size:
                break
            if size < ROUNDING and left < ROUNDING:
                return there
            damping /= 2
            if damping < SMALLEST_DAMPING:
                return None
        z, here = trial, there
        if damping == 1 and left < TOLERANCE:
            return here
    return None
