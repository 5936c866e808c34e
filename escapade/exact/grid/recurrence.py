"""Integrals over the path of a killed jump process before its exit, without a subtraction.

Elimination of the whole generator loses all digits when exits are rare. The process is therefore
cut at its visits to a few recurrent nodes: the hitting problems in between are well conditioned,
and the triangular factors of their matrix (an M-matrix, eliminated along its diagonal) have entries
of one sign, so that solutions for right-hand sides that are nowhere negative keep their relative
accuracy however small they are. The small chain on the recurrent nodes is eliminated by the method
of Grassmann, Taksar and Heyman.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, csr_array, diags_array
from scipy.sparse.linalg import SuperLU, splu

from escapade.exact.chain.elimination import Elimination, eliminate
from escapade.exact.grid.dissection import dissection
from escapade.exact.grid.generator import Generator


class Factors(eqx.Module):
    """A triangular factorisation of ``diagonal - rates`` on some nodes, in a given order."""

    factors: SuperLU
    order: Int[np.ndarray, " nodes"]

    def solve(self, values: Float[np.ndarray, "nodes ..."]) -> Float[np.ndarray, "nodes ..."]:
        """Solution for a right-hand side, or for several columns."""
        result = np.empty_like(values)
        result[self.order] = self.factors.solve(values[self.order])
        return result

    def solve_transposed(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """Solution of the transposed system."""
        result = np.empty_like(values)
        result[self.order] = self.factors.solve(values[self.order], trans="T")
        return result


def factorise(process: Generator, kept: Bool[np.ndarray, " nodes"], shift: float = 0.0) -> Factors:
    """Factors of ``shift`` minus the generator on the nodes `kept`."""
    numbers = np.flatnonzero(kept)
    order = dissection(process.indices[kept], process.reach)
    chosen = numbers[order]
    matrix = diags_array(process.total[chosen] + shift) - process.rates[chosen][:, chosen]
    factors = splu(
        csc_array(matrix),
        permc_spec="NATURAL",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True, "Equil": False},
    )
    return Factors(factors, order)


class Recurrence(eqx.Module):
    """A killed jump process, split at its recurrent nodes.

    Attributes:
        process: the jump process.
        others: which nodes are not recurrent.
        factors: of the process killed at the recurrent nodes.
        hitting: probability from the other nodes that each recurrent node is hit first.
        escaping: probability from the other nodes that the exit comes first.
        duration: mean time from the other nodes to a recurrent node or the exit.
        chain: rates of the chain of recurrent nodes, eliminated.
        inward, outward: rates from the recurrent nodes to the others, and back.
    """

    process: Generator
    others: Bool[np.ndarray, " nodes"]
    factors: Factors
    hitting: Float[np.ndarray, "others recurrent"]
    escaping: Float[np.ndarray, " others"]
    duration: Float[np.ndarray, " others"]
    chain: Elimination
    inward: csr_array
    outward: csr_array

    def __init__(self, process: Generator, recurrent: Int[np.ndarray, " recurrent"]):
        """Split a process at nodes, in which it must be found again and again."""
        self.process = process
        recurrent = np.unique(recurrent)
        self.others = np.ones(len(process.nodes), dtype=bool)
        self.others[recurrent] = False
        self.factors = factorise(process, self.others)
        self.inward = process.rates[recurrent][:, self.others]
        self.outward = process.rates[self.others][:, recurrent]
        leaving = process.leaving
        sources = np.column_stack(
            [self.outward.toarray(), leaving[self.others], np.ones(self.others.sum())]
        )
        solutions = self.factors.solve(sources)
        self.hitting = solutions[:, :-2]
        self.escaping, self.duration = solutions[:, -2], solutions[:, -1]
        between = process.rates[recurrent][:, recurrent].toarray() + self.inward @ self.hitting
        self.chain = eliminate(between, leaving[recurrent] + self.inward @ self.escaping)

    @property
    def smallest_pivot(self) -> float:
        """Smallest pivot of the chain of recurrent nodes: zero where no exit can be reached."""
        return float(np.diag(self.chain.lower).min())

    def integral(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """From every node, the mean time integral of a function before the exit.

        Relatively accurate for functions that are nowhere negative.
        """
        result = np.empty(len(values))
        between = self.factors.solve(values[self.others])
        cycle = values[~self.others] + self.inward @ between
        result[~self.others] = self.chain.solve(cycle)
        result[self.others] = between + self.hitting @ result[~self.others]
        return result

    def occupation(self, law: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """Mean time spent at every node before the exit, started with a law."""
        result = np.empty(len(law))
        arrivals = law[~self.others] + law[self.others] @ self.hitting
        result[~self.others] = self.chain.solve_transposed(arrivals)
        sources = law[self.others] + self.inward.T @ result[~self.others]
        result[self.others] = self.factors.solve_transposed(sources)
        return result
