"""The law of the exit of a chain on very many nodes with few transitions from each.

The law of the chain is followed step by step until what remains is quasi-stationary: the mean exit
time is the sum of the survival so far plus what remains over the quasi-stationary exit rate. Every
term is positive. The chain that stands still in every other step on average is followed instead,
since it forgets its start even where the chain itself is periodic.
"""

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from escapade.errors import Unsupported
from escapade.exact.chain.law import AbstractChainLaw

MOST_WORK = 2e9
"""Products of a transition and a probability, at most."""

SMALLEST = 1e-290

SETTLED = 1e-12
"""Relative change of the exit probability per step between two looks that counts as none."""


class SparseChainLaw(AbstractChainLaw):
    """The exit of a killed chain given by its few transitions from each node.

    Attributes:
        steps: steps followed until the law was quasi-stationary.
    """

    nodes: Float[np.ndarray, "nodes ..."]
    weights: Float[np.ndarray, " nodes"]
    transitions: csr_array
    exits: Float[np.ndarray, " nodes"]
    start_transitions: Float[np.ndarray, " nodes"]
    start_exit: float
    mean: float
    quasi_stationary_: Float[np.ndarray, " nodes"]
    steps: int

    @property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """What the law of the chain tended to."""
        return self.quasi_stationary_


def sparse_chain_law(
    nodes: Float[np.ndarray, "nodes ..."],
    weights: Float[np.ndarray, " nodes"],
    transitions: csr_array,
    exits: Float[np.ndarray, " rows"],
) -> SparseChainLaw:
    """The law of a chain given from every node and, in a last row, from the start.

    Raises:
        Unsupported: when no exit is reached, or the chain relaxes too slowly.
    """
    square, leaving = transitions[:-1].T.tocsr(), exits[:-1]
    first = transitions[[-1]].toarray()[0]
    law, kept, total = first, 1.0, 1.0
    look, before, step = 8, 0.0, 0
    most = int(MOST_WORK / max(square.nnz, 1))
    while True:
        step += 1
        here = law.sum()
        # Two steps of the halting chain pass in one of the chain, on average.
        kept_now = kept * here
        total += kept_now / 2
        kept = kept_now
        if here == 0 or kept < 1e-17 * total:
            break
        law = law / here
        hazard = float(law @ leaving)
        if step >= look:
            if abs(hazard - before) <= SETTLED * hazard and hazard > 0:
                # The rest of the sum is geometric, this term of it being counted already.
                total += kept * (1 - hazard / 2) / hazard
                break
            look, before = int(1.25 * look) + 1, hazard
        if step > most:
            raise Unsupported(
                f"after {step} steps the chain is not quasi-stationary, or it never leaves; "
                "simulate, split, or solve GaussianSGD with the same noise covariance"
            )
        law = (law + square @ law) / 2
        # Denormal numbers slow the processor a hundredfold.
        law[law < SMALLEST] = 0.0
    return SparseChainLaw(
        nodes,
        weights,
        transitions[:-1].tocsr(),
        leaving,
        first,
        float(exits[-1]),
        float(total),
        law / max(law.sum(), 1e-300),
        step,
    )
