"""Drift and noise at the nodes of a grid, with their derivatives, in grid coordinates."""

import itertools
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise, Diverged
from escapade.landscape import AbstractLandscape
from escapade.noise import AbstractNoise
from escapade.precision import in_float64
from escapade.steepness.grid.characteristics import Problem
from escapade.steepness.grid.hermite import strides_of

CHUNK = 8192
"""Points evaluated together: one compiled function serves grids of every size."""
PROBE = 1e-3
"""Step, in cells, of the central differences of the covariance."""
SINGULAR = 1e-10
"""Ratio of the covariance's eigenvalues below which it counts as singular."""

Matrix = Float[np.ndarray, "dim dim"]


class Box(NamedTuple):
    """A regular grid over a box."""

    lower: Float[np.ndarray, " dim"]
    upper: Float[np.ndarray, " dim"]
    shape: tuple[int, ...]

    @property
    def spacing(self) -> Float[np.ndarray, " dim"]:
        """Distance between neighbours along each axis."""
        return (self.upper - self.lower) / (np.array(self.shape) - 1)

    @property
    def axes(self) -> tuple[Float[np.ndarray, " points"], ...]:
        """Coordinates of the nodes along each axis."""
        return tuple(
            np.linspace(low, high, n)
            for low, high, n in zip(self.lower, self.upper, self.shape, strict=True)
        )

    @property
    def nodes(self) -> Float[np.ndarray, "nodes dim"]:
        """Coordinates of every node, in row-major order."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(
            -1, len(self.shape)
        )

    def positions(self, points: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Points in grid coordinates."""
        return (points - self.lower) / self.spacing


class Field(eqx.Module):
    """The drift ``b = -gradient`` and the covariance C that a grid problem is made of."""

    landscape: AbstractLandscape
    noise: AbstractNoise

    def drift(
        self, points: Float[np.ndarray, "points dim"]
    ) -> tuple[Float[np.ndarray, "points dim"], Float[np.ndarray, "points dim dim"]]:
        """Drift and its Jacobian, ``[i, k]`` the derivative of component i along k."""
        return _in_chunks(_drift, self.landscape, points)

    def covariance(
        self, points: Float[np.ndarray, "points dim"]
    ) -> Float[np.ndarray, "points dim dim"]:
        """Covariance of one example's gradient."""
        return _in_chunks(_covariance, (self.noise, self.landscape), points)


def problem_on(field: Field, box: Box, constant: Matrix | None) -> Problem:
    """The equation at the nodes of a box; `constant` is the covariance where it is one.

    Raises:
        Diverged: when the drift or the covariance is NaN or infinite at a node.
        DegenerateNoise: when the covariance is singular at a node.
    """
    dim, h, nodes = len(box.shape), box.spacing, box.nodes
    drift, jacobian = field.drift(nodes)
    parts = [drift[:, :, None], jacobian * h]
    jets = np.concatenate(parts, axis=2) / h[:, None]
    if constant is not None:
        scaled = constant / np.outer(h, h)
        metrics = np.linalg.inv(scaled)[None]
    else:
        values = field.covariance(nodes)
        require_positive(values, nodes)
        # By differences: a covariance built from eigenvectors has no derivative by JAX where
        # eigenvalues meet.
        slopes = [
            (field.covariance(nodes + step) - field.covariance(nodes - step)) / (2 * PROBE)
            for step in PROBE * np.diag(h)
        ]
        upper = np.triu_indices(dim)
        noise = np.stack([values, *slopes], axis=-1) / np.outer(h, h)[:, :, None]
        jets = np.concatenate([jets, noise[:, *upper]], axis=1)
        metrics = np.linalg.inv(noise[..., 0])
        scaled = np.zeros((dim, dim))
    bad = ~np.isfinite(jets).all(axis=(1, 2))
    if bad.any():
        raise Diverged(
            f"the drift or the noise is NaN or infinite at {nodes[bad][0]}; choose a box (lower, "
            "upper) on which the landscape is smooth"
        )
    return Problem(np.ascontiguousarray(jets), scaled, metrics, box.shape, strides_of(box.shape))


def constant_covariance(field: Field, box: Box) -> Matrix | None:
    """The covariance, if it is the same at every node of a coarse grid and at random points.

    Raises:
        DegenerateNoise: when it is singular.
    """
    dim = len(box.shape)
    coarse = np.array(list(itertools.product(np.linspace(0, 1, 9), repeat=dim)))
    shares = np.concatenate([coarse, np.random.default_rng(0).uniform(size=(256, dim))])
    points = box.lower + shares * (box.upper - box.lower)
    values = field.covariance(points)
    require_positive(values, points)
    mean = values[0]
    return mean if np.abs(values - mean).max() <= 1e-13 * np.abs(mean).max() else None


def require_positive(
    covariances: Float[np.ndarray, "points dim dim"], points: Float[np.ndarray, "points dim"]
) -> None:
    """Check that covariances are regular.

    Raises:
        Diverged: when one is NaN or infinite.
        DegenerateNoise: when one is singular.
    """
    finite = np.isfinite(covariances).all(axis=(1, 2))
    if not finite.all():
        raise Diverged(
            f"the noise covariance is NaN or infinite at {points[~finite][0]}; choose a box "
            "(lower, upper) on which it is smooth"
        )
    eigenvalues = np.linalg.eigvalsh(covariances)
    singular = eigenvalues[:, 0] <= SINGULAR * eigenvalues[:, -1]
    if singular.any():
        raise DegenerateNoise(
            f"the noise covariance is singular at {points[singular][0]} (eigenvalues "
            f"{eigenvalues[singular][0]}); the grid needs noise in every direction, the path "
            "method minimum_steepness(escape, to=...) does not"
        )


def _in_chunks(function, owner, points):
    """Evaluate at many points with one compiled shape."""
    pieces = []
    for start in range(0, len(points), CHUNK):
        piece = points[start : start + CHUNK]
        # A short last chunk is filled up with copies of its last point.
        filled = np.concatenate([piece, np.repeat(piece[-1:], CHUNK - len(piece), axis=0)])
        result = in_float64(function, owner, filled)
        pieces.append(result)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(points)], *pieces)


def _drift(
    landscape: AbstractLandscape, points: Float[Array, "points dim"]
) -> tuple[Float[Array, "points dim"], Float[Array, "points dim dim"]]:
    def at(theta):
        return -landscape._gradient(theta), -jax.jacfwd(landscape._gradient)(theta)

    return jax.lax.map(at, points, batch_size=512)


def _covariance(
    owner: tuple[AbstractNoise, AbstractLandscape], points: Float[Array, "points dim"]
) -> Float[Array, "points dim dim"]:
    noise, landscape = owner
    return jax.lax.map(lambda theta: noise._covariance(landscape, theta), points, batch_size=512)
