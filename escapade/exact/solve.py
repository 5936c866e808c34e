"""The verb: the exact exit time, where a problem is small enough to have one."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics import (
    AbstractHeavyTailedSGD,
    ContinuousSGD,
    GaussianSGD,
    LangevinSGD,
    MinibatchSGD,
)
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import InvalidArgument, NotInRegion, Unsupported
from escapade.escape import Escape, require_escape
from escapade.exact.chain.batches import solve_batches
from escapade.exact.chain.interval import require_one_part, solve_interval
from escapade.exact.chain.law import AbstractChainLaw
from escapade.exact.chain.plane import solve_plane
from escapade.exact.chain.radial import solve_radial_chain
from escapade.exact.exit import ExactExit
from escapade.exact.grid import solve_grid
from escapade.exact.line import radial
from escapade.exact.line.diffusion import solve_diffusion
from escapade.exact.line.process import Line, line_of
from escapade.exact.line.reduction import Radial, linear_coordinate, radial_coordinate
from escapade.landscape._base import as_points
from escapade.noise.interpretation import interpretation_weight

Box = tuple[tuple[float, float], ...]


def solve(
    escape: Escape,
    start: ArrayLike | None = None,
    *,
    interpretation: str = "ito",
    nodes: int | None = None,
    box: Box | None = None,
) -> ExactExit:
    """Exact mean exit time, rates and survival of an escape.

    What can be solved, most accurate first:

    * a diffusion (`ContinuousSGD`) or a chain (`GaussianSGD`, `LangevinSGD`, `HeavyTailedSGD`,
      `AlphaStableSGD`) in one dimension;
    * the same in any dimension where one coordinate decides: a quadratic with noise that is the
      same everywhere, left through a slab or half-space whose normal is an eigenvector of the
      Hessian, or, all isotropic, out of a ball around the minimum;
    * a chain with Gaussian steps in the plane, out of a region that every ray from the minimum
      leaves once, or out of a slab or half-space;
    * the chain of `MinibatchSGD` on few examples in one or two dimensions, every batch enumerated;
    * a diffusion in two or three dimensions, on a lattice.

    A side of the region that never ends is cut where the stationary law is negligible.

    Args:
        escape: the problem.
        start: where to start, shape (dim,); the escape's start unless given.
        interpretation: of a diffusion's noise: "ito" (SGD), "stratonovich" or "anti_ito".
        nodes: lattice points per axis, for a diffusion in two or three dimensions, which is then
            solved on a lattice even where one coordinate decides.
        box: bounds of that lattice, one pair per dimension; its sides reflect inside the region.

    Raises:
        Unsupported: for any other problem; the message names the verb that applies.
        NotInRegion: when the start lies outside the region.
        InvalidArgument: when an argument is malformed or does not belong to the problem.
        NoBoundary: when no side of the region ends.
        DegenerateNoise: when the noise vanishes inside the region.
    """
    require_escape(escape)
    weight = interpretation_weight(interpretation)
    point = escape.start if start is None else _point(escape, start)
    dynamics, dim = escape.dynamics, escape.landscape.dim
    if weight != 0 and not dynamics.continuous:
        raise InvalidArgument(
            f"interpretation is {interpretation!r}, but a chain draws its noise at the current "
            'point: "ito" is the only one'
        )
    on_lattice = isinstance(dynamics, ContinuousSGD) and dim in (2, 3)
    if not (nodes is None and box is None):
        if not on_lattice:
            raise InvalidArgument(
                f"nodes or box is given, but {escape} is not solved on a lattice; leave them out"
            )
        return solve_grid(escape, point, nodes, box, weight)
    if isinstance(dynamics, MinibatchSGD):
        batches, error = solve_batches(escape, point)
        method = f"every minibatch enumerated, on a grid of {len(batches.nodes)} nodes"
        return _of_chain(batches, error, method)
    require_no_memory(dynamics, "an exact solution")
    if not isinstance(dynamics, ContinuousSGD | GaussianSGD | LangevinSGD | AbstractHeavyTailedSGD):
        raise Unsupported(
            f"{dynamics} has no exact solution; simulate, split or predict it, or solve "
            "GaussianSGD with the same noise covariance"
        )
    line = line_of(escape, point, weight) if dim == 1 else linear_coordinate(escape, point)
    if line is not None:
        return _solve_line(escape, line)
    distance = radial_coordinate(escape, point)
    if distance is not None:
        return _solve_radial(escape, distance)
    if on_lattice:
        return solve_grid(escape, point, nodes, box, weight)
    if dim == 2 and isinstance(dynamics, GaussianSGD | LangevinSGD):
        law, error = solve_plane(escape, point)
        method = f"integral equation of the chain, {len(law.nodes)} nodes, GTH elimination"
        return _of_chain(law, error, method)
    raise Unsupported(
        f"{escape} has no exact solution: beyond one dimension (three for ContinuousSGD, two for "
        "GaussianSGD) one coordinate must decide, as in a Ball around the minimum of an isotropic "
        "Quadratic or a Slab across an eigenvector; use simulate, split or predict"
    )


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


def _solve_line(escape: Escape, line: Line) -> ExactExit:
    if escape.dynamics.continuous:
        diffusion, error = solve_diffusion(line)
        panels = len(diffusion.mesh.edges) - 1
        method = f"scale and speed integrals of the diffusion in logarithms, {panels} panels"
        return ExactExit(diffusion.log_mean, error, method, diffusion)
    if escape.landscape.dim == 1:
        require_one_part(line, escape.region)
        minimum = float(escape.minimum[0])
    else:
        minimum = 0.0
    chain, error = solve_interval(line, minimum)
    method = f"integral equation of the chain, {len(chain.nodes)} Gauss nodes, GTH elimination"
    return _of_chain(chain, error, method)


def _solve_radial(escape: Escape, distance: Radial) -> ExactExit:
    if not escape.dynamics.continuous:
        chain, error = solve_radial_chain(distance)
        method = f"integral equation of the radius, {len(chain.nodes)} Gauss nodes, GTH elimination"
        return _of_chain(chain, error, method)
    log_mean = radial.log_mean(distance)
    error = float(np.finfo(float).eps * (1 + abs(log_mean)) * 8)
    method = (
        f"series of 2F2 for the radius of an Ornstein-Uhlenbeck process in dimension {distance.dim}"
    )
    return ExactExit(log_mean, error, method, radial.RadialLaw(distance))


def _of_chain(law: AbstractChainLaw, error: float, method: str) -> ExactExit:
    return ExactExit(float(np.log(law.mean)), error, method, law)
