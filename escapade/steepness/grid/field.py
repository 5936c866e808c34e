"""The result: V on a grid, between its nodes, and the optimal paths through it."""

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument, NotInRegion
from escapade.landscape._base import as_points
from escapade.steepness.grid.box import Box, Field


class GridQuasipotential(eqx.Module):
    """The quasipotential V on a regular grid, in units in which ``log E[nu] ~ (B / eta) V``.

    Attributes:
        axes: coordinates of the nodes along each axis.
        values: V at the nodes.
        gradient: its gradient, the momentum of the optimal path that arrives there.
        source: where the paths start: one attracting point, shape (1, dim), or a cycle.
        complete_below: least V on the edge of the box. Greater values are least over paths inside
            the box only: a path outside it may be cheaper.
    """

    axes: tuple[Float[np.ndarray, " points"], ...]
    values: Float[np.ndarray, "..."]
    gradient: Float[np.ndarray, "... dim"]
    source: Float[np.ndarray, "n dim"]
    complete_below: float
    field: Field
    scale: float

    @property
    def complete(self) -> np.ndarray:
        """Which nodes hold values that nothing outside the box can influence."""
        return self.values <= self.complete_below

    @property
    def _box(self) -> Box:
        lower, upper = (np.array([axis[end] for axis in self.axes]) for end in (0, -1))
        return Box(lower, upper, self.values.shape)

    def at(self, points: Float[ArrayLike, "*points dim"]) -> Float[np.ndarray, "*points"]:
        """V at any points, by cubic Hermite interpolation; NaN outside the box.

        Raises:
            InvalidArgument: when the points do not have the grid's dimension.
        """
        from escapade.steepness.grid.hermite import interpolate, strides_of

        places = np.asarray(points, dtype=np.float64)
        dim = len(self.axes)
        if places.ndim == 0 or places.shape[-1] != dim:
            raise InvalidArgument(
                f"points have shape {places.shape}; the last axis must hold {dim} coordinates"
            )
        box = self._box
        flat = box.positions(places.reshape(-1, dim))
        results = np.empty((len(flat), 1, 1 + dim))
        interpolate(flat, self._jets(), box.shape, strides_of(box.shape), results)
        return results[:, 0, 0].reshape(places.shape[:-1])

    def instanton(self, to: ArrayLike) -> Float[np.ndarray, "n dim"]:
        """Optimal path from the source to a point, by following ``-(b + C grad V)`` back.

        Raises:
            NotInRegion: when the point lies outside the box.
        """
        from escapade.steepness.grid.characteristics import workspace
        from escapade.steepness.grid.descend import descend
        from escapade.steepness.grid.tables import constant_covariance, problem_on

        end = as_points(to, len(self.axes), "to")[0]
        box = self._box
        if (end < box.lower).any() or (end > box.upper).any():
            raise NotInRegion(
                f"to is {end}, outside the box from {box.lower} to {box.upper}; choose a point of "
                "the grid's box"
            )
        problem = problem_on(self.field, box, constant_covariance(self.field, box))
        jets = self._jets()
        jets[:, 0] *= 1 / self.scale
        source = box.positions(self.source)
        path = descend(
            box.positions(end[None])[0], source, problem, jets,
            workspace(len(self.axes), problem.jets.shape[1]),
        )  # fmt: skip
        return box.lower + path[::-1] * box.spacing

    def rescaled(self, factor: float) -> "GridQuasipotential":
        """The quasipotential of noise whose covariance is smaller by a factor."""
        return GridQuasipotential(
            self.axes, self.values * factor, self.gradient * factor, self.source,
            self.complete_below * factor, self.field, self.scale * factor,
        )  # fmt: skip

    def to_xarray(self) -> xr.Dataset:
        """V and its gradient with one dimension and coordinate for each parameter."""
        names = [f"theta_{k}" for k in range(len(self.axes))]
        return xr.Dataset(
            {
                "values": (names, self.values, {"long_name": "quasipotential"}),
                "gradient": ((*names, "parameter"), self.gradient),
                "complete": (names, self.complete),
                "source": (("point", "parameter"), self.source),
            },
            coords=dict(zip(names, self.axes, strict=True)),
            attrs={"title": "quasipotential", "complete_below": self.complete_below},
        )

    def _jets(self) -> Float[np.ndarray, "nodes 1 1+dim"]:
        """Values and gradients in grid coordinates."""
        dim = len(self.axes)
        gradients = self.gradient * self._box.spacing
        jets = np.concatenate([self.values[..., None], gradients], axis=-1)
        return np.ascontiguousarray(jets.reshape(-1, 1, 1 + dim))

    def __str__(self) -> str:
        size = " x ".join(str(n) for n in self.values.shape)
        start = "a cycle" if len(self.source) > 1 else np.array2string(self.source[0], precision=4)
        share = 100 * self.complete.mean()
        return (
            f"quasipotential from {start} on {size} nodes, up to {np.nanmax(self.values):.6g}; "
            f"complete below {self.complete_below:.6g} ({share:.0f} % of the nodes)"
        )
