"""Instantons of networks: forward and backward sweeps that cost gradients and products only.

The Hessian and the noise covariance of the minimum are dense (`Neighbourhood`); everything on the
path is a gradient or a Hessian-vector product.

Write the point as ``x = minimum + S p + y``. In the quadratic theory of the minimum y is zero and p
decays backwards in time; the rest of Hamilton's equations forces both,

    ``p_k = (1 - eta A) p_{k+1} + eta rho_k``,
    ``y_{k+1} = (1 - eta A) y_k + eta [r_k + (1 - eta A) S rho_k]``,

with ``r = dH/dp - (-A x + C p)`` and ``rho = dH/dx + A p`` at ``(x_k, p_{k+1})`` for a chain; in
continuous time likewise. The momenta are swept backwards given the points, the points forwards
given the momenta (Chernykh and Stepanov, Physical Review E 64, 2001), with Anderson mixing, until
nothing moves. Steps are taken in blocks that grow with the distance in time from the exit. Within a
block A acts exactly, whatever its length and the stiffness, and the forces r and rho, which vanish
for a quadratic problem, are interpolated linearly: a path of 10^5 steps is some hundred blocks. The
error of second order in the blocks' growth is measured and removed by halving it.

The boundary is best moved outwards from where the quadratic theory holds, which keeps the path on
the branch that continues the easiest exit of that theory (`guess`).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import DegenerateNoise, NotConverged, Unsupported
from escapade.landscape import AbstractLandscape
from escapade.minimum import Neighbourhood
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.region.boundary import distance_to_boundary
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.local import minimum_over_boundary
from escapade.steepness.orbit import Orbit

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]
Nodes = Float[np.ndarray, "nodes dim"]
PerBlock = Float[np.ndarray, "blocks dim"]

Numbers = Any
"""An array of NumPy on the host and of JAX in compiled code."""

GROWTH = 0.1
"""Length of a block over the time from its end to the exit."""

MEMORY = 8
"""Earlier sweeps that Anderson mixing combines."""

LOCAL_SHARE = 1e-4
"""Share of the steepness spent before the first node, in the quadratic theory, at first."""

MOST_BLOCKS = 4096

MOST_EXITS = 4
"""Easiest exits of the quadratic theory that are continued, where there are more."""

SMALLEST_STRIDE = 1 / 64
"""Smallest step, relative to the region's size, in which the boundary is moved outwards."""


def swept_orbit(
    hamiltonian: AbstractHamiltonian,
    minimum: Vector,
    around: Neighbourhood,
    region: AbstractRegion,
    direction: Vector,
    *,
    tolerance: float = 1e-6,
    sweeps: int = 300,
    guess: Orbit | None = None,
) -> Orbit:
    """Least action from a minimum of a loss to the boundary of a region, in any dimension.

    Args:
        hamiltonian: of a chain or a diffusion on a loss.
        minimum: where the path comes from.
        around: Hessian and noise there.
        region: a region with a smooth level.
        direction: displacement of an exit of the quadratic theory; any length.
        tolerance: relative error of the value to reach.
        sweeps: most sweeps at one mesh.
        guess: orbit to a smaller region of the same kind, found by this function.

    Raises:
        Unsupported: when the drift is not a gradient.
        DegenerateNoise: when no noise leads along the direction.
        NotConverged: when the sweeps do not settle.
    """
    if not around.symmetric:
        raise Unsupported("sweeps need a loss; a drift that is no gradient has other path solvers")
    problem = _Problem(hamiltonian, minimum, around, region)
    if guess is None:
        momentum = problem.momentum_towards(direction)
        lengths = problem.mesh(problem.time_back(momentum, LOCAL_SHARE))
        momenta = problem.decaying(lengths, momentum)
    else:
        lengths = problem.mesh(-guess.times[0])
        momenta = problem.continued(lengths, guess)
    found = problem.settled(lengths, momenta, 0.1 * tolerance, sweeps)
    while (remainder := problem.remainder(found)) > 0.25 * tolerance:
        # It grows as the third power of the distance from the minimum, the root of the share.
        further = problem.time_back(found.momenta[0], 0.5 * (0.25 * tolerance / remainder) ** 0.66)
        lengths = problem.mesh(found.lengths.sum() + further)
        momenta = problem.continued(lengths, problem.orbit(found, found.value, 1.0, False))
        found = problem.settled(lengths, momenta, 0.1 * tolerance, sweeps)
    while True:
        lengths, momenta = problem.halved(found)
        finer = problem.settled(lengths, momenta, 0.1 * tolerance, sweeps)
        # Second order in the blocks' growth, if whole steps allow.
        correction = (finer.value - found.value) / 3
        value = finer.value + correction
        error = abs(correction) / value + finer.error + problem.remainder(finer)
        if error < tolerance or len(lengths) > MOST_BLOCKS:
            return problem.orbit(finer, value, error, bool(error < tolerance))
        found = finer


