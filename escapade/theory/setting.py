"""What theories ask of an escape, each fact measured once and shared by all of them."""

from contextlib import suppress
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from escapade.dynamics import AbstractHeavyTailedSGD, MinibatchSGD
from escapade.dynamics.gaussian import AbstractGaussianDynamics
from escapade.dynamics.optimiser import AbstractOptimiser
from escapade.errors import EscapadeError, Unsupported
from escapade.escape import Escape
from escapade.landscape import AbstractLandscape, AbstractLoss
from escapade.landscape.descent import jacobian, newton
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.noise import AbstractNoise, Constant, Empirical, Isotropic
from escapade.precision import in_float64
from escapade.region.boundary import distance_to_boundary
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.continuous.orbits import continuous_orbits
from escapade.steepness.hamiltonian import GaussianHamiltonian, hamiltonian
from escapade.steepness.local import minimum_over_boundary
from escapade.theory.groups import local_covariance, measure_groups
from escapade.theory.instanton_law import MOST_DIMENSIONS, PAST, climb, is_linear, rests
from escapade.theory.nonlinearity import nonlinearity
from escapade.theory.prediction import Groups
from escapade.theory.uniform import (
    MeanExitTime,
    continuous_mean_exit_time,
    uniform_mean_exit_time,
)

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]


class Pass(NamedTuple):
    """One of the lowest ways out, as the loss alone sees it.

    Attributes:
        point: a saddle, or the lowest point of a part of the boundary.
        height: rise of the loss up to it.
        hessian: second derivatives of the loss there.
        saddle: whether the gradient vanishes there.
        behind: whether the region goes on behind the saddle.
        path: descent from it to the minimum, reversed.
    """

    point: Vector
    height: float
    hessian: Matrix
    saddle: bool
    behind: bool
    path: Float[np.ndarray, "n dim"]


