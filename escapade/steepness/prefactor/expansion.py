"""Taylor expansion of the quasi-stationary density about the points of an orbit.

Inside a basin the quasi-stationary density of the diffusion is

    ``p = K exp(-V / eps^2) (1 + eps^2 kappa + ...)``,

where V solves ``H = b . grad V + grad V . C grad V / 2 = 0``, and ln K and kappa are transported
along the orbits of H, of velocity ``v = b + C grad V``:

    ``v . grad ln K = -[div b + d_i C_ij d_j V + 1/2 C : Hess V - beta . grad V]``,
    ``v . grad kappa = (1/K) [1/2 d_i d_j (C_ij K) - d_i (beta_i K)]``

(order by order in the Fokker-Planck equation; beta is the drift of the noise's interpretation).
Derivatives of these equations along an orbit are ordinary differential equations for the Taylor
coefficients, of which the Hessian of V obeys the Riccati equation. They are attracted forwards in
time, so that coefficients exact at the minimum are exact along the orbit.

Sources: Bouchet and Reygner, Annales Henri Poincare 17 (2016); Grafke, Schaefer and
Vanden-Eijnden, Comm. Pure Appl. Math. 77 (2024), for ln K and the Riccati equation. The higher
coefficients are derived here.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.interpolate
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise, NotConverged
from escapade.noise import Constant, Isotropic
from escapade.precision import in_float64
from escapade.steepness.hamiltonian import AbstractHamiltonian, GaussianHamiltonian
from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor.equivalent import EquivalentDiffusion, StepDrift
from escapade.steepness.prefactor.interpretation import NoiseDrift
from escapade.steepness.prefactor.jets import Jets, Series, jets, taylor

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

Diffusion = GaussianHamiltonian | EquivalentDiffusion

LONGEST_STEP = 0.25
"""Of Runge-Kutta, times the fastest rate at which the coefficients relax at the minimum."""


class Expansion(NamedTuple):
    """Series of V (relative to the point) and of ln K about a point, and kappa there.

    Of V the coefficients up to the order of the `Equations` are known, of ln K two orders less.
    """

    height: Float[np.ndarray, " monomials"]
    log_factor: Float[np.ndarray, " monomials"]
    correction: float


class Fields(NamedTuple):
    """Series of drift b, covariance C and interpretation's drift beta about a point."""

    drift: Float[np.ndarray, "dim monomials"]
    covariance: Float[np.ndarray, "dim dim monomials"]
    noise_drift: Float[np.ndarray, "dim monomials"]


