"""Measuring the dimensionless groups of an escape."""

import numpy as np
from jaxtyping import Float

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.landscape import AbstractEmpirical, AbstractLoss
from escapade.minimum import Neighbourhood, effective_dimension
from escapade.region.boundary import distance_to_boundary
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.local import minimum_over_boundary, quasipotential
from escapade.theory.noise_correction import noise_correction
from escapade.theory.prediction import Groups

SHELL = 0.25
"""Mean squared distance, in units of the region's size squared, from which exits are diffusive."""

RAYS = 8
"""Directions searched on each side for the boundary of a region without closed form."""


def local_covariance(escape: Escape, neighbourhood: Neighbourhood) -> Float[np.ndarray, "dim dim"]:
    """Stationary covariance S of the dynamics as it is: diffusion or chain at finite step.

    Raises:
        Unstable: when the chain is unstable.
    """
    continuous = escape.dynamics.continuous
    rate = None if continuous else escape.dynamics.learning_rate
    return neighbourhood.stationary_covariance(rate)


def measure_groups(
    escape: Escape,
    neighbourhood: Neighbourhood,
    stationary: Float[np.ndarray, "dim dim"],
    *,
    with_noise_correction: bool = True,
) -> tuple[Groups, Float[np.ndarray, " dim"]]:
    """The groups of an escape, and the displacement at its most likely exit point.

    The noise correction reads every example's gradient; without it the group is NaN.

    For a region without closed form (a basin, a predicate) the boundary is looked for along the
    main directions, and the quadratic quasipotential there is corrected by the ratio of the true
    to the quadratic rise of the loss: an estimate.
    """
    form = escape.region.local_form(escape.minimum, neighbourhood.drift_matrix)
    if form is None:
        exit_point, shell = _through_rays(escape, neighbourhood, stationary)
        barrier = _estimated_quasipotential(escape, neighbourhood, stationary, exit_point)
    else:
        easiest = minimum_over_boundary(stationary, form)
        exit_point, barrier = easiest.points[0], easiest.value
        shell = _mean_square_level(form, stationary)
    normal = _normal(form, exit_point)
    drift = normal @ neighbourhood.drift_matrix @ exit_point
    spread = np.sqrt(normal @ neighbourhood.covariance @ normal)
    rates = escape.dynamics.learning_rate * neighbourhood.relaxation_rates
    groups = Groups(
        barrier=float(barrier / escape.noise_scale),
        signal_to_noise=float(np.sqrt(escape.dynamics.batch_size) * abs(drift) / spread),
        stiffness=float(rates.max()),
        effective_dimension=effective_dimension(stationary),
        shell_ratio=float(escape.noise_scale * shell),
        relaxation_steps=(float(1 / rates.min()), float(1 / rates.max())),
        noise_correction=_noise_correction(
            escape, neighbourhood, stationary, exit_point, one_sided=_one_sided(form)
        )
        if with_noise_correction
        else float("nan"),
    )
    return groups, exit_point


def _mean_square_level(
    form: LinearForm | QuadraticForm, stationary: Float[np.ndarray, "dim dim"]
) -> float:
    """Mean square of the distance that the region limits, over the limit squared."""
    if isinstance(form, LinearForm):
        return float(form.normal @ stationary @ form.normal) / form.offset**2
    return float((form.matrix * stationary).sum()) / form.radius**2


def _through_rays(
    escape: Escape, neighbourhood: Neighbourhood, stationary: Float[np.ndarray, "dim dim"]
) -> tuple[Float[np.ndarray, " dim"], float]:
    spread = np.linalg.eigh(stationary)[1][:, ::-1][:, :RAYS]
    rays = np.concatenate([spread.T, neighbourhood.eigenvectors[:, :RAYS].T])
    rays = np.concatenate([rays, -rays])
    distances = distance_to_boundary(escape.region, escape.minimum, rays)
    quasipotentials = np.full(len(rays), np.inf)
    for index in np.flatnonzero(np.isfinite(distances)):
        point = distances[index] * rays[index]
        quasipotentials[index] = _estimated_quasipotential(escape, neighbourhood, stationary, point)
    best = int(np.argmin(quasipotentials))
    exit_point = distances[best] * rays[best]
    along = rays[best] @ stationary @ rays[best]
    return exit_point, along / distances[best] ** 2


def _estimated_quasipotential(
    escape: Escape,
    neighbourhood: Neighbourhood,
    stationary: Float[np.ndarray, "dim dim"],
    displacement: Float[np.ndarray, " dim"],
) -> float:
    """Quadratic quasipotential times the ratio of the true to the quadratic rise of the loss."""
    value = quasipotential(stationary, displacement)
    if not isinstance(escape.landscape, AbstractLoss):
        return value
    loss = escape.landscape.loss
    rise = float(loss(escape.minimum + displacement) - loss(escape.minimum))
    quadratic = float(0.5 * displacement @ neighbourhood.drift_matrix @ displacement)
    return value * max(rise, 0.0) / quadratic


def _normal(
    form: LinearForm | QuadraticForm | None, exit_point: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    if form is None:
        return exit_point / np.linalg.norm(exit_point)
    return form.normal_at(exit_point[None])[0]


def _one_sided(form: LinearForm | QuadraticForm | None) -> bool:
    return form is None or (isinstance(form, LinearForm) and not form.two_sided)


def _noise_correction(
    escape: Escape,
    neighbourhood: Neighbourhood,
    stationary: Float[np.ndarray, "dim dim"],
    exit_point: Float[np.ndarray, " dim"],
    one_sided: bool,
) -> float:
    """The `noise_correction` of an escape; zero for Gaussian dynamics."""
    dynamics = escape.dynamics
    if not (isinstance(dynamics, MinibatchSGD) and isinstance(escape.landscape, AbstractEmpirical)):
        return 0.0
    gradients = escape.landscape.example_gradients(escape.minimum)
    noise = gradients - gradients.mean(axis=0)
    modes = neighbourhood.eigenvectors
    momentum = modes.T @ np.linalg.lstsq(stationary, exit_point)[0]
    return noise_correction(
        noise @ modes, neighbourhood.eigenvalues, momentum, escape.noise_scale, one_sided=one_sided
    )