class Setting:
    """One escape with what has been measured of it so far."""

    def __init__(self, escape: Escape, around: Neighbourhood | None = None):
        """An escape, and its neighbourhood where that is known."""
        self.escape = escape
        self._around = around

    @property
    def noise_scale(self) -> float:
        """``epsilon^2 = eta / B``."""
        return self.escape.noise_scale

    @property
    def learning_rate(self) -> float:
        """Eta."""
        return self.escape.dynamics.learning_rate

    @cached_property
    def around(self) -> Neighbourhood:
        """Hessian and noise at the minimum.

        Raises:
            NotAMinimum: when the minimum has a flat or unstable direction.
            Unsupported: when the noise has no covariance.
        """
        return measure_neighbourhood(self.escape) if self._around is None else self._around

    @property
    def hessian(self) -> Matrix:
        """Hessian at the minimum.

        Raises:
            Unsupported: when the drift is not the gradient of a loss.
        """
        self.loss  # noqa: B018 - refuses a drift
        return self.around.drift_matrix

    @property
    def loss(self) -> AbstractLoss:
        """The landscape as a loss.

        Raises:
            Unsupported: when it is a drift that is not the gradient of one.
        """
        landscape = self.escape.landscape
        if not isinstance(landscape, AbstractLoss):
            raise Unsupported(
                f"needs a loss but {type(landscape).__name__} is a drift without one; use "
                'theory="quadratic" or "instanton", which do not'
            )
        return landscape

    @cached_property
    def form(self) -> LinearForm | QuadraticForm | None:
        """The region near the minimum; None where it has no closed form."""
        return self.escape.region.local_form(self.escape.minimum, self.around.drift_matrix)

    @cached_property
    def linear(self) -> bool:
        """Whether the neighbourhood of the minimum decides, as far as can be asked.

        Beyond six dimensions nothing else is looked for.
        """
        if self.form is None:
            return False
        if self.escape.landscape.dim > MOST_DIMENSIONS:
            return True
        return is_linear(self.escape, self.around)

    @cached_property
    def mean_variance(self) -> float:
        """``Tr C / dim``: the variance of isotropic noise of the same power."""
        return float(np.trace(self.around.covariance)) / self.around.dim

    @cached_property
    def exit(self) -> tuple[Groups, Vector]:
        """Dimensionless groups, and the displacement at the most likely exit.

        Raises:
            EscapadeError: when they cannot be measured.
        """
        stationary = local_covariance(self.escape, self.around)
        return measure_groups(self.escape, self.around, stationary)

    @cached_property
    def groups(self) -> Groups:
        """Dimensionless groups; NaN where they are not known."""
        with suppress(EscapadeError):
            if not isinstance(self.escape.dynamics, AbstractOptimiser | AbstractHeavyTailedSGD):
                return self.exit[0]
        matrix = jacobian(self.escape.landscape, self.escape.minimum)
        rates = self.learning_rate * np.linalg.eigvals(matrix).real
        nan = float("nan")
        with np.errstate(divide="ignore"):
            steps = (float(1 / rates.min()), float(1 / rates.max()))
        return Groups(nan, nan, float(rates.max()), nan, nan, steps, nan)

    @cached_property
    def uniform(self) -> MeanExitTime:
        """Uniform mean exit time in steps, of the dynamics as it is.

        Raises:
            Unsupported: when the region has no closed form.
            Unstable: when the learning rate is too large.
        """
        form, around, rate = self.form, self.around, self.learning_rate
        if form is None:
            raise Unsupported(
                f"no closed form predicts the exit from this region ({self.escape.region}); use a "
                "ball, sublevel set, half-space or slab around the minimum, or simulate"
            )
        matrices = (around.drift_matrix, around.covariance, form)
        if not self.escape.dynamics.continuous:
            return uniform_mean_exit_time(*matrices, rate, self.escape.dynamics.batch_size)
        found = continuous_mean_exit_time(*matrices, self.noise_scale)
        return MeanExitTime(
            log_mean=float(found.log_mean - np.log(rate)),
            relative_error=found.relative_error,
            sampling_error=found.sampling_error,
            barrier=found.barrier,
            signal_to_noise=found.signal_to_noise,
        )

    @cached_property
    def nonlinearity(self) -> float:
        """Deviation of the force at the exit from linear, relative to it.

        Raises:
            EscapadeError: when there is no closed form, or it is unstable.
        """
        steps = float(np.exp(min(self.uniform.log_mean, 700.0)))
        assert self.form is not None  # or there would be no uniform mean
        return nonlinearity(self.escape, self.around, self.form, self.exit[1], steps)

    @cached_property
    def noise_change(self) -> float:
        """Relative change of the noise across the boundary from the minimum to the exit.

        The largest in size over the exits; zero where the noise is constant by construction.

        Raises:
            EscapadeError: when the exit is not known.
        """
        if isinstance(getattr(self.escape.dynamics, "noise", None), Constant | Isotropic):
            return 0.0
        if self.linear:
            assert self.form is not None
            displacement = self.exit[1]
            normal = self.form.normal_at(displacement[None])[0]
            opposite = not (isinstance(self.form, LinearForm) and not self.form.two_sided)
            ends = [displacement, -displacement] if opposite else [displacement]
        else:
            ends = [self.passes[0].point - self.escape.minimum]
            normal = ends[0] / np.linalg.norm(ends[0])
        within = self.noise_along(np.zeros_like(normal), normal)
        changes = [self.noise_along(end, normal) / within - 1 for end in ends]
        return max(changes, key=abs)

    def noise_along(self, displacement: Vector, direction: Vector) -> float:
        """Variance of one example's gradient along a direction, away from the minimum.

        Raises:
            Unsupported: for dynamics whose noise is not known.
        """
        escape, dynamics = self.escape, self.escape.dynamics
        noise: AbstractNoise
        if isinstance(dynamics, MinibatchSGD):
            noise, factor = Empirical(), dynamics.finite_population_factor(escape.landscape)
        elif isinstance(dynamics, AbstractGaussianDynamics):
            noise, factor = dynamics.gradient_noise, 1.0
        else:
            raise Unsupported(f"the noise of {dynamics} is not known away from the minimum")
        point = escape.minimum + displacement
        return factor * float(in_float64(_variance, noise, escape.landscape, point, direction))

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """Lowest ways out, lowest first: all saddles, or all points of the boundary.

        Raises:
            Unsupported: beyond six dimensions, where none is looked for.
            NotConverged: when none is found.
        """
        escape, loss = self.escape, self.loss
        if loss.dim > MOST_DIMENSIONS:
            raise Unsupported(
                f"needs the lowest way out on the landscape itself, which is looked for in up to "
                f"{MOST_DIMENSIONS} dimensions"
            )
        law = GaussianHamiltonian(loss, Isotropic(1.0), None)
        orbits = continuous_orbits(law, escape.minimum, region=escape.region)
        saddle = rests(orbits[0])
        floor = float(loss.loss(escape.minimum))
        found = []
        for orbit in orbits:
            if rests(orbit) != saddle:
                continue
            top = climb(orbit) if saddle else orbit
            point = newton(loss, top.end) if saddle else top.end
            gone = np.linalg.norm(top.end - orbit.end)
            found.append(
                Pass(
                    point=point,
                    height=float(loss.loss(point)) - floor,
                    hessian=jacobian(loss, point),
                    saddle=saddle,
                    behind=bool(gone > PAST * np.linalg.norm(point - escape.minimum)),
                    path=top.path,
                )
            )
        return tuple(sorted(found, key=lambda found: found.height))

    @cached_property
    def height(self) -> float:
        """Least rise of the loss from the minimum to the boundary.

        Raises:
            Unsupported: as `passes`, where the neighbourhood does not decide.
        """
        if not self.linear:
            return self.passes[0].height
        assert self.form is not None
        return minimum_over_boundary(np.linalg.inv(self.hessian), self.form).value

    @cached_property
    def quasipotential(self) -> float:
        """V0 of continuous SGD with Gaussian noise of the true covariance.

        Raises:
            EscapadeError: when it is not found.
        """
        if self.linear:
            assert self.form is not None
            return minimum_over_boundary(self.around.stationary_covariance(), self.form).value
        escape = self.escape
        if escape.landscape.dim > MOST_DIMENSIONS:
            raise Unsupported(
                f"the region has no closed form, and beyond {MOST_DIMENSIONS} dimensions no other "
                "quasipotential is looked for"
            )
        factor = 1.0
        law = hamiltonian(escape, continuous_limit=True)
        if isinstance(escape.dynamics, MinibatchSGD):
            law = GaussianHamiltonian(escape.landscape, Empirical(), None)
            factor = escape.dynamics.finite_population_factor(escape.landscape)
        return float(continuous_orbits(law, escape.minimum, region=escape.region)[0].value) / factor

    def distances(self, rays: Float[np.ndarray, "rays dim"]) -> Float[np.ndarray, " rays"]:
        """From the minimum to the boundary along unit directions; infinite where there is none."""
        return distance_to_boundary(self.escape.region, self.escape.minimum, rays)


def _variance(
    noise: AbstractNoise,
    landscape: AbstractLandscape,
    point: Float[Array, " dim"],
    direction: Float[Array, " dim"],
) -> Float[Array, ""]:
    return noise.variance(landscape, point, direction)
