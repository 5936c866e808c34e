"""The verb `minimum_steepness`: the easiest way out, and its cost."""

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.errors import DegenerateNoise, InvalidArgument, Unsupported
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.landscape._base import as_points
from escapade.landscape.descent import jacobian
from escapade.minimum import Neighbourhood
from escapade.minimum import neighbourhood as measure_neighbourhood
from escapade.noise import Constant, HessianProportional, Isotropic
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.closed_form import linear_orbits
from escapade.steepness.continuous.orbits import continuous_orbits
from escapade.steepness.hamiltonian import (
    AbstractHamiltonian,
    GaussianHamiltonian,
    hamiltonian,
)
from escapade.steepness.orbit import Orbit
from escapade.steepness.sweeps import swept_orbits
from escapade.steepness.time_grid.chain import chain_orbits
from escapade.steepness.time_grid.finite_horizon import finite_horizon_orbits

Vector = Float[np.ndarray, " dim"]

FEW = 24
"""Dimension up to which paths are found by Newton's method on all their points at once."""


class Instanton(eqx.Module):
    """The path of least steepness from the start to the boundary, or to a point.

    Attributes:
        orbits: every local minimiser found, each with its path, momenta and value; cheapest first.
        horizon: number of steps the path may take; infinite for the quasipotential.
        learning_rate: the learning rate, which turns times into steps.
    """

    orbits: tuple[Orbit, ...]
    horizon: float
    learning_rate: float

    @property
    def value(self) -> float:
        """Minimum steepness V0, in units in which log E[nu] ~ (B / eta) V0."""
        return self.orbits[0].value

    @property
    def error(self) -> float:
        """Estimated relative error of the value."""
        return self.orbits[0].error

    @property
    def converged(self) -> bool:
        """Whether the error is within the tolerance asked for."""
        return self.orbits[0].converged

    @property
    def method(self) -> str:
        """How it was found."""
        return self.orbits[0].method

    @property
    def path(self) -> Float[np.ndarray, "n dim"]:
        """Parameters along the path; from near the minimum, or from the start, to the exit."""
        return self.orbits[0].path

    @property
    def times(self) -> Float[np.ndarray, " n"]:
        """Steps along the path: up to 0 at the exit, or from 0 with a horizon."""
        return self.orbits[0].times / self.learning_rate

    @property
    def momenta(self) -> Float[np.ndarray, "n dim"]:
        """Conjugate momenta along the path: the gradient of V, with an infinite horizon."""
        return self.orbits[0].momenta

    @property
    def actions(self) -> Float[np.ndarray, " n"]:
        """Steepness spent up to each point of the path; the last one is the value."""
        return self.orbits[0].actions

    @property
    def exit_point(self) -> Float[np.ndarray, " dim"]:
        """Where the path ends."""
        return self.orbits[0].end

    @property
    def exit_points(self) -> Float[np.ndarray, "k dim"]:
        """Ends of all paths that are as cheap as the cheapest, within the error."""
        return np.array([orbit.end for orbit in self.minimisers])

    @property
    def momentum(self) -> Float[np.ndarray, " dim"]:
        """Momentum at the end, the gradient of V there."""
        return self.momenta[-1]

    @property
    def minimisers(self) -> tuple[Orbit, ...]:
        """Orbits as cheap as the cheapest, within their errors."""
        slack = self.value * max(10 * self.error, 1e-7)
        return tuple(orbit for orbit in self.orbits if orbit.value <= self.value + slack)

    def to_xarray(self) -> xr.Dataset:
        """The path as labelled arrays over steps."""
        return xr.Dataset(
            {
                "path": (("step", "parameter"), self.path, {"long_name": "parameters"}),
                "momentum": (("step", "parameter"), self.momenta),
                "steepness": ("step", self.actions, {"long_name": "steepness spent so far"}),
            },
            coords={"step": ("step", self.times, {"units": "steps"})},
            attrs={
                "value": self.value,
                "relative_error": self.error,
                "converged": int(self.converged),
                "method": self.method,
                "horizon": self.horizon,
                "values_of_all_local_minimisers": [orbit.value for orbit in self.orbits],
            },
        )

    def __str__(self) -> str:
        within = "" if np.isinf(self.horizon) else f" within {self.horizon:g} steps"
        others = len(self.orbits) - 1
        return (
            f"minimum steepness {self.value:.10g}{within} (relative error {self.error:.1e}, "
            f"{self.method}); exit at distance {np.linalg.norm(self.path[-1] - self.path[0]):.4g}"
            + (f"; {others} other local minimiser{'s' * (others > 1)}" if others else "")
        )


