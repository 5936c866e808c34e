"""The verb `predict`: mean exit time of an escape according to a theory."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.dynamics import HeavyTailedSGD, MinibatchSGD
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import (
    DegenerateNoise,
    InvalidArgument,
    NotConverged,
    Unsupported,
    in_one_line,
)
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.minimum.lyapunov import horizon_covariance
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.groups import SHELL, local_covariance, measure_groups
from escapade.theory.instanton_law import applies, instanton_law
from escapade.theory.prediction import Groups, Prediction, assumption
from escapade.theory.uniform import continuous_mean_exit_time, uniform_mean_exit_time


def predict(
    escape: Escape, theory: str = "escapade", *, neighbourhood: Neighbourhood | None = None
) -> Prediction:
    """Predict the mean exit time of an escape that starts at its minimum.

    Args:
        escape: the problem.
        theory: one of

            * "escapade": "instanton" where it applies and the problem is not linear, else
              "quadratic";
            * "instanton": along the paths of least steepness on the landscape itself, with
              prefactor; Gaussian noise, up to six dimensions, any smooth region or basin;
            * "quadratic": the uniform mean exit time of the quadratic approximation at the minimum,
              with prefactor and finite step size; in any dimension, out of a ball, sublevel set,
              half-space or slab around the minimum;
            * "exponential_law": the plain law of Ibayashi and Imaizumi.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Raises:
        InvalidArgument: when the theory is unknown.
        Unsupported: when no theory covers the region, for shuffled epochs, heavy tails, and
            steps with a memory (momentum, Adam).
        NotConverged: when no instanton is found (theory "instanton").
        Unstable: when the learning rate is too large for the chain to be stable.
        NotAMinimum: when the minimum has a flat or unstable direction.
    """
    if theory not in _THEORIES:
        raise InvalidArgument(f"theory is {theory!r}; choose one of {', '.join(_THEORIES)}")
    dynamics = escape.dynamics
    require_no_memory(dynamics, "the mean exit time")
    if isinstance(dynamics, MinibatchSGD) and dynamics.sampling == "shuffled_epochs":
        raise Unsupported(
            "no theory predicts shuffled epochs: the noise of successive steps is anti-correlated "
            "within an epoch; simulate, or sample with or without replacement"
        )
    if isinstance(dynamics, HeavyTailedSGD):
        raise Unsupported(
            "no theory predicts heavy tails: a single jump, not a path against the drift, is the "
            "easiest way out; solve in one dimension, simulate or split"
        )
    around = measure_neighbourhood(escape) if neighbourhood is None else neighbourhood
    return _THEORIES[theory](escape, around)


def _escapade(escape: Escape, around: Neighbourhood) -> Prediction:
    """The best theory that applies; why a better one failed is said."""
    if not applies(escape, around):
        return _quadratic(escape, around)
    try:
        return _along_instantons(escape, around)
    except (NotConverged, Unsupported, DegenerateNoise) as error:
        if escape.region.local_form(escape.minimum, around.drift_matrix) is None:
            raise
        found = _quadratic(escape, around)
        reason = assumption(False, f"law along instantons: {in_one_line(error)}")
        return eqx.tree_at(
            lambda prediction: prediction.assumptions, found, (*found.assumptions, reason)
        )


def _along_instantons(escape: Escape, around: Neighbourhood) -> Prediction:
    law = instanton_law(escape, around)
    groups, _ = measure_groups(escape, around, local_covariance(escape, around))
    groups = eqx.tree_at(lambda found: found.barrier, groups, law.value / escape.noise_scale)
    lines = [
        *_regime(groups),
        assumption(
            law.relative_error <= 0.1,
            f"{law.prefactor.description}: what is left out is about "
            f"{100 * law.relative_error:.2g} % (at most 10 %)",
        ),
        *_from_elsewhere(escape),
    ]
    return Prediction(
        theory="instanton",
        log_mean=law.log_mean,
        relative_error=law.relative_error,
        exponent=law.value,
        groups=groups,
        assumptions=tuple(lines),
        source="instantons with prefactor (docs/theory.md)",
    )


def _form(escape: Escape, around: Neighbourhood) -> LinearForm | QuadraticForm:
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    if form is None:
        raise Unsupported(
            f"no closed form predicts the exit from this region ({escape.region}); use a ball, "
            "sublevel set, half-space or slab around the minimum, or simulate"
        )
    return form


def _quadratic(escape: Escape, around: Neighbourhood) -> Prediction:
    form = _form(escape, around)
    stationary = local_covariance(escape, around)
    groups, exit_point = measure_groups(escape, around, stationary)
    rate, batch = escape.dynamics.learning_rate, escape.dynamics.batch_size
    matrices = (around.drift_matrix, around.covariance, form)
    if escape.dynamics.continuous:
        found = continuous_mean_exit_time(*matrices, escape.noise_scale)
        log_mean = found.log_mean - np.log(rate)
    else:
        found = uniform_mean_exit_time(*matrices, rate, batch)
        log_mean = found.log_mean
    return Prediction(
        theory="quadratic",
        log_mean=float(log_mean),
        relative_error=found.relative_error,
        exponent=groups.barrier * escape.noise_scale,
        groups=groups,
        assumptions=_assumptions(escape, around, form, groups, exit_point, log_mean),
        source="uniform mean exit time of linear-Gaussian SGD (docs/theory.md)",
    )


def _exponential_law(escape: Escape, around: Neighbourhood) -> Prediction:
    _form(escape, around)
    stationary = around.stationary_covariance()
    groups, _ = measure_groups(escape, around, stationary, with_noise_correction=False)
    return Prediction(
        theory="exponential_law",
        log_mean=groups.barrier - float(np.log(escape.dynamics.learning_rate)),
        relative_error=float("inf"),
        exponent=groups.barrier * escape.noise_scale,
        groups=groups,
        assumptions=(
            "holds on the logarithmic scale only: no prefactor, no finite step size",
            *_regime(groups),
        ),
        source="Ibayashi and Imaizumi, arXiv 2111.04004: E[tau] = exp((B / eta) V0), tau = eta nu",
    )


_THEORIES = {
    "escapade": _escapade,
    "instanton": _along_instantons,
    "quadratic": _quadratic,
    "exponential_law": _exponential_law,
}


def _assumptions(
    escape: Escape,
    around: Neighbourhood,
    form: LinearForm | QuadraticForm,
    groups: Groups,
    exit_point: Float[np.ndarray, " dim"],
    log_mean: float,
) -> tuple[str, ...]:
    """Every assumption with the number that decides it."""
    lines = _regime(groups)
    if not isinstance(escape.landscape, Quadratic):
        deviation = nonlinearity(escape, around, form, exit_point, np.exp(min(log_mean, 700.0)))
        lines.append(
            assumption(
                deviation <= 0.1,
                "quadratic up to the exit: with typical fluctuations in the other directions the "
                f"force there differs from linear by {100 * deviation:.2g} % (at most 10 %)",
            )
        )
    if isinstance(escape.dynamics, MinibatchSGD):
        lines.append(
            assumption(
                abs(groups.noise_correction) <= 0.3,
                "Gaussian noise: skewness and tails of the minibatch noise change log E[nu] by "
                f"about {groups.noise_correction:+.2g} (at most 0.3)",
            )
        )
    return (*lines, *_from_elsewhere(escape))


def _from_elsewhere(escape: Escape) -> list[str]:
    if np.array_equal(escape.start, escape.minimum):
        return []
    return ["starts at the minimum: no, so the time of the first relaxation is not seen"]


def _regime(groups: Groups) -> list[str]:
    return [
        assumption(
            groups.barrier >= 2, f"exit over a barrier: b = {groups.barrier:.3g} (at least 2)"
        ),
        assumption(
            groups.shell_ratio <= SHELL,
            "the region lies outside the typical shell: mean squared distance over size squared "
            f"is {groups.shell_ratio:.2g} (at most {SHELL:g})",
        ),
        assumption(
            groups.stiffness < 2, f"stable step: eta lambda_max = {groups.stiffness:.3g} (< 2)"
        ),
    ]


def nonlinearity(
    escape: Escape,
    around: Neighbourhood,
    form: LinearForm | QuadraticForm,
    exit_point: Float[np.ndarray, " dim"],
    steps: float,
) -> float:
    """Root mean square deviation of the force at the exit from linear, relative to it.

    At the two opposite exit points, displaced by typical fluctuations (of the spread reached after
    so many steps) in the other directions: the exit itself may be straight while flat directions
    wander far enough to bend the valley.
    """
    normal = form.normal_at(exit_point[None])[0]
    drift = around.drift_matrix
    time = max(steps, 1.0) * escape.dynamics.learning_rate
    spread = escape.noise_scale * horizon_covariance(drift, around.covariance, time)
    variances, modes = np.linalg.eigh(spread)
    normals = np.random.default_rng(0).standard_normal((8, len(normal)))
    fluctuations = normals * np.sqrt(np.clip(variances, 0, None)) @ modes.T
    fluctuations -= np.outer(fluctuations @ normal / (exit_point @ normal), exit_point)
    linear = normal @ drift @ exit_point
    points = np.concatenate([fluctuations + exit_point, fluctuations - exit_point])
    forces = np.array([escape.landscape.gradient(escape.minimum + point) for point in points])
    deviations = (forces - points @ drift.T) @ normal / linear
    return float(np.sqrt(np.mean(deviations**2)))
