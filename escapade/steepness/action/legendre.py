"""The Legendre transform of the cumulants of a minibatch: which step, and how unlikely.

For examples' gradients g_i at a point, a minibatch of mean gradient u costs

    ``L = sup_q [q . u - A(q . g_1, ..., q . g_N)]``,   A the cumulant of `MinibatchHamiltonian`,

with momentum ``p = -q`` and velocity ``v = -u``. With replacement this is the relative entropy of
the weights w, nearest to uniform, that give ``sum w_i g_i = u`` (Sanov); without, that of the law
of the subset, per example drawn. It is finite exactly on the convex hull of the means of
minibatches, and there at most log N, or (1/B) log binomial(N, B). On the boundary of the hull,
where every recorded step lies if parameters outnumber examples, the supremum is at infinity.

So what is solved is the problem with the penalty ``mu |q|^2 / 2``, whose maximiser is finite and
moves u by ``mu |q|``. With ``mu = tolerance^2 / (2 largest L)`` that distance is at most the
tolerance if u is in the hull, and more if u is further than that from it: the test is exact.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from escapade.steepness.hamiltonian import MinibatchHamiltonian

NEWTON_STEPS = 200
LINE_SEARCH_STEPS = 80
CONJUGATE_GRADIENT_STEPS = 300
FINEST = 1e-10
"""Smallest tolerance, in units of the spread of the gradients, that float64 resolves."""

Vector = Float[Array, " r"]


class Transform(NamedTuple):
    """Value and momentum at one velocity.

    Where the velocity is out of reach the value is infinite, and ``p . v`` exceeds ``p . v'`` for
    every v' within reach.
    """

    value: Float[Array, ""]
    momentum: Float[Array, " dim"]
    converged: Bool[Array, ""]


class _Examples(NamedTuple):
    """Centred gradients of the examples as a linear map, and Newton's equation for it."""

    scores: Callable[[Vector], Float[Array, " examples"]]
    transpose: Callable[[Float[Array, " examples"]], Vector]
    newton: Callable[[Float[Array, " examples"], Vector, Float[Array, ""]], Vector]


def minibatch_transform(
    law: MinibatchHamiltonian,
    x: Float[Array, " dim"],
    velocity: Float[Array, " dim"],
    tolerance: Float[Array, ""],
    rounding: Float[Array, ""],
    dense: bool,
) -> Transform:
    """Lagrangian and momentum of one velocity.

    Args:
        law: cumulants of the minibatch.
        x: the point.
        velocity: minus the mean gradient of the minibatch.
        tolerance: distance from the hull that counts as within, per ``|velocity| + |drift|``.
        rounding: the same, absolute, to be added.
        dense: whether to form the (examples, dim) matrix of gradients; else products only.
    """
    mean = -law.drift(x)
    offset = -velocity - mean
    allowed = tolerance * (jnp.linalg.norm(velocity) + jnp.linalg.norm(mean)) + rounding
    if not dense:
        return _matrix_free(law, x, mean, offset, allowed)
    gradients = law.landscape.example_gradients(x)
    points = gradients - jnp.mean(gradients, axis=0)
    examples, dim = points.shape
    scale = _positive(jnp.sqrt(jnp.mean(jnp.sum(points**2, axis=1))))
    points, target = points / scale, offset / scale
    # Principal axes, in which Newton's matrix can be scaled however unequal the spreads are; in the
    # space that the gradients span, if parameters outnumber examples.
    basis = jnp.linalg.qr(points.T)[0] if dim > examples else jnp.eye(dim)
    coordinates = points @ basis
    basis = basis @ jnp.linalg.eigh(coordinates.T @ coordinates)[1]
    inside = basis.T @ target
    beyond = target - basis @ inside
    value, q, converged = _maximise(
        law, _dense(points @ basis), inside, jnp.linalg.norm(beyond), allowed / scale
    )
    # Out of the span there is no noise, so that the way there separates.
    out = jnp.isinf(value) & (jnp.linalg.norm(beyond) > allowed / scale)
    return Transform(value, -jnp.where(out, beyond, basis @ q) / scale, converged)


def _matrix_free(
    law: MinibatchHamiltonian,
    x: Float[Array, " dim"],
    mean: Float[Array, " dim"],
    offset: Float[Array, " dim"],
    allowed: Float[Array, ""],
) -> Transform:
    losses, pullback = jax.vjp(law.landscape.example_losses, x)
    push = jax.linearize(law.landscape.example_losses, x)[1]
    towards = offset / _positive(jnp.linalg.norm(offset))
    scale = _positive(jnp.std(push(towards)))

    def scores(q: Vector) -> Float[Array, " examples"]:
        return (push(q) - jnp.vdot(mean, q)) / scale

    def transpose(weights: Float[Array, " examples"]) -> Vector:
        return (pullback(weights.astype(losses.dtype))[0] - jnp.sum(weights) * mean) / scale

    def newton(spread: Float[Array, " examples"], gradient: Vector, mu: Float[Array, ""]) -> Vector:
        total = _positive(jnp.sum(spread))

        def curvature(direction: Vector) -> Vector:
            slopes = scores(direction)
            centred = slopes - jnp.vdot(spread, slopes) / total
            return transpose(spread * centred) + mu * direction

        steps = min(CONJUGATE_GRADIENT_STEPS, 2 * gradient.size)
        return -jax.scipy.sparse.linalg.cg(curvature, gradient, tol=1e-6, maxiter=steps)[0]

    value, q, converged = _maximise(
        law, _Examples(scores, transpose, newton), offset / scale, jnp.zeros(()), allowed / scale
    )
    return Transform(value, -q / scale, converged)


