"""A uniform lattice with the start as one of its nodes, in a box."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int


class Box(eqx.Module):
    """Lower and upper ends of ``theta @ axes``, in parameter units; `axes` is orthogonal."""

    axes: Float[np.ndarray, "dim dim"]
    low: Float[np.ndarray, " dim"]
    high: Float[np.ndarray, " dim"]

    def holds(
        self,
        points: Float[np.ndarray, "points dim"],
        margin: Float[np.ndarray, " dim"] | float = 0.0,
    ) -> Bool[np.ndarray, " points"]:
        """Which points lie in the box, or beyond it by no more than a margin."""
        along = points @ self.axes
        within = (along > self.low - margin) & (along < self.high + margin)
        return np.asarray(within.all(axis=-1))


class Lattice(eqx.Module):
    """The points ``start + axes @ (index * spacing)`` in a box, indices counted from a first."""

    box: Box
    start: Float[np.ndarray, " dim"]
    spacing: Float[np.ndarray, " dim"]
    first: Int[np.ndarray, " dim"]
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, box: Box, start: Float[np.ndarray, " dim"], nodes: int):
        """About `nodes` points along each axis of the box."""
        self.box, self.start = box, start
        self.spacing = (box.high - box.low) / nodes
        below, above = box.low - start @ box.axes, box.high - start @ box.axes
        self.first = np.floor(below / self.spacing).astype(np.int64) + 1
        last = np.ceil(above / self.spacing).astype(np.int64) - 1
        self.shape = tuple(int(count) for count in last - self.first + 1)

    @property
    def indices(self) -> Int[np.ndarray, "points dim"]:
        """Indices of all points."""
        return np.indices(self.shape).reshape(len(self.shape), -1).T

    def points(self, indices: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Positions of indices, which need not be whole numbers."""
        return self.start + self.displacements(indices + self.first)

    def displacements(
        self, steps: Float[np.ndarray, "steps dim"]
    ) -> Float[np.ndarray, "steps dim"]:
        """Vectors of steps, which need not be whole numbers."""
        return (steps * self.spacing) @ self.box.axes.T

    def nearest(self, point: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        """Indices of a point, not rounded."""
        return (point - self.start) @ self.box.axes / self.spacing - self.first

    def flat(self, indices: Int[np.ndarray, "points dim"]) -> Int[np.ndarray, " points"]:
        """Number of each index among all points; -1 outside the box."""
        within = np.asarray(((indices >= 0) & (indices < self.shape)).all(axis=1))
        safe = np.where(within[:, None], indices, 0)
        return np.where(within, np.ravel_multi_index(tuple(safe.T), self.shape), -1)
