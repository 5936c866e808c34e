"""Escape before stationarity: which directions have relaxed when the exit comes, and the hazard.

Started at the minimum, the displacement spreads in each direction at its own pace. Only the
directions that carry the exit must have relaxed for it to come at a constant rate; all others
change that rate by a factor, which `hazard_ratio` gives.
"""

from contextlib import suppress

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int, Real

from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import DegenerateNoise, EscapadeError, InvalidArgument, Unsupported
from escapade.escape import Escape, require_escape
from escapade.exact import ExactExit, solve
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.minimum.lyapunov import equivalent_diffusion, horizon_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.prefactor.extremal_index import BOUNDARY_SHIFT
from escapade.theory.groups import local_covariance, measure_groups
from escapade.theory.predict import predict
from escapade.theory.quadratic_law import QuadraticLaw

CARRIER = 0.1
"""Share of the exit from which a direction is said to carry it."""

Matrix = Float[np.ndarray, "dim dim"]


class Relaxation(eqx.Module):
    """Time scales of an escape, in SGD steps. Directions are sharpest first.

    Attributes:
        times: relaxation time of each Hessian direction: ``-1 / log|1 - eta lambda|`` of a chain,
            ``1 / (eta lambda)`` of a diffusion.
        directions: the unit eigenvectors, in columns.
        exit_share: share of each direction in the squared displacement x at the easiest exit; they
            sum to one. Exits along other principal axes of the boundary (as of a ball with C
            proportional to H) are added with their Boltzmann factors.
        momentum_share: the same of the momentum ``S^-1 x``, along which the noise must push.
        exit_time: mean exit time once settled, ``1 / rate``: exact if `exact`, else predicted.
        quasi_stationary: relaxation time of the quasi-stationary law,
            ``1 / (second_rate - rate)``; None unless `exact`.
        exact: whether the time of the exit comes from `solve`.
    """

    times: Float[np.ndarray, " dim"]
    directions: Float[np.ndarray, "dim dim"]
    exit_share: Float[np.ndarray, " dim"]
    momentum_share: Float[np.ndarray, " dim"]
    exit_time: float
    quasi_stationary: float | None
    exact: bool

    @property
    def carriers(self) -> Int[np.ndarray, " carriers"]:
        """Indices of the directions that carry the exit: a tenth of it or of its momentum."""
        share = np.maximum(self.exit_share, self.momentum_share)
        return np.flatnonzero(share >= min(CARRIER, share.max()))

    @property
    def carrier_time(self) -> float:
        """Relaxation time of the slowest direction that carries the exit."""
        return float(self.times[self.carriers].max())

    @property
    def unrelaxed(self) -> int:
        """Number of directions that relax more slowly than the typical exit comes."""
        return int(np.count_nonzero(self.times > self.exit_time))

    def __str__(self) -> str:
        dim, slow = self.times.size, self.unrelaxed
        kind = "exact" if self.exact else "predicted"
        if slow == 0:
            every = f"all {dim} directions relax" if dim > 1 else "its one direction relaxes"
            which = f"{every} before it (within {_steps(self.times.max())})"
        elif slow == dim:
            which = "no direction relaxes before it"
        else:
            fast = self.times[self.times <= self.exit_time]
            which = (
                f"{dim - slow} of {dim} directions relax before it (in {_span(fast)}), {slow} do "
                f"not (in {_span(self.times[self.times > self.exit_time])})"
            )
        lines = [f"the typical exit comes after {_steps(self.exit_time)} ({kind}): {which}"]
        lines += [
            f"  direction {index + 1} carries {100 * self.exit_share[index]:.0f} % of the easiest "
            f"exit and {100 * self.momentum_share[index]:.0f} % of its momentum, and relaxes in "
            f"{_steps(self.times[index])}"
            for index in self.carriers[:3]
        ]
        if len(self.carriers) > 3:
            rest = self.times[self.carriers[3:]]
            lines.append(f"  {len(rest)} more directions carry it (in {_span(rest)})")
        if self.quasi_stationary is not None:
            lines.append(f"  quasi-stationary law reached in {_steps(self.quasi_stationary)}")
        return "\n".join(lines)


