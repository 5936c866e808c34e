"""Exit of a one-dimensional chain by its integral equation.

Gauss-Legendre panels resolve the scale of one step (Nystrom); ends that are reached by no exit are
cut where the quasi-stationary density is negligible.
"""

import numpy as np

from escapade.errors import Unsupported
from escapade.exact.chain.law import ChainLaw, chain_law, relative_error
from escapade.exact.chunks import inside
from escapade.exact.line.process import Line
from escapade.region import AbstractRegion

ORDER = 12
"""Nodes per panel."""

WIDTHS = (2.0, 1.4)
"""Panel widths of the coarser and the finer solution, in scales of one step."""

MOST_NODES = 4000

EDGE_DENSITY = 1e-18
"""An open side is cut where the quasi-stationary density is below this part of its peak."""

NEGLIGIBLE_JUMP = 1e-32
"""Probability of a jump that lands in another part of the region."""


def solve_interval(line: Line, minimum: float) -> tuple[ChainLaw, float]:
    """The law of a chain's exit from an interval, and the relative error of its mean.

    Raises:
        Unsupported: when the interval is too long in steps, an open side does not hold the chain,
            or the mean exceeds 1e280.
    """
    low, high = cut(line, minimum)
    coarse, fine = (discretise(line, low, high, width) for width in WIDTHS)
    return fine, relative_error(coarse, fine)


def discretise(line: Line, low: float, high: float, width: float) -> ChainLaw:
    """The chain on quadrature nodes, an end of the interval that is not the line's being a cut.

    Raises:
        Unsupported: when there are too many nodes, or the mean exit time overflows.
    """
    nodes, weights = panels(line, low, high, width)
    drift, variance = line(np.append(nodes, line.start))
    center, spread = np.append(nodes, line.start) + drift, np.sqrt(variance)
    exits = np.zeros(len(nodes) + 1)
    refused = np.zeros(len(nodes) + 1)
    for end, sign in ((low, 1.0), (high, -1.0)):
        beyond = line.step.below(sign * (end - center) / spread)
        is_exit = end in (line.low, line.high)
        exits, refused = (exits + beyond, refused) if is_exit else (exits, refused + beyond)
    density = line.step.density((nodes - center[:, None]) / spread[:, None]) / spread[:, None]
    return chain_law(nodes, weights, density * weights, exits, refused)


def panels(line: Line, low: float, high: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of panels as wide as `width` scales of the step there.

    Raises:
        Unsupported: when there are too many.
    """
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


def cut(line: Line, minimum: float) -> tuple[float, float]:
    """Ends of the interval, an open one moved in to where hardly any mass lies beyond."""
    if np.isfinite(line.low) and np.isfinite(line.high):
        return line.low, line.high
    if line.step.heavy_tailed:
        raise Unsupported(
            "a side of the region that never ends cannot be cut where jumps are heavy-tailed; "
            "bound it with a Slab or Ball, or simulate"
        )
    side = -1.0 if np.isinf(line.low) else 1.0
    center = side * max(side * minimum, side * line.start)
    distance = 9 * _stationary_deviation(line, minimum)
    for _ in range(24):
        end = center + side * distance
        low, high = (end, line.high) if side < 0 else (line.low, end)
        law = discretise(line, low, high, WIDTHS[0])
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


def require_one_part(line: Line, region: AbstractRegion) -> None:
    """Make sure that a jump cannot land in another part of the region.

    Raises:
        Unsupported: when it can.
    """
    reach = np.geomspace(1e-3, line.step.reach(NEGLIGIBLE_JUMP), 1024)
    for end, sign in ((line.low, -1.0), (line.high, 1.0)):
        if not np.isfinite(end):
            continue
        just_inside = end - sign * 1e-9 * (abs(end) + abs(end - line.start))
        _, variance = line(np.array([just_inside]))
        if inside(region, (end + sign * reach * np.sqrt(variance[0]))[:, None]).any():
            raise Unsupported(
                f"region ({region}) has another part within a jump of its end at {end:.4g}, and "
                "the chain that lands there has not left; leave one interval (Ball, Slab, "
                "HalfSpace), or simulate"
            )
