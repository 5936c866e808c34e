"""Exit through a smooth part of a boundary that the noiseless drift does not cross.

The exit rate is the flux of the quasi-stationary density ``p = K exp(-V / eps^2) (1 + eps^2
kappa)`` through the boundary, over its mass. With the solution ``u = 1 - k exp(-Psi / eps^2)`` of
the backward equation, which vanishes on the boundary, Green's formula gives it as

    ``rate = int p f dS / int p,   f = |b.n| + eps^2 n.Cn (C : Hess Psi) / (4 |b.n|)``,

to all orders that are written, where Psi solves ``b . grad Psi = grad Psi . C grad Psi / 2`` and
vanishes on the boundary. Laplace's method about the point of least V gives the leading order

    ``|b.n| K / (sqrt(2 pi) eps) sqrt(det W / det(W_tan - dV/dn II)) exp(-V0 / eps^2)``

with W the Hessian of V and II the second fundamental form, positive where the region is convex,
and its relative correction of order ``eps^2``.

Sources: Matkowsky and Schuss, SIAM J. Appl. Math. 33 (1977), and Le Peutrec, Michel and Nectoux
(2025) for the leading order; the correction is derived here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from escapade.errors import InvalidArgument, NotConverged, Unsupported
from escapade.precision import float64
from escapade.region import AbstractRegion
from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor.expansion import (
    Diffusion,
    Equations,
    Expansion,
    Fields,
    along,
    at_minimum,
    displaced,
)
from escapade.steepness.prefactor.interpretation import noise_drift
from escapade.steepness.prefactor.jets import Jets, Series, jets, taylor
from escapade.steepness.prefactor.laplace import Peak
from escapade.steepness.prefactor.profile import profile_along
from escapade.steepness.prefactor.result import Passage, Prefactor

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

MOST_EXPANDED = 6
"""Largest dimension in which the correction of order eps^2 is computed unless asked for."""

SOFTEST = 1e-6
"""Relative curvature of V along the boundary below which exits are not isolated."""

STATIONARY = 1e-2
"""Largest sine of the angle between momentum and normal at a minimising exit point."""


def boundary_prefactor(
    hamiltonian: Diffusion,
    orbits: Sequence[Orbit],
    minimum: Vector,
    stationary: Matrix,
    region: AbstractRegion,
    *,
    interpretation: str = "ito",
    corrected: bool | None = None,
) -> Prefactor:
    """Mean exit time of a diffusion through isolated points of a smooth boundary.

    Args:
        hamiltonian: of the continuous dynamics.
        orbits: one orbit of infinite horizon to each point of least V on the boundary; points of
            larger V may be added, and count with their own rate.
        minimum: the attractor, shape (dim,).
        stationary: stationary covariance S at the minimum, per eps^2.
        region: the anchored region; its level must be smooth near the exits.
        interpretation: "ito" (SGD), "stratonovich" or "anti_ito".
        corrected: compute the correction of order eps^2; in up to six dimensions unless given.

    Raises:
        InvalidArgument: when an orbit does not end where V is least along the boundary, or the
            drift there does not point into the region.
        DegenerateNoise: when S is singular.
        Unsupported: when the region's level has no gradient at an exit.
        NotConverged: when an orbit passes a caustic.
    """
    dim = len(minimum)
    order = 4 if (dim <= MOST_EXPANDED if corrected is None else corrected) else 2
    equations = Equations(hamiltonian, noise_drift(hamiltonian, interpretation), order)
    start = at_minimum(equations, minimum, stationary)
    bulk = peak_of(equations.jets, start.height, start.log_factor)
    return Prefactor(
        passages=tuple(
            _passage(
                equations,
                region,
                orbit,
                displaced(equations, start, orbit.path[0] - minimum),
                bulk,
                0.5 if len(orbits) == 1 else 1.0,
            )
            for orbit in orbits
        ),
        bulk_correction=bulk.correction if order == 4 else np.nan,
        power=1,
        description="exit through a non-characteristic boundary, "
        + ("to the next order in eps^2" if order == 4 else "leading order in eps^2"),
    )


def _passage(
    equations: Equations,
    region: AbstractRegion,
    orbit: Orbit,
    first: Expansion,
    bulk: Peak,
    outside: float,
) -> Passage:
    carried = along(equations, orbit, first)
    face = exit_face(equations, region, orbit.end, carried.end)
    log_flux = carried.end.log_factor[0] + np.log(face.flux) - np.log(2 * np.pi) / 2
    profile = profile_along(equations, orbit, carried, outside)
    correction = np.nan
    if equations.order == 4:
        correction = (
            face.peak.correction + face.flux_correction + carried.end.correction + profile.slope
        )
    return Passage(
        point=orbit.end,
        value=float(orbit.value),
        log_coefficient=float(log_flux + (bulk.log_determinant - face.peak.log_determinant) / 2),
        correction=float(correction),
        profile=profile,
        noise_across=face.noise,
        soft=face.soft,
    )


def surface_prefactor(
    hamiltonian: Diffusion,
    orbits: Sequence[Orbit],
    solid_angles: Float[np.ndarray, " points"],
    minimum: Vector,
    stationary: Matrix,
    region: AbstractRegion,
    *,
    interpretation: str = "ito",
    corrected: bool | None = None,
) -> Prefactor:
    """Mean exit time of a diffusion by the integral of its flux over a whole boundary.

    For boundaries with a continuum of points of least V, or nearly so: every orbit's end stands
    for its part of the boundary, as seen from the minimum. In two dimensions orbits to equidistant
    angles, each of solid angle ``2 pi / points``, converge exponentially.

    Args:
        hamiltonian: as in `boundary_prefactor`.
        orbits: of infinite horizon, to points spread over the boundary; every ray from the
            minimum must cross the boundary once.
        solid_angles: quadrature weights of their directions, which sum to the unit sphere's area.
        minimum: as in `boundary_prefactor`.
        stationary: as in `boundary_prefactor`.
        region: as in `boundary_prefactor`.
        interpretation: as in `boundary_prefactor`.
        corrected: as in `boundary_prefactor`.

    Raises:
        As `boundary_prefactor`, but for orbits that do not end at a minimum of V.
    """
    dim = len(minimum)
    order = 4 if (dim <= MOST_EXPANDED if corrected is None else corrected) else 2
    equations = Equations(hamiltonian, noise_drift(hamiltonian, interpretation), order)
    start = at_minimum(equations, minimum, stationary)
    bulk = peak_of(equations.jets, start.height, start.log_factor)
    passages = []
    for orbit, solid_angle in zip(orbits, solid_angles, strict=True):
        carried = along(equations, orbit, displaced(equations, start, orbit.path[0] - minimum))
        face = exit_face(equations, region, orbit.end, carried.end, isolated=False)
        profile = profile_along(equations, orbit, carried, 1.0, center=minimum)
        ray = orbit.end - minimum
        distance = float(np.linalg.norm(ray))
        area = solid_angle * distance**dim / abs(float(face.normal @ ray))
        passages.append(
            Passage(
                point=orbit.end,
                value=float(orbit.value),
                log_coefficient=float(
                    np.log(area * face.flux)
                    + carried.end.log_factor[0]
                    + (bulk.log_determinant - dim * np.log(2 * np.pi)) / 2
                ),
                correction=face.flux_correction + carried.end.correction + profile.slope
                if order == 4
                else float("nan"),
                profile=profile,
                noise_across=face.noise,
                soft=1.0,
            )
        )
    return Prefactor(
        passages=tuple(passages),
        bulk_correction=bulk.correction if order == 4 else float("nan"),
        power=dim,
        description="flux integrated over a non-characteristic boundary",
    )


class Face(NamedTuple):
    """The boundary at an exit point.

    Attributes:
        normal: outward unit normal n.
        flux: ``|b.n|`` at the point.
        noise: ``n.C n`` there.
        flux_correction: relative correction of the flux per eps^2, of the boundary layer.
        peak: V and the logarithm of flux times K along the boundary.
        soft: least eigenvalue of the curvature of V along the boundary relative to that of V
            along the tangent plane; 1 in one dimension.
    """

    normal: Vector
    flux: float
    noise: float
    flux_correction: float
    peak: Peak
    soft: float


def exit_face(
    equations: Equations,
    region: AbstractRegion,
    point: Vector,
    local: Expansion,
    isolated: bool = True,
) -> Face:
    """Flux and curvatures at an exit point, from the expansion of V and ln K there.

    Raises:
        As `boundary_prefactor`.
    """
    dim = len(point)
    with float64():
        derivatives = _level_derivatives(region, point, equations.order)
    level = equations.jets.series([np.asarray(d) for d in derivatives])
    gradient = level[1 : dim + 1]
    size = np.linalg.norm(gradient)
    if not (np.isfinite(level).all() and size > 0):
        raise Unsupported(
            f"the level of the region ({region}) is not smooth at the exit {point}, so no "
            "prefactor is known; use a ball, sublevel set, half-space or slab, or simulate"
        )
    fields = equations.fields(point)
    normal = gradient / size
    drift = float(normal @ fields.drift[:, 0])
    if not drift < 0:
        raise InvalidArgument(
            f"the drift at the exit {point} does not point into the region (b.n = {drift:.3g}); "
            "use the prefactor of a saddle, or a smaller region"
        )
    tangent = scipy.linalg.null_space(normal[None])
    momentum = local.height[1 : dim + 1]
    aside = np.linalg.norm(tangent.T @ momentum) / np.linalg.norm(momentum)
    if isolated and not aside < STATIONARY:
        raise InvalidArgument(
            f"the orbit does not end at a point of least V on the boundary: its momentum leans by "
            f"{aside:.2g} from the normal; solve for the boundary's minimum first"
        )
    soft = 1.0
    if dim == 1 or not isolated:
        peak = _POINT
    else:
        peak = _surface(equations, fields, level, local, tangent)
        plane = tangent.T @ equations.jets.derivative(local.height, 2) @ tangent
        soft = float(scipy.linalg.eigh(peak.hessian, plane, eigvals_only=True)[0])
        if not soft > SOFTEST:
            raise NotConverged(
                f"V has no isolated minimum along the boundary at {point} (relative curvature "
                f"{soft:.2g}); many exits are equally easy: integrate over the boundary "
                "(surface_prefactor)"
            )
    correction = _layer(equations, fields, level) if equations.order == 4 else 0.0
    noise = float(normal @ fields.covariance[..., 0] @ normal)
    return Face(normal, -drift, noise, correction, peak, soft)


_POINT = Peak(*(np.zeros((0,) * rank) for rank in (2, 3, 4, 1, 2)))


@eqx.filter_jit
def _level_derivatives(
    region: AbstractRegion, x: Float[np.ndarray, " dim"], order: int
) -> tuple[Array, ...]:
    return taylor(region._level, jnp.asarray(x), order)


def _surface(
    equations: Equations, fields: Fields, level: Series, local: Expansion, tangent: Matrix
) -> Peak:
    """V and ``log(|b.n| K dS)`` along the boundary, in coordinates of the tangent plane."""
    outer = equations.jets
    inner = jets(tangent.shape[1], equations.order)
    gradient = outer.gradient(level)
    slope = gradient[:, 0]
    size = np.linalg.norm(slope)
    normal = slope / size
    # The chord method gains an order of the boundary's height over the plane in each round.
    height = np.zeros(len(inner.monomials))
    for _ in range(equations.order - 1):
        place = tangent @ inner.variables + np.outer(normal, height)
        excess = inner.compose(level, place, outer) / size
        excess[0] = 0.0
        height = height - excess
    place = tangent @ inner.variables + np.outer(normal, height)
    steepness = inner.compose(local.height, place, outer)
    inward = -outer.product(fields.drift, gradient).sum(axis=0)
    square = outer.product(gradient, gradient).sum(axis=0)
    log_flux = outer.log(inward) - outer.log(square) / 2
    tilt = inner.gradient(height)
    area = inner.product(tilt, tilt).sum(axis=0)
    area[0] += 1.0
    log_weight = inner.compose(log_flux + local.log_factor, place, outer) + inner.log(area) / 2
    return peak_of(inner, steepness, log_weight)


def peak_of(algebra: Jets, height: Series, log_weight: Series) -> Peak:
    """Derivatives of both; those beyond the order of the series count as zero."""
    dim = algebra.dim
    third, fourth = (
        algebra.derivative(height, k) if k <= algebra.degree else np.zeros((dim,) * k)
        for k in (3, 4)
    )
    return Peak(
        algebra.derivative(height, 2),
        third,
        fourth,
        algebra.derivative(log_weight, 1),
        algebra.derivative(log_weight, 2),
    )


def _layer(equations: Equations, fields: Fields, level: Series) -> float:
    """``n.Cn (C : Hess Psi) / (4 (b.n)^2) - beta.n / |b.n|`` at a boundary point."""
    algebra = equations.jets
    gradient = algebra.gradient(level)
    crossing = algebra.product(fields.drift, gradient).sum(axis=0)
    carried = algebra.product(fields.covariance, gradient[None]).sum(axis=1)
    noise = algebra.product(carried, gradient).sum(axis=0)
    # Equal to Psi to first order at the boundary, whatever it is off the boundary.
    guess = 2 * algebra.product(algebra.product(crossing, algebra.power(noise, -1.0)), level)
    slope = algebra.gradient(guess)
    pulled = algebra.product(fields.covariance, slope[None]).sum(axis=1) / 2 - fields.drift
    defect = algebra.gradient(algebra.product(pulled, slope).sum(axis=0))[:, 0]
    normal = gradient[:, 0]
    # Psi = guess + c level^2 / 2 solves its equation to first order in the level.
    c = -(defect @ normal) / (normal @ normal) / crossing[0]
    hessian = algebra.derivative(guess, 2) + c * np.outer(normal, normal)
    layer = noise[0] * np.sum(fields.covariance[..., 0] * hessian) / (4 * crossing[0] ** 2)
    return float(layer + fields.noise_drift[:, 0] @ normal / crossing[0])
