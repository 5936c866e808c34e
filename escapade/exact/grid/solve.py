"""The exact exit of a diffusion in two or three dimensions, on lattices."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics import ContinuousSGD
from escapade.errors import InvalidArgument, NoBoundary, NotConverged, Unsupported
from escapade.escape import Escape
from escapade.exact.exit import ExactExit
from escapade.exact.field import ExitField
from escapade.exact.grid.box import NODES, density, find_box
from escapade.exact.grid.generator import generator
from escapade.exact.grid.lattice import Box, Lattice
from escapade.exact.grid.law import Decay, GridLaw
from escapade.exact.grid.process import Process
from escapade.exact.grid.recurrence import Recurrence
from escapade.exact.grid.traps import find_traps, jumps, known_traps, split_at
from escapade.landscape._base import as_numbers, as_points

DEFAULT_NODES = {2: 280, 3: 40}
FEWEST_NODES = 16
MOST_POINTS = {2: 700_000, 3: 260_000}

SMALLEST_RATE = 1e-290

LARGEST_ERROR = 0.1
"""Relative error beyond which no number is returned."""

LARGEST_DENSITY_AT_CUT = 1e-8


def solve_grid(
    escape: Escape,
    start: ArrayLike | None = None,
    nodes: int | None = None,
    box: Sequence[tuple[float, float]] | None = None,
    interpretation: float = 0.0,
) -> ExactExit:
    """Mean exit time, law and field of a diffusion in two or three dimensions.

    Any landscape, any noise that is positive definite, any region. The generator is discretised on
    three lattices of spacings near 2, sqrt(2) and 1, to second order, and the logarithm of the mean
    extrapolated. The error is three times the difference of the two extrapolations, plus a fifth of
    the last one's correction (more where a spacing exceeds the boundary layer), plus rounding.

    Args:
        escape: the problem, with `ContinuousSGD`.
        start: where to start, shape (dim,); the escape's start unless given.
        nodes: nodes along each axis of the finest lattice; 280 in two dimensions and 40 in three
            unless given.
        box: (low, high) along each axis; where the region goes on beyond it, its sides reflect.
            Found unless given, large enough for what is beyond to be negligible.
        interpretation: of the noise: 0 is Ito, 1/2 Stratonovich, 1 anti-Ito.

    Raises:
        Unsupported: for other dynamics or dimensions, when float64 cannot hold the exit
            probabilities, or when the region does not hold the process.
        InvalidArgument: when the box, the start or the number of nodes does not fit.
        NotInRegion: when the start lies outside the region.
        NoBoundary: when the region has no boundary in the box.
        DegenerateNoise: when the noise is not positive definite inside the region.
        NotConverged: when the lattice is too coarse.
    """
    if not isinstance(escape.dynamics, ContinuousSGD) or escape.landscape.dim not in (2, 3):
        raise Unsupported(
            f"solve_grid needs ContinuousSGD in two or three dimensions, not {escape}; simulate, "
            "split or predict"
        )
    if start is not None:
        point = as_points(start, escape.landscape.dim, "start")[0]
        escape = Escape(escape.landscape, escape.dynamics, escape.region, point, escape.minimum)
    process = Process(escape, float(interpretation))
    count = _node_count(nodes, process.dim)
    frame, traps = find_box(process) if box is None else _given_box(process, box)
    decays: list[Decay] = []
    log_means: list[float] = []
    rounding = 0.0
    counts = [round(count / part) for part in (2.0, 2**0.5, 1.0)]
    for number in counts:
        lattice = Lattice(frame, escape.start, number)
        trial = generator(process, lattice)
        split = split_at(trial, traps)
        _check(split, process, lattice, box is None and not decays)
        # Only the last two are kept, for the law.
        decays = [*decays[-1:], Decay(split, trial.nearest(escape.start))]
        log_means.append(float(np.log(decays[-1].occupation.sum())))
        rounding = max(rounding, np.finfo(float).eps * jumps(split))
    coarse, fine = decays
    rough, _ = _extrapolated(log_means[:2], counts[:2])
    log_mean, gain = _extrapolated(log_means[1:], counts[1:])
    # Cells longer than the boundary layer lower the order.
    share = 0.2 + 0.1 * min(_steepness(process, fine), 4.0)
    error = 3 * abs(rough - log_mean) + share * abs(log_means[-1] - log_mean) + rounding
    if not error < LARGEST_ERROR:
        raise NotConverged(
            f"nodes = {count} per axis is too coarse: the mean exit time is only known to "
            f"{error:.1g} relatively; give more nodes, or box=((low, high), ...) around less"
        )
    method = (
        f"exponentially fitted rates on a lattice of {len(fine.split.others)} nodes in dimension "
        f"{process.dim}, eliminated between visits of {fine.split.hitting.shape[1]} recurrent "
        "nodes, extrapolated"
    )
    law = GridLaw(fine, coarse, gain)
    return ExactExit(log_mean, float(error), method, law, _field(fine, log_mean))


def _extrapolated(values: list[float], counts: list[int]) -> tuple[float, float]:
    """Value at spacing zero, and the ratio of the squared spacings."""
    gain = (counts[1] / counts[0]) ** 2
    return values[1] + (values[1] - values[0]) / (gain - 1), gain


def _steepness(process: Process, fine: Decay) -> float:
    """Change of the potential over one spacing, root mean square over the ways out."""
    trial = fine.split.process
    slope = process.slope(trial.nodes[trial.exit_nodes], divergence_form=True)
    rise = np.abs(slope @ trial.lattice.box.axes * trial.lattice.spacing).max(axis=1)
    weights = fine.occupation[trial.exit_nodes] * trial.exit_rates
    return float(np.sqrt(weights @ rise**2 / weights.sum()))


def _field(fine: Decay, log_mean: float) -> ExitField:
    trial = fine.split.process
    mean = fine.split.integral(np.ones(len(trial.nodes)))
    scale = float(np.exp(log_mean - np.log(mean[fine.start])))
    return ExitField(
        trial.nodes,
        trial.lattice.displacements(np.eye(trial.lattice.start.size)),
        scale * mean,
        trial.exit_points,
        trial.exit_nodes,
        trial.exit_rates,
        fine,
        scale,
    )


def _node_count(nodes: int | None, dim: int) -> int:
    if nodes is None:
        return DEFAULT_NODES[dim]
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < FEWEST_NODES:
        raise InvalidArgument(
            f"nodes is {nodes!r}; give a whole number of at least {FEWEST_NODES} per axis"
        )
    most = int(MOST_POINTS[dim] ** (1 / dim))
    if nodes > most:
        raise InvalidArgument(
            f"nodes is {nodes} per axis, more than elimination can hold in dimension {dim}; give "
            f"at most {most}, the extrapolation does the rest, or a smaller box"
        )
    return nodes


def _given_box(
    process: Process, box: Sequence[tuple[float, float]]
) -> tuple[Box, Float[np.ndarray, "traps dim"]]:
    """Box of the user, and the recurrent points in it.

    Raises:
        InvalidArgument: when it is not one, or does not hold start and minimum.
    """
    ends = as_numbers(box, "box")
    if ends.shape != (process.dim, 2) or not (ends[:, 0] < ends[:, 1]).all():
        raise InvalidArgument(
            f"box is {box!r}; give (low, high) for each of the {process.dim} axes, low below high"
        )
    frame = Box(np.eye(process.dim), ends[:, 0], ends[:, 1])
    for name in ("start", "minimum"):
        point = getattr(process.escape, name)
        if not frame.holds(point):
            raise InvalidArgument(
                f"box {box!r} does not hold the {name} {point}; give a larger one, or none"
            )
    known = known_traps(process)
    lattice = Lattice(frame, process.escape.start, NODES[process.dim])
    return frame, find_traps(generator(process, lattice), known[frame.holds(known)])[0]


def _check(split: Recurrence, process: Process, lattice: Lattice, box_was_found: bool) -> None:
    """Make sure that the region can be left in float64, and that nothing of weight was cut off."""
    trial = split.process
    if not len(trial.exit_nodes):
        raise NoBoundary(
            f"region ({process.escape.region}) has no boundary in the box; give a larger one"
        )
    if not split.smallest_pivot > SMALLEST_RATE:
        raise Unsupported(
            "the exit is so rare (below 1e-290 per visit of the minimum) that float64 cannot hold "
            "its probability; use predict, whose formulas are accurate at such barriers"
        )
    if box_was_found:
        open_nodes = trial.open_sides.any(axis=(1, 2))
        left = density(split)[open_nodes].max(initial=0.0)
        if left > LARGEST_DENSITY_AT_CUT:
            raise NotConverged(
                f"the box found cuts off {left:.1g} of a density's peak; give "
                "box=((low, high), ...) large enough"
            )
