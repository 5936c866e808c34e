r"""Wu, Ma and E, "How SGD selects the global minima" (NeurIPS 2018): linear stability.

Near a minimum the displacement along a direction is multiplied each step by ``1 - eta h_B``, h_B
the curvature of the minibatch, so that its second moment grows by

    ``G = (1 - eta h)^2 + (eta^2 / B) Var(h_i)``

(with the finite population factor without replacement). For G > 1 SGD leaves exponentially fast,
for G <= 1 it stays: there is no barrier and no rare event. Along the sharpest direction, with the
noise m per step that is there at the minimum itself, ``E[x_(k+1)^2] = G E[x_k^2] + m``; the time
is that at which it reaches the square of the way to the boundary.
"""

import numpy as np

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.landscape import AbstractEmpirical
from escapade.minimum import Neighbourhood
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting


def mean_square_growth(escape: Escape, around: Neighbourhood) -> float:
    """Factor G of the second moment per step along the sharpest direction."""
    dynamics, landscape, rate = escape.dynamics, escape.landscape, escape.dynamics.learning_rate
    if dynamics.continuous:
        return float(np.exp(-2 * rate * around.sharpness))
    if not (isinstance(dynamics, MinibatchSGD) and isinstance(landscape, AbstractEmpirical)):
        return (1 - rate * around.sharpness) ** 2
    curvatures = landscape.expand(escape.minimum).example_curvatures(around.sharpest_direction)
    variance = float(curvatures.var()) / dynamics.batch_size
    variance *= dynamics.finite_population_factor(landscape)
    return float((1 - rate * curvatures.mean()) ** 2 + rate**2 * variance)


def linear_stability_law(setting: Setting) -> Estimate:
    """Growth to the boundary.

    Raises:
        Silent: where SGD is mean-square stable, in continuous time, and where nothing grows.
    """
    escape, around = setting.escape, setting.around
    if escape.dynamics.continuous:
        raise Silent("is about finite steps: continuous SGD is stable at every minimum")
    growth = mean_square_growth(escape, around)
    if growth <= 1:
        raise Silent(
            "says that SGD stays: the second moment along the sharpest direction is multiplied by "
            f"{growth:.3g} each step, and the theory has no rare events"
        )
    direction = around.sharpest_direction
    way = float(setting.distances(np.stack([direction, -direction])).min())
    if not np.isfinite(way):
        raise Silent("the sharpest direction does not lead out of the region")
    first = float(direction @ (escape.start - escape.minimum)) ** 2
    noise = float(direction @ around.covariance @ direction)
    noise *= setting.learning_rate * setting.noise_scale
    scale = np.abs(around.covariance).max() * setting.learning_rate * setting.noise_scale
    if first == 0 and noise <= 1e-12 * scale:
        raise Silent("nothing grows: SGD starts at the minimum, where there is no noise")
    # E[x_k^2] = (first + fixed) G^k - fixed.
    fixed = noise / (growth - 1)
    steps = np.log((way**2 + fixed) / (first + fixed)) / np.log(growth)
    return Estimate(
        log_mean=float(np.log(max(steps, 1.0))),
        exponent=float("nan"),
        assumptions=(
            f"the second moment grows by G = {growth:.4g} each step along the sharpest direction",
            assumption(
                steps >= 3, f"the boundary is reached after several steps: {steps:.3g} (at least 3)"
            ),
            "all runs leave when the root mean square reaches the boundary",
        ),
    )


LINEAR_STABILITY = Theory(
    name="linear_stability",
    title="Wu, Ma and E 2018, linear stability",
    formula="the nu at which E[x^2] = R^2, E[x^2] growing by (1 - eta h)^2 + eta^2 Var(h_i) / B",
    assumptions=("curvatures of examples constant up to the boundary", "no barrier"),
    source="Wu, Ma and E, NeurIPS 2018",
    silent_where="wherever SGD is mean-square stable",
    law=linear_stability_law,
)
