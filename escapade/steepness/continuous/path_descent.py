"""The classical relaxations of a curve: the simplified geometric minimum action and string methods.

They are what other packages offer, take a fixed number of small steps and are of first order; the
Newton steps of `geometric` and the orbits of `boundary_value` supersede them. They are kept as
independent checks, and to be timed beside the published figures.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument
from escapade.precision import in_float64
from escapade.steepness.hamiltonian import AbstractHamiltonian

Path = Float[np.ndarray, "n dim"]


class RelaxedPath(eqx.Module):
    """A curve after a number of relaxation steps.

    Attributes:
        path: points, equally spaced in length, shape (n, dim).
        value: ``integral p . dx`` along it, the geometric action (trapezoid rule).
    """

    path: Path
    value: float


def geometric_minimum_action(
    hamiltonian: AbstractHamiltonian, path: ArrayLike, step: float, iterations: int
) -> RelaxedPath:
    """Relax a curve between fixed ends towards least geometric action, for Gaussian noise.

    Descent preconditioned by C, with the second derivative along the curve treated implicitly, then
    points spread anew ("sgMAM": Grafke, Schaefer and Vanden-Eijnden, Recent Advances and Future
    Challenges in Theory and Computation of Rare Events, 2017).

    Args:
        hamiltonian: its drift, covariance and derivative in x are used.
        path: first curve, shape (n, dim) with n of at least 3.
        step: pseudo-time step; any size is stable where the curve is straight.
        iterations: number of steps.

    Raises:
        InvalidArgument: when the path has fewer than three points.
    """
    relaxed, value = in_float64(
        _minimise, hamiltonian, _checked(path), float(step), np.int64(iterations)
    )
    return RelaxedPath(relaxed, float(value))


def string_method(
    hamiltonian: AbstractHamiltonian, path: ArrayLike, step: float, iterations: int
) -> RelaxedPath:
    """Relax a curve, ends included, along the noiseless flow, spreading its points anew each step.

    For a gradient with isotropic noise it becomes the path of least action between two minima; else
    a heteroclinic orbit of the drift (E, Ren and Vanden-Eijnden, J. Chem. Phys. 126, 2007).

    Args:
        hamiltonian: only its drift moves the curve.
        path: first curve, shape (n, dim) with n of at least 3.
        step: time step of the flow.
        iterations: number of steps.

    Raises:
        InvalidArgument: when the path has fewer than three points.
    """
    relaxed, value = in_float64(
        _relax, hamiltonian, _checked(path), float(step), np.int64(iterations)
    )
    return RelaxedPath(relaxed, float(value))


def _checked(path: ArrayLike) -> Path:
    points = np.asarray(path, dtype=np.float64)
    if points.ndim != 2 or len(points) < 3:
        raise InvalidArgument(f"path has shape {points.shape}; give at least three points (n, dim)")
    return points


def _minimise(
    hamiltonian: AbstractHamiltonian, path: Array, step: Array, iterations: Array
) -> tuple[Array, Array]:
    def body(_: Array, path: Array) -> Array:
        speeds, momenta, covariances = _duals(hamiltonian, path)
        inner, rate = path[1:-1], speeds[1:-1, None]
        forces = -jax.vmap(hamiltonian.force)(inner, momenta[1:-1])
        pull = rate * (momenta[2:] - momenta[:-2]) * (0.5 * (len(path) - 1)) + forces
        stiffness = rate**2 * (len(path) - 1) ** 2
        bend = path[2:] - 2 * inner + path[:-2]
        target = inner + step * (
            jnp.einsum("nij,nj->ni", covariances[1:-1], pull) - stiffness * bend
        )
        across = -step * stiffness[:, 0]
        target = target.at[0].add(-across[0] * path[0]).at[-1].add(-across[-1] * path[-1])
        lower, upper = across.at[0].set(0.0), across.at[-1].set(0.0)
        moved = jax.lax.linalg.tridiagonal_solve(lower, 1 - 2 * across, upper, target)
        return _spread(path.at[1:-1].set(moved))

    path = jax.lax.fori_loop(0, iterations, body, _spread(path))
    return path, _value(hamiltonian, path)


def _relax(
    hamiltonian: AbstractHamiltonian, path: Array, step: Array, iterations: Array
) -> tuple[Array, Array]:
    def body(_: Array, path: Array) -> Array:
        return _spread(path + step * jax.vmap(hamiltonian.drift)(path))

    path = jax.lax.fori_loop(0, iterations, body, _spread(path))
    return path, _value(hamiltonian, path)


def _duals(hamiltonian: AbstractHamiltonian, path: Array) -> tuple[Array, Array, Array]:
    """Speed along the curve (unit parameter length), momentum and covariance at the points."""
    slopes = jnp.concatenate(
        [path[1:2] - path[:1], (path[2:] - path[:-2]) / 2, path[-1:] - path[-2:-1]]
    )

    def one(x: Array, slope: Array) -> tuple[Array, Array, Array]:
        drift, covariance = hamiltonian.drift(x), hamiltonian.covariance(x)
        both = _inverse(covariance) @ jnp.stack([drift, slope], axis=1)
        speed = jnp.sqrt(jnp.vdot(drift, both[:, 0]) / (jnp.vdot(slope, both[:, 1]) + 1e-300))
        return speed, speed * both[:, 1] - both[:, 0], covariance

    return jax.vmap(one)(path, slopes * (len(path) - 1))


def _inverse(matrix: Array) -> Array:
    """Explicit in one and two dimensions, where calling a library costs more than the sums."""
    if len(matrix) == 1:
        return 1 / matrix
    if len(matrix) == 2:
        (a, b), (c, d) = matrix
        return jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    return jnp.linalg.inv(matrix)


def _value(hamiltonian: AbstractHamiltonian, path: Array) -> Array:
    _, momenta, _ = _duals(hamiltonian, path)
    return jnp.sum(0.5 * (momenta[1:] + momenta[:-1]) * (path[1:] - path[:-1]))


def _spread(path: Array) -> Array:
    """Points equally spaced in length, by linear interpolation."""
    edges = jnp.sqrt(jnp.sum((path[1:] - path[:-1]) ** 2, axis=1))
    along = jnp.concatenate([jnp.zeros(1, path.dtype), jnp.cumsum(edges)])
    even = jnp.linspace(0.0, 1.0, len(path)) * along[-1]
    # Interpolation at sorted points: counting replaces the search.
    left = jnp.clip(jnp.searchsorted(along, even, side="right") - 1, 0, len(path) - 2)
    share = (even - along[left]) / jnp.maximum(edges[left], 1e-300)
    spread = path[left] + share[:, None] * (path[left + 1] - path[left])
    return spread.at[0].set(path[0]).at[-1].set(path[-1])
