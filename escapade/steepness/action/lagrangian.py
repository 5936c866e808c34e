"""The Lagrangian: what each velocity costs, the Legendre transform of the Hamiltonian in p.

``L(x, v) = sup_p [p . v - H(x, p)]`` on the host, for many points at once.

* Gaussian noise: ``L = |v - drift|^2_{C^-1} / 2`` on the range of C and infinite off it; by
  eigenvalues in up to `DENSE` dimensions, by conjugate gradients on products with C beyond.
* Minibatches: see `escapade.steepness.action.legendre`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from escapade.errors import NotConverged
from escapade.landscape import AbstractEmpirical
from escapade.precision import in_float64
from escapade.steepness.action.legendre import Transform, minibatch_transform
from escapade.steepness.hamiltonian import (
    AbstractHamiltonian,
    GaussianHamiltonian,
    MinibatchHamiltonian,
)

Points = Float[np.ndarray, "points dim"]

DENSE = 1024
"""Dimension (of parameters, or of the span of the examples' gradients) up to which matrices are
factorised: about a second, where conjugate gradients on the noise of a network take longer."""
NUMBERS = 2**22
"""Numbers worked on at once."""
TOLERANCE = float(np.sqrt(np.finfo(np.float64).eps))
"""A velocity out of reach of the noise by less, per ``|v| + |drift|``, counts as within reach."""


class Conjugate(eqx.Module):
    """The Lagrangian at some points and velocities.

    Attributes:
        values: L, shape (points,); infinite where noise cannot make the velocity.
        momenta: the maximising p, so that ``L = p . v - H(x, p)``, shape (points, dim); where L is
            infinite, a direction along which v exceeds every velocity that noise can make.
    """

    values: Float[np.ndarray, " points"]
    momenta: Points


def lagrangian(
    law: AbstractHamiltonian,
    points: Points,
    velocities: Points,
    tolerance: float = TOLERANCE,
    rounding: Float[np.ndarray, " points"] | float = 0.0,
) -> Conjugate:
    """``L(x, v)`` and its momentum at each point and velocity, in float64; NaN off the domain.

    Args:
        law: the Hamiltonian.
        points: x, shape (points, dim).
        velocities: v, in parameters per unit of t = learning rate * steps, shape (points, dim).
        tolerance: distance from the velocities that noise can make, per ``|v| + |drift|``, up to
            which a velocity counts as one of them.
        rounding: the same, absolute, to be added: the rounding of the velocities.

    Raises:
        NotConverged: when an iteration (for minibatches, or in more than `DENSE` dimensions) does
            not end.
    """
    method, allowed = _method(law, points.shape[1]), np.zeros(len(points)) + rounding
    values, momenta, converged = in_chunks(
        lambda *chunk: method(law, tolerance, *chunk),
        points_at_once(law, points.shape[1]),
        points,
        velocities,
        allowed,
    )
    if not converged.all():
        raise NotConverged(
            f"the Lagrangian at {int((~converged).sum())} of {len(points)} points did not "
            "converge: the noise there is nearly singular; give a larger tolerance"
        )
    return Conjugate(values, momenta)


def points_at_once(law: AbstractHamiltonian, dim: int) -> int:
    """How many points fit the memory that evaluating the Lagrangian may take."""
    landscape = getattr(law, "landscape", None)
    examples = landscape.examples if isinstance(landscape, AbstractEmpirical) else 1
    numbers = examples * dim
    if isinstance(law, GaussianHamiltonian) and dim <= DENSE:
        numbers = max(numbers, dim * dim)
    return int(np.clip(NUMBERS // numbers, 1, 2**14))


def in_chunks(
    evaluate: Callable[..., tuple[np.ndarray, ...]], largest: int, *arrays: np.ndarray
) -> list[np.ndarray]:
    """Evaluate a power of eight rows at a time, so that few programs are compiled."""
    count = len(arrays[0])
    size = 8 ** int(np.log(min(count, largest) + 0.5) / np.log(8))
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(evaluate(*(array[rows] for array in arrays)))
    return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]


def _method(law: AbstractHamiltonian, dim: int) -> Callable[..., tuple[np.ndarray, ...]]:
    if isinstance(law, MinibatchHamiltonian):
        examples = law.landscape.examples
        dense = min(dim, examples) <= DENSE and examples * dim <= 4 * NUMBERS
        return _minibatch_dense if dense else _minibatch_products
    return _gaussian_dense if dim <= DENSE else _gaussian_products


def _gaussian_dense(
    law: GaussianHamiltonian,
    tolerance: float,
    points: Points,
    velocities: Points,
    rounding: Float[np.ndarray, " points"],
) -> tuple[np.ndarray, ...]:
    drift, covariance = in_float64(_drift_and_covariance, law, points)
    finite = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(drift).all(axis=1)
    eigenvalues, vectors = np.linalg.eigh(np.where(finite[:, None, None], covariance, 0.0))
    dim = points.shape[1]
    kept = eigenvalues > 8 * dim * np.finfo(np.float64).eps * eigenvalues[:, -1:]
    components = np.einsum("kij,ki->kj", vectors, velocities - drift)
    beyond = np.where(kept, 0.0, components)
    sizes = np.linalg.norm(velocities, axis=1) + np.linalg.norm(drift, axis=1)
    unreachable = np.linalg.norm(beyond, axis=1) > tolerance * sizes + rounding
    scaled = np.where(kept, components / np.where(kept, eigenvalues, 1.0), 0.0)
    values = np.where(unreachable, np.inf, 0.5 * (components * scaled).sum(axis=1))
    scaled = np.where(unreachable[:, None], beyond, scaled)
    momenta = np.einsum("kij,kj->ki", vectors, scaled)
    return np.where(finite, values, np.nan), momenta, np.ones(len(points), bool)


def _drift_and_covariance(law: AbstractHamiltonian, points: Array) -> tuple[Array, Array]:
    return jax.vmap(law.drift)(points), jax.vmap(law.covariance)(points)


def _gaussian_products(law: Any, tolerance: float, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return in_float64(_conjugate_gradients, law, tolerance, *arrays)


def _minibatch_dense(law: Any, tolerance: float, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return in_float64(_minibatches, law, tolerance, *arrays, True)


def _minibatch_products(law: Any, tolerance: float, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return in_float64(_minibatches, law, tolerance, *arrays, False)


def _minibatches(
    law: MinibatchHamiltonian,
    tolerance: Array,
    points: Array,
    velocities: Array,
    rounding: Array,
    dense: bool,
) -> Transform:
    def one(x: Array, velocity: Array, allowed: Array) -> Transform:
        return minibatch_transform(law, x, velocity, tolerance, allowed, dense)

    return jax.vmap(one)(points, velocities, rounding)


class _Search(NamedTuple):
    momentum: Float[Array, " dim"]
    residual: Float[Array, " dim"]
    direction: Float[Array, " dim"]
    value: Float[Array, ""]
    gain: Float[Array, ""]
    stiffest: Float[Array, ""]
    step: Int[Array, ""]
    kernel: Bool[Array, ""]


def _conjugate_gradients(
    law: GaussianHamiltonian, tolerance: Array, points: Array, velocities: Array, rounding: Array
) -> Transform:
    """Solve ``C p = v - drift`` by products ``C p``, half the derivative of ``p^T C p``.

    A direction in which there is no noise (or, for noise proportional to an indefinite Hessian,
    negative variance) only turns up in the search if the excess has a component along it.
    """

    def one(x: Array, velocity: Array, allowed: Array) -> Transform:
        drift = law.drift(x)
        excess = velocity - drift
        sizes = jnp.linalg.norm(velocity) + jnp.linalg.norm(drift)
        reach = tolerance * sizes + allowed
        finest = 1e-11 * jnp.linalg.norm(excess)
        numerically_zero = 8 * x.size * jnp.finfo(x.dtype).eps

        def running(state: _Search) -> Array:
            more = jnp.linalg.norm(state.residual) > finest
            return more & ~state.kernel & (state.step < 10 * min(x.size, 2000))

        def iterate(state: _Search) -> _Search:
            size = jnp.linalg.norm(state.direction)
            unit = state.direction / size
            product = 0.5 * size * jax.grad(lambda p: law.noise.variance(law.landscape, x, p))(unit)
            stiffness = jnp.vdot(unit, product) / size
            stiffest = jnp.maximum(state.stiffest, stiffness)
            kernel = ~(stiffness > numerically_zero * stiffest)
            square = jnp.vdot(state.residual, state.residual)
            rate = jnp.where(kernel, 0.0, square / (stiffness * size**2))
            residual = state.residual - rate * product
            turn = jnp.vdot(residual, residual) / square
            gain = 0.5 * rate * square
            return _Search(
                state.momentum + rate * state.direction,
                residual,
                residual + turn * state.direction,
                state.value + gain,
                gain,
                stiffest,
                state.step + 1,
                kernel,
            )

        zero = jnp.zeros((), x.dtype)
        start = _Search(
            jnp.zeros_like(x),
            excess,
            excess,
            zero,
            zero,
            zero,
            jnp.zeros((), jnp.int32),
            jnp.zeros((), bool),
        )
        end = jax.lax.while_loop(running, iterate, start)
        missed = jnp.linalg.norm(end.residual) > reach
        unreachable = missed & end.kernel
        value = jnp.where(unreachable, jnp.inf, end.value)
        momentum = jnp.where(unreachable, end.residual, end.momentum)
        converged = unreachable | (~missed & (end.gain <= 1e-8 * end.value)) | ~running(end)
        return Transform(
            jnp.where(jnp.isfinite(sizes), value, jnp.nan), momentum, converged | ~(sizes < jnp.inf)
        )

    return jax.vmap(one)(points, velocities, rounding)