def _dense(points: Float[Array, "examples r"]) -> _Examples:
    def newton(spread: Float[Array, " examples"], gradient: Vector, mu: Float[Array, ""]) -> Vector:
        centre = spread @ points / _positive(jnp.sum(spread))
        centred = points - centre
        curvature = centred.T @ (spread[:, None] * centred) + mu * jnp.eye(gradient.size)
        sizes = jnp.sqrt(jnp.diag(curvature))
        rounding = 4 * gradient.size * jnp.finfo(points.dtype).eps
        scaled = curvature / (sizes[:, None] * sizes) + rounding * jnp.eye(gradient.size)
        factor = jax.scipy.linalg.cho_factor(scaled)
        return -jax.scipy.linalg.cho_solve(factor, gradient / sizes) / sizes

    return _Examples(lambda q: points @ q, lambda weights: weights @ points, newton)


def _maximise(
    law: MinibatchHamiltonian,
    gradients: _Examples,
    target: Vector,
    beyond: Float[Array, ""],
    allowed: Float[Array, ""],
) -> tuple[Float[Array, ""], Vector, Bool[Array, ""]]:
    """Damped Newton for ``min_q A(q) - q . target + mu |q|^2 / 2``, with an exact line search.

    The curvature of A is ``diag(s) - s s^T / sum(s)`` in the scores, exactly with replacement
    (s = w), within a factor of two without (s = w (1 - B w), Hajek 1964).
    """
    examples = law.landscape.examples
    largest = _largest_value(law, examples)
    allowed = jnp.maximum(allowed, FINEST)
    mu = allowed**2 / (2 * largest)
    cumulant = jax.value_and_grad(law.cumulant)

    class State(NamedTuple):
        q: Vector
        scores: Float[Array, " examples"]
        level: Array
        weights: Float[Array, " examples"]
        step: Array
        stop: Array

    def improve(state: State) -> State:
        q, weights = state.q, state.weights
        gradient = gradients.transpose(weights) - target + mu * q
        spread = weights if law.replacement else weights * (1 - law.batch_size * weights)
        direction = gradients.newton(jnp.maximum(spread, 0.0), gradient, mu)
        along = gradients.scores(direction)
        initial = jnp.vdot(gradient, direction)
        dual = jnp.vdot(q, target) - state.level
        # Above the largest value for every target within the tolerance: out of the hull.
        outside = dual > largest + allowed * jnp.linalg.norm(q)
        missed = jnp.hypot(jnp.linalg.norm(gradient - mu * q), beyond)
        settled = (missed <= allowed) | (jnp.linalg.norm(gradient) <= 0.1 * allowed)
        converged = (-initial <= 1e-14 * jnp.abs(dual) + 1e-18) & settled

        def slope(t: Array) -> Array:
            shifted = cumulant(state.scores + t * along)[1]
            pull = jnp.vdot(direction, mu * (q + t * direction) - target)
            return jnp.vdot(shifted, along) + pull

        t = _line_search(slope, initial)
        stop = outside | converged | ~(t > 0)
        t = jnp.where(stop, 0.0, t)
        scores = state.scores + t * along
        return State(q + t * direction, scores, *cumulant(scores), state.step + 1, stop)

    start = State(
        jnp.zeros_like(target),
        jnp.zeros(examples, target.dtype),
        jnp.zeros((), target.dtype),
        jnp.full(examples, 1 / examples, target.dtype),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    final = jax.lax.while_loop(
        lambda state: ~state.stop & (state.step < NEWTON_STEPS), improve, start
    )
    level, weights = final.level, final.weights
    missed = jnp.hypot(jnp.linalg.norm(gradients.transpose(weights) - target), beyond)
    # The value at the reachable target - mu q: of second order in the error of q.
    reached = jnp.vdot(final.q, target - mu * final.q) - level
    out_of_reach = missed > allowed
    value = jnp.where(out_of_reach, jnp.inf, jnp.maximum(reached, 0.0))
    return value, final.q, final.stop


def _line_search(slope: Callable[[Array], Array], initial: Array) -> Array:
    """A step at which the slope of a convex function has fallen tenfold."""

    class Bracket(NamedTuple):
        low: Array
        high: Array
        t: Array
        step: Array
        found: Array

    def probe(bracket: Bracket) -> Bracket:
        at = slope(bracket.t)
        found = jnp.abs(at) <= 0.1 * jnp.abs(initial)
        low = jnp.where(at < 0, bracket.t, bracket.low)
        high = jnp.where(at < 0, bracket.high, bracket.t)
        t = jnp.where(jnp.isinf(high), 4 * bracket.t, 0.5 * (low + high))
        return Bracket(
            low, high, jnp.where(found, bracket.t, t), bracket.step + 1, found | ~(initial < 0)
        )

    start = Bracket(
        jnp.zeros_like(initial),
        jnp.full_like(initial, jnp.inf),
        jnp.ones_like(initial),
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    end = jax.lax.while_loop(
        lambda bracket: ~bracket.found & (bracket.step < LINE_SEARCH_STEPS), probe, start
    )
    return jnp.where(initial < 0, jnp.where(end.found, end.t, end.low), 0.0)


def _largest_value(law: MinibatchHamiltonian, examples: int) -> Float[Array, ""]:
    """Largest finite value of L: that of the least likely minibatch, per example."""
    if law.replacement:
        return jnp.log(1.0 * max(examples, 2))
    size = law.batch_size
    subsets = gammaln(examples + 1.0) - gammaln(size + 1.0) - gammaln(examples - size + 1.0)
    return jnp.maximum(subsets / size, 1e-3)


def _positive(number: Float[Array, ""]) -> Float[Array, ""]:
    """The number, or one in place of zero."""
    return jnp.where(number > 0, number, 1.0)
