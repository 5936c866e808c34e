"""Linear systems of killed Markov chains, solved without a subtraction.

``I - K`` is nearly singular when exits are rare, and ordinary elimination loses all digits once
the mean exit time passes 1e12. The elimination of Grassmann, Taksar and Heyman (Operations
Research 33, 1985) computes its pivots from the exit probabilities and the transitions to other
states, and keeps the relative accuracy of both.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

BLOCK = 48
"""States eliminated before the others are updated, by one matrix product."""


class Elimination(eqx.Module):
    """Factors ``I - K = upper @ lower``, both with negative entries off the diagonal only.

    For right-hand sides that are nowhere negative the triangular solves only add.
    """

    upper: Float[np.ndarray, "states states"]
    lower: Float[np.ndarray, "states states"]

    def solve(self, values: Float[np.ndarray, " states"]) -> Float[np.ndarray, " states"]:
        """``(I - K)^-1 values``: mean sum of `values` before the exit; infinite on overflow."""
        forward = solve_triangular(self.upper, values, unit_diagonal=True, check_finite=False)
        return solve_triangular(self.lower, forward, lower=True, check_finite=False)

    def solve_transposed(self, law: Float[np.ndarray, " states"]) -> Float[np.ndarray, " states"]:
        """``law (I - K)^-1``: mean visits to each state of a chain started with `law`."""
        backward = solve_triangular(self.lower, law, lower=True, trans="T")
        return solve_triangular(self.upper, backward, unit_diagonal=True, trans="T")


def eliminate(
    transitions: Float[np.ndarray, "states states"], exits: Float[np.ndarray, " states"]
) -> Elimination:
    """Factors of a chain with given transition and exit probabilities.

    The diagonal of `transitions` is not read: what a state does not send elsewhere stays. A pivot
    is zero, and the mean exit time infinite, where no exit can be reached in float64. `upper` holds
    negative shares, so each difference below is a sum.
    """
    rest = np.array(transitions, dtype=np.float64)
    leaving = np.array(exits, dtype=np.float64)
    size = len(leaving)
    upper, lower = np.eye(size), np.zeros((size, size))
    for end in range(size, 0, -BLOCK):
        first = max(0, end - BLOCK)
        for state in range(end - 1, first - 1, -1):
            # What the states of this block eliminated so far add to this row and column.
            done = slice(state + 1, end)
            rest[state, :state] -= upper[state, done] @ rest[done, :state]
            rest[:state, state] -= upper[:state, done] @ rest[done, state]
            row = rest[state, :state]
            pivot = leaving[state] + row.sum()
            lower[state, :state], lower[state, state] = -row, pivot
            if state > 0 and pivot > 0:
                upper[:state, state] = -rest[:state, state] / pivot
                leaving[:state] -= upper[:state, state] * leaving[state]
        rest[:first, :first] -= upper[:first, first:end] @ rest[first:end, :first]
    return Elimination(upper, lower)
