"""The verb `diagnose`: which mechanism lets an escape happen."""

from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics import AbstractHeavyTailedSGD, MinibatchSGD
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import EscapadeError, Unstable, Unsupported
from escapade.escape import Escape, require_escape
from escapade.exits import ExitSample
from escapade.landscape import AbstractEmpirical, AbstractLandscape
from escapade.landscape.descent import roll
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.precision import in_float64
from escapade.theory.groups import SHELL, local_covariance, measure_groups
from escapade.theory.predict import predict
from escapade.theory.prediction import Diagnosis, Groups, Prediction

DRIFT = 0.5
"""Noise-induced shift, as a share of the distance to the boundary, from which exits drift."""

NO_BARRIER = 1.0
"""Barrier below which exits are a random walk, however near to exponential: free diffusion out of
an interval has a coefficient of variation of 0.82."""

SHARPEST = 10
"""Directions along which minibatches may disagree about the curvature."""


def diagnose(
    escape: Escape,
    sample: ExitSample | None = None,
    *,
    neighbourhood: Neighbourhood | None = None,
    prediction: Prediction | None = None,
) -> Diagnosis:
    """Name the mechanism of an escape: activated, diffusive, drift or unstable.

    In this order:

    * *unstable*: the chain is linearly or mean-square unstable at the minimum;
    * *drift*: the noiseless motion from the start leaves the region;
    * *diffusive*: the stationary spread reaches a quarter of the region's size squared (for a
      slab: barrier below 2), so that exit is no rare event;
    * *drift*: within the predicted exit time the noise shifts the mean position (third
      derivatives times covariance) by half the distance to the boundary or more;
    * *activated*: otherwise.

    `neighbourhood` and `prediction` save time if already computed.

    A sample decides doubtful cases: regular exits (coefficient of variation below 0.6) that come
    in less than half the predicted time are not activated; exponential exits at the predicted
    rate are, if there is a barrier at all (1 or more).

    Raises:
        InvalidArgument: when the escape is none.
        NotAMinimum: when the minimum has a flat or unstable direction.
        Unsupported: for heavy-tailed noise, which leaves by single jumps, and for steps with a
            memory (momentum, Adam).
    """
    require_escape(escape)
    require_no_memory(escape.dynamics, "the mechanism")
    if isinstance(escape.dynamics, AbstractHeavyTailedSGD):
        raise Unsupported(
            "heavy-tailed noise leaves by single jumps, which none of these mechanisms is; solve "
            "in one dimension, simulate or split"
        )
    around = measure_neighbourhood(escape) if neighbourhood is None else neighbourhood
    try:
        stationary = local_covariance(escape, around)
    except Unstable as error:
        return Diagnosis("unstable", str(error), _groups_without_stationary_law(escape, around))
    if prediction is None:
        with suppress(EscapadeError):  # groups exist where no theory predicts
            prediction = predict(escape, "quadratic", neighbourhood=around)
    if prediction is None:
        groups, _ = measure_groups(escape, around, stationary)
    else:
        groups = prediction.groups
    growth = _fastest_growth(escape, around)
    if growth > 1:
        return Diagnosis(
            "unstable",
            "mean-square unstable: the spread of curvature between minibatches multiplies the "
            f"variance along a sharp direction by {growth:.3g} each step",
            groups,
        )
    if _rolls_out(escape):
        return Diagnosis("drift", "gradient descent without noise leaves the region", groups)
    steps = np.inf if prediction is None else prediction.mean
    verdict = _from_groups(escape, around, stationary, groups, steps)
    if prediction is None or sample is None or sample.exits < 30:
        return verdict
    return _with_sample(sample, prediction.mean, verdict)


def _from_groups(
    escape: Escape,
    around: Neighbourhood,
    stationary: Float[np.ndarray, "dim dim"],
    groups: Groups,
    steps: float,
) -> Diagnosis:
    if groups.shell_ratio >= SHELL:
        return Diagnosis(
            "diffusive",
            f"the stationary spread (squared) is {groups.shell_ratio:.2g} of the region's size "
            f"squared, with {groups.effective_dimension:.2g} effective directions: typical "
            "fluctuations reach the boundary",
            groups,
        )
    shift = noise_induced_shift(escape, around, stationary, steps)
    share = _share_of_distance(escape, shift)
    if share >= DRIFT:
        return Diagnosis(
            "drift",
            f"the noise moves the mean position by {100 * share:.0f} % of the distance to the "
            "boundary (third derivatives of the loss)",
            groups,
        )
    return Diagnosis(
        "activated",
        f"a rare fluctuation must climb a barrier b = {groups.barrier:.3g}",
        groups,
    )


def _with_sample(sample: ExitSample, predicted: float, verdict: Diagnosis) -> Diagnosis:
    variation = sample.coefficient_of_variation
    ratio = sample.mean / predicted
    if verdict.mechanism == "activated" and variation < 0.6 and ratio < 0.5:
        return Diagnosis(
            "drift",
            f"exits are regular (coefficient of variation {variation:.2f}) and come after "
            f"{100 * ratio:.2g} % of the time an activated exit would take",
            verdict.groups,
        )
    exponential = abs(variation - 1) < 0.2 and verdict.groups.barrier >= NO_BARRIER
    if verdict.mechanism != "activated" and exponential and 2 / 3 < ratio < 1.5:
        return Diagnosis(
            "activated",
            f"exits are exponential (coefficient of variation {variation:.2f}) at the predicted "
            f"rate, although by the groups alone they would be {verdict.mechanism}",
            verdict.groups,
        )
    return verdict


