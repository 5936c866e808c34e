"""Quadrature on a plane region that every ray from its centre leaves once, and on its outside."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.linalg import sqrtm
from scipy.special import erfcx, ndtr

from escapade.errors import Unsupported
from escapade.escape import Escape
from escapade.exact.chunks import inside
from escapade.region import AbstractRegion, Where
from escapade.region.boundary import distance_to_boundary

MOST_NODES = 4500

SHAPE_RAYS = 64
"""Rays that measure the shape of the region."""

REACH = 10.0
"""Standard deviations of a step beyond the boundary in which no other part may lie."""

LEAST_ANGLES = 12
"""Angles on the smallest circle."""

LEAST_RADII = 8


class Disc(eqx.Module):
    """Nodes of the region in polar coordinates of a frame, ``theta = center + frame z``.

    Attributes:
        nodes: parameters.
        weights: their quadrature weights.
        center: the centre of the rays.
        frame: columns that make the region round.
        rays: unit vectors z, evenly spaced in angle.
        ends: where they leave the region.
    """

    nodes: Float[np.ndarray, "nodes 2"]
    weights: Float[np.ndarray, " nodes"]
    center: Float[np.ndarray, " 2"]
    frame: Float[np.ndarray, "2 2"]
    rays: Float[np.ndarray, "rays 2"]
    ends: Float[np.ndarray, " rays"]

    def exits(
        self, means: Float[np.ndarray, "points 2"], covariances: Float[np.ndarray, "points 2 2"]
    ) -> Float[np.ndarray, " points"]:
        """Normal probabilities of the outside, for means that are not far outside themselves.

        They are integrals in closed form along each ray, summed over the rays.

        With ``(a, b, c) = (e P e, e P m, m P m)``, e a ray, m the mean and P the precision,
        ``int_end^inf r exp(-(a r^2 - 2 b r + c) / 2) dr`` is ``exp(-(value at the end) / 2) / a``
        times ``1 + (b / sqrt(a)) M((a end - b) / sqrt(a))``, M being Mills' ratio.
        """
        inverse = np.linalg.inv(self.frame)
        precisions = np.linalg.inv(inverse @ covariances @ inverse.T)
        mean = (means - self.center) @ inverse.T
        pushed = np.einsum("pij,pj->pi", precisions, mean)
        a = np.einsum("ri,pij,rj->pr", self.rays, precisions, self.rays)
        b = pushed @ self.rays.T
        c = np.einsum("pi,pi->p", pushed, mean)[:, None]
        root = np.sqrt(a)
        t = root * self.ends - b / root
        at_end = np.exp(-0.5 * (a * self.ends**2 - 2 * b * self.ends + c))
        near = at_end * (1 + b / root * np.sqrt(np.pi / 2) * erfcx(np.maximum(t, -5) / np.sqrt(2)))
        # Where the mean lies far beyond the end, Mills' ratio overflows and the normal law is used.
        whole = np.exp(-0.5 * np.maximum(c - b**2 / a, 0)) * np.sqrt(2 * np.pi)
        far = at_end + b / root * whole * ndtr(-t)
        along = np.where(t > -5, near, far) / a
        scale = np.sqrt(np.linalg.det(precisions)) / len(self.rays)
        return scale * along.sum(axis=1)


def disc_of(
    escape: Escape, moments: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Callable[[float], Disc]:
    """Nodes on the region of an escape at a spacing in standard deviations of one step.

    Raises:
        Unsupported: when a ray from the minimum never leaves the region or enters it again, or
            when there are too many nodes.
    """
    center, region = escape.minimum, escape.region
    frame = _frame(region, center)
    inverse = np.linalg.inv(frame)
    rays, ends = _rays(region, center, frame, SHAPE_RAYS)
    probes = [center + (part * ends[:, None] * rays) @ frame.T for part in (0.0, 0.5, 1.0)]
    _, covariances = moments(np.concatenate(probes))
    variances = np.linalg.eigvalsh(inverse @ covariances @ inverse.T)
    least, largest = np.sqrt(variances[:, 0].min()), np.sqrt(variances[:, 1].max())
    _require_star(region, center, frame, rays, ends, REACH * largest)
    size = ends.max() / least

    def disc(spacing: float) -> Disc:
        radial = LEAST_RADII + int(np.ceil(np.pi / 2 * size / spacing))
        around = LEAST_ANGLES + int(np.ceil(2 * np.pi * size / spacing))
        around += -around % 8
        # Before any rule is built: a thin region would need one of enormous order.
        _require_few(radial * LEAST_ANGLES, size)
        points, weights = np.polynomial.legendre.leggauss(radial)
        points, weights = (1 + points) / 2, weights / 2
        needed = LEAST_ANGLES + 2 * np.pi * points * size / spacing
        strides = np.where(needed <= around // 4, 4, np.where(needed <= around // 2, 2, 1))
        count = int((around // strides).sum())
        _require_few(count, size)
        # The outside is seen by twice as many rays, its arcs being longer.
        rays, ends = _rays(region, center, frame, 2 * around)
        positions, areas = [], []
        for point, weight, stride in zip(points, weights, strides, strict=True):
            chosen = slice(None, None, 2 * int(stride))
            positions.append(point * ends[chosen, None] * rays[chosen])
            areas.append(weight * point * ends[chosen] ** 2 * 2 * np.pi * stride / around)
        nodes = center + np.concatenate(positions) @ frame.T
        areas = np.concatenate(areas) * np.linalg.det(frame)
        return Disc(nodes, areas, center, frame, rays, ends)

    return disc


def _require_few(nodes: int, size: float) -> None:
    if nodes > MOST_NODES:
        raise Unsupported(
            f"the region is {2 * size:.3g} standard deviations of one step wide, too many for an "
            f"exact chain in the plane (at least {nodes} nodes, at most {MOST_NODES}); solve with "
            "ContinuousSGD, which is then close, or simulate, split or predict"
        )


def _frame(region: AbstractRegion, center: np.ndarray) -> Float[np.ndarray, "2 2"]:
    """Square root of the region's second moments, which makes it round: of a disc, its radius."""
    rays, ends = _rays(region, center, np.eye(2), SHAPE_RAYS)
    moments = np.einsum("r,ri,rj->ij", ends**4 / 4, rays, rays)
    frame = 2 * np.real(sqrtm(moments / np.sum(ends**2 / 2)))
    # What is round to rounding stays exactly so.
    is_round = np.ptp(ends) < 1e-12 * ends.max()
    return ends.mean() * np.eye(2) if is_round else (frame + frame.T) / 2


