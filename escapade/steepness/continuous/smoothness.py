"""Whether the drift is smooth enough for Hamilton's equations."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapade.errors import Unsupported
from escapade.steepness.continuous.batches import at_each
from escapade.steepness.continuous.noiseless import drift
from escapade.steepness.hamiltonian import AbstractHamiltonian

Path = Float[np.ndarray, "n dim"]


def require_smooth(hamiltonian: AbstractHamiltonian, path: Path) -> None:
    """Look for a kink of the drift along a path, by zooming in where it is least linear.

    Raises:
        Unsupported: when there is one.
    """
    left, right = path[:-1], path[1:]
    first = last = 0.0
    for zoom in range(10):
        defects = at_each(_trapezoid_defect, hamiltonian, left, right)
        worst = int(np.argmax(defects))
        last = float(defects[worst])
        first = last if zoom == 0 else first
        middle = 0.5 * (left[worst] + right[worst])
        left, right = np.stack([left[worst], middle]), np.stack([middle, right[worst]])
    rounding = 1e-11 * float(np.abs(at_each(drift, hamiltonian, path)).max())
    if last > rounding and last > 1e-5 * first:
        raise Unsupported(
            f"the landscape is not smooth: the gradient has a kink or a jump near theta = "
            f"{np.array2string(left[0], precision=4, threshold=6)} (a ReLU, an absolute value), "
            "and Hamilton's equations need two derivatives; use a smooth activation (softplus), or "
            "simulate or split the escape instead"
        )


def _trapezoid_defect(hamiltonian: AbstractHamiltonian, left: Array, right: Array) -> Array:
    """Distance of the change of the drift along an edge from its trapezoid rule."""
    first, slope = jax.jvp(hamiltonian.drift, (left,), (right - left,))
    second, other = jax.jvp(hamiltonian.drift, (right,), (right - left,))
    return jnp.linalg.norm(second - first - 0.5 * (slope + other))
