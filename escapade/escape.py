"""The noun of the library: what is left, by which dynamics, out of which region."""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics import AbstractDynamics
from escapade.errors import InvalidArgument, NotAMinimum, NotInRegion
from escapade.landscape import AbstractLandscape
from escapade.landscape._base import as_points
from escapade.landscape.descent import jacobian
from escapade.noise import Function as FunctionNoise
from escapade.noise import LossProportional
from escapade.noise._base import semidefinite_factor
from escapade.region import AbstractRegion, Basin, Sublevel, Where
from escapade.region.boundary import require_boundary

MOST_CHECKED = 32
"""Largest dimension in which the curvature at the minimum is computed to check it."""


class Escape(eqx.Module):
    """One escape problem, validated: every verb takes it.

    Attributes:
        landscape: the loss surface or drift.
        dynamics: the chain or diffusion, prepared for the landscape.
        region: the set that is left, anchored at the minimum.
        start: where the replicas start.
        minimum: the minimum (attractor) that the region surrounds.
    """

    landscape: AbstractLandscape
    dynamics: AbstractDynamics
    region: AbstractRegion
    start: Float[np.ndarray, " dim"]
    minimum: Float[np.ndarray, " dim"]

    def __init__(
        self,
        landscape: AbstractLandscape,
        dynamics: AbstractDynamics,
        region: AbstractRegion,
        start: ArrayLike | None = None,
        minimum: ArrayLike | None = None,
    ):
        """Describe an escape.

        Args:
            landscape: one of `escapade.landscapes`.
            dynamics: for example `GaussianSGD` or `MinibatchSGD`.
            region: for example `Ball` or `Sublevel`.
            start: starting point, shape (dim,); the minimum unless given.
            minimum: the minimum left, shape (dim,); unless given, the landscape's known minimum
                nearest to the start, else the start itself.

        Raises:
            InvalidArgument: when a part has the wrong type or shape, or a value is not finite.
            NotAMinimum: when the gradient at the minimum does not vanish, or (checked in up to 32
                dimensions) the loss curves downwards there.
            NotInRegion: when the start lies outside the region.
            NoBoundary: when the region cannot be left.
            DegenerateNoise: when the noise is zero or not a covariance.
            Unsupported: when the dynamics cannot run on the landscape.
        """
        _require(landscape, AbstractLandscape, "landscape", "landscapes.Quadratic(hessian)")
        _require(dynamics, AbstractDynamics, "dynamics", "GaussianSGD(0.1, 16, noise)")
        _require(region, AbstractRegion, "region", "Ball(radius=0.5)")
        self.landscape = landscape
        self.dynamics = dynamics.prepared(landscape)
        self.minimum = _find_minimum(landscape, start, minimum)
        self.start = self.minimum if start is None else _one_point(start, landscape.dim, "start")
        self.region = region.anchored(landscape, self.minimum)
        level = float(self.region.level(self.start))
        if not level < 0:
            raise NotInRegion(
                f"start has level {level:.4g} in the region ({self.region}); it must be negative: "
                "start inside the region, or choose a larger one"
            )
        if isinstance(region, Basin | Sublevel | Where):
            # What a predicate leaves out may be a small target, so look for it more finely.
            rays, radii = (256, 1201) if isinstance(region, Where) else (16, 121)
            require_boundary(self.region, self.start, rays, radii)
        _check_noise(self)

    @property
    def noise_scale(self) -> float:
        """``epsilon^2 = learning_rate / batch_size``."""
        return self.dynamics.learning_rate / self.dynamics.batch_size

    def __str__(self) -> str:
        return (
            f"{self.dynamics} (learning rate {self.dynamics.learning_rate:.4g}, batch size "
            f"{self.dynamics.batch_size:g}) leaving a {self.region} on "
            f"{type(self.landscape).__name__} in dimension {self.landscape.dim}"
        )


def require_escape(value: object) -> None:
    """Check the argument `escape` of a verb.

    Raises:
        InvalidArgument: when it is none.
    """
    if not isinstance(value, Escape):
        raise InvalidArgument(f"escape is {value!r}; give an escapade.Escape")


def _require(value: object, kind: type, argument: str, example: str) -> None:
    if not isinstance(value, kind):
        raise InvalidArgument(f"{argument} is {value!r}; give one of Escapade's, such as {example}")


def _one_point(point: ArrayLike, dim: int, argument: str) -> Float[np.ndarray, " dim"]:
    points = as_points(point, dim, argument)
    if len(points) != 1:
        raise InvalidArgument(f"{argument} holds {len(points)} points; give one")
    return points[0]


def _find_minimum(
    landscape: AbstractLandscape, start: ArrayLike | None, minimum: ArrayLike | None
) -> Float[np.ndarray, " dim"]:
    known = landscape.minima
    if minimum is not None:
        point, argument = _one_point(minimum, landscape.dim, "minimum"), "minimum"
    elif start is not None:
        point, argument = _one_point(start, landscape.dim, "start"), "start"
        if len(known):
            nearest = np.argmin(np.linalg.norm(known - point, axis=1))
            point, argument = known[nearest], "the landscape's minimum"
    elif len(known):
        point, argument = known[0], "the landscape's minimum"
    else:
        raise NotAMinimum(
            f"no minimum of {type(landscape).__name__} is known; give minimum=..., for example "
            "escapade.find_minimum(landscape, near).theta"
        )
    _check_stationary(landscape, point, argument)
    return point


def _check_stationary(
    landscape: AbstractLandscape, point: Float[np.ndarray, " dim"], argument: str
) -> None:
    """Compare the gradient with its change over a small distance: cheap in any dimension."""
    gradient = np.linalg.norm(landscape.gradient(point))
    if not np.isfinite(gradient):
        raise InvalidArgument(f"the gradient at {argument} is NaN or infinite; check the landscape")
    probe = 1e-3 * (1 + np.abs(point).max())
    offsets = probe * np.random.default_rng(0).standard_normal((4, point.size)) / point.size**0.5
    typical = np.mean([np.linalg.norm(landscape.gradient(point + step)) for step in offsets])
    if gradient > 0.03 * typical:
        raise NotAMinimum(
            f"{argument} has gradient norm {gradient:.3g}, so it is not a minimum; polish it with "
            "escapade.find_minimum(landscape, near).theta, or give minimum=... beside start=..."
        )
    if point.size <= MOST_CHECKED:
        rates = np.linalg.eigvals(jacobian(landscape, point))
        if rates.real.min() < -1e-6 * np.abs(rates).max():
            raise NotAMinimum(
                f"{argument} is stationary but repels: its drift has eigenvalues (those of the "
                f"Hessian, for a loss) down to {rates.real.min():.3g}; it is a saddle or a "
                "maximum, give a minimum"
            )


def _check_noise(escape: Escape) -> None:
    """A covariance that varies freely can only be checked at a point."""
    noise = getattr(escape.dynamics, "noise", None)
    if isinstance(noise, FunctionNoise | LossProportional):
        covariance = noise.covariance(escape.landscape, escape.start)
        if covariance.any() or np.array_equal(escape.start, escape.minimum):
            semidefinite_factor(covariance, f"noise.{type(noise).__name__} at the start")
