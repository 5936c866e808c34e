"""The straight way out of a slab or half-space, with what lies along it measured on the network.

To linear-Gaussian order an exit through a plane across a Hessian eigenvector n leads along ``S n``,
and the displacement x along n is a scalar chain. What the network adds is of the same order in
epsilon^2 as the prefactor, times the barrier:

* *along*: the true force and the true minibatch noise at ``theta + x S n / (n . S n)``, solved as a
  chain (`theory/minibatch_chain.py`);
* *moved*: the mean position. Noise pushes it by ``-(1 - (1 - eta H)^K) H^-1 E[grad L(theta + y)]``
  after K steps, y of the covariance reached by then: first along the flat directions, where it is
  slowest and goes farthest, to where the loss is less sharp or less noisy. SGD that has been here
  for longer leaves more (or less) rarely;
* *spread*: the fluctuations y in all other directions, over which force and noise are averaged.
  They are drawn in pairs of opposite sign, so that what is linear in y cancels.

The hazard ``1 / E[nu]`` of the chain at a few times K gives the mean exit time as the integral of
the survival ``exp(-int hazard)``.

Left out, at the same order: how the other directions answer to x on the way (bent valleys proper,
which for noise that follows the curvature cancels largely), and whether slow ones are averaged or
frozen. Half the effect of the spread stands for both in the stated error.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import PchipInterpolator

from escapade.inspection.fluctuations import Fluctuations
from escapade.landscape import AbstractEmpirical, AbstractExpansion
from escapade.theory.minibatch_chain import minibatch_chain_exit

WIDE = 5.0
"""Standard deviations behind which the open side of a half-space is closed."""

TIMES = (0.15, 0.8, 4.0)
"""At which the hazard is measured, in units of the mean exit time without motion of the mean."""


class WayOut(NamedTuple):
    """The exit along a straight line.

    Attributes:
        log_mean: of the exit time in steps.
        along: change of it by force and noise on the line.
        moved: by the motion of the mean.
        spread: by fluctuations in the other directions.
        uncertainty: standard error of it from the number of draws.
        push: where noise pushes the mean across the planes, as a share of the way to one.
    """

    log_mean: float
    along: float
    moved: float
    spread: float
    uncertainty: float
    push: float


class _Line:
    """Slopes along a line displaced in any direction, and exits along it."""

    def __init__(
        self,
        landscape: AbstractEmpirical,
        fluctuations: Fluctuations,
        normal: Float[np.ndarray, " dim"],
        toward: Float[np.ndarray, " dim"],
        curvature: float,
        ends: tuple[float, float],
        two_sided: bool,
        places: int,
    ):
        self.landscape, self.expansion = landscape, fluctuations.expansion
        self.normal, self.toward = normal, toward
        self.curvature, self.ends, self.two_sided = curvature, ends, two_sided
        self.learning_rate = fluctuations.learning_rate
        self.batch_size = fluctuations.learning_rate / fluctuations.noise_scale
        low, high = ends
        cosines = np.cos(np.pi * np.arange(places)[::-1] / (places - 1))
        self.places = low + (high - low) * (1 + cosines) / 2

    def aside(self, displacement: Float[np.ndarray, "... dim"]) -> Float[np.ndarray, "... dim"]:
        """A displacement less what the chain itself follows."""
        return displacement - np.multiply.outer(displacement @ self.normal, self.toward)

    def gradient(self, displacement: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
        return np.asarray(self._expand(displacement).gradient, np.float64)

    def slopes(
        self, displacement: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, "places examples"]:
        normal = self.normal.astype(self.expansion.theta.dtype)
        return np.array(
            [
                self._expand(displacement + x * self.toward).example_slopes(normal)
                for x in self.places
            ],
            np.float64,
        )

    def log_mean(self, slopes: list[Float[np.ndarray, "places examples"]]) -> float:
        """Of a chain with the mean force of several lines and the noise of all of them."""
        forces = [each.mean(axis=1, keepdims=True) for each in slopes]
        mean = np.mean(forces, axis=0)
        pooled = [each - force + mean for each, force in zip(slopes, forces, strict=True)]
        return minibatch_chain_exit(
            self.places,
            np.concatenate(pooled, axis=1),
            self.curvature,
            self.learning_rate,
            self.batch_size,
            *self.ends,
            two_sided=self.two_sided,
        )

    def _expand(self, displacement: Float[np.ndarray, " dim"]) -> AbstractExpansion:
        theta = np.asarray(self.expansion.theta, np.float64) + displacement
        return self.landscape.expand(theta, precision=self.expansion.precision)


def way_out(
    landscape: AbstractEmpirical,
    fluctuations: Fluctuations,
    normal: Float[np.ndarray, " dim"],
    toward: Float[np.ndarray, " dim"],
    curvature: float,
    offset: float,
    linear: float,
    *,
    two_sided: bool,
) -> WayOut:
    """Measure the way out.

    Up to 700 parameters it takes some 330 gradients of the whole data set and 200 slopes;
    beyond, 25, and the hazard is taken at one time.

    Args:
        landscape: the network.
        fluctuations: around the point.
        normal: n, an eigenvector of the Hessian, of length one, pointing out.
        toward: ``S n / (n . S n)``, which moves x by one.
        curvature: its eigenvalue.
        offset: distance of the plane.
        linear: log mean exit steps of the linear chain.
        two_sided: whether there is a plane on the other side.

    Raises:
        Unsupported: where the exit is by jumps too rare to be resolved.
    """
    whole = fluctuations.whole
    pairs, pushes, places = (6, 24, 5) if whole else (2, 3, 3)
    factor = 1 - fluctuations.learning_rate * curvature
    noise = fluctuations.expansion.example_slopes(normal.astype(fluctuations.expansion.theta.dtype))
    deviation = np.sqrt(
        fluctuations.noise_scale * fluctuations.learning_rate * np.var(noise, dtype=np.float64)
        / (1 - factor**2)
    )  # fmt: skip
    low = -offset if two_sided else -max(offset, WIDE * deviation)
    line = _Line(
        landscape, fluctuations, normal, toward, curvature, (low, offset), two_sided, places
    )
    still = np.zeros_like(normal)
    straight = line.log_mean([line.slopes(still)])
    times = np.exp(straight) * np.array(TIMES)
    if not whole or fluctuations.settled(times[0]):
        times = times[1:2]
    logs, changes = [], []
    for time, centre in _drifting(line, fluctuations, times, pushes):
        aside, around = line.aside(centre), line.aside(fluctuations.draw(time, pairs))
        slopes = [line.slopes(aside + side * y) for y in around for side in (1, -1)]
        logs.append(line.log_mean(slopes))
        halves = [line.log_mean(half) for half in (slopes[:pairs], slopes[pairs:])]
        moved = line.log_mean([line.slopes(aside)])
        force = np.mean([each.mean(axis=1) for each in slopes], axis=0)
        at_centre = float(np.polynomial.Polynomial.fit(line.places, force, places - 1)(0.0))
        changes.append((
            moved - straight, logs[-1] - moved, 0.5 * abs(halves[0] - halves[1]),
            -at_centre / curvature / offset,
        ))  # fmt: skip
    log_mean = _mean_of_hazards(times, np.array(logs))
    # What is told of the parts is told of the time nearest the mean exit.
    nearest = int(np.argmin(np.abs(np.log(times) - log_mean)))
    _, spread, uncertainty, pushed = changes[nearest]
    return WayOut(
        log_mean,
        along=straight - linear,
        moved=log_mean - straight - spread,
        spread=spread,
        uncertainty=uncertainty,
        push=pushed,
    )


def _drifting(
    line: _Line,
    fluctuations: Fluctuations,
    times: Float[np.ndarray, " times"],
    pairs: int,
) -> Iterator[tuple[float, Float[np.ndarray, " dim"]]]:
    """Each time, and where the mean is then.

    The mean follows the gradient averaged over fluctuations. What of it is linear is solved; the
    rest, the push of the noise, is taken at both ends of each stretch of time.
    """
    hessian, dtype = fluctuations.expansion.hessian_product, fluctuations.expansion.theta.dtype
    gradient = line.gradient(np.zeros_like(line.normal))
    centre, before, push = np.zeros_like(line.normal), 0.0, None
    for time in times:
        drawn = fluctuations.draw(time, pairs)
        # Noise has pushed from the start on as it pushes from the minimum.
        guess = centre
        if push is not None:
            guess = fluctuations.displaced(push, time - before, centre)
        mean = np.mean([line.gradient(guess + side * y) for y in drawn for side in (1, -1)], axis=0)
        found = mean - gradient - np.asarray(hessian(guess.astype(dtype)), np.float64)
        between = found if push is None else 0.5 * (push + found)
        centre = fluctuations.displaced(between, time - before, centre)
        before, push = time, found
        yield time, centre


def _mean_of_hazards(
    times: Float[np.ndarray, " times"], log_means: Float[np.ndarray, " times"]
) -> float:
    """Log mean exit time of a hazard ``exp(-log_means)`` that changes with time."""
    if len(times) == 1:
        return float(log_means[0])
    fine = np.geomspace(times[0], times[-1], 2000)
    hazard = np.exp(-PchipInterpolator(np.log(times), log_means)(np.log(fine)))
    survival = np.exp(-times[0] * hazard[0] - cumulative_trapezoid(hazard, fine, initial=0))
    before = -np.expm1(-times[0] * hazard[0]) / hazard[0]
    return float(np.log(before + np.trapezoid(survival, fine) + survival[-1] / hazard[-1]))
