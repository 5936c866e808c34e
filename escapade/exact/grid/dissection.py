"""Nested dissection of a lattice: the order in which sparse elimination fills in least."""

import numpy as np
from jaxtyping import Int

LEAF = 60
"""Nodes that are no longer divided."""


def dissection(
    indices: Int[np.ndarray, "nodes dim"], reach: Int[np.ndarray, " dim"]
) -> Int[np.ndarray, " nodes"]:
    """Nodes in an order that puts the plane between two halves after both.

    `reach` is how far along each axis a node is coupled, the thickness of the planes. (George,
    SIAM Journal on Numerical Analysis 10, 1973.)
    """
    order: list[np.ndarray] = []
    stack = [np.arange(len(indices))]
    # Filled from the back: a plane first, then the halves it separates.
    while stack:
        part = stack.pop()
        here = indices[part]
        width = (here.max(axis=0) - here.min(axis=0)) / reach
        axis = int(np.argmax(width))
        middle = int(np.median(here[:, axis]))
        below = here[:, axis] < middle
        above = here[:, axis] >= middle + reach[axis]
        if len(part) <= LEAF or not (below.any() and above.any()):
            order.append(part)
            continue
        order.append(part[~(below | above)])
        stack += [part[below], part[above]]
    return np.concatenate(order[::-1])
