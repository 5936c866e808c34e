"""The box that holds all that matters: the region, cut where the process hardly ever goes."""

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_continuous_lyapunov
from scipy.optimize import linear_sum_assignment

from escapade.errors import NoBoundary, Unsupported
from escapade.exact.grid.generator import generator
from escapade.exact.grid.lattice import Box, Lattice
from escapade.exact.grid.process import Process
from escapade.exact.grid.recurrence import Recurrence
from escapade.exact.grid.traps import find_traps, known_traps
from escapade.landscape.descent import jacobian
from escapade.region import Where
from escapade.region.boundary import distance_to_boundary

NODES = {2: 48, 3: 24}
"""Nodes per axis of the lattices on which the box is looked for."""

NEGLIGIBLE = 1e-12
"""A side is cut where densities are below this part of their peaks."""

MOST_ENLARGEMENTS = 40

MARGIN = 0.4
"""Spacings left between the end of the region and the side of the box."""

NEARLY_ISOTROPIC = 1.2
"""Ratio of principal variances below which the parameters' own axes are kept."""


def find_box(process: Process) -> tuple[Box, Float[np.ndarray, "traps dim"]]:
    """A box around all that matters, and the recurrent points in it.

    First the box is enlarged until the process is less likely beyond its open sides than at the
    exit: no easier way out is missed. Then it is cut to where the quasi-stationary density, and the
    density of the moves out of the region and between traps, are not negligible.

    Raises:
        NoBoundary: when no boundary of the region is near.
        Unsupported: when a side of the region that goes on for ever does not hold the process.
    """
    box, traps = _enlarged(process, _first_box(process))
    for _ in range(8):
        trial = generator(process, _lattice(process, box))
        traps, split = find_traps(trial, traps)
        smaller = _cut(split, box)
        shrinkage = (smaller.high - smaller.low) / (box.high - box.low)
        box = smaller
        if shrinkage.min() > 0.88:
            break
    return box, traps


def density(split: Recurrence) -> Float[np.ndarray, " nodes"]:
    """Largest, over all that happens, of each density relative to its peak.

    Densities are those of the process between two visits of recurrent nodes, and of its moves from
    one of them out of the region or to another.
    """
    others = np.zeros(int(split.others.sum()))
    count = split.hitting.shape[1]
    for trap in range(count):
        source = split.inward[[trap]].toarray().ravel()
        time = split.factors.solve_transposed(source)
        moves = [np.ones_like(time), split.escaping]
        moves += [split.hitting[:, other] for other in range(count) if other != trap]
        for move in moves:
            log = _log(time) + _log(move)
            others = np.maximum(others, np.exp(log - log.max()))
    result = np.ones(len(split.others))
    result[split.others] = others
    return result


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, 1e-300))


def _lattice(process: Process, box: Box) -> Lattice:
    return Lattice(box, process.escape.start, NODES[process.dim])


def _first_box(process: Process) -> Box:
    """As far in all directions as the nearest boundary seen from the start."""
    escape = process.escape
    rays = np.random.default_rng(0).standard_normal((256, process.dim))
    rays = np.vstack([np.eye(process.dim), -np.eye(process.dim), rays])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    fine = isinstance(escape.region, Where)
    rays = rays if fine else rays[:24]
    distances = distance_to_boundary(escape.region, escape.start, rays, radii=1201 if fine else 121)
    if np.isinf(distances).all():
        raise NoBoundary(
            f"region ({escape.region}) has no boundary along {len(rays)} directions from the start;"
            " give box=((low, high), ...) that holds it"
        )
    reach = 1.05 * distances.min()
    axes = _principal_axes(process)
    points = np.vstack([escape.start[None], known_traps(process)]) @ axes
    return Box(axes, points.min(axis=0) - reach, points.max(axis=0) + reach)


def _principal_axes(process: Process) -> Float[np.ndarray, "dim dim"]:
    """Axes along which lattice nodes are spent best.

    Those of the stationary covariance of the process linearised at the minimum; of its noise, where
    the former is nearly isotropic or does not exist; else the parameters' own.
    """
    minimum = process.escape.minimum
    hessian = jacobian(process.escape.landscape, minimum)
    noise = process.covariance(minimum[None])[0]
    covariances = [noise]
    if np.linalg.eigvals(hessian).real.min() > 1e-12 * np.abs(hessian).max():
        stationary = solve_continuous_lyapunov(hessian, noise)
        covariances = [(stationary + stationary.T) / 2, noise]
    for covariance in covariances:
        variances, axes = np.linalg.eigh(covariance)
        if 0 < NEARLY_ISOTROPIC * variances[0] < variances[-1]:
            _, order = linear_sum_assignment(-np.abs(axes))
            axes = axes[:, order]
            return axes * np.where(np.diag(axes) < 0, -1.0, 1.0)
    return np.eye(process.dim)


def _enlarged(process: Process, box: Box) -> tuple[Box, np.ndarray]:
    start = process.escape.start @ box.axes
    traps = known_traps(process)
    for _ in range(MOST_ENLARGEMENTS):
        trial = generator(process, _lattice(process, box))
        traps, split = find_traps(trial, traps)
        source = np.zeros(len(trial.nodes))
        source[trial.nearest(process.escape.minimum)] = 1.0
        beyond = _beyond(split, source)
        if not beyond.any():
            return box, traps
        low = np.where(beyond[:, 0], box.low - 0.5 * (start - box.low), box.low)
        high = np.where(beyond[:, 1], box.high + 0.5 * (box.high - start), box.high)
        box = Box(box.axes, low, high)
    raise Unsupported(
        f"the region ({process.escape.region}) goes on for ever on a side that does not hold the "
        "process; bound it with a Ball, Slab or Sublevel, or give box=((low, high), ...) whose "
        "sides reflect"
    )


def _beyond(split: Recurrence, source: np.ndarray) -> np.ndarray:
    """Open sides of the box beyond which the process may do what matters, shape (dim, 2)."""
    trial = split.process
    if not len(trial.exit_nodes) or not split.smallest_pivot > 0:
        return np.asarray(trial.open_sides.any(axis=0))
    time = split.occupation(source)
    volume = 0.01 * time[trial.exit_nodes].max()
    matters = (density(split) > NEGLIGIBLE) | (time > volume)
    return np.asarray((trial.open_sides & matters[:, None, None]).any(axis=0))


def _cut(split: Recurrence, box: Box) -> Box:
    """The box around the nodes that matter and their ways out."""
    trial = split.process
    matters = density(split) > NEGLIGIBLE
    nodes = trial.nodes[matters] @ box.axes
    ways = trial.exit_points[matters[trial.exit_nodes]] @ box.axes
    low, high = nodes.min(axis=0), nodes.max(axis=0)
    # Where the region ends it needs little margin; what matters may end anywhere between nodes.
    beyond_low = np.where(ways.min(axis=0, initial=np.inf) < low, MARGIN, 1.0)
    beyond_high = np.where(ways.max(axis=0, initial=-np.inf) > high, MARGIN, 1.0)
    low = np.minimum(low, ways.min(axis=0, initial=np.inf)) - beyond_low * trial.lattice.spacing
    high = np.maximum(high, ways.max(axis=0, initial=-np.inf)) + beyond_high * trial.lattice.spacing
    return Box(box.axes, np.maximum(box.low, low), np.minimum(box.high, high))