def swept_orbits(
    hamiltonian: AbstractHamiltonian,
    minimum: Vector,
    around: Neighbourhood,
    region: AbstractRegion,
    *,
    tolerance: float = 1e-6,
) -> list[Orbit]:
    """Orbits that continue the easiest exits of the quadratic theory, cheapest first.

    Where an exit cannot be reached at once, the boundary is moved outwards in steps.

    Raises:
        Unsupported: when the drift is not a gradient, or the region has no smooth level.
        DegenerateNoise: when no noise leads to the boundary.
        NotConverged: when no exit can be continued to the boundary.
    """
    form = region.local_form(minimum, around.drift_matrix)
    if form is None:
        raise Unsupported(
            f"in {len(minimum)} dimensions the path starts from a closed form, which this region "
            f"({region}) has not; use a ball, sublevel set, half-space or slab around the minimum"
        )
    exits = minimum_over_boundary(around.stationary_covariance(hamiltonian.time_step), form)
    orbits: list[Orbit] = []
    failure = NotConverged("no exit")
    for direction in exits.points[:MOST_EXITS]:
        try:
            orbits.append(
                _moved_outwards(hamiltonian, minimum, around, region, direction, tolerance)
            )
        except NotConverged as error:
            failure = error
    if not orbits:
        raise failure
    return sorted(orbits, key=lambda orbit: orbit.value)


def _moved_outwards(
    hamiltonian: AbstractHamiltonian,
    minimum: Vector,
    around: Neighbourhood,
    region: AbstractRegion,
    direction: Vector,
    tolerance: float,
) -> Orbit:
    """Follow one exit from a small region to the whole one, in steps as large as succeed."""
    reached, stride = 0.0, 1.0
    guess: Orbit | None = None
    while True:
        fraction = min(reached + stride, 1.0)
        part = region if fraction == 1 else _Inner.of(region, minimum, fraction)
        accuracy = tolerance if fraction == 1 else max(tolerance, 1e-3)
        try:
            guess = swept_orbit(
                hamiltonian, minimum, around, part, direction, tolerance=accuracy, guess=guess
            )
        except NotConverged:
            stride /= 2
            if stride < SMALLEST_STRIDE:
                raise
            continue
        if fraction == 1:
            return guess
        reached, stride = fraction, min(2 * stride, 1 - fraction)