@dataclass(frozen=True)
class Equations:
    """The equations of the coefficients.

    Attributes:
        hamiltonian: of the diffusion.
        noise_drift: its drift of order eps^2, beta.
        order: degree of V: 2 for the leading prefactor, 4 for its correction.
    """

    hamiltonian: Diffusion
    noise_drift: NoiseDrift | StepDrift
    order: int

    @functools.cached_property
    def jets(self) -> Jets:
        """The algebra of the series."""
        return jets(self.hamiltonian.landscape.dim, self.order)

    def fields(self, x: Vector) -> Fields:
        """Drift and noise about a point."""
        return self.fields_along(x[None])[0]

    def fields_along(self, points: Float[np.ndarray, "n dim"]) -> list[Fields]:
        """Drift and noise about each of several points."""
        noise_order = 0 if self._constant_noise else self.order
        noise_drift_order = 0 if self.noise_drift.vanishes else self.order - 2
        orders = (self.order, noise_order, noise_drift_order)
        derivatives = in_float64(
            _field_derivatives, self.hamiltonian, self.noise_drift, points, orders
        )
        dim = points.shape[1]
        drift, covariance, noise_drift = (
            self.jets.series(part, (len(points), *shape))
            for part, shape in zip(derivatives, ((dim,), (dim, dim), (dim,)), strict=True)
        )
        return [Fields(*parts) for parts in zip(drift, covariance, noise_drift, strict=True)]

    def forces(self, phase: Float[np.ndarray, "n double_dim"]) -> Float[np.ndarray, "n dim"]:
        """Rates of change of the momenta."""
        dim = phase.shape[1] // 2
        return phase_velocities(self.hamiltonian, phase[:, :dim], phase[:, dim:])[:, dim:]

    def pinned(self, fields: Fields, local: Expansion, force: Vector) -> Expansion:
        """The same with the Hessian of V along the velocity replaced by the orbit's."""
        algebra = self.jets
        hessian = algebra.derivative(local.height, 2)
        velocity = self.velocity(fields, local.height)[:, 0]
        speed = np.linalg.norm(velocity)
        unit, pull = velocity / speed, force / speed
        across = np.eye(len(unit)) - np.outer(unit, unit)
        hessian = across @ hessian @ across + np.outer(pull, unit) + np.outer(unit, pull)
        hessian -= (unit @ pull) * np.outer(unit, unit)
        empty = [np.zeros(()), np.zeros(len(unit))]
        second = algebra.series([*empty, hessian])
        height = np.where(algebra.orders == 2, second, local.height)
        return Expansion(height, local.log_factor, local.correction)

    def eikonal(self, fields: Fields, height: Series) -> Series:
        """H at ``grad V``."""
        algebra = self.jets
        slope = algebra.gradient(height)
        velocity = fields.drift + self._carried(fields, slope) / 2
        return algebra.product(velocity, slope).sum(axis=0)

    def velocity(self, fields: Fields, height: Series) -> Series:
        """Velocity ``b + C grad V``."""
        return fields.drift + self._carried(fields, self.jets.gradient(height))

    def amplitude(self, fields: Fields, height: Series, log_factor: Series) -> Series:
        """The equation of ln K, zero when it is solved; known up to two orders below V."""
        algebra = self.jets
        slope = algebra.gradient(height)
        hessian = algebra.gradient(slope)
        noise_divergence = np.einsum("ijjm->im", algebra.gradient(fields.covariance))
        along = noise_divergence - fields.noise_drift
        terms = (
            np.einsum("iim->m", algebra.gradient(fields.drift)),
            algebra.product(along, slope).sum(axis=0),
            algebra.product(fields.covariance, hessian).sum(axis=(0, 1)) / 2,
            algebra.product(self.velocity(fields, height), algebra.gradient(log_factor)).sum(
                axis=0
            ),
        )
        return np.where(algebra.orders <= self.order - 2, sum(terms), 0.0)

    def rates(self, fields: Fields, local: Expansion) -> Expansion:
        """Time derivatives of the coefficients along the orbit."""
        algebra = self.jets
        velocity = self.velocity(fields, local.height)[:, 0]
        height = velocity @ algebra.gradient(local.height) - self.eikonal(fields, local.height)
        log_factor = velocity @ algebra.gradient(local.log_factor) - self.amplitude(
            fields, local.height, local.log_factor
        )
        return Expansion(
            np.where(algebra.orders >= 2, height, 0.0),
            log_factor,
            self.correction_rate(fields, local.log_factor),
        )

    def correction_rate(self, fields: Fields, log_factor: Series) -> float:
        """``v . grad kappa`` at the point."""
        if self.order < 4:
            return 0.0
        algebra = self.jets
        gradient = algebra.gradient(log_factor)
        second = algebra.gradient(gradient)[..., 0]
        gradient = gradient[:, 0]
        noise, noise_slope = fields.covariance, algebra.gradient(fields.covariance)
        spreading = (
            np.einsum("ijij", algebra.gradient(noise_slope)[..., 0])
            + 2 * np.einsum("ijj,i", noise_slope[..., 0], gradient)
            + np.sum(noise[..., 0] * (second + np.outer(gradient, gradient)))
        )
        pushing = np.einsum("ii", algebra.gradient(fields.noise_drift)[..., 0])
        return float(spreading / 2 - pushing - fields.noise_drift[:, 0] @ gradient)

    def _carried(self, fields: Fields, slope: Series) -> Series:
        if self._constant_noise:
            return fields.covariance[..., 0] @ slope
        return self.jets.product(fields.covariance, slope[None]).sum(axis=1)

    @functools.cached_property
    def _constant_noise(self) -> bool:
        noise = getattr(self.hamiltonian, "noise", None)
        return isinstance(noise, Constant | Isotropic)


