"""How far the force at an exit is from linear."""

import numpy as np
from jaxtyping import Float

from escapade.escape import Escape
from escapade.minimum import Neighbourhood
from escapade.minimum.lyapunov import horizon_covariance, symmetric_root
from escapade.region.forms import LinearForm, QuadraticForm


def nonlinearity(
    escape: Escape,
    around: Neighbourhood,
    form: LinearForm | QuadraticForm,
    exit_point: Float[np.ndarray, " dim"],
    steps: float,
) -> float:
    """Root mean square deviation of the force at the exit from linear, relative to it.

    At the two opposite exit points, displaced by typical fluctuations (of the spread reached after
    so many steps) in the other directions: the exit itself may be straight while flat directions
    wander far enough to bend the valley.
    """
    normal = form.normal_at(exit_point[None])[0]
    drift = around.drift_matrix
    time = max(steps, 1.0) * escape.dynamics.learning_rate
    spread = escape.noise_scale * horizon_covariance(drift, around.covariance, time)
    normals = np.random.default_rng(0).standard_normal((8, len(normal)))
    fluctuations = normals @ symmetric_root(spread)
    fluctuations -= np.outer(fluctuations @ normal / (exit_point @ normal), exit_point)
    linear = normal @ drift @ exit_point
    points = np.concatenate([fluctuations + exit_point, fluctuations - exit_point])
    forces = np.array([escape.landscape.gradient(escape.minimum + point) for point in points])
    deviations = (forces - points @ drift.T) @ normal / linear
    return float(np.sqrt(np.mean(deviations**2)))
