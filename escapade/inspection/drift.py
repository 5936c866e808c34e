"""Motion without a barrier: descent from a point that is no minimum, and the force of noise."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.inspection.fluctuations import Fluctuations
from escapade.landscape import AbstractEmpirical, AbstractExpansion
from escapade.minimum.krylov.function import matrix_functions
from escapade.region import AbstractRegion, Ball, HalfSpace, Slab, Sublevel
from escapade.theory.network_law import NetworkExit

LONGEST = 10**7
"""Steps for which descent is followed."""


class Fall(eqx.Module):
    """Gradient descent from the point, in the quadratic approximation.

    In the Krylov space of the gradient, where H has eigenvalues lambda_k and the gradient the
    components g_k, the displacement after K steps is ``-g_k (1 - (1 - eta lambda_k)^K) /
    lambda_k``; it grows without bound where the loss curves downwards.

    Attributes:
        curvatures: lambda_k.
        components: g_k, along the orthonormal columns of `axes`.
        axes: where the descent moves; a column each.
        learning_rate: eta.
        unstable_curvature: the lowest curvature met, 0 if none is negative.
        unstable_axis: its eigenvector.
        unstable_noise: variance of one example's gradient along it.
        batch_size: B.
    """

    curvatures: Float[np.ndarray, " steps"]
    components: Float[np.ndarray, " steps"]
    axes: Float[np.ndarray, "dim steps"]
    learning_rate: float
    unstable_curvature: float = 0.0
    unstable_axis: Float[np.ndarray, " dim"] | None = None
    unstable_noise: float = 0.0
    batch_size: float = 1.0

    def at(self, learning_rate: float, batch_size: float) -> "Fall":
        """The same descent at another learning rate and batch size."""
        return Fall(
            self.curvatures,
            self.components,
            self.axes,
            learning_rate,
            self.unstable_curvature,
            self.unstable_axis,
            self.unstable_noise,
            batch_size,
        )

    def displacement(self, region: AbstractRegion) -> float:
        """Where the descent ends, as a share of the way to the boundary; infinite without an end.

        For a sublevel set: the loss gained, in units of its depth.
        """
        scale = np.abs(self.curvatures).max(initial=0.0)
        pulled = np.abs(self.components) > 0
        if np.any(pulled & (self.curvatures <= 1e-12 * scale)):
            return float("inf")
        ends = np.where(pulled, -self.components / np.where(pulled, self.curvatures, 1.0), 0.0)
        match region:
            case Slab():
                return float(abs(ends @ (self.axes.T @ region.normal)) / region.half_width)
            case HalfSpace():
                return float(abs(ends @ (self.axes.T @ region.normal)) / region.offset)
            case Ball():
                return float(np.linalg.norm(ends) / region.radius)
            case Sublevel():
                return float(0.5 * ends @ (self.curvatures * ends) / region.depth)
        raise AssertionError(region)

    def steps_to_leave(self, region: AbstractRegion) -> float:
        """First step at which the descent is outside; infinite if it stays."""
        return min(self._by_descent(region), self._by_growth(region))

    def _by_descent(self, region: AbstractRegion) -> float:
        steps = np.unique(np.rint(np.geomspace(1, LONGEST, 400)))
        left = np.flatnonzero(self._outside(region, steps))
        return float(steps[left[0]]) if left.size else float("inf")

    def _outside(self, region: AbstractRegion, steps: Float[np.ndarray, " times"]) -> np.ndarray:
        moved = -self.components * _descended(self.curvatures, steps[:, None], self.learning_rate)
        match region:
            case Slab():
                return np.abs(moved @ (self.axes.T @ region.normal)) >= region.half_width
            case HalfSpace():
                return moved @ (self.axes.T @ region.normal) >= region.offset
            case Ball():
                return np.linalg.norm(moved, axis=1) >= region.radius
        # Descent never climbs out of a sublevel set.
        return np.zeros(len(steps), bool)

    def _by_growth(self, region: AbstractRegion) -> float:
        """Steps until noise, amplified by negative curvature, reaches the boundary."""
        if self.unstable_axis is None or self.unstable_noise <= 0:
            return float("inf")
        match region:
            case Slab() | HalfSpace():
                share = abs(float(self.unstable_axis @ region.normal))
                size = region.half_width if isinstance(region, Slab) else region.offset
                distance = size / share if share > 1e-3 else np.inf
            case Ball():
                distance = region.radius
            case _:
                return float("inf")
        if not np.isfinite(distance):
            return float("inf")
        gain = 2 * np.log1p(self.learning_rate * -self.unstable_curvature)
        seed = self.learning_rate**2 / self.batch_size * self.unstable_noise
        return float(np.log1p(distance**2 * np.expm1(gain) / seed) / gain)


def measure_fall(
    expansion: AbstractExpansion,
    learning_rate: float,
    batch_size: float,
    lowest: tuple[float, Float[np.ndarray, " dim"]] | None = None,
    steps: int = 20,
) -> Fall:
    """Descent from the point; costs `steps` Hessian products.

    `lowest` is an eigenvalue with its eigenvector; it matters if it is negative.
    """
    found = matrix_functions(
        expansion.hessian_product, expansion.gradient, steps, precision=expansion.precision
    )
    if lowest is None or lowest[0] >= 0:
        return Fall(found.nodes, found.components, found.axes, learning_rate)
    variance = float(np.var(expansion.example_slopes(lowest[1]), dtype=np.float64))
    return Fall(
        found.nodes,
        found.components,
        found.axes,
        learning_rate,
        lowest[0],
        lowest[1],
        variance,
        batch_size,
    )


def _descended(
    curvatures: Float[np.ndarray, " steps"],
    steps: Float[np.ndarray, "times 1"],
    learning_rate: float,
) -> Float[np.ndarray, "times steps"]:
    """``(1 - (1 - eta lambda)^K) / lambda``, bounded where it overflows."""
    factor = 1 - learning_rate * curvatures
    with np.errstate(over="ignore", divide="ignore"):
        power = np.sign(factor) ** steps * np.exp(
            np.minimum(steps * np.log(np.maximum(np.abs(factor), 1e-300)), 300.0)
        )
    flat = np.abs(learning_rate * curvatures) * steps < 1e-9
    return np.where(
        flat, learning_rate * steps, (1 - power) / np.where(curvatures == 0, 1.0, curvatures)
    )


class Bend(NamedTuple):
    """How the dynamics at an exit differs from that at the minimum.

    Attributes:
        nonlinearity: root mean square deviation of the force from linear, relative to it.
        shift: where noise pushes the mean, as a share of the way to the boundary.
        noise_ratio: variance of the noise along the exit there, over that at the minimum.
    """

    nonlinearity: float
    shift: float
    noise_ratio: float


def measure_bend(
    landscape: AbstractEmpirical, fluctuations: Fluctuations, law: NetworkExit, draws: int = 3
) -> Bend:
    """The true force and noise at the exit of a law, with typical fluctuations reached by then."""
    expansion, model = fluctuations.expansion, fluctuations.model
    theta, gradient = (
        np.asarray(values, np.float64) for values in (expansion.theta, expansion.gradient)
    )

    def there(displacement: Float[np.ndarray, " dim"]) -> AbstractExpansion:
        return landscape.expand(theta + displacement, precision=expansion.precision)

    steps = float(np.exp(min(law.log_mean, 300.0)))
    exit_point = model.basis @ law.direction
    normal = exit_point / np.linalg.norm(exit_point)
    along = model.basis.T @ normal
    curvature = float(along @ (model.curvatures * along))
    linear = curvature * float(np.linalg.norm(exit_point))
    single = normal.astype(expansion.theta.dtype)
    pull = np.asarray(expansion.hessian_product(single), np.float64)
    deviations, variances, push = [], [], np.zeros_like(theta)
    for drawn in fluctuations.draw(steps, draws):
        moved = drawn - (drawn @ normal) * normal
        for side in (1.0, -1.0):
            at_exit = there(side * exit_point + moved)
            variances.append(np.var(at_exit.example_slopes(single), dtype=np.float64))
            expected = side * linear + float(pull @ moved)
            deviations.append(((at_exit.gradient - gradient) @ normal - expected) / linear)
            push += np.asarray(there(side * moved).gradient, np.float64) / (2 * draws)
    relaxed = -np.expm1(-fluctuations.learning_rate * curvature * steps)
    return Bend(
        float(np.sqrt(np.mean(np.square(deviations)))),
        float(-relaxed * ((push - gradient) @ normal) / linear),
        float(np.mean(variances) / (along @ model.covariance @ along)),
    )
