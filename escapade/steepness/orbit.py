"""What every path solver hands back."""

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Orbit(eqx.Module):
    """A solution of Hamilton's equations from the start to an end, a local minimiser of the action.

    Attributes:
        times: t = learning rate times steps, increasing, shape (n,); it ends at 0 for an infinite
            horizon, else it runs from 0 to the horizon.
        path: points, shape (n, dim); the first one lies close to the minimum, where the
            quadratic quasipotential holds, for an infinite horizon.
        momenta: conjugate momenta; for an infinite horizon the gradient of V along the path. Of a
            chain, the momentum of the step that arrives at the point.
        actions: steepness accumulated from the start to each point, the part before the first
            point included, so that the last one is the value; shape (n,).
        value: steepness of the whole path.
        error: estimated relative error of the value.
        converged: whether the error is within the tolerance asked for.
        method: the solver, in a few words.
    """

    times: Float[np.ndarray, " n"]
    path: Float[np.ndarray, "n dim"]
    momenta: Float[np.ndarray, "n dim"]
    actions: Float[np.ndarray, " n"]
    value: float
    error: float
    converged: bool
    method: str

    @property
    def end(self) -> Float[np.ndarray, " dim"]:
        """Where it ends."""
        return self.path[-1]
