"""Will SGD stay here? The exit from each region: how many steps, which way, by which mechanism."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.dynamics import MinibatchSGD
from escapade.errors import (
    DegenerateNoise,
    Diverged,
    EscapadeError,
    InvalidArgument,
    Unstable,
    Unsupported,
    in_one_line,
)
from escapade.inspection.drift import LONGEST, Fall, measure_bend
from escapade.inspection.fluctuations import Fluctuations
from escapade.inspection.stability import Stability
from escapade.inspection.way_out import WayOut, way_out
from escapade.landscape import AbstractEmpirical
from escapade.minimum.local_model import LocalModel
from escapade.region import AbstractRegion, Ball, HalfSpace, Slab, Sublevel
from escapade.region._base import fits
from escapade.theory.diagnose import DRIFT
from escapade.theory.groups import SHELL
from escapade.theory.network_law import SEARCH, NetworkExit, ellipsoid_exit, linear_exit
from escapade.theory.noise_correction import noise_correction
from escapade.theory.prediction import Diagnosis, Groups, Prediction, assumption

ANSWERS = 0.05
"""What the other directions' answers to the way out change of log E[nu], in networks tried."""

NAN_GROUPS = Groups(*(float("nan"),) * 5, (float("nan"), float("nan")))


class Outlook(eqx.Module):
    """The exit from one region.

    Attributes:
        region: what is left.
        prediction: mean exit time from the minimum, with its assumptions; None where the point is
            no place SGD stays at.
        diagnosis: the mechanism.
        steps: expected number of steps, whatever the mechanism; infinite where none is in sight.
        direction: unit vector of the most likely exit; None where unknown.
    """

    region: AbstractRegion
    prediction: Prediction | None
    diagnosis: Diagnosis
    steps: float
    direction: Float[np.ndarray, " dim"] | None

    def __str__(self) -> str:
        lines = [f"{self.region}: {self.diagnosis}"]
        if self.prediction is not None:
            lines.append(f"  {self.prediction}")
        return "\n".join(lines)


class Surroundings(eqx.Module):
    """Everything measured at the point that an exit depends on.

    Attributes:
        model: curvature and noise.
        stability: of this learning rate and batch size.
        fall: where the noiseless descent leads, if the point is no minimum.
        landscape: the network.
        fluctuations: typical ones, to look at force and noise away from the point; None where that
            is not to be done.
        noise_factor: share of the noise variance left by the sampling.
    """

    model: LocalModel
    stability: Stability
    fall: Fall
    landscape: AbstractEmpirical
    fluctuations: Fluctuations | None = eqx.field(static=True)
    noise_factor: float = 1.0

    def at(
        self, dynamics: MinibatchSGD, noise_factor: float, *, quick: bool = False
    ) -> "Surroundings":
        """The same point under another learning rate and batch size.

        What is away from the point is looked at unless that is to be `quick`.
        """
        rate, batch = dynamics.learning_rate, dynamics.batch_size
        fluctuations = None
        if self.fluctuations is not None and not quick:
            fluctuations = self.fluctuations.at(rate, batch / noise_factor)
        sharpest = self.model.curvatures[: len(self.stability.curvature_spread)]
        return Surroundings(
            self.model,
            self.stability.at(sharpest, rate, batch),
            self.fall.at(rate, batch),
            self.landscape,
            fluctuations,
            noise_factor,
        )


def default_regions(
    direction: Float[np.ndarray, " dim"], sharpness: float, depth: float
) -> tuple[AbstractRegion, ...]:
    """A slab across the sharpest direction, a sublevel set and a ball, of one depth.

    The slab's faces and the ball's surface stand where the loss has risen by `depth` along the
    sharpest direction.
    """
    reach = float(np.sqrt(2 * depth / sharpness))
    return Slab(direction, reach), Sublevel(depth), Ball(reach)


def require_region(region: AbstractRegion, dim: int) -> None:
    """Check that a region can be judged from the neighbourhood of the point.

    Raises:
        InvalidArgument: when it cannot.
    """
    if not isinstance(region, Slab | HalfSpace | Ball | Sublevel):
        raise InvalidArgument(
            f"regions holds {region!r}; an inspection takes Slab, HalfSpace, Ball and Sublevel: "
            "describe an escapade.Escape and simulate it for any other"
        )
    anchor = region.center if isinstance(region, Ball) else getattr(region, "reference", None)
    if anchor is not None:
        raise InvalidArgument(
            f"regions holds a {region} with a centre or reference of its own; those of an "
            "inspection are centred at the point inspected"
        )
    if isinstance(region, Slab | HalfSpace):
        fits(region.normal, dim, "normal")