def _groups_without_stationary_law(escape: Escape, around: Neighbourhood) -> Groups:
    rates = escape.dynamics.learning_rate * around.relaxation_rates
    nan = float("nan")
    return Groups(nan, nan, float(rates.max()), nan, nan, (1 / rates.min(), 1 / rates.max()))


def _fastest_growth(escape: Escape, around: Neighbourhood) -> float:
    """Largest factor of the second moment per step, one sharp direction at a time.

    ``(1 - eta lambda)^2 + eta^2 Var(v^T H_i v) / B`` (Wu, Ma and E 2018): minibatches may agree
    about the sharpest direction and disagree about the next.
    """
    dynamics, landscape = escape.dynamics, escape.landscape
    if not (isinstance(dynamics, MinibatchSGD) and isinstance(landscape, AbstractEmpirical)):
        return 0.0
    expansion = landscape.expand(escape.minimum)
    sharp = np.ascontiguousarray(around.eigenvectors.T[:SHARPEST])
    curvatures = np.array([expansion.example_curvatures(direction) for direction in sharp])
    factor = dynamics.finite_population_factor(landscape) / dynamics.batch_size
    means, variances = curvatures.mean(axis=1), factor * curvatures.var(axis=1)
    rate = dynamics.learning_rate
    return float(np.max((1 - rate * means) ** 2 + rate**2 * variances))


def _rolls_out(escape: Escape) -> bool:
    """Whether gradient descent from the start leaves the region within a thousand steps."""
    if np.array_equal(escape.start, escape.minimum):
        return False
    highest = in_float64(_highest_level, escape, escape.start)
    return bool(highest >= 0)


def _highest_level(escape: Escape, theta: Float[Array, " dim"]) -> Float[Array, ""]:
    def body(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        point, highest = state
        point = roll(escape.landscape, point, escape.dynamics.learning_rate, 1)
        return point, jnp.maximum(highest, escape.region._level(point))

    return jax.lax.fori_loop(0, 1000, body, (theta, escape.region._level(theta)))[1]


def noise_induced_shift(
    escape: Escape,
    around: Neighbourhood,
    stationary: Float[np.ndarray, "dim dim"],
    steps: float = np.inf,
) -> Float[np.ndarray, " dim"]:
    """Shift of the mean position by noise after some steps, to first order in epsilon^2.

    The mean obeys ``d shift / dt = -A shift - (epsilon^2 / 2) D^2 gradient : S_t``; a mode of rate
    lambda has relaxed, and carries its spread, only after 1 / (eta lambda) steps.
    """
    eigenvalues, vectors = np.linalg.eigh(stationary)
    order = np.argsort(eigenvalues)[::-1]
    # Directions that carry all but a thousandth of the spread.
    carried = np.cumsum(eigenvalues[order]) <= 0.999 * eigenvalues.sum()
    kept = order[: int(carried.sum()) + 1][:64]
    time = min(steps * escape.dynamics.learning_rate, 1e300)
    along = vectors[:, kept]
    rates = np.einsum("ik,ij,jk->k", along, around.drift_matrix, along)
    spread = eigenvalues[kept] * -np.expm1(-2 * np.clip(rates, 0, None) * time)
    scaled = (along * np.sqrt(np.clip(spread, 0, None))).T
    curvature = in_float64(_curvature_of_gradient, escape.landscape, escape.minimum, scaled)
    shift = -0.5 * escape.noise_scale * np.linalg.solve(around.drift_matrix, curvature)
    modes = around.eigenvectors
    relaxed = -np.expm1(-np.clip(around.eigenvalues, 0, None) * time)
    return modes @ (relaxed * (modes.T @ shift))


def _curvature_of_gradient(
    landscape: AbstractLandscape,
    theta: Float[Array, " dim"],
    directions: Float[Array, "kept dim"],
) -> Float[Array, " dim"]:
    """Sum over directions d of the second derivative of the gradient, D^2 gradient [d, d]."""

    def second(direction: Float[Array, " dim"]) -> Float[Array, " dim"]:
        def first(point: Float[Array, " dim"]) -> Float[Array, " dim"]:
            return jax.jvp(landscape._gradient, (point,), (direction,))[1]

        return jax.jvp(first, (theta,), (direction,))[1]

    return jnp.sum(jax.lax.map(second, directions), axis=0)


def _share_of_distance(escape: Escape, shift: Float[np.ndarray, " dim"]) -> float:
    """How far a shift carries towards the boundary: 0 at the minimum, 1 on the boundary."""
    at_minimum = float(escape.region.level(escape.minimum))
    shifted = float(escape.region.level(escape.minimum + shift))
    return (shifted - at_minimum) / -at_minimum if at_minimum < 0 else 1.0
