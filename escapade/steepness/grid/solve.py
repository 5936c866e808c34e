"""The verb `quasipotential`: V on a grid over a box, in two or three dimensions."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import InvalidArgument, NotAMinimum, NotInRegion, Unsupported
from escapade.escape import Escape, require_escape
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_points
from escapade.landscape.descent import jacobian
from escapade.noise import AbstractNoise
from escapade.noise import Empirical as EmpiricalNoise
from escapade.steepness.grid.box import Box, Field
from escapade.steepness.grid.field import GridQuasipotential

FEWEST = 9
"""Smallest number of nodes along an axis."""


def quasipotential(
    escape: Escape,
    lower: ArrayLike,
    upper: ArrayLike,
    points: int | tuple[int, ...] = 513,
    source: ArrayLike | None = None,
) -> GridQuasipotential:
    """Quasipotential V of an escape on a grid: ``log E[nu] ~ (B / eta) min V`` on any boundary.

    The dynamics are taken in the limit of small learning rate, with Gaussian noise of their
    covariance. See `quasipotential_on_grid` for the method and the errors raised; dynamics with a
    memory (momentum, Adam) are not supported.

    Args:
        escape: the problem; its region plays no part.
        lower: lowest corner of the box, shape (dim,).
        upper: highest corner.
        points: nodes along each axis, one number or one for each.
        source: the attracting point, shape (dim,), or points in order along a stable limit cycle,
            shape (n, dim); the escape's minimum unless given.
    """
    require_escape(escape)
    require_no_memory(escape.dynamics, "the quasipotential")
    noise = getattr(escape.dynamics, "noise", None)
    scale = 1.0
    if noise is None:
        noise = EmpiricalNoise()
        factor = getattr(escape.dynamics, "finite_population_factor", None)
        scale = 1.0 if factor is None else factor(escape.landscape)
    start = escape.minimum if source is None else source
    found = quasipotential_on_grid(escape.landscape, noise, lower, upper, points, source=start)
    return found if scale == 1.0 else found.rescaled(1 / scale)


def quasipotential_on_grid(
    landscape: AbstractLandscape,
    noise: AbstractNoise,
    lower: ArrayLike,
    upper: ArrayLike,
    points: int | tuple[int, ...] = 513,
    *,
    source: ArrayLike | None = None,
) -> GridQuasipotential:
    """Quasipotential ``V(x) = inf 1/2 int |x' - b|^2_{C^-1} dt`` over paths from the source to x.

    ``b = -gradient`` of the landscape and C the covariance of the noise, both of which may depend
    on position; ``V = 2 (L - L_min)`` for a loss with C = 1. Values are of better than second
    order where V is smooth: an ordered march on a coarse grid finds where the optimal paths
    come from, and on each of a sequence of finer grids every node follows its path back to
    finished ones (see `escapade.steepness.grid.characteristics`).

    Args:
        landscape: of dimension 2 or 3.
        noise: with a regular covariance on the whole box.
        lower: lowest corner of the box, shape (dim,).
        upper: highest corner.
        points: nodes along each axis, one number or one for each; cells need not be square.
        source: the attracting point, shape (dim,), or points in order along a stable limit cycle,
            shape (n, dim); the landscape's one known minimum unless given.

    Raises:
        Unsupported: when the dimension is not 2 or 3.
        InvalidArgument: when the box or the number of points makes no sense.
        NotInRegion: when the source lies outside the box.
        NotAMinimum: when the source is not stationary, or does not attract.
        DegenerateNoise: when the covariance is singular somewhere.
        Diverged: when the drift is NaN or infinite somewhere.
    """
    # Here, not above: Numba takes long to import and few runs need it.
    from escapade.steepness.grid.levels import lowest_on_edge
    from escapade.steepness.grid.nested import solve_around

    if landscape.dim not in (2, 3):
        raise Unsupported(
            f"the landscape has {landscape.dim} parameters and a grid takes 2 or 3; use "
            "minimum_steepness(escape, to=...), which follows single paths in any dimension"
        )
    box = _checked_box(landscape.dim, lower, upper, points)
    start = _checked_source(landscape, box, source)
    field = Field(landscape, noise.prepared(landscape))
    jets = solve_around(field, box, start)
    lowest = lowest_on_edge(jets, box.shape)
    jets = jets.reshape(*box.shape, 1 + landscape.dim)
    return GridQuasipotential(
        axes=box.axes,
        values=jets[..., 0],
        gradient=jets[..., 1:] / box.spacing,
        source=start,
        complete_below=lowest,
        field=field,
        scale=1.0,
    )


def _checked_box(
    dim: int, lower: ArrayLike, upper: ArrayLike, points: int | tuple[int, ...]
) -> Box:
    low, high = (as_points(c, dim, name)[0] for c, name in ((lower, "lower"), (upper, "upper")))
    if not (low < high).all():
        raise InvalidArgument(
            f"lower is {low} and upper is {high}; each lower number must be below its upper one"
        )
    counts = (points,) * dim if isinstance(points, int) else tuple(points)
    if len(counts) != dim or not all(n == int(n) and n >= FEWEST for n in counts):
        raise InvalidArgument(
            f"points is {points!r}; give one whole number of at least {FEWEST}, or {dim} of them"
        )
    return Box(low, high, tuple(int(n) for n in counts))


def _checked_source(
    landscape: AbstractLandscape, box: Box, given: ArrayLike | None
) -> Float[np.ndarray, "n dim"]:
    """One attracting point, or the points of a cycle, shape (n, dim)."""
    if given is None:
        if len(landscape.minima) != 1:
            raise NotAMinimum(
                f"{type(landscape).__name__} has {len(landscape.minima)} known minima; give "
                "source=..., the one the paths start from"
            )
        given = landscape.minima
    start = as_points(given, landscape.dim, "source")
    outside = ((start < box.lower) | (start > box.upper)).any(axis=1)
    if outside.any():
        raise NotInRegion(
            f"source {start[outside][0]} lies outside the box from {box.lower} to {box.upper}; "
            "choose a box around it"
        )
    if len(start) == 1:
        _require_attracting(landscape, start[0], box)
    elif len(start) < 8:
        raise InvalidArgument(
            f"source holds {len(start)} points; give one attracting point, or at least 8 points "
            "in order along a stable limit cycle"
        )
    return start


def _require_attracting(
    landscape: AbstractLandscape, point: Float[np.ndarray, " dim"], box: Box
) -> None:
    gradient = np.linalg.norm(landscape.gradient(point))
    steps = np.diag(0.25 * box.spacing)
    near = [np.linalg.norm(landscape.gradient(point + s * d)) for d in steps for s in (-1, 1)]
    if not gradient <= 0.05 * np.mean(near):
        raise NotAMinimum(
            f"source {point} has drift of norm {gradient:.3g}, so it is not stationary; polish it "
            "with escapade.find_minimum(landscape, near).theta"
        )
    rates = np.linalg.eigvals(jacobian(landscape, point)).real
    scale = np.mean(near) / (0.25 * np.linalg.norm(box.spacing))
    if rates.min() < -1e-6 * scale:
        raise NotAMinimum(
            f"source {point} is stationary but repels (rate {-rates.min():.3g}); give an "
            "attracting point"
        )
