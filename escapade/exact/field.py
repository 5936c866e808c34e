"""The exit seen from every point of a region: mean times, where it happens, and from where."""

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from escapade.errors import InvalidArgument

NEAREST = 24
"""Nodes and exit points to which a quadratic function is fitted around a point."""


class KilledProcess(Protocol):
    """A process that is killed at its exit, started somewhere."""

    @property
    def occupation(self) -> Float[np.ndarray, " nodes"]:
        """Mean time in steps spent at each node before the exit."""

    @property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Probabilities of the nodes long after the start, given no exit."""

    def integral(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """From every node, the mean time integral of a function before the exit."""


class ExitField(eqx.Module):
    """Exit times and exit points from every node of a lattice in the region.

    Attributes:
        nodes: positions.
        edges: vectors, in rows, between neighbouring nodes of the lattice.
        mean: mean exit time in steps from each node.
        exit_points: points of the boundary, where edges of the lattice meet it.
        exit_nodes: node from which each is reached.
        exit_rates: rate per step from that node.
        process: the process on the lattice.
        scale: mean exit time extrapolated to spacing zero, over that of `process`.
    """

    nodes: Float[np.ndarray, "nodes dim"]
    edges: Float[np.ndarray, "dim dim"]
    mean: Float[np.ndarray, " nodes"]
    exit_points: Float[np.ndarray, "exits dim"]
    exit_nodes: Int[np.ndarray, " exits"]
    exit_rates: Float[np.ndarray, " exits"]
    process: KilledProcess
    scale: float

    @cached_property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Probabilities of the nodes long after the start, given no exit."""
        return self.process.quasi_stationary

    @cached_property
    def exit_probabilities(self) -> Float[np.ndarray, " exits"]:
        """Probability of each exit point from the start."""
        return self.process.occupation[self.exit_nodes] * self.exit_rates

    @cached_property
    def second_moment(self) -> Float[np.ndarray, " nodes"]:
        """Mean square exit time from each node, in steps squared."""
        return 2 * self.scale * self.process.integral(self.mean)

    @cached_property
    def quasi_stationary_exit_probabilities(self) -> Float[np.ndarray, " exits"]:
        """Probability of each exit point from the quasi-stationary law."""
        flux = self.quasi_stationary[self.exit_nodes] * self.exit_rates
        return flux / flux.sum()

    def committor(
        self, where: Callable[[Float[np.ndarray, "exits dim"]], Bool[np.ndarray, " exits"]]
    ) -> Float[np.ndarray, " nodes"]:
        """From every node, the probability that the exit happens where a predicate holds.

        Relatively accurate, however small.

        Raises:
            InvalidArgument: when the predicate does not give one truth value for each point.
        """
        chosen = np.asarray(where(self.exit_points))
        if chosen.shape != (len(self.exit_points),) or chosen.dtype != bool:
            raise InvalidArgument(
                f"where gives {chosen.dtype}{list(chosen.shape)}; it must give one truth value for "
                f"each of the {len(self.exit_points)} points, for example lambda x: x[:, 0] > 0"
            )
        rates = np.bincount(
            self.exit_nodes[chosen], self.exit_rates[chosen], minlength=len(self.nodes)
        )
        return np.minimum(self.process.integral(rates), 1.0)

    def at(
        self,
        points: Float[np.ndarray, "points dim"],
        values: Float[np.ndarray, " nodes"] | None = None,
    ) -> Float[np.ndarray, " points"]:
        """The mean exit time, or other values given at the nodes, interpolated to points.

        By quadratic fits to the nearest nodes and exit points, exact where a point is one of them.
        The mean is zero at exit points; other values are there what they are at the exit's node.
        NaN more than an edge away from both.

        Raises:
            InvalidArgument: when the points do not have the dimension of the nodes, or the values
                are not one for each node.
        """
        places = np.asarray(points, dtype=np.float64)
        if places.shape[-1:] != self.nodes.shape[1:]:
            raise InvalidArgument(
                f"points have shape {places.shape}; give shape (points, {self.nodes.shape[1]})"
            )
        if values is not None and np.shape(values) != (len(self.nodes),):
            raise InvalidArgument(
                f"values have shape {np.shape(values)}; give one for each of the "
                f"{len(self.nodes)} nodes"
            )
        nodal = self.mean if values is None else np.asarray(values, dtype=np.float64)
        ends = np.zeros(len(self.exit_nodes)) if values is None else nodal[self.exit_nodes]
        whole = np.concatenate([nodal, ends])
        scaled = self._in_edges(places.reshape(-1, self.nodes.shape[1]))
        distance, near = self._tree.query(scaled, k=min(NEAREST, len(whole)))
        weights = 1 / (distance**2 + 1e-20)
        weights = np.sqrt(weights / weights.max(axis=1, keepdims=True))[:, :, None]
        away = self._tree.data[near] - scaled[:, None]
        first, second = np.triu_indices(self.nodes.shape[1])
        terms = [np.ones_like(away[:, :, :1]), away, away[:, :, first] * away[:, :, second]]
        basis = np.concatenate(terms, axis=2)
        fits = np.linalg.pinv(weights * basis, rcond=1e-9)[:, 0] * weights[:, :, 0]
        result = np.where(distance[:, 0] <= 1, (fits * whole[near]).sum(axis=1), np.nan)
        return result.reshape(places.shape[:-1])

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self._in_edges(np.vstack([self.nodes, self.exit_points])))

    def _in_edges(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Points in coordinates in which neighbouring nodes are one apart."""
        return points @ np.linalg.inv(self.edges)

    def to_xarray(self) -> xr.Dataset:
        """All arrays, over the dimensions node, exit and axis."""
        return xr.Dataset(
            {
                "nodes": (("node", "axis"), self.nodes),
                "mean": ("node", self.mean, {"units": "steps"}),
                "second_moment": ("node", self.second_moment, {"units": "steps^2"}),
                "quasi_stationary": ("node", self.quasi_stationary),
                "exit_points": (("exit", "axis"), self.exit_points),
                "exit_probabilities": ("exit", self.exit_probabilities),
                "quasi_stationary_exit_probabilities": (
                    "exit",
                    self.quasi_stationary_exit_probabilities,
                ),
            }
        )
