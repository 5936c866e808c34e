"""The verb: the exact exit time, where the problem is one-dimensional or radial."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.errors import InvalidArgument, NotInRegion, Unsupported
from escapade.escape import Escape
from escapade.exact import radial
from escapade.exact.chain import solve_chain
from escapade.exact.diffusion import solve_diffusion
from escapade.exact.exit import ExactExit
from escapade.exact.line import line_of
from escapade.landscape import Quadratic
from escapade.landscape._base import as_points
from escapade.noise import Constant, Isotropic
from escapade.region import Ball, Sublevel


def solve(escape: Escape, start: ArrayLike | None = None) -> ExactExit:
    """Exact mean exit time, rates and survival of an escape.

    Three kinds of problem have one: a diffusion (`ContinuousSGD`) in one dimension, a chain with
    Gaussian steps (`GaussianSGD`, `LangevinSGD`) in one dimension, and the diffusion on an
    isotropic quadratic with isotropic noise leaving a centred ball in any dimension. A side of the
    region that never ends is cut where the stationary law is negligible.

    Args:
        escape: the problem.
        start: where to start, shape (dim,); the escape's start unless given.

    Raises:
        Unsupported: for any other problem; the message names the verb that applies.
        NotInRegion: when the start lies outside the region.
        InvalidArgument: when the start has the wrong shape.
        NoBoundary: when no side of the region ends.
        DegenerateNoise: when the noise vanishes inside the region.
    """
    if not isinstance(escape, Escape):
        raise InvalidArgument(f"escape is {escape!r}; give an escapade.Escape")
    point = escape.start if start is None else _point(escape, start)
    dynamics = escape.dynamics
    if not isinstance(dynamics, ContinuousSGD | GaussianSGD | LangevinSGD):
        raise Unsupported(
            f"{dynamics} has no exact solution; simulate it, predict it, or solve GaussianSGD with "
            "the same noise covariance"
        )
    if escape.landscape.dim > 1:
        return _solve_radial(escape, point)
    line = line_of(escape, point)
    if isinstance(dynamics, ContinuousSGD):
        law, error = solve_diffusion(line)
        panels = len(law.mesh.edges) - 1
        method = f"scale and speed integrals of the diffusion in logarithms, {panels} panels"
        return ExactExit(law.log_mean, error, method, law)
    chain, log_mean, error = solve_chain(line, escape.region, float(escape.minimum[0]))
    method = f"integral equation of the chain, {len(chain.nodes)} Gauss nodes, GTH elimination"
    return ExactExit(log_mean, error, method, chain)


def _point(escape: Escape, start: ArrayLike) -> Float[np.ndarray, " dim"]:
    points = as_points(start, escape.landscape.dim, "start")
    if len(points) != 1:
        raise InvalidArgument(f"start holds {len(points)} points; give one")
    level = float(escape.region.level(points[0]))
    if not level < 0:
        raise NotInRegion(
            f"start has level {level:.4g} in the region ({escape.region}); it must be negative: "
            "start inside the region"
        )
    return points[0]


def _solve_radial(escape: Escape, point: Float[np.ndarray, " dim"]) -> ExactExit:
    dynamics, landscape = escape.dynamics, escape.landscape
    dim = landscape.dim
    if not (
        isinstance(dynamics, ContinuousSGD)
        and isinstance(landscape, Quadratic)
        and isinstance(dynamics.noise, Constant | Isotropic)
    ):
        raise _not_radial(escape)
    hessian = landscape.hessian
    covariance = dynamics.noise_covariance(landscape, point)
    radius = _radius(escape)
    if not (_isotropic(hessian) and _isotropic(covariance)) or radius is None:
        raise _not_radial(escape)
    rate = dynamics.learning_rate
    numbers = (
        dim,
        rate * float(hessian[0, 0]),
        rate**2 / dynamics.batch_size * float(covariance[0, 0]),
        radius,
        float(np.linalg.norm(point - landscape.minimum)),
    )
    log_mean = radial.log_mean(*numbers)
    error = np.finfo(float).eps * (1 + abs(log_mean)) * 8
    method = f"series of 2F2 for the radius of an Ornstein-Uhlenbeck process in dimension {dim}"
    return ExactExit(log_mean, float(error), method, radial.RadialLaw(*numbers))


def _radius(escape: Escape) -> float | None:
    """Radius of a region that is a ball around the minimum of an isotropic quadratic."""
    landscape, region = escape.landscape, escape.region
    assert isinstance(landscape, Quadratic)
    if isinstance(region, Sublevel) and landscape.hessian[0, 0] > 0:
        return float(np.sqrt(2 * region.depth / landscape.hessian[0, 0]))
    if isinstance(region, Ball) and region.center is not None:
        distance = np.linalg.norm(region.center - landscape.minimum)
        return region.radius if distance <= 1e-14 * region.radius else None
    return None


def _isotropic(matrix: Float[np.ndarray, "dim dim"]) -> bool:
    scale = np.abs(matrix).max()
    return bool(np.abs(matrix - matrix[0, 0] * np.eye(len(matrix))).max() <= 1e-14 * scale)


def _not_radial(escape: Escape) -> Unsupported:
    return Unsupported(
        f"{escape} has no exact solution: solve needs one dimension, or ContinuousSGD on an "
        "isotropic Quadratic with isotropic noise in a Ball around its minimum; use simulate or "
        "predict"
    )