def minimum_steepness(
    escape: Escape,
    horizon: float | None = None,
    to: ArrayLike | None = None,
    *,
    continuous_limit: bool = False,
    tolerance: float | None = None,
    neighbourhood: Neighbourhood | None = None,
) -> Instanton:
    """Least steepness of any path from the start to the boundary of the region.

    The action is that of the dynamics as it is: Freidlin and Wentzell's for continuous SGD, the
    finite-step one for a chain, with the noise of minibatches in full for `MinibatchSGD`. Closed
    form where the problem is linear with constant noise; in up to 24 dimensions by Newton's method
    on whole paths, from many starts; beyond by sweeps of gradients and products along the path,
    from the easiest exits of the quadratic theory (whose matrices are dense) outwards.

    Args:
        escape: the problem.
        horizon: largest number of steps; unlimited (from the minimum) unless given. With a
            horizon the path starts at the escape's start.
        to: end point, shape (dim,), instead of the boundary of the region.
        continuous_limit: of a chain, the limit of a vanishing learning rate at fixed batch size.
        tolerance: relative error asked for; 1e-8 unless given, 1e-6 beyond 24 dimensions.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Raises:
        Unsupported: for shuffled epochs, and where no solver applies; the message says what does.
        InvalidArgument: when the horizon is not positive, or not a whole number of steps for a
            chain.
        DegenerateNoise: when no noise leads to the end.
        NotInRegion: when the noiseless path from the start leaves the region by itself.
        NotConverged: when no path is found to the tolerance.
        Unstable: when the chain is unstable at this learning rate.
    """
    law = hamiltonian(escape, continuous_limit)
    end = None if to is None else as_points(to, escape.landscape.dim, "to")[0]
    steps = None if horizon is None else _checked_horizon(horizon, law)
    orbits = _orbits(escape, law, steps, end, tolerance, neighbourhood)
    _require_covariance(law, orbits[0])
    return Instanton(
        orbits=tuple(orbits),
        horizon=float("inf") if horizon is None else float(horizon),
        learning_rate=escape.dynamics.learning_rate,
    )


def _require_covariance(law: AbstractHamiltonian, orbit: Orbit) -> None:
    """Noise proportional to the Hessian is none where the Hessian is not positive.

    Checked where the path is short of dimensions; in many the flat directions are of either sign.
    """
    if not isinstance(law, GaussianHamiltonian) or orbit.path.shape[1] > FEW:
        return
    if not isinstance(law.noise, HessianProportional):
        return
    for point in orbit.path[:: max(1, len(orbit.path) // 32)]:
        eigenvalues = np.linalg.eigvalsh(jacobian(law.landscape, point))
        if eigenvalues[0] < -1e-6 * np.abs(eigenvalues).max():
            raise DegenerateNoise(
                "noise HessianProportional is no covariance on the path: the Hessian at "
                f"{np.array2string(point, precision=4)} has the eigenvalue {eigenvalues[0]:.3g}; "
                "leave a smaller region, or use noise.Isotropic, Constant or Function"
            )


def _checked_horizon(horizon: float, law: AbstractHamiltonian) -> float:
    if not (np.ndim(horizon) == 0 and np.isfinite(horizon) and horizon > 0):
        raise InvalidArgument(f"horizon is {horizon}; give a positive number of steps")
    if law.time_step is not None and horizon != int(horizon):
        raise InvalidArgument(
            f"horizon is {horizon}; a discrete chain takes a whole number of steps"
        )
    return float(horizon)


def _orbits(
    escape: Escape,
    law: AbstractHamiltonian,
    steps: float | None,
    to: Vector | None,
    tolerance: float | None,
    around: Neighbourhood | None,
) -> list[Orbit]:
    time = None if steps is None else steps * escape.dynamics.learning_rate
    linear = _linear_end(escape, law, to)
    if linear is not None:
        around = measure_neighbourhood(escape) if around is None else around
        return linear_orbits(
            around, escape.minimum, escape.start, law.time_step, end=linear, time=time
        )
    region = escape.region if to is None else None
    if escape.landscape.dim > FEW:
        if steps is not None or to is not None:
            raise Unsupported(
                f"in {escape.landscape.dim} dimensions minimum_steepness goes from the minimum to "
                f"the boundary without a horizon; horizon and to are for up to {FEW} dimensions"
            )
        around = measure_neighbourhood(escape) if around is None else around
        return swept_orbits(law, escape.minimum, around, escape.region, tolerance=tolerance or 1e-6)
    accuracy = tolerance or 1e-8
    if law.time_step is not None:
        whole = None if steps is None else int(steps)
        return chain_orbits(
            law,
            escape.start,
            escape.minimum,
            steps=whole,
            region=region,
            to=to,
            tolerance=accuracy,
        )
    if time is None:
        return continuous_orbits(law, escape.minimum, to=to, region=region, tolerance=accuracy)
    return finite_horizon_orbits(
        law, escape.start, escape.minimum, time, region=region, to=to, tolerance=accuracy
    )


def _linear_end(
    escape: Escape, law: AbstractHamiltonian, to: Vector | None
) -> LinearForm | QuadraticForm | Vector | None:
    """Where a linear problem with constant noise ends; None for another problem."""
    if not (
        isinstance(escape.landscape, Quadratic)
        and isinstance(law, GaussianHamiltonian)
        and isinstance(law.noise, Constant | Isotropic)
    ):
        return None
    if to is not None:
        return to
    return escape.region.local_form(escape.minimum, escape.landscape.hessian)