def relaxation(
    escape: Escape,
    *,
    neighbourhood: Neighbourhood | None = None,
    exact: ExactExit | None = None,
) -> Relaxation:
    """Compare the relaxation of each direction at the minimum with the time of the exit.

    Args:
        escape: the problem. Of a drift that is no gradient, the directions are those of the
            symmetric part of its derivative, and so are the rates.
        neighbourhood: Hessian and noise at the minimum, if already computed.
        exact: the exact solution ``solve(escape)``. In one dimension, where that is quick, it is
            tried; elsewhere, unless given, the time of the exit is predicted (theory "quadratic").

    Raises:
        InvalidArgument: when the escape is none.
        NotAMinimum: when the minimum has a flat or unstable direction.
        Unstable: when the learning rate is too large for the chain to be stable.
        Unsupported: when `predict` does not cover the problem and no exact solution is given, and
            for steps with a memory (momentum, Adam).
    """
    require_escape(escape)
    require_no_memory(escape.dynamics, "relaxation")
    around = measure_neighbourhood(escape) if neighbourhood is None else neighbourhood
    stationary = local_covariance(escape, around)
    points = _exits(escape, around, stationary)
    momenta = np.linalg.lstsq(stationary, points.T)[0].T
    if exact is None and escape.landscape.dim == 1:
        with suppress(EscapadeError):
            exact = solve(escape)
    if exact is None:
        exit_time, settled = predict(escape, "quadratic", neighbourhood=around).mean, None
    else:
        exit_time, settled = 1 / exact.rate, 1 / (exact.second_rate - exact.rate)
    return Relaxation(
        times=_relaxation_times(escape, around),
        directions=around.eigenvectors,
        exit_share=_shares(around, points),
        momentum_share=_shares(around, momenta),
        exit_time=float(exit_time),
        quasi_stationary=settled,
        exact=exact is not None,
    )


def hazard_ratio(
    escape: Escape,
    steps: Real[np.ndarray, " times"],
    *,
    neighbourhood: Neighbourhood | None = None,
) -> Float[np.ndarray, " times"]:
    """Hazard after some steps from the minimum, relative to its final value: ``h(t) / h_inf``.

    The probability flux through the boundary of the Gaussian that starts as a point,

        flux(t) = int_boundary p_t(x) n . (C S_t^-1 - A) x,

    with its covariance S_t after t, over the same at stationarity (Durbin, "The first-passage
    density of a continuous Gaussian process to a general boundary", 1985: the velocity is that of
    the path which gets there just then). It is exact as the barrier grows, and holds while the
    exit direction itself still spreads: in one dimension it is ``coth(lambda t) p_t(R) / p(R)``. Of
    a level set with C = H it becomes, once the sharpest direction has relaxed,
    ``prod_i [(1 - r_i) / (1 - r_i (1 - exp(-2 lambda_i t)))]^(1/2)`` with
    ``r_i = lambda_i / lambda_1``: slow directions move the prefactor only.

    The slow directions are taken as undisturbed by the exits. Where exits that are equally easy
    relax at different rates (isotropic noise, level set) that is rough: 10 % in
    docs/stationarity.md.

    A chain is taken as the diffusion with its covariance after as many steps, and its boundary
    0.58 standard deviations of a step further out.

    Args:
        escape: the problem, which starts at its minimum.
        steps: positive numbers of steps; of a chain, whole ones. The hazard is that of the step
            taken then.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Returns:
        The ratio for each number of steps; near 1 after the relaxation of every direction.

    Raises:
        InvalidArgument: when a number of steps is out of range, or the escape is none.
        Unsupported: when the start is not the minimum, the region has no closed form, or steps
            have a memory (momentum, Adam).
        Unstable: when the learning rate is too large for the chain to be stable.
    """
    require_escape(escape)
    require_no_memory(escape.dynamics, "the hazard")
    times = np.atleast_1d(np.asarray(steps, dtype=np.float64))
    whole = not escape.dynamics.continuous
    if times.ndim != 1 or not (times > 0).all() or (whole and (times != np.floor(times)).any()):
        kind = "whole positive" if whole else "positive"
        raise InvalidArgument(f"steps is {steps!r}; give {kind} numbers of steps")
    if not np.array_equal(escape.start, escape.minimum):
        raise Unsupported("the escape does not start at its minimum; leave out start=")
    around = measure_neighbourhood(escape) if neighbourhood is None else neighbourhood
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    if form is None:
        raise Unsupported(
            f"no closed form of the hazard out of this region ({escape.region}); use a ball, "
            "sublevel set, half-space or slab around the minimum, or simulate"
        )
    rate, scale = escape.dynamics.learning_rate, escape.noise_scale
    drift, noise = around.drift_matrix, around.covariance
    stationary = local_covariance(escape, around)
    if not whole:
        level = _level(form)
        spreads = [horizon_covariance(drift, noise, rate * time) for time in times]
    else:
        normal = _level_gradient(form, _exits(escape, around, stationary)[0])
        step = rate * np.sqrt(normal @ noise @ normal / escape.dynamics.batch_size)
        level = _level(form) + BOUNDARY_SHIFT * step
        spreads = [horizon_covariance(drift, noise, time, rate) for time in times]
        drift, noise = equivalent_diffusion(drift, noise, rate)
    height = level**2 / scale
    final = _log_flux(form, height, stationary, drift, noise)
    return np.exp([_log_flux(form, height, spread, drift, noise) - final for spread in spreads])


