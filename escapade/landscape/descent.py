"""Noiseless motion on a landscape: where a point rolls to, and the stationary point it ends at."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import InvalidArgument, NotAMinimum
from escapade.landscape._base import AbstractLandscape
from escapade.precision import in_float64

DENSE = 20_000
"""Parameters up to which a matrix of dim x dim is made."""


def require_dense(dim: int) -> None:
    """Refuse what needs a matrix of dim x dim, before anything is computed.

    Raises:
        InvalidArgument: when the landscape has more than 20 000 parameters.
    """
    if dim > DENSE:
        raise InvalidArgument(
            f"the landscape has {dim:,} parameters, whose Hessian would take {8e-9 * dim**2:,.0f} "
            f"GB: this works up to {DENSE:,}; use escapade.inspect, which needs products with "
            "vectors only, or let fewer parameters move (only=...)"
        )


def jacobian(
    landscape: AbstractLandscape, theta: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, "dim dim"]:
    """Derivative of the gradient field in float64: the Hessian, or minus the drift's Jacobian.

    Raises:
        InvalidArgument: when the landscape has too many parameters for a dense matrix.
    """
    require_dense(landscape.dim)
    return in_float64(_jacobian, landscape, np.asarray(theta, dtype=np.float64))


def newton(
    landscape: AbstractLandscape, theta: ArrayLike, iterations: int = 50
) -> Float[np.ndarray, " dim"]:
    """Polish a point close to a stationary point by Newton steps, until rounding stops them.

    Raises:
        NotAMinimum: when the steps do not settle, so the point was not close to one.
    """
    point = np.asarray(theta, dtype=np.float64)
    previous = np.inf
    for _ in range(iterations):
        gradient = landscape.gradient(point)
        size = float(np.linalg.norm(gradient))
        if size == 0 or (size < 1e-8 and size >= previous / 2):
            return point
        previous = size
        point = point - np.linalg.lstsq(jacobian(landscape, point), gradient, rcond=1e-14)[0]
        if not np.isfinite(point).all():
            break
    raise NotAMinimum(
        f"Newton steps from theta = {_brief(theta)} did not settle on a stationary point; "
        "start closer to the minimum, or use escapade.find_minimum"
    )


def roll(
    landscape: AbstractLandscape,
    theta: Float[Array, " dim"],
    step: Float[Array, ""] | float,
    steps: int,
    longest: Float[Array, ""] | float = jnp.inf,
) -> Float[Array, " dim"]:
    """Follow the noiseless flow for `steps` explicit Euler steps, none longer than `longest`."""

    def body(_: int, point: Float[Array, " dim"]) -> Float[Array, " dim"]:
        move = step * landscape._gradient(point)
        length = jnp.sqrt(jnp.sum(move * move) + 1e-30)
        return point - move * jnp.minimum(1.0, longest / length)

    return jax.lax.fori_loop(0, steps, body, theta)


def _jacobian(landscape: AbstractLandscape, theta: Float[Array, " dim"]) -> Float[Array, "dim dim"]:
    # One linearisation, then column by column: on CPU four times faster than all columns at once.
    _, along = jax.linearize(landscape._gradient, theta)
    return jax.lax.map(along, jnp.eye(theta.size, dtype=theta.dtype)).T


def _brief(theta: ArrayLike) -> str:
    return np.array2string(np.asarray(theta), precision=4, threshold=6, edgeitems=3)
