"""The law of the exit of a chain, discretised on nodes: mean, rates, survival, hazard.

``u(x) = 1 + int_D k(x, y) u(y) dy`` with k the one-step density becomes, by any quadrature with
positive weights (Nystrom), the mean exit time of a killed Markov chain on the nodes. Everything is
a sum of positive terms, and so keeps its relative accuracy however rare the exits are.
"""

import abc
from contextlib import suppress
from functools import cached_property

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

from escapade.errors import NotConverged, Unsupported
from escapade.exact.chain.elimination import Elimination, eliminate
from escapade.exact.exit import AbstractLaw

SMALLEST_PIVOT = 1e-280

MOST_STEPS = 1_000_000
"""Steps of the chain iterated for a survival; beyond, it must have relaxed."""

FEW_STEPS = 500
"""Steps iterated without asking when the chain has relaxed."""

MOST_DENSE = 500
"""Nodes up to which all eigenvalues are computed for the second one."""


class AbstractChainLaw(AbstractLaw):
    """The exit of a killed chain on nodes.

    Attributes:
        nodes: the states, on a line or in space.
        weights: what one node stands for: its quadrature weight.
        transitions: probabilities between nodes; the rows and `exits` sum to one.
        exits: one-step exit probability from each node.
        start_transitions: probabilities from the start to the nodes.
        start_exit: one-step exit probability from the start.
        mean: mean exit time from the start in steps.
    """

    nodes: eqx.AbstractVar[Float[np.ndarray, "nodes ..."]]
    weights: eqx.AbstractVar[Float[np.ndarray, " nodes"]]
    transitions: eqx.AbstractVar[Float[np.ndarray, "nodes nodes"] | csr_array]
    exits: eqx.AbstractVar[Float[np.ndarray, " nodes"]]
    start_transitions: eqx.AbstractVar[Float[np.ndarray, " nodes"]]
    start_exit: eqx.AbstractVar[float]
    mean: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Quasi-stationary probabilities of the nodes."""

    @cached_property
    def rate(self) -> float:
        """Mean one-step exit probability in the quasi-stationary law."""
        return float(self.quasi_stationary @ self.exits)

    @cached_property
    def second_rate(self) -> float:
        """One minus the modulus of the second eigenvalue.

        Raises:
            NotConverged: when the first eigenvalues of a large chain lie too close together.
        """
        size = len(self.exits)
        if size <= MOST_DENSE:
            values = np.linalg.eigvals(self.transitions @ np.eye(size))
        else:
            try:
                values = eigs(self.transitions, 3, v0=np.ones(size), return_eigenvectors=False)
            except ArpackNoConvergence as error:
                raise NotConverged(
                    "the second eigenvalue of the chain was not found, its first ones lying too "
                    "close together; mean and rate do not need it"
                ) from error
        return float(1 - np.sort(np.abs(values))[-2])

    @cached_property
    def _relaxed(self) -> int:
        """Steps after which what remains follows the quasi-stationary law to rounding."""
        ratio = (1 - self.second_rate) / (1 - self.rate)
        return int(np.ceil(np.log(1e-17) / np.log(min(max(ratio, 1e-17), 1 - 1e-9)))) + 1

    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """The law of the chain step by step; quasi-stationary decay once relaxed.

        Raises:
            Unsupported: when the chain does not relax within `MOST_STEPS` steps.
        """
        return self._iterate(times)[0]

    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Sum of the exits of every step, which keeps small probabilities."""
        return self._iterate(times)[1]

    def hazard(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """P(exit time = t + 1 | exit time > t), t rounded down to whole steps.

        Raises:
            Unsupported: when the chain does not relax within `MOST_STEPS` steps.
        """
        return self._iterate(times)[2]

    def quasi_stationary_survival(
        self, times: Float[np.ndarray, " times"]
    ) -> Float[np.ndarray, " times"]:
        """P(exit time > t) from the quasi-stationary law: geometric, ``(1 - rate)^t``."""
        return np.exp(np.floor(times) * np.log1p(-self.rate))

    def _iterate(
        self, times: Float[np.ndarray, " times"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Survival, exit probability and hazard."""
        steps = np.floor(times)
        last = int(min(steps.max(initial=0), MOST_STEPS + 1))
        last = last if last <= FEW_STEPS else min(last, self._relaxed)
        if last > MOST_STEPS:
            raise Unsupported(
                f"the chain takes {self._relaxed:.2g} steps to relax, too many to iterate; ask for "
                f"times up to {MOST_STEPS}, or simulate"
            )
        kept, left, hazard = np.ones(last + 1), np.zeros(last + 1), np.zeros(last + 1)
        hazard[0] = leaving = self.start_exit
        law = self.start_transitions
        for step in range(1, last + 1):
            kept[step], left[step] = law.sum(), left[step - 1] + leaving
            leaving = law @ self.exits
            hazard[step] = leaving / kept[step] if kept[step] > 0 else self.rate
            law = law @ self.transitions
        now = np.minimum(steps, last).astype(np.int64)
        decay = (steps - now) * np.log1p(-self.rate)
        return kept[now] * np.exp(decay), left[now] - kept[now] * np.expm1(decay), hazard[now]


class ChainLaw(AbstractChainLaw):
    """The exit of a killed chain on up to a few thousand nodes, by elimination.

    Attributes:
        elimination: factors of one minus the transitions.
    """

    nodes: Float[np.ndarray, "nodes ..."]
    weights: Float[np.ndarray, " nodes"]
    transitions: Float[np.ndarray, "nodes nodes"]
    exits: Float[np.ndarray, " nodes"]
    start_transitions: Float[np.ndarray, " nodes"]
    start_exit: float
    mean: float
    elimination: Elimination

    @cached_property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Inverse iteration, in which every term is positive.

        Started at the leading eigenvector to an absolute accuracy, since two wells that are nearly
        equal would take it many iterations to tell apart; what it adds is that of small entries.
        """
        size = len(self.exits)
        law = self.weights / self.weights.sum()
        scale = self.elimination.solve_transposed(law).sum()
        inverse = LinearOperator(
            (size, size),
            lambda x: self.elimination.solve_transposed(x.ravel()) / scale,
            dtype=float,
        )
        with suppress(ArpackError):
            law = np.abs(np.real(eigs(inverse, 1, v0=law)[1][:, 0]))
        law = law / law.sum()
        for _ in range(2000):
            previous, law = law, self.elimination.solve_transposed(law)
            law = law / law.sum()
            if np.abs(law - previous).sum() < 1e-14:
                break
        return law


def chain_law(
    nodes: Float[np.ndarray, "nodes ..."],
    weights: Float[np.ndarray, " nodes"],
    transitions: Float[np.ndarray, "rows nodes"],
    exits: Float[np.ndarray, " rows"],
    refused: Float[np.ndarray, " rows"] | float = 0.0,
) -> ChainLaw:
    """The law of a chain given from every node and, in a last row, from the start.

    A move that is `refused`, beyond a cut of an endless region, leaves the chain where it is.

    Raises:
        Unsupported: when the mean exit time overflows.
    """
    elimination = eliminate(transitions[:-1], exits[:-1])
    if not (np.diag(elimination.lower) > SMALLEST_PIVOT).all():
        raise _overflow()
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(1 + transitions[-1] @ elimination.solve(np.ones(len(nodes))))
    if not mean < 1 / SMALLEST_PIVOT:
        raise _overflow()
    square = transitions[:-1] + np.diag(np.broadcast_to(refused, len(exits))[:-1])
    return ChainLaw(
        nodes, weights, square, exits[:-1], transitions[-1], float(exits[-1]), mean, elimination
    )


def relative_error(coarse: ChainLaw, fine: ChainLaw) -> float:
    """Relative error of the finer mean, from the difference to the coarser and rounding."""
    rounding = len(fine.weights) * np.finfo(float).eps
    return float(max(abs(fine.mean / coarse.mean - 1), rounding))


def _overflow() -> Unsupported:
    return Unsupported(
        "the mean exit time of this chain exceeds 1e280 steps; use predict, or solve with "
        "ContinuousSGD, which works in logarithms"
    )