class _Inner(AbstractRegion):
    """A region within another, bounded by another of its levels."""

    region: AbstractRegion
    shift: float

    @classmethod
    def of(cls, region: AbstractRegion, minimum: Vector, fraction: float) -> "_Inner":
        """The part up to a fraction of the way from the level at the minimum to the boundary."""
        return cls(region, -(1 - fraction) * float(region.level(minimum)))

    def anchored(self, landscape: AbstractLandscape, minimum: Vector) -> "_Inner":
        """Itself."""
        return self

    def local_form(self, minimum: Vector, hessian: Matrix) -> LinearForm | QuadraticForm | None:
        """That of the whole region, which is bent as much relative to its slope."""
        return self.region.local_form(minimum, hessian)

    def _level(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        return self.region._level(theta) + self.shift

    def __str__(self) -> str:
        return f"inner part of a {self.region}"


class _Settled(NamedTuple):
    """A solution on one mesh, in Hessian eigenvectors."""

    lengths: Float[np.ndarray, " blocks"]
    points: Nodes
    momenta: Nodes
    rests: Float[np.ndarray, " blocks"]
    value: float
    error: float


class _Problem:
    """One landscape, minimum and region, in coordinates along the Hessian's eigenvectors."""

    def __init__(
        self,
        hamiltonian: AbstractHamiltonian,
        minimum: Vector,
        around: Neighbourhood,
        region: AbstractRegion,
    ):
        """Rotate the quadratic theory of the minimum."""
        self.rate = hamiltonian.time_step
        self.minimum, self.region = minimum, region
        self.form = region.local_form(minimum, around.drift_matrix)
        self.basis, self.rates = around.eigenvectors, around.eigenvalues
        covariance = self.basis.T @ around.covariance @ self.basis
        stationary = self.basis.T @ around.stationary_covariance(self.rate) @ self.basis
        self.stationary = stationary
        self.rotated = _Rotated(
            hamiltonian, region, minimum, self.basis, self.rates, covariance, stationary
        )

    def reach(self, displacement: Vector) -> float:
        """Multiple of a displacement from the minimum that lies on the boundary."""
        length = float(np.linalg.norm(displacement))
        ray = displacement[None] / length
        distance = float(distance_to_boundary(self.region, self.minimum, ray)[0])
        if not np.isfinite(distance):
            raise NotConverged(
                "the path heads where the region has no boundary; give another direction"
            )
        return distance / length

    def momentum_towards(self, direction: Vector) -> Vector:
        """Momentum of the quadratic theory at the boundary in a direction."""
        end = self.basis.T @ direction * self.reach(direction)
        momentum = np.linalg.lstsq(self.stationary, end)[0]
        if not np.allclose(self.stationary @ momentum, end, atol=1e-6 * np.linalg.norm(end)):
            raise DegenerateNoise(
                "the noise covariance is singular and does not lead along the direction given"
            )
        return momentum

    def time_back(self, momentum: Vector, share: float) -> float:
        """Time in which a momentum has come up from a share of its steepness."""
        total = momentum @ self.stationary @ momentum
        time = 0.5 / self.rates[0]
        while True:
            earlier = momentum * self._decay(np.array([self._whole(time)]))[0]
            if earlier @ self.stationary @ earlier < share * total:
                return self._whole(time)
            time *= 1.25

    def _whole(self, time: float) -> float:
        return time if self.rate is None else self.rate * np.ceil(time / self.rate)

    def mesh(self, duration: float) -> Float[np.ndarray, " blocks"]:
        """Lengths of blocks, in time, that grow away from the exit."""
        lengths: list[float] = []
        passed = 0.0
        while passed < duration * (1 - 1e-9):
            length = GROWTH * (passed + 1 / self.rates[0])
            if self.rate is not None:
                length = self.rate * max(1, int(length / self.rate))
            lengths.append(length)
            passed += length
        return np.array(lengths[::-1])

    def _decay(self, lengths: Float[np.ndarray, " blocks"]) -> PerBlock:
        if self.rate is None:
            return np.exp(-np.outer(lengths, self.rates))
        steps = np.rint(lengths / self.rate)[:, None]
        return np.power(1 - self.rate * self.rates, steps)

    def decaying(self, lengths: Float[np.ndarray, " blocks"], momentum: Vector) -> Nodes:
        """Momenta that lead up to one in the quadratic theory."""
        before = np.append(np.cumsum(lengths[::-1])[::-1], 0.0)
        return self._decay(before) * momentum

    def continued(self, lengths: Float[np.ndarray, " blocks"], guess: Orbit) -> Nodes:
        """Momenta of another orbit on this mesh, scaled so that it would reach the boundary."""
        momenta = guess.momenta @ self.basis * self.reach(guess.end - self.minimum)
        times = -np.append(np.cumsum(lengths[::-1])[::-1], 0.0)
        known = np.clip(times, guess.times[0], None)
        columns = [np.interp(known, guess.times, column) for column in momenta.T]
        return np.stack(columns, axis=1) * self._decay(known - times)

    def halved(self, found: _Settled) -> tuple[Float[np.ndarray, " blocks"], Nodes]:
        """Mesh of half the block lengths, a step staying whole, with the momenta there."""
        first = found.lengths / 2
        if self.rate is not None:
            first = self.rate * np.floor(np.rint(found.lengths / self.rate) / 2)
        second = found.lengths - first
        middle = found.momenta[1:] * self._decay(second)
        lengths = np.stack([first, second], axis=1).ravel()
        momenta = np.stack([found.momenta[:-1], middle], axis=1).reshape(-1, len(self.rates))
        kept = lengths > 0
        return lengths[kept], np.concatenate([momenta[kept], found.momenta[-1:]])

    def settled(
        self,
        lengths: Float[np.ndarray, " blocks"],
        momenta: Nodes,
        tolerance: float,
        sweeps: int,
    ) -> _Settled:
        """Sweep until the value has settled.

        Raises:
            NotConverged: when it does not.
        """
        # Blocks of no length in front: code is compiled for a few numbers of blocks only.
        idle = _rounded_up(len(lengths)) - len(lengths)
        blocks = _preceded_by_idle(self._blocks(lengths), idle)
        momenta = np.concatenate([np.repeat(momenta[:1], idle, axis=0), momenta])
        arriving = np.concatenate([momenta[1:], momenta[-1:]])
        mixing = _AndersonMixing(MEMORY)
        change = float("inf")
        for _ in range(sweeps):
            points, rests, slope, level = in_float64(
                _forward, self.rotated, blocks, momenta, arriving
            )
            last = self._aimed(points[-1], momenta[-1], slope, float(level))
            following = in_float64(_backward, self.rotated, blocks, points, last)
            if not (np.isfinite(points).all() and np.isfinite(following).all()):
                raise NotConverged(
                    "the path left the range where the loss is finite; approach the region in "
                    "smaller steps of its size"
                )
            current = np.stack([momenta, arriving])
            change = float(np.linalg.norm(following - current) / np.linalg.norm(following))
            # The value is stationary at the solution: its error is of the order of the square of
            # the change, except for the distance to the boundary.
            ahead = level * (last @ slope) / (slope @ slope) / (0.5 * last @ points[-1])
            error = float(abs(ahead) + change**2)
            if error < tolerance:
                end = momenta[-1]
                value = float(0.5 * end @ self.stationary @ end + rests.sum())
                if not value > 0:
                    break
                return _Settled(lengths, points[idle:], momenta[idle:], rests[idle:], value, error)
            momenta, arriving = mixing.combine(current, following)
        raise NotConverged(
            f"the sweeps for the instanton still change by {change:.1e} of its length after "
            f"{sweeps}; approach the region in smaller steps of its size, or give another direction"
        )

    def _aimed(self, end: Vector, momentum: Vector, slope: Vector, level: float) -> Vector:
        """Momentum, along the boundary's normal, that should end on the boundary.

        A Newton step for ``p = m grad level(x)``, ``level(x) = 0``, with the curvature of V and of
        the boundary taken from the quadratic theory.
        """
        reach = self.reach(self.basis @ end)
        if abs(reach - 1) > 0.1:
            # Too far for Newton: a momentum as much larger as the path is too short.
            return reach * np.linalg.norm(momentum) * slope / np.linalg.norm(slope)
        multiplier = momentum @ slope / (slope @ slope)
        if isinstance(self.form, QuadraticForm):
            bent = self.basis.T @ self.form.matrix @ self.basis
            normal = bent @ end
            bent *= slope @ normal / (normal @ normal)
        else:
            bent = np.zeros_like(self.stationary)
        right = np.stack([multiplier * slope - momentum, slope], axis=1)
        system = np.eye(len(end)) - multiplier * self.stationary @ bent
        moved, per_multiplier = np.linalg.solve(system, self.stationary @ right).T
        change = -(level + slope @ moved) / (slope @ per_multiplier)
        return (multiplier + change) * (slope + bent @ (moved + change * per_multiplier))

    def _blocks(self, lengths: Float[np.ndarray, " blocks"]) -> "_Blocks":
        """What a block does to a mode, with forces interpolated linearly between its ends."""
        whole, forward, backward = self._kernels(lengths)
        decay = self._decay(lengths)
        if self.rate is None:
            return _Blocks(
                lengths,
                0 * lengths,
                decay,
                whole,
                forward,
                backward,
                decay,
                whole - backward,
                backward,
            )
        # The momentum of the step that leaves the node: one step less of the block is left.
        share = (self.rate / lengths)[:, None]
        rest = lengths - self.rate
        less, _, towards = self._kernels(rest)
        following = share * less + (1 - share) * towards
        return _Blocks(
            lengths,
            share[:, 0],
            decay,
            whole,
            forward,
            backward,
            self._decay(rest),
            less - following,
            following,
        )

    def _kernels(self, lengths: Float[np.ndarray, " blocks"]) -> tuple[PerBlock, ...]:
        """Sums over a block of a mode's decay, plain and weighted towards the far end.

        Forwards in time the far end is the later one, backwards the earlier node decays least:
        there the weight is on the later node, whose force has decayed most.
        """
        one = 0.0 if self.rate is None else self.rate
        time = lengths[:, None]
        share = np.divide(one, time, out=np.ones_like(time), where=time > 0)
        product = time * self.rates
        whole = (1 - self._decay(lengths)) / self.rates
        series = 0.5 * time * (1 - share) * (1 - product * (1 - 2 * share) / 3)
        safe = np.where(product > 0, product, 1.0)
        forward = np.where(product < 1e-3, series, (time - whole) / safe)
        return whole, forward, (1 - share) * whole - forward

    def remainder(self, found: _Settled) -> float:
        """Relative error of the value by the quadratic theory up to the first node."""
        first, point = found.momenta[0], found.points[0]
        share = 0.5 * first @ self.stationary @ first / found.value
        linear = -self.rates * point
        drift = in_float64(_drift, self.rotated, point)
        return float(share * np.linalg.norm(drift - linear) / np.linalg.norm(linear))

    def orbit(self, found: _Settled, value: float, error: float, converged: bool) -> Orbit:
        """The path in the original coordinates."""
        momenta = found.momenta
        heights = 0.5 * np.einsum("ni,ij,nj->n", momenta, self.stationary, momenta)
        actions = heights + np.append(0.0, np.cumsum(found.rests))
        return Orbit(
            times=-np.append(np.cumsum(found.lengths[::-1])[::-1], 0.0),
            path=self.minimum + found.points @ self.basis.T,
            momenta=momenta @ self.basis.T,
            actions=actions * value / found.value,
            value=value,
            error=error,
            converged=converged,
            method="forward and backward sweeps",
        )


class _Rotated(eqx.Module):
    """Hamiltonian and region along the Hessian's eigenvectors, from the minimum."""

    hamiltonian: AbstractHamiltonian
    region: AbstractRegion
    minimum: Numbers
    basis: Numbers
    rates: Numbers
    covariance: Numbers
    stationary: Numbers

    @property
    def step(self) -> Array:
        """What one step leaves of a mode; one in continuous time."""
        rate = self.hamiltonian.time_step
        return jnp.ones_like(self.rates) if rate is None else 1 - rate * jnp.asarray(self.rates)

    def height(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, ""]:
        """The Hamiltonian."""
        return self.hamiltonian(self.minimum + self.basis @ x, self.basis @ p)

    def level(self, x: Float[Array, " dim"]) -> Float[Array, ""]:
        """The region's level."""
        return self.region._level(self.minimum + self.basis @ x)

    def pull(self, x: Float[Array, " dim"], p: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """Force rho on the momentum beyond the quadratic theory."""
        return jax.grad(self.height, argnums=0)(x, p) + self.rates * p

    def push(
        self, x: Float[Array, " dim"], p: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """Force on y beyond the quadratic theory, and the rate of steepness beyond it."""
        height, (slope, velocity) = jax.value_and_grad(self.height, argnums=(0, 1))(x, p)
        rho = slope + self.rates * p
        carried = self.step * (self.stationary @ rho)
        spread = self.covariance @ p
        rate = self.hamiltonian.time_step
        rest = jnp.vdot(p, velocity) - height - 0.5 * jnp.vdot(p, spread) + jnp.vdot(p, carried)
        if rate is not None:
            rest += 0.5 * rate * jnp.vdot(rho, self.stationary @ rho)
        return velocity + self.rates * x - spread + carried, rest


class _Blocks(NamedTuple):
    """Per block: length, one step over it, and what it does to each mode (see `_forward`)."""

    length: Numbers
    share: Numbers
    decay: Numbers
    whole: Numbers
    forward: Numbers
    backward: Numbers
    arriving_decay: Numbers
    arriving_here: Numbers
    arriving_next: Numbers


def _rounded_up(count: int) -> int:
    """The next power of two, at least 32."""
    return max(32, 1 << (count - 1).bit_length())


def _preceded_by_idle(blocks: _Blocks, count: int) -> _Blocks:
    """Blocks of no length in front of others: they leave every mode as it is."""
    staying = {"decay", "arriving_decay"}
    return _Blocks(
        **{
            name: np.concatenate(
                [np.full((count, *array.shape[1:]), float(name in staying)), array]
            )
            for name, array in blocks._asdict().items()
        }
    )


def _forward(
    rotated: _Rotated,
    blocks: _Blocks,
    momenta: Float[Array, "nodes dim"],
    arriving: Float[Array, "nodes dim"],
) -> tuple[Array, Array, Array, Array]:
    """Points of given momenta, steepness beyond the quadratic theory, slope and level at the end.

    `momenta` are at the nodes, `arriving` those of the step that leaves a node (the same in
    continuous time).
    """
    stationary = rotated.stationary

    def advance(
        carry: tuple[Array, Array, Array, Array], block: tuple[_Blocks, Array, Array]
    ) -> tuple[tuple[Array, Array, Array, Array], tuple[Array, Array]]:
        point, y, force, rest = carry
        weights, p_next, leaving_next = block
        # Second order: with the force at the end of the block of a first-order prediction.
        ahead = stationary @ p_next + weights.decay * y + weights.whole * force
        force_next, rest_next = rotated.push(ahead, leaving_next)
        y = weights.decay * y + weights.whole * force + weights.forward * (force_next - force)
        share = weights.share
        spent = 0.5 * weights.length * ((1 + share) * rest + (1 - share) * rest_next)
        return (stationary @ p_next + y, y, force_next, rest_next), (point, spent)

    start = stationary @ momenta[0]
    initial = (start, jnp.zeros_like(start), *rotated.push(start, arriving[0]))
    (end, *_), (points, rests) = jax.lax.scan(advance, initial, (blocks, momenta[1:], arriving[1:]))
    level, slope = jax.value_and_grad(rotated.level)(end)
    return jnp.concatenate([points, end[None]]), rests, slope, level


def _backward(
    rotated: _Rotated,
    blocks: _Blocks,
    points: Float[Array, "nodes dim"],
    last: Float[Array, " dim"],
) -> Float[Array, "2 nodes dim"]:
    """Momenta of given points and a momentum at the end: at the nodes, and leaving them."""

    def recede(
        carry: tuple[Array, Array], block: tuple[_Blocks, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        p_next, force_next = carry
        weights, x = block
        kept = weights.arriving_decay * p_next
        leaving = kept + (weights.arriving_here + weights.arriving_next) * force_next
        force = rotated.pull(x, leaving)
        leaving = kept + weights.arriving_here * force + weights.arriving_next * force_next
        p = weights.decay * p_next + weights.whole * force
        p += weights.backward * (force_next - force)
        return (p, force), (p, leaving)

    _, (earlier, leaving) = jax.lax.scan(
        recede, (last, rotated.pull(points[-1], last)), (blocks, points[:-1]), reverse=True
    )
    ends = [jnp.concatenate([earlier, last[None]]), jnp.concatenate([leaving, last[None]])]
    return jnp.stack(ends)


def _drift(rotated: _Rotated, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
    return jax.grad(rotated.height, argnums=1)(x, jnp.zeros_like(x))


class _AndersonMixing:
    """Anderson acceleration of a fixed-point iteration (Walker and Ni, SIAM J. Numer. Anal. 2011).

    Of the latest iterates, the combination whose changes cancel best in the least-squares sense.
    """

    def __init__(self, memory: int):
        """Keep so many earlier iterates."""
        self.memory = memory
        self.results: list[Float[np.ndarray, ...]] = []
        self.changes: list[Float[np.ndarray, ...]] = []

    def combine(
        self, current: Float[np.ndarray, "..."], following: Float[np.ndarray, "..."]
    ) -> Float[np.ndarray, "..."]:
        """The next iterate, given the map's value at the current one."""
        self.results = [*self.results[-self.memory :], following]
        self.changes = [*self.changes[-self.memory :], following - current]
        if len(self.results) == 1:
            return following
        change = self.changes[-1].ravel()
        steps = np.stack([change - earlier.ravel() for earlier in self.changes[:-1]], axis=1)
        weights = np.linalg.lstsq(steps, change, rcond=1e-10)[0]
        earlier = zip(weights, self.results[:-1], strict=True)
        return following - sum(weight * (following - result) for weight, result in earlier)
