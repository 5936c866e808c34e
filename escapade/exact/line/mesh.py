"""Panels on an interval, fine enough for a diffusion's drift, noise and stationary density.

Integrals of exponentials are kept as logarithms: on one panel the exponent varies by little, and
panels are joined by log-sum-exp, so nothing overflows and no digits cancel.
"""

from functools import cached_property

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre

from escapade.errors import Unsupported
from escapade.exact.line.process import Line

ORDER = 16
"""Gauss-Legendre nodes per panel."""

STEEPEST = 2.0
"""Largest change of the potential over one panel."""

MOST_PANELS = 200_000

_NODES, _WEIGHTS = legendre.leggauss(ORDER)
_VALUES = legendre.legvander(_NODES, ORDER)
_TO_COEFFICIENTS = (np.arange(ORDER) + 0.5)[:, None] * (_VALUES[:, :ORDER] * _WEIGHTS[:, None]).T


def _integrals_from_left() -> Float[np.ndarray, "nodes nodes"]:
    """Matrix of the integrals from -1 to each node of the interpolating polynomial."""
    degree = np.arange(1, ORDER)
    antiderivative = np.empty((ORDER, ORDER))
    antiderivative[:, 0] = _NODES + 1
    antiderivative[:, 1:] = (_VALUES[:, degree + 1] - _VALUES[:, degree - 1]) / (2 * degree + 1)
    return antiderivative @ _TO_COEFFICIENTS


_FROM_LEFT = _integrals_from_left()
_FROM_RIGHT = _FROM_LEFT[::-1, ::-1]


class Mesh(eqx.Module):
    """Panels with the potential ``Phi' = -2 drift / variance`` and the variance on their nodes.

    Attributes:
        edges: ends of the panels, increasing.
        potential: Phi at the nodes, zero at the first edge.
        potential_edges: Phi at the edges.
        variance: variance per step at the nodes.
    """

    edges: Float[np.ndarray, " edges"]
    potential: Float[np.ndarray, "panels nodes"]
    potential_edges: Float[np.ndarray, " edges"]
    variance: Float[np.ndarray, "panels nodes"]

    @cached_property
    def nodes(self) -> Float[np.ndarray, "panels nodes"]:
        """Gauss-Legendre nodes of every panel."""
        return nodes_of(self.edges)

    @cached_property
    def log_speed(self) -> Float[np.ndarray, "panels nodes"]:
        """Logarithm of the speed density ``2 exp(-Phi) / variance``."""
        return np.log(2 / self.variance) - self.potential

    def from_left(self, log_values: Float[np.ndarray, "panels nodes"]) -> "Cumulative":
        """Integrals from the first edge of a positive function given by its logarithm."""
        return _cumulative(log_values, self.edges, _FROM_LEFT, forward=True)

    def from_right(self, log_values: Float[np.ndarray, "panels nodes"]) -> "Cumulative":
        """Integrals up to the last edge."""
        return _cumulative(log_values, self.edges, _FROM_RIGHT, forward=False)


class Cumulative(eqx.Module):
    """Logarithms of a cumulative integral at the nodes and at the edges."""

    nodes: Float[np.ndarray, "panels nodes"]
    edges: Float[np.ndarray, " edges"]


def nodes_of(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, "panels nodes"]:
    """Gauss-Legendre nodes of panels."""
    return (edges[:-1, None] + edges[1:, None]) / 2 + np.diff(edges)[:, None] / 2 * _NODES


def build(line: Line, edges: Float[np.ndarray, " edges"], steepest: float = STEEPEST) -> Mesh:
    """Split panels until drift and noise are polynomials on each and the potential varies little.

    Raises:
        Unsupported: when that takes more than `MOST_PANELS` panels.
    """
    narrowest = 1e-12 * (np.abs(edges).max() + edges[-1] - edges[0])
    while True:
        drift, variance = line(nodes_of(edges))
        half = np.diff(edges)[:, None] / 2
        slope = -2 * drift / variance * half
        pieces = np.ceil(np.abs(slope @ _WEIGHTS) / steepest) if np.isfinite(steepest) else 1.0
        rough = _tail(slope) > 1e-14 * (1 + np.abs(slope).max(axis=1))
        rough |= _tail(np.log(variance)) > 1e-13
        pieces = np.maximum(pieces, np.where(rough, 2, 1))
        pieces = np.where(half[:, 0] < narrowest, 1, pieces).astype(np.int64)
        if (pieces == 1).all():
            break
        if pieces.sum() > MOST_PANELS:
            raise Unsupported(
                f"the potential varies so much over the region that {pieces.sum():.2g} panels are "
                "needed; use predict, whose formulas are accurate at such barriers"
            )
        edges = _split(edges, pieces)
    steps = slope @ _WEIGHTS
    potential_edges = np.concatenate([[0.0], np.cumsum(steps)])
    potential = potential_edges[:-1, None] + slope @ _FROM_LEFT.T
    return Mesh(edges, potential, potential_edges, variance)


def halved(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " finer"]:
    """The edges of panels half as wide."""
    return _split(edges, np.full(len(edges) - 1, 2))


def _split(edges: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    panel = np.repeat(np.arange(len(pieces)), pieces)
    within = np.arange(len(panel)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    finer = edges[panel] + np.diff(edges)[panel] * within / pieces[panel]
    return np.append(finer, edges[-1])


def _tail(values: Float[np.ndarray, "panels nodes"]) -> Float[np.ndarray, " panels"]:
    """Size of the last two Legendre coefficients."""
    return np.abs(values @ _TO_COEFFICIENTS[-2:].T).max(axis=1)


def _cumulative(
    log_values: Float[np.ndarray, "panels nodes"],
    edges: Float[np.ndarray, " edges"],
    integrals: Float[np.ndarray, "nodes nodes"],
    forward: bool,
) -> Cumulative:
    top = log_values.max(axis=1, keepdims=True)
    values = np.exp(log_values - top)
    scale = top[:, 0] + np.log(np.diff(edges) / 2)
    panels = scale + np.log(values @ _WEIGHTS)
    parts = scale[:, None] + np.log(np.maximum(values @ integrals.T, 1e-300))
    if forward:
        at_edges = np.append(-np.inf, np.logaddexp.accumulate(panels))
        before = at_edges[:-1]
    else:
        at_edges = np.append(np.logaddexp.accumulate(panels[::-1])[::-1], -np.inf)
        before = at_edges[1:]
    return Cumulative(np.logaddexp(before[:, None], parts), at_edges)