def outlook(
    surroundings: Surroundings,
    region: AbstractRegion,
    dynamics: MinibatchSGD,
    *,
    quick: bool = False,
) -> Outlook:
    """Judge the exit from one region; `quick` gives a few per cent away."""
    try:
        law = _law(surroundings, region, dynamics, SEARCH if quick else None)
    except Unstable as error:
        diagnosis = Diagnosis("unstable", in_one_line(error), _stiff(surroundings))
        return Outlook(region, None, diagnosis, _growth_steps(surroundings, region), None)
    except DegenerateNoise as error:
        unstable = _unstable(surroundings, _stiff(surroundings))
        if unstable is not None:
            return Outlook(region, None, unstable, _growth_steps(surroundings, region), None)
        fallen = _falls(surroundings, region, np.inf)
        diagnosis = fallen or Diagnosis("activated", in_one_line(error), _stiff(surroundings))
        return Outlook(region, None, diagnosis, surroundings.fall.steps_to_leave(region), None)
    except EscapadeError as error:
        fallen = _falls(surroundings, region, np.inf)
        diagnosis = fallen or Diagnosis("drift", in_one_line(error), NAN_GROUPS)
        return Outlook(region, None, diagnosis, surroundings.fall.steps_to_leave(region), None)
    prediction, shift = _prediction(surroundings, region, dynamics, law)
    diagnosis = _mechanism(surroundings, region, prediction, law, shift)
    steps = prediction.mean
    if diagnosis.mechanism == "drift":
        steps = min(steps, surroundings.fall.steps_to_leave(region))
    if diagnosis.mechanism == "unstable":
        steps = _growth_steps(surroundings, region)
    basis = surroundings.model.basis
    direction = basis @ (law.direction / np.linalg.norm(law.direction))
    return Outlook(region, prediction, diagnosis, steps, direction)


def _law(
    surroundings: Surroundings,
    region: AbstractRegion,
    dynamics: MinibatchSGD,
    samples: int | None,
) -> NetworkExit:
    model = surroundings.model
    rate, batch = dynamics.learning_rate, dynamics.batch_size / surroundings.noise_factor
    if isinstance(region, Slab | HalfSpace):
        size = region.half_width if isinstance(region, Slab) else region.offset
        along = model.basis.T @ region.normal
        return linear_exit(model, along, size, isinstance(region, Slab), rate, batch)
    if isinstance(region, Ball):
        return ellipsoid_exit(model, "ball", region.radius, rate, batch, samples=samples)
    assert isinstance(region, Sublevel)
    return ellipsoid_exit(model, "sublevel", region.depth, rate, batch, samples=samples)


def _prediction(
    surroundings: Surroundings, region: AbstractRegion, dynamics: MinibatchSGD, law: NetworkExit
) -> tuple[Prediction, float]:
    """The prediction, and the share of the way to the boundary that noise pushes the mean."""
    model, groups = surroundings.model, law.groups
    lines = [
        assumption(
            groups.barrier >= 2, f"exit over a barrier: b = {groups.barrier:.3g} (at least 2)"
        ),
        assumption(
            groups.shell_ratio <= SHELL,
            "the region lies outside the typical shell: mean squared distance by the exit over "
            f"size squared is {groups.shell_ratio:.2g} (at most {SHELL:g})",
        ),
        assumption(
            groups.stiffness < 2, f"stable step: eta lambda_max = {groups.stiffness:.3g} (< 2)"
        ),
    ]
    if isinstance(region, Slab | HalfSpace):
        along = model.basis.T @ region.normal
        outside = float(np.sqrt(max(1 - along @ along, 0.0)))
        lines.append(
            assumption(
                outside <= 0.01,
                f"the normal lies in the directions measured, but for {outside:.2g} (at most 0.01)",
            )
        )
    if law.least_barrier < 0.5 * groups.barrier:
        lines.append(
            assumption(
                False,
                "the easiest direction is among those measured: noise in many flat directions "
                f"could hide an easier one, with a barrier down to {law.least_barrier:.3g}",
            )
        )
    away = surroundings.fall.displacement(region)
    lines.append(
        assumption(
            away <= 0.1,
            f"the minimum lies here: a Newton step moves {100 * away:.2g} % of the way to the "
            "boundary (at most 10 %)",
        )
    )
    found = _measured(surroundings, region, law)
    if isinstance(found, WayOut):
        effect, shift, unknown = law.noise_effect, found.push, _doubts(law, found)
        lines += _of_the_way_out(found)
        law = law._replace(log_mean=found.log_mean)
    else:
        if found:
            lines.append(assumption(False, f"the way out can be followed: {found}"))
        effect, unknown, told = _of_the_noise(model, law, region, dynamics)
        lines.append(told)
        shift = 0.0
        if surroundings.fluctuations is not None:
            shift, doubts, more = _of_the_bend(surroundings, law)
            unknown += doubts
            lines += more
    stated = float(np.expm1(min(float(np.linalg.norm(unknown)), 50.0)))
    groups = eqx.tree_at(lambda g: g.noise_correction, groups, effect)
    return (
        Prediction(
            theory="quadratic",
            log_mean=law.log_mean,
            relative_error=stated,
            exponent=law.exponent,
            groups=groups,
            assumptions=tuple(lines),
            source="uniform mean exit time, matrix-free (docs/networks.md)",
        ),
        shift,
    )