def _rays(
    region: AbstractRegion, center: np.ndarray, frame: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced unit vectors in the frame, and where they leave the region.

    Raises:
        Unsupported: when one does not.
    """
    angles = 2 * np.pi * np.arange(count) / count
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    directions = rays @ frame.T
    lengths = np.linalg.norm(directions, axis=1)
    radii = 1201 if isinstance(region, Where) else 121
    ends = distance_to_boundary(region, center, directions / lengths[:, None], radii=radii)
    if not np.isfinite(ends).all():
        raise Unsupported(
            f"the region ({region}) has no end in some directions, so its chain has no exact "
            "solution in the plane; leave a Ball, Sublevel, Slab or HalfSpace, or simulate"
        )
    return rays, ends / lengths


def _require_star(
    region: AbstractRegion,
    center: np.ndarray,
    frame: np.ndarray,
    rays: np.ndarray,
    ends: np.ndarray,
    reach: float,
) -> None:
    beyond = ends + reach * np.linspace(1e-6, 1, 48)[:, None]
    points = center + (beyond[:, :, None] * rays).reshape(-1, 2) @ frame.T
    if inside(region, points).any():
        raise Unsupported(
            f"a ray from the minimum enters the region ({region}) again after it has left, so its "
            "chain has no exact solution in the plane; leave a Ball, Sublevel, Slab or HalfSpace, "
            "or simulate"
        )