def _field_derivatives(
    hamiltonian: Diffusion,
    noise_drift: NoiseDrift | StepDrift,
    points: Float[Array, "n dim"],
    orders: tuple[int, int, int],
) -> tuple[tuple[Array, ...], ...]:
    functions = (hamiltonian.drift, hamiltonian.covariance, noise_drift)

    def one(x: Float[Array, " dim"]) -> tuple[tuple[Array, ...], ...]:
        return tuple(taylor(f, x, order) for f, order in zip(functions, orders, strict=True))

    return jax.lax.map(one, points)


def at_minimum(equations: Equations, minimum: Vector, stationary: Matrix) -> Expansion:
    """The coefficients at the minimum, where K is normalised to one and kappa to zero.

    Order by order they solve linear equations whose operator acts on each index by
    ``M = db/dx + C S^-1``, the velocity's derivative; its eigenvectors diagonalise all of them.

    Raises:
        DegenerateNoise: when S is singular.
    """
    dim = len(minimum)
    spread = np.linalg.eigvalsh(stationary)
    if spread[0] <= dim * np.finfo(float).eps * spread[-1]:
        raise DegenerateNoise(
            "the stationary covariance is singular: noise does not reach every direction, so there "
            "is no density to expand; use the exponent alone"
        )
    algebra, fields = equations.jets, equations.fields(minimum)
    # The drift at a minimum known to finite precision is not exactly zero.
    fields = fields._replace(drift=fields.drift * (algebra.orders > 0))
    zero = np.zeros(len(algebra.monomials))
    precision = np.linalg.inv(stationary)
    height = algebra.series([np.zeros(()), np.zeros(dim), (precision + precision.T) / 2])
    log_factor = zero.copy()
    velocity = algebra.gradient(equations.velocity(fields, height))[..., 0]
    values, vectors = np.linalg.eig(velocity)

    def solved(defect: Series, order: int) -> Series:
        source = algebra.derivative(defect, order)
        tensor = _solve_on_each_index(source, values, vectors)
        empty = [np.zeros((dim,) * k) for k in range(order)]
        return algebra.series([*empty, tensor])

    for order in range(3, equations.order + 1):
        height = height - solved(equations.eikonal(fields, height), order)
    for order in range(1, equations.order - 1):
        log_factor = log_factor - solved(equations.amplitude(fields, height, log_factor), order)
    return Expansion(height, log_factor, 0.0)


def _solve_on_each_index(
    source: Float[np.ndarray, "..."],
    values: Float[np.ndarray, " dim"],
    vectors: Float[np.ndarray, "dim dim"],
) -> Float[np.ndarray, "..."]:
    """The symmetric T with ``sum over indices of T (M on that index) = source``."""
    rank = source.ndim
    result = source.astype(complex)
    sums = np.zeros(source.shape, dtype=complex)
    for axis in range(rank):
        result = np.moveaxis(np.tensordot(result, vectors, (axis, 0)), -1, axis)
        sums += values.reshape([-1 if a == axis else 1 for a in range(rank)])
    result = result / sums
    inverse = np.linalg.inv(vectors)
    for axis in range(rank):
        result = np.moveaxis(np.tensordot(result, inverse, (axis, 0)), -1, axis)
    return result.real


class Carried(NamedTuple):
    """The coefficients at every point of an orbit."""

    heights: Float[np.ndarray, "n monomials"]
    log_factors: Float[np.ndarray, "n monomials"]
    corrections: Float[np.ndarray, " n"]

    @property
    def end(self) -> Expansion:
        """At the orbit's end."""
        return Expansion(self.heights[-1], self.log_factors[-1], float(self.corrections[-1]))


def displaced(equations: Equations, local: Expansion, displacement: Vector) -> Expansion:
    """The same polynomials about a displaced point."""
    algebra = equations.jets
    away = algebra.variables
    away[:, 0] = displacement
    height = algebra.compose(local.height, away, algebra)
    return Expansion(height, algebra.compose(local.log_factor, away, algebra), local.correction)


