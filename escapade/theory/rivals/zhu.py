r"""Zhu et al., "The anisotropic noise in SGD" (ICML 2019): escape efficiency.

Started at a minimum, under constant noise of covariance C, the mean loss has risen after a time t
by

    ``E[L_t - L_0] = (eta / (4 B)) Tr[(I - exp(-2 H t)) C]``,

about ``(eta t / (2 B)) Tr(H C)`` at first: Tr(H C) is their indicator of how efficiently a
minimum is left. It is a rise of the loss and no time. It is offered here as the time at which the
mean rise equals the height of the lowest way out; where it never does, the theory is silent. So
it speaks where exits are diffusive, and never of a barrier.
"""

import numpy as np
import scipy.optimize

from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import common
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting


def mean_rise(setting: Setting, time: float) -> float:
    """Mean rise of the quadratic loss after a time t = eta times steps; infinity is allowed."""
    curvatures, noise = setting.around.eigenvalues, setting.around.noise_along
    return float(setting.noise_scale / 4 * -np.expm1(-2 * curvatures * time) @ noise)


def zhu_law(setting: Setting) -> Estimate:
    """When the mean loss has risen by the height of the lowest way out.

    Raises:
        Silent: when it never does.
        Unsupported: without a loss, or where no way out is looked for.
    """
    height, curvatures = setting.height, setting.around.eigenvalues
    highest = mean_rise(setting, np.inf)
    if highest <= height:
        raise Silent(
            "says that the mean loss never rises to the lowest way out: by at most "
            f"{highest:.3g}, of {height:.3g}; of rare exits an indicator of the mean says nothing"
        )
    low, high = np.log(1e-12 / curvatures[0]), np.log(1e3 / curvatures[-1])
    log_time = scipy.optimize.brentq(
        lambda log_time: mean_rise(setting, np.exp(log_time)) - height, low, high
    )
    groups = setting.groups
    return Estimate(
        log_mean=log_time - np.log(setting.learning_rate),
        exponent=float("nan"),
        assumptions=(
            assumption(
                groups.shell_ratio >= 1,
                "all exits come when the mean rise reaches the height: the typical shell over the "
                f"region's size, squared, is {groups.shell_ratio:.2g} (at least 1)",
            ),
            *common(setting, quadratic=True, rare=False),
        ),
    )


ZHU = Theory(
    name="zhu",
    title="Zhu et al. 2019",
    formula="the nu at which (eta / (4 B)) Tr[(I - exp(-2 H eta nu)) C] = dL",
    assumptions=("constant noise", "quadratic loss", "continuous time", "a start at the minimum"),
    source="Zhu, Wu, Yu, Wu and Ma, ICML 2019 (arXiv 1803.00195), escape efficiency",
    silent_where="wherever the mean loss never rises to the height of the lowest way out",
    law=zhu_law,
)