def _measured(surroundings: Surroundings, region: AbstractRegion, law: NetworkExit) -> WayOut | str:
    """The way out as it is, or why it was not followed; empty where there is no straight one."""
    # The linear law takes the minibatches whole where the chain is a scalar one.
    scalar = isinstance(region, Slab | HalfSpace) and law.noise_effect is not None
    if not scalar or surroundings.fluctuations is None:
        return ""
    assert isinstance(region, Slab | HalfSpace)
    model = surroundings.model
    offset = region.half_width if isinstance(region, Slab) else region.offset
    normal = np.asarray(region.normal, np.float64)
    along = model.basis.T @ normal
    try:
        return way_out(
            surroundings.landscape,
            surroundings.fluctuations,
            normal,
            model.basis @ law.direction / offset,
            float(along @ (model.curvatures * along)),
            offset,
            law.log_mean,
            two_sided=isinstance(region, Slab),
        )
    except (Diverged, Unsupported) as error:
        return in_one_line(error)


def _doubts(law: NetworkExit, found: WayOut) -> list[float]:
    """What may be wrong with a measured way out, in log E[nu]."""
    return [
        ANSWERS,
        float(np.log1p(law.relative_error)),
        # The first order in the motion of the mean, of which the other directions' answers take a
        # tenth back in networks, and half where one flat direction carries it all.
        0.5 * found.moved,
        0.5 * found.spread,
        found.uncertainty,
    ]


def _of_the_way_out(found: WayOut) -> list[str]:
    return [
        assumption(
            abs(found.along) <= 1,
            "the way out near to linear: its force and noise as they are, which are included, "
            f"change log E[nu] by {found.along:+.2g} (at most 1)",
        ),
        assumption(
            abs(found.moved) <= 1,
            "the mean near to the minimum: its motion by noise, which is included, changes "
            f"log E[nu] by {found.moved:+.2g} (at most 1)",
        ),
        assumption(
            abs(found.spread) <= 0.3,
            "one force whatever the other directions do: their fluctuations, which are included "
            f"on average, change log E[nu] by {found.spread:+.2g} (at most 0.3)",
        ),
    ]


def _of_the_noise(
    model: LocalModel, law: NetworkExit, region: AbstractRegion, dynamics: MinibatchSGD
) -> tuple[float, list[float], str]:
    """Effect of noise that is not Gaussian on log E[nu], what is unknown of it, and a line."""
    effect = law.noise_effect
    if effect is None:
        rising = model.curvatures > 0
        effect = noise_correction(
            model.slopes[:, rising],
            model.curvatures[rising],
            law.momentum[rising],
            dynamics.learning_rate / dynamics.batch_size,
            one_sided=isinstance(region, HalfSpace),
        )
        line = assumption(
            abs(effect) <= 0.3,
            "Gaussian noise: skewness and tails of the minibatch noise change log E[nu] by "
            f"about {effect:+.2g} (at most 0.3)",
        )
        return effect, [float(np.log1p(law.relative_error)), effect], line
    line = assumption(
        abs(effect) <= 1.5,
        "noise along the exit not far from Gaussian: its skewness and tails, which are "
        f"included, change log E[nu] by {effect:+.2g} (at most 1.5)",
    )
    return effect, [float(np.log1p(law.relative_error)), 0.1 * effect], line


