"""The verb: rare exits by importance sampling, with the noise tilted along the easiest path."""

import time
from typing import Any, Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import genpareto

from escapade.dynamics.gaussian import AbstractGaussianDynamics
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import InvalidArgument, NotConverged, Unsupported
from escapade.escape import Escape
from escapade.exits.rare.batch import Batch, crossings
from escapade.exits.rare.rare_exit import RareExit
from escapade.exits.rare.runner import Runner
from escapade.exits.rare.split import RUNS_TOGETHER, depart, prepared
from escapade.exits.rare.walkers import Problem
from escapade.minimum import neighbourhood
from escapade.precision import context

MOST_NODES = 64
"""Points kept of each path."""

HARDER = 1.5
"""Paths dearer than the cheapest by this factor are left out."""


class Path(Protocol):
    """A path of least action with its momenta, as `minimum_steepness` finds them."""

    path: Float[np.ndarray, "n dim"]
    momenta: Float[np.ndarray, "n dim"]
    value: float


class Paths(Protocol):
    """What `minimum_steepness` returns."""

    @property
    def orbits(self) -> tuple[Any, ...]:
        """Local minimisers, cheapest first."""


class Tilt(eqx.Module):
    """Momentum as a feedback: that of the nearest place on the easiest paths.

    Near is meant in the metric of the local quasipotential, so that a displacement along the
    easy directions counts less; between two nodes the momentum is interpolated.
    """

    root: Float[np.ndarray, "dim dim"]
    starts: Float[np.ndarray, "pieces dim"]
    steps: Float[np.ndarray, "pieces dim"]
    momenta: Float[np.ndarray, "pieces dim"]
    changes: Float[np.ndarray, "pieces dim"]

    def __call__(self, theta: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Momentum at theta."""
        root, starts, steps, momenta, changes = (
            jnp.asarray(part, theta.dtype)
            for part in (self.root, self.starts, self.steps, self.momenta, self.changes)
        )
        offsets = root @ theta - starts
        lengths = jnp.sum(steps * steps, axis=1)
        share = jnp.clip(jnp.sum(offsets * steps, axis=1) / lengths, 0.0, 1.0)
        apart = jnp.sum((offsets - share[:, None] * steps) ** 2, axis=1)
        nearest = jnp.argmin(apart)
        return momenta[nearest] + share[nearest] * changes[nearest]


def importance_sample(
    escape: Escape,
    paths: Paths,
    key: Any = 0,
    *,
    runs: int = 16,
    walkers: int = 1024,
    burn_in: int | None = None,
    max_steps: int = 10**7,
    precision: str = "float32",
) -> RareExit:
    """Mean exit time by importance sampling along the easiest paths.

    As in `split`, ``E[nu] = 1 / (flux * probability)``; but each excursion is run with its Gaussian
    noise tilted by the momentum of the nearest place on the paths, which makes the exit likely, and
    counts with its likelihood ratio. Without bias whatever the paths, but of small variance only
    where exits follow them: a way out that no path shows is missed. It wins where steps are large
    against the distance in which the quasipotential changes by one, so that splitting branches too
    late; splitting wins where exits take many ways, or the paths are not known.

    Args:
        escape: the problem, with Gaussian noise (`GaussianSGD`, `LangevinSGD`, `ContinuousSGD`).
        paths: what `minimum_steepness(escape)` returned.
        key: a non-negative integer or a `jax.random` key.
        runs: independent runs, at least 2.
        walkers: walkers of each run.
        burn_in: steps before anything is counted; as in `split`.
        max_steps: longest excursion above the threshold, in steps.
        precision: "float32" or "float64", of the state.

    Raises:
        Unsupported: for noise that is not Gaussian.
        InvalidArgument: when an argument is out of range, or the paths are of another problem.
        Diverged: when a walker becomes NaN or infinite.
        NotConverged: when no walker left.
    """
    began = time.perf_counter()
    plan, problem, words, pilot_ticks, burn_in, relaxation = prepared(
        escape, key, runs, walkers, "level", 0.5, 0, precision, max_steps, burn_in
    )
    require_no_memory(escape.dynamics, "the tilt of the noise")
    if not isinstance(escape.dynamics, AbstractGaussianDynamics):
        raise Unsupported(
            f"importance sampling tilts Gaussian noise, and {escape.dynamics} has other noise; "
            "use split"
        )
    tilt = tilt_along(escape, paths)
    per_step = escape.dynamics.ticks_per_step
    fluxes, probabilities, points, weights, ticks = [], [], [], [], pilot_ticks
    with context(precision):
        plain = Runner(problem, RUNS_TOGETHER * walkers, plan.max_ticks)
        tilted = Runner(Problem(escape, None, tilt), RUNS_TOGETHER * walkers, plan.max_ticks)
        for first in range(0, runs, RUNS_TOGETHER):
            batch = Batch(np.arange(first, min(first + RUNS_TOGETHER, runs)), words, None)
            flux, start = crossings(plain, plan, batch)
            ended, peak, log_weight = tilted.until(start, plan.threshold, np.inf)
            left = np.isposinf(peak)
            weight = np.where(left, np.exp(log_weight.astype(np.float64)), 0.0)
            fluxes.append(flux)
            probabilities.append(weight.reshape(len(flux), walkers).mean(axis=1))
            points.append(ended.theta[:, left].T.astype(np.float64))
            weights.append(weight[left])
        ticks += plain.ticks + tilted.ticks
    probability = np.concatenate(probabilities)
    if not probability.any():
        raise NotConverged(
            f"none of {runs * walkers} tilted walkers left the region, so the paths do not lead "
            "out of it; give minimum_steepness(escape) of the same escape, or use split"
        )
    departure, early_ticks = depart(problem, words, runs, plan.burn_in, precision)
    share = np.concatenate(weights)
    flux = np.concatenate(fluxes) * per_step
    return RareExit(
        rates=flux * probability,
        fluxes=flux,
        probabilities=probability,
        threshold=plan.threshold,
        exit_points=np.concatenate(points),
        exit_weights=share / share.sum(),
        paths=(),
        steps_used=(ticks + early_ticks) // per_step,
        burn_in=burn_in,
        departure=departure,
        relaxation_time=relaxation,
        method="importance sampling along the easiest paths",
        seconds=time.perf_counter() - began,
        weight_shape=pareto_shape(share),
    )


def pareto_shape(weights: Float[np.ndarray, " n"]) -> float:
    """Shape of a generalised Pareto law fitted to the largest weights; NaN for too few."""
    count = min(len(weights) // 5, int(3 * np.sqrt(len(weights))))
    if count < 10:
        return float("nan")
    ordered = np.sort(weights)
    excess = ordered[-count:] - ordered[-count - 1]
    return float(genpareto.fit(excess / excess.mean(), floc=0)[0])


def tilt_along(escape: Escape, paths: Paths) -> Tilt:
    """The feedback of all paths that are about as cheap as the cheapest.

    Raises:
        InvalidArgument: when the paths have another dimension.
    """
    chosen: list[Path] = [
        orbit for orbit in paths.orbits if orbit.value <= HARDER * paths.orbits[0].value
    ]
    dim = escape.landscape.dim
    if chosen[0].path.shape[1] != dim:
        raise InvalidArgument(
            f"paths has paths in dimension {chosen[0].path.shape[1]} but the escape has {dim} "
            "parameters; give minimum_steepness(escape)"
        )
    step = None if escape.dynamics.continuous else escape.dynamics.learning_rate
    covariance = neighbourhood(escape).stationary_covariance(step)
    root = np.linalg.cholesky(np.linalg.inv(covariance)).T
    starts, steps, momenta, changes = [], [], [], []
    for orbit in chosen:
        # The momentum of a chain belongs to the step that arrives at a point.
        places = orbit.path if step is None else orbit.path[:-1]
        forces = orbit.momenta if step is None else orbit.momenta[1:]
        nodes = np.unique(np.linspace(0, len(places) - 1, MOST_NODES).round().astype(int))
        places, forces = (root @ places[nodes].T).T, forces[nodes]
        lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
        moving = lengths > 1e-9 * lengths.max()
        starts.append(places[:-1][moving])
        steps.append(np.diff(places, axis=0)[moving])
        momenta.append(forces[:-1][moving])
        changes.append(np.diff(forces, axis=0)[moving])
    return Tilt(root, *(np.concatenate(part) for part in (starts, steps, momenta, changes)))