def _relaxation_times(escape: Escape, around: Neighbourhood) -> Float[np.ndarray, " dim"]:
    rates = escape.dynamics.learning_rate * around.eigenvalues
    if not escape.dynamics.continuous:
        with np.errstate(divide="ignore"):  # a rate of 1 forgets in no time
            rates = -np.log(np.abs(1 - rates))
    return 1 / rates


def _exits(
    escape: Escape, around: Neighbourhood, stationary: Matrix
) -> Float[np.ndarray, "exits dim"]:
    """Displacements at exit points, easiest first, times the root of their Boltzmann factor."""
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    if not isinstance(form, QuadraticForm):
        return measure_groups(escape, around, stationary, with_noise_correction=False)[1][None]
    variances, basis = np.linalg.eigh(stationary)
    root = basis * np.sqrt(np.clip(variances, 0, None))
    weights, axes = np.linalg.eigh(root.T @ form.matrix @ root)
    if not weights[-1] > 0:
        raise DegenerateNoise("no noise reaches the region's boundary, so it is never left")
    kept = weights[::-1] > 1e-12 * weights[-1]
    weights, points = weights[::-1][kept], (root @ axes).T[::-1][kept]
    barriers = 0.5 * form.radius**2 / weights / escape.noise_scale
    factors = form.radius / np.sqrt(weights) * np.exp((barriers[0] - barriers) / 2)
    return points * factors[:, None]


def _shares(
    around: Neighbourhood, vectors: Float[np.ndarray, "exits dim"]
) -> Float[np.ndarray, " dim"]:
    along = np.sum((vectors @ around.eigenvectors) ** 2, axis=0)
    return along / along.sum()


def _level(form: LinearForm | QuadraticForm) -> float:
    return form.offset if isinstance(form, LinearForm) else form.radius


def _level_gradient(
    form: LinearForm | QuadraticForm, point: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    """Gradient at the boundary of ``normal . x`` or ``sqrt(x^T M x)``."""
    if isinstance(form, LinearForm):
        return form.normal
    return form.matrix @ point / form.radius


def _log_flux(
    form: LinearForm | QuadraticForm, height: float, spread: Matrix, drift: Matrix, noise: Matrix
) -> float:
    """Log of the flux out of the form, up to a constant, in units of eps; height is level^2."""
    if isinstance(form, LinearForm):
        variance = form.normal @ spread @ form.normal
        if variance == 0:
            return -np.inf
        velocity = form.normal @ (noise - drift @ spread) @ form.normal / variance
        return float(np.log(velocity) - 0.5 * np.log(variance) - 0.5 * height / variance)
    variances, basis = np.linalg.eigh(spread)
    kept = variances > len(variances) * np.finfo(np.float64).eps * variances[-1]
    root, inverse = (basis[:, kept] * variances[kept] ** power for power in (0.5, -0.5))
    weights, rotation = np.linalg.eigh(root.T @ form.matrix @ root)
    root, inverse = root @ rotation, inverse @ rotation
    # The flux is E[x^T M (C S^-1 - A) x; x^T M x = height]: off-diagonal terms are odd in a mode.
    moments = np.einsum("ik,ik->k", form.matrix @ root, noise @ inverse - drift @ root)
    used = weights > len(weights) * np.finfo(np.float64).eps * max(weights[-1], 0.0)
    if not used.any():
        return -np.inf
    law = QuadraticLaw(weights[used])
    heights = np.array([height])
    parts = [np.clip(sign * moments[used], 0, None) for sign in (1, -1)]
    logs = [law.log_moment_density(heights, part)[0] if part.any() else -np.inf for part in parts]
    return float(logs[0] + np.log1p(-np.exp(logs[1] - logs[0])))


def _steps(steps: float) -> str:
    return f"{steps:.3g} steps" if steps < 1000 else f"{float(f'{steps:.3g}'):,.0f} steps"


def _span(times: Float[np.ndarray, " n"]) -> str:
    low, high = _steps(times.min()), _steps(times.max())
    return high if low == high else f"{low.removesuffix(' steps')} to {high}"
