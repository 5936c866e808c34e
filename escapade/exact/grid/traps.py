"""Recurrent nodes: where the process is found again and again between its rare moves."""

import numpy as np
from jaxtyping import Float

from escapade.errors import Unsupported
from escapade.exact.grid.generator import Generator
from escapade.exact.grid.process import Process
from escapade.exact.grid.recurrence import Recurrence

MOST_JUMPS = 1e8
"""Jumps before a recurrent node is hit beyond which another trap is looked for; each costs one unit
of rounding."""

MOST_TRAPS = 24


def known_traps(process: Process) -> Float[np.ndarray, "traps dim"]:
    """The minimum of the escape and the other known minima in its region."""
    known = np.vstack([process.escape.minimum[None], process.escape.landscape.minima])
    return known[process.inside(known)]


def split_at(process: Generator, traps: Float[np.ndarray, "traps dim"]) -> Recurrence:
    """The process split at the nodes nearest to some points.

    Raises:
        Unsupported: when the matrix of the hitting problems is singular in float64.
    """
    near = [process.nearest(trap) for trap in traps]
    distance = [
        np.abs(process.indices[node] - process.lattice.nearest(trap)).max()
        for node, trap in zip(near, traps, strict=True)
    ]
    close = [node for node, far in zip(near, distance, strict=True) if far < 2]
    try:
        return Recurrence(process, np.array(close or [process.nearest(process.lattice.start)]))
    except RuntimeError as error:
        raise Unsupported(
            f"the lattice process falls apart in float64 ({error}): a single spacing climbs more "
            "than it can hold; give more nodes or a smaller box, or use predict"
        ) from error


def jumps(split: Recurrence) -> float:
    """Largest mean number of jumps before a recurrent node is hit, by a typical rate."""
    return float(np.abs(split.duration).max() * np.median(split.process.total))


def find_traps(
    process: Generator, traps: Float[np.ndarray, "traps dim"]
) -> tuple[Float[np.ndarray, "traps dim"], Recurrence]:
    """Further recurrent points, one at the bottom of each trap that takes long to be left.

    The bottom is where the process spends most of its time when started where it takes longest to
    hit a recurrent node. Between traps that hold it almost for ever the numbers are rounding, but
    their bottoms still stand out.
    """
    for _ in range(MOST_TRAPS):
        split = split_at(process, traps)
        if jumps(split) < MOST_JUMPS:
            break
        source = np.zeros(int(split.others.sum()))
        source[np.argmax(np.abs(split.duration))] = 1.0
        time = np.abs(split.factors.solve_transposed(source))
        bottom = np.flatnonzero(split.others)[np.argmax(time)]
        traps = np.vstack([traps, process.nodes[bottom]])
    return traps, split