def along(equations: Equations, orbit: Orbit, first: Expansion, pinned: bool = False) -> Carried:
    """Carry the coefficients at an orbit's first point along it, by classical Runge-Kutta steps.

    Args:
        equations: of the coefficients.
        orbit: of infinite horizon, from the minimum.
        first: coefficients at its first point.
        pinned: take the Hessian along the velocity from the orbit itself, ``Hess V v = dp/dt``;
            near a saddle, where the orbit slows down, this part is not attracted forwards.

    Raises:
        NotConverged: when the coefficients blow up: orbits cross before the end (a caustic), and
            the orbit is no minimiser of the action.
    """
    algebra, dim = equations.jets, orbit.path.shape[1]
    # Rates of change at the first point bound the step; sampled twice per step for Runge-Kutta.
    slope = algebra.gradient(equations.velocity(equations.fields(orbit.path[0]), first.height))
    rate = equations.order * np.abs(np.linalg.eigvals(slope[..., 0])).max()
    counts = np.ceil(np.diff(orbit.times) * rate / LONGEST_STEP).astype(int)
    fractions = [np.arange(2 * count) / (2 * count) for count in counts]
    times = np.concatenate(
        [
            t + width * f
            for t, width, f in zip(orbit.times, np.diff(orbit.times), fractions, strict=False)
        ]
        + [orbit.times[-1:]]
    )
    phase = interpolate(equations.hamiltonian, orbit)(times)
    fields = equations.fields_along(phase[:, :dim])
    momenta, forces = phase[:, dim:], equations.forces(phase)
    keep = algebra.orders >= 2

    def at(i: int, state: Expansion) -> Expansion:
        height = np.where(keep, state.height, 0.0)
        height[1 : dim + 1] = momenta[i]
        local = Expansion(height, state.log_factor, state.correction)
        return equations.pinned(fields[i], local, forces[i]) if pinned else local

    def advanced(state: Expansion, rates: Expansion, step: float) -> Expansion:
        return Expansion(
            state.height + step * rates.height,
            state.log_factor + step * rates.log_factor,
            state.correction + step * rates.correction,
        )

    state = first
    kept = np.concatenate([[0], 2 * np.cumsum(counts)])
    history = [at(0, state)]
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(0, len(times) - 1, 2):
            step = times[i + 2] - times[i]
            first = equations.rates(fields[i], at(i, state))
            second = equations.rates(fields[i + 1], at(i + 1, advanced(state, first, step / 2)))
            third = equations.rates(fields[i + 1], at(i + 1, advanced(state, second, step / 2)))
            fourth = equations.rates(fields[i + 2], at(i + 2, advanced(state, third, step)))
            for rates, weight in ((first, 1), (second, 2), (third, 2), (fourth, 1)):
                state = advanced(state, rates, weight * step / 6)
            if i + 2 == kept[len(history)]:
                history.append(at(i + 2, state))
    carried = Carried(
        np.array([local.height for local in history]),
        np.array([local.log_factor for local in history]),
        np.array([local.correction for local in history]),
    )
    if not np.isfinite(carried.heights).all():
        raise NotConverged(
            "the second derivatives of the quasipotential diverge along the orbit: it passes a "
            "caustic, so it is not the path of least steepness; solve again from another guess"
        )
    return carried


def interpolate(
    hamiltonian: AbstractHamiltonian, orbit: Orbit
) -> scipy.interpolate.CubicHermiteSpline:
    """Points and momenta of an orbit at any time, shape (2 dim,), from their exact velocities."""
    slopes = phase_velocities(hamiltonian, orbit.path, orbit.momenta)
    state = np.concatenate([orbit.path, orbit.momenta], axis=1)
    return scipy.interpolate.CubicHermiteSpline(orbit.times, state, slopes)


def phase_velocities(
    hamiltonian: AbstractHamiltonian,
    path: Float[np.ndarray, "n dim"],
    momenta: Float[np.ndarray, "n dim"],
) -> Float[np.ndarray, "n double_dim"]:
    """Velocities and forces at points of phase space."""
    return in_float64(_phase_velocities, hamiltonian, path, momenta)


def _phase_velocities(
    hamiltonian: AbstractHamiltonian, path: Float[Array, "n dim"], momenta: Float[Array, "n dim"]
) -> Float[Array, "n double_dim"]:
    def one(point: tuple[Array, Array]) -> Array:
        x, p = point
        return jnp.concatenate([hamiltonian.velocity(x, p), hamiltonian.force(x, p)])

    return jax.lax.map(one, (path, momenta))
