"""The uniform mean exit time of the quadratic approximation: derived in `escapade.theory.uniform`.

``E[nu] = 1 / int_outside theta(s(x)) pi_eta(dx)`` in one dimension, with the stationary law pi_eta
of the chain and the extremal index theta of a walk of drift s; four parts in general.
"""

from escapade.dynamics import MinibatchSGD
from escapade.landscape import Quadratic
from escapade.theory._base import Estimate, Theory
from escapade.theory.assumptions import (
    constant_noise,
    from_elsewhere,
    gaussian_noise,
    quadratic_to_the_exit,
    regime,
)
from escapade.theory.setting import Setting


def quadratic_law(setting: Setting) -> Estimate:
    """Uniform mean exit time, of a diffusion or of a chain at its learning rate.

    Raises:
        Unsupported: when the region has no closed form.
        Unstable: when the learning rate is too large.
    """
    escape, found = setting.escape, setting.uniform
    groups, _ = setting.exit
    lines = regime(groups)
    if not isinstance(escape.landscape, Quadratic):
        lines.append(quadratic_to_the_exit(setting.nonlinearity))
    lines += constant_noise(setting)
    if isinstance(escape.dynamics, MinibatchSGD):
        lines.append(gaussian_noise(groups))
    return Estimate(
        log_mean=found.log_mean,
        exponent=groups.barrier * setting.noise_scale,
        assumptions=(*lines, *from_elsewhere(escape)),
        relative_error=found.relative_error,
        groups=groups,
    )


QUADRATIC = Theory(
    name="quadratic",
    title="Escapade, uniform",
    formula=(
        "E[nu] = 1 / [2 theta(s) Phi(-R / sigma)] in one dimension, sigma^2 the stationary "
        "variance of the chain, theta the extremal index; four parts in general"
    ),
    assumptions=("quadratic loss and constant Gaussian noise up to the exit",),
    source="uniform mean exit time of linear-Gaussian SGD (docs/theory.md)",
    silent_where="regions other than a ball, sublevel set, half-space or slab around the minimum",
    law=quadratic_law,
)
