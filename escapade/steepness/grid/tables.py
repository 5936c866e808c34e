"""Drift and noise at the nodes of a grid, with their derivatives, in grid coordinates."""

import itertools

import numpy as np
from jaxtyping import Float

from escapade.errors import DegenerateNoise, Diverged
from escapade.steepness.grid.box import Box, Field
from escapade.steepness.grid.characteristics import Problem
from escapade.steepness.grid.hermite import strides_of

PROBE = 1e-3
"""Step, in cells, of the central differences of the covariance."""
SINGULAR = 1e-10
"""Ratio of the covariance's eigenvalues below which it counts as singular."""

Matrix = Float[np.ndarray, "dim dim"]


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
    strides = strides_of(box.shape)
    return Problem(np.ascontiguousarray(jets), scaled, metrics, box.shape, strides)


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
