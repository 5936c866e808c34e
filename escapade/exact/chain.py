"""Exit of a one-dimensional chain with Gaussian steps, by its integral equation.

``u(x) = 1 + int_D k(x, y) u(y) dy`` with k the one-step density, discretised on Gauss-Legendre
panels that resolve one step's standard deviation (Nystrom) and solved by GTH elimination.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from escapade.errors import Unsupported
from escapade.exact.elimination import Elimination, eliminate
from escapade.exact.exit import AbstractLaw
from escapade.exact.line import Line, inside
from escapade.region import AbstractRegion

ORDER = 12
"""Nodes per panel."""

WIDTHS = (2.0, 1.4)
"""Panel widths of the coarser and the finer solution, in standard deviations of one step."""

MOST_NODES = 2400

SMALLEST_PIVOT = 1e-280

MOST_STEPS = 1_000_000
"""Steps of the chain iterated for a survival; beyond, it must have relaxed."""

EDGE_DENSITY = 1e-18
"""An open side is cut where the quasi-stationary density is below this part of its peak."""

REACH = 12.0
"""Standard deviations beyond the interval in which no other part of the region may lie."""


class ChainLaw(AbstractLaw):
    """A killed chain on quadrature nodes.

    Attributes:
        nodes: the states, increasing.
        weights: their quadrature weights.
        transitions: probabilities between nodes; the rows and `exits` sum to one.
        exits: one-step exit probability from each node.
        start_transitions: probabilities from the start to the nodes.
        start_exit: one-step exit probability from the start.
        elimination: factors of one minus the transitions.
        mean: mean exit time from the start in steps.
    """

    nodes: Float[np.ndarray, " nodes"]
    weights: Float[np.ndarray, " nodes"]
    transitions: Float[np.ndarray, "nodes nodes"]
    exits: Float[np.ndarray, " nodes"]
    start_transitions: Float[np.ndarray, " nodes"]
    start_exit: float
    elimination: Elimination
    mean: float

    @cached_property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Quasi-stationary law: inverse iteration, in which every term is positive."""
        law = self.weights / self.weights.sum()
        for _ in range(2000):
            previous, law = law, self.elimination.solve_transposed(law)
            law = law / law.sum()
            if np.abs(law - previous).sum() < 1e-14:
                break
        return law

    @cached_property
    def rate(self) -> float:
        """Mean one-step exit probability in the quasi-stationary law."""
        return float(self.quasi_stationary @ self.exits)

    @cached_property
    def second_rate(self) -> float:
        """One minus the modulus of the second eigenvalue."""
        moduli = np.sort(np.abs(np.linalg.eigvals(self.transitions)))
        return float(1 - moduli[-2])

    @cached_property
    def _relaxed(self) -> int:
        """Steps after which what remains follows the quasi-stationary law to rounding."""
        ratio = (1 - self.second_rate) / (1 - self.rate)
        return int(np.ceil(np.log(1e-17) / np.log(min(max(ratio, 1e-17), 1 - 1e-9)))) + 1

    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Iterates of the transitions on one; quasi-stationary decay once relaxed.

        Raises:
            Unsupported: when the chain does not relax within `MOST_STEPS` steps.
        """
        return self._iterate(times)[0]

    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Iterates of ``e -> exits + transitions e``, which keep small probabilities."""
        return self._iterate(times)[1]

    def _iterate(self, times: Float[np.ndarray, " times"]) -> tuple[np.ndarray, np.ndarray]:
        steps = np.floor(times).astype(np.int64)
        last = int(min(steps.max(initial=0), self._relaxed))
        if last > MOST_STEPS:
            raise Unsupported(
                f"the chain takes {self._relaxed:.2g} steps to relax, too many to iterate; ask for "
                f"times up to {MOST_STEPS}, or simulate"
            )
        kept, left = np.ones(last + 1), np.zeros(last + 1)
        alive, exited = np.ones_like(self.exits), np.zeros_like(self.exits)
        for step in range(1, last + 1):
            kept[step] = self.start_transitions @ alive
            left[step] = self.start_exit + self.start_transitions @ exited
            alive, exited = self.transitions @ alive, self.exits + self.transitions @ exited
        now = np.minimum(steps, last)
        decay = (steps - now) * np.log1p(-self.rate)
        return kept[now] * np.exp(decay), left[now] - kept[now] * np.expm1(decay)


def solve_chain(
    line: Line, region: AbstractRegion, minimum: float
) -> tuple[ChainLaw, float, float]:
    """The law of a chain's exit, the logarithm of its mean, and the mean's relative error.

    Raises:
        Unsupported: when the interval is too long in steps, another part of the region is within
            a jump, an open side does not hold the chain, or the mean exceeds 1e280.
    """
    _one_part(line, region)
    low, high = _cut(line, minimum)
    coarse, fine = (_discretise(line, low, high, width) for width in WIDTHS)
    rounding = len(fine.nodes) * np.finfo(float).eps
    error = max(abs(fine.mean / coarse.mean - 1), rounding)
    return fine, float(np.log(fine.mean)), float(error)