def _of_the_bend(
    surroundings: Surroundings, law: NetworkExit
) -> tuple[float, list[float], list[str]]:
    """Push of the mean by noise, what bending and changing noise may do, and two lines."""
    assert surroundings.fluctuations is not None
    try:
        # At a saddle fluctuations grow without bound, and leave the range of numbers.
        with np.errstate(over="ignore", invalid="ignore"):
            found = measure_bend(surroundings.landscape, surroundings.fluctuations, law)
        finite = bool(np.isfinite(found).all())
    except Diverged:
        finite = False
    if not finite:
        return 0.0, [np.inf], [assumption(False, "the loss is finite where SGD is by the exit")]
    lines = [
        assumption(
            found.nonlinearity <= 0.1,
            "quadratic up to the exit: with typical fluctuations in the other directions the "
            f"force there differs from linear by {100 * found.nonlinearity:.2g} % "
            "(at most 10 %)",
        ),
        assumption(
            2 / 3 <= found.noise_ratio <= 1.5,
            "the same noise up to the exit: there its variance is "
            f"{found.noise_ratio:.3g} times that at the minimum (0.67 to 1.5)",
        ),
    ]
    # The barrier is an integral of force over noise; on the way it differs half as much.
    half = 0.5 * law.groups.barrier
    return (
        found.shift,
        [half * found.nonlinearity, half * abs(float(np.log(found.noise_ratio)))],
        lines,
    )


def _mechanism(
    surroundings: Surroundings,
    region: AbstractRegion,
    prediction: Prediction,
    law: NetworkExit,
    shift: float,
) -> Diagnosis:
    groups = prediction.groups
    unstable = _unstable(surroundings, groups)
    if unstable is not None:
        return unstable
    fallen = _falls(surroundings, region, prediction.mean)
    if fallen is not None:
        return fallen
    if surroundings.fall.unstable_curvature < 0 and not prediction.mean < LONGEST:
        return Diagnosis(
            "drift",
            "this is no minimum: along some direction the loss curves downwards "
            f"({surroundings.fall.unstable_curvature:.3g}), and no barrier holds SGD",
            groups,
        )
    if groups.shell_ratio >= SHELL:
        return Diagnosis(
            "diffusive",
            f"by then typical fluctuations fill {groups.shell_ratio:.2g} of the region's size "
            f"squared, in {groups.effective_dimension:.2g} effective directions",
            groups,
        )
    if abs(shift) >= DRIFT:
        return Diagnosis(
            "drift",
            f"the noise moves the mean position by {100 * abs(shift):.0f} % of the distance to the "
            "boundary (third derivatives of the loss)",
            groups,
        )
    return Diagnosis(
        "activated", f"a rare fluctuation must climb a barrier b = {groups.barrier:.3g}", groups
    )


def _unstable(surroundings: Surroundings, groups: Groups) -> Diagnosis | None:
    growth = surroundings.stability.growth
    if growth <= 1:
        return None
    return Diagnosis(
        "unstable",
        "mean-square unstable: the spread of curvature between minibatches multiplies the variance "
        f"by {growth:.3g} each step",
        groups,
    )


def _falls(surroundings: Surroundings, region: AbstractRegion, steps: float) -> Diagnosis | None:
    fall = surroundings.fall.steps_to_leave(region)
    if not fall < steps:
        return None
    return Diagnosis(
        "drift",
        f"this is no minimum: descent alone leaves the region after about {fall:.3g} steps",
        _stiff(surroundings),
    )


def _growth_steps(surroundings: Surroundings, region: AbstractRegion) -> float:
    """Steps until the noise of one step, multiplied anew each step, fills the region."""
    stability, sharpest = surroundings.stability, float(surroundings.model.curvatures[0])
    match region:
        case Slab():
            square = region.half_width**2
        case HalfSpace():
            square = region.offset**2
        case Ball():
            square = region.radius**2
        case Sublevel():
            square = 2 * region.depth / sharpest
        case _:
            raise AssertionError(region)
    variance = float(surroundings.model.covariance[0, 0])
    seed = stability.learning_rate**2 / stability.batch_size * variance
    growth = max(stability.growth, 1 + 1e-9)
    if not seed > 0:
        return float("inf")
    return float(max(np.log1p(square * (growth - 1) / seed) / np.log(growth), 1.0))


def _stiff(surroundings: Surroundings) -> Groups:
    stiffness = surroundings.stability.learning_rate * float(surroundings.model.curvatures[0])
    return eqx.tree_at(lambda groups: groups.stiffness, NAN_GROUPS, stiffness)
