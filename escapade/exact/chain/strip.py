"""Quadrature on a slab or half-space of the plane, its open sides cut, and on its outside."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from escapade.errors import Unsupported
from escapade.escape import Escape
from escapade.region import HalfSpace, Slab

MOST_NODES = 4500

DEVIATIONS = 8.5
"""Stationary standard deviations after which an open side is cut at first."""


class Strip(eqx.Module):
    """Nodes between two faces.

    Attributes:
        nodes: parameters.
        weights: their quadrature weights.
        at_cut: the nodes next to a cut.
        normal: unit normal of the faces.
        faces: positions along the normal of the lower and upper face, infinite where cut.
    """

    nodes: Float[np.ndarray, "nodes 2"]
    weights: Float[np.ndarray, " nodes"]
    at_cut: Bool[np.ndarray, " nodes"]
    normal: Float[np.ndarray, " 2"]
    faces: tuple[float, float]

    def exits(
        self, means: Float[np.ndarray, "points 2"], covariances: Float[np.ndarray, "points 2 2"]
    ) -> Float[np.ndarray, " points"]:
        """Normal probabilities beyond the faces."""
        position = means @ self.normal
        spread = np.sqrt(np.einsum("i,pij,j->p", self.normal, covariances, self.normal))
        low, high = self.faces
        return ndtr((low - position) / spread) + ndtr((position - high) / spread)


def strip_of(
    escape: Escape,
    moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: Float[np.ndarray, " 2"],
    stationary: Float[np.ndarray, "2 2"],
) -> Callable[[float], Strip]:
    """Nodes on a slab or half-space at a spacing in standard deviations of one step.

    The cuts stand `DEVIATIONS` of a stationary covariance away from minimum and start.

    Raises:
        Unsupported: when there are too many nodes.
    """
    region = escape.region
    assert isinstance(region, HalfSpace | Slab)
    normal = region.normal
    along = np.array([-normal[1], normal[0]])
    reference = escape.minimum if region.reference is None else region.reference
    middle = float(normal @ reference)
    points = np.stack([escape.minimum, start])

    def cut(direction: np.ndarray, sign: float) -> float:
        reach = DEVIATIONS * np.sqrt(direction @ stationary @ direction)
        return float(sign * np.max(sign * points @ direction) + sign * reach)

    if isinstance(region, Slab):
        faces = (middle - region.half_width, middle + region.half_width)
        low, high = faces
    else:
        faces = (-np.inf, middle + region.offset)
        low, high = cut(normal, -1.0), faces[1]
    left, right = cut(along, -1.0), cut(along, 1.0)
    corners = [
        y * normal + x * along
        for y in np.linspace(low, high, 9)
        for x in np.linspace(left, right, 9)
    ]
    _, covariances = moments(np.array(corners))
    precisions = np.linalg.inv(covariances)
    across_deviation, along_deviation = (
        1 / np.sqrt(np.einsum("i,pij,j->p", axis, precisions, axis).max())
        for axis in (normal, along)
    )

    def strip(spacing: float) -> Strip:
        across = 8 + int(np.ceil(np.pi / 2 * (high - low) / across_deviation / spacing))
        count = 1 + int(np.ceil((right - left) / along_deviation / spacing))
        if across * count > MOST_NODES:
            raise Unsupported(
                f"the region is {(high - low) / across_deviation:.3g} by "
                f"{(right - left) / along_deviation:.3g} standard deviations of one step, too many "
                f"for an exact chain in the plane ({across * count} nodes, at most {MOST_NODES}); "
                "solve with ContinuousSGD, which is then close, or simulate, split or predict"
            )
        gauss, gauss_weights = np.polynomial.legendre.leggauss(across)
        y = (low + high) / 2 + (high - low) / 2 * gauss
        x = np.linspace(left, right, count)
        nodes = (y[:, None, None] * normal + x[:, None] * along).reshape(-1, 2)
        weights = np.outer((high - low) / 2 * gauss_weights, np.full(count, x[1] - x[0]))
        at_cut = np.zeros((across, count), dtype=bool)
        at_cut[:, [0, -1]] = True
        at_cut[0] |= np.isinf(faces[0])
        return Strip(nodes, weights.ravel(), at_cut.ravel(), normal, faces)

    return strip