def _discretise(line: Line, low: float, high: float, width: float) -> ChainLaw:
    """The chain on quadrature nodes, an end of the interval that is not the line's being a cut.

    Raises:
        Unsupported: when there are too many nodes, or the mean exit time overflows.
    """
    nodes, weights = _panels(line, low, high, width)
    drift, variance = line(np.append(nodes, line.start))
    center, spread = np.append(nodes, line.start) + drift, np.sqrt(variance)
    exits = np.zeros(len(nodes) + 1)
    refused = np.zeros(len(nodes) + 1)
    for end, sign in ((low, 1.0), (high, -1.0)):
        beyond = ndtr(sign * (end - center) / spread)
        is_exit = end in (line.low, line.high)
        exits, refused = (exits + beyond, refused) if is_exit else (exits, refused + beyond)
    scaled = (nodes - center[:, None]) / spread[:, None]
    density = np.exp(-0.5 * scaled**2) / (np.sqrt(2 * np.pi) * spread[:, None])
    transitions = density * weights
    elimination = eliminate(transitions[:-1], exits[:-1])
    pivots = np.diag(elimination.lower)
    if not (pivots > SMALLEST_PIVOT).all():
        raise _overflow()
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(1 + transitions[-1] @ elimination.solve(np.ones(len(nodes))))
    if not mean < 1 / SMALLEST_PIVOT:
        raise _overflow()
    # A move beyond a cut is refused: the chain stays, as it does in the elimination.
    square = transitions[:-1] + np.diag(refused[:-1])
    return ChainLaw(
        nodes, weights, square, exits[:-1], transitions[-1], float(exits[-1]), elimination, mean
    )


def _panels(line: Line, low: float, high: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of panels as wide as `width` standard deviations of the step there."""
    grid = np.linspace(low, high, 1025)[1:-1]
    _, variance = line(grid)
    density = 1 / np.sqrt(variance)
    lengths = np.cumsum(np.append(0.0, np.append(density, density[-1]) * (high - low) / 1024))
    count = int(np.ceil(lengths[-1] / width)) + 1
    if count * ORDER > MOST_NODES:
        raise Unsupported(
            f"the region is {lengths[-1]:.3g} standard deviations of one step wide, too many for "
            "an exact chain; solve with ContinuousSGD, which is then close, or simulate"
        )
    positions = np.linspace(low, high, 1025)
    edges = np.interp(np.linspace(0, lengths[-1], count + 1), lengths, positions)
    gauss, gauss_weights = np.polynomial.legendre.leggauss(ORDER)
    half = np.diff(edges)[:, None] / 2
    nodes = (edges[:-1, None] + half) + half * gauss
    return nodes.ravel(), (half * gauss_weights).ravel()


def _cut(line: Line, minimum: float) -> tuple[float, float]:
    """Ends of the interval, an open one moved in to where hardly any mass lies beyond."""
    if np.isfinite(line.low) and np.isfinite(line.high):
        return line.low, line.high
    side = -1.0 if np.isinf(line.low) else 1.0
    center = side * max(side * minimum, side * line.start)
    distance = 9 * _stationary_deviation(line, minimum)
    for _ in range(24):
        end = center + side * distance
        low, high = (end, line.high) if side < 0 else (line.low, end)
        law = _discretise(line, low, high, WIDTHS[0])
        density = law.quasi_stationary / law.weights
        if density[0 if side < 0 else -1] < EDGE_DENSITY * density.max():
            return low, high
        distance *= 1.25
    raise Unsupported(
        f"the side of the region towards {'plus' if side > 0 else 'minus'} infinity does not hold "
        "the chain well enough to be cut; bound it with a Slab or Ball, or simulate"
    )


def _stationary_deviation(line: Line, minimum: float) -> float:
    """Standard deviation of the linearised chain at the minimum; the step's where unstable."""
    _, variance = line(np.array([minimum]))
    step = float(np.sqrt(variance[0]))
    drift, _ = line(minimum + 0.1 * step * np.array([-1.0, 1.0]))
    pull = float(drift[0] - drift[1]) / (0.2 * step)
    return step / np.sqrt(pull * (2 - pull)) if 1e-6 < pull < 2 - 1e-3 else 10 * step


def _one_part(line: Line, region: AbstractRegion) -> None:
    """Make sure that a jump cannot land in another part of the region."""
    for end, sign in ((line.low, -1.0), (line.high, 1.0)):
        if not np.isfinite(end):
            continue
        just_inside = end - sign * 1e-9 * (abs(end) + abs(end - line.start))
        _, variance = line(np.array([just_inside]))
        beyond = end + sign * REACH * np.sqrt(variance[0]) * np.linspace(0, 1, 513)[1:]
        if inside(region, beyond).any():
            raise Unsupported(
                f"region ({region}) has another part within a jump of its end at {end:.4g}, and "
                "the chain that lands there has not left; leave one interval (Ball, Slab, "
                "HalfSpace), or simulate"
            )


def _overflow() -> Unsupported:
    return Unsupported(
        "the mean exit time of this chain exceeds 1e280 steps; use predict, or solve with "
        "ContinuousSGD, which works in logarithms"
    )
