r"""Jastrzebski et al., "Three factors influencing minima in SGD" (arXiv 1711.04623, 2017).

The stationary law under isotropic noise of variance sigma^2 visits a minimum in proportion to
``exp(-2 B L / (eta sigma^2)) / sqrt(det H)``. From that ratio between two places the tables of
later papers read the time of an escape as

    ``exp(B dL / (2 eta)) sqrt(det H' / det H)``

(so printed in version 1 of Ibayashi and Imaizumi). The Gibbs algebra gives ``exp(2 B dL / (eta
sigma^2))`` instead, and that is used here, as a time t = eta times steps; H' are the second
derivatives at the lowest point of the boundary, of which the determinant's size is taken.
"""

import numpy as np

from escapade.errors import DegenerateNoise
from escapade.theory._base import Estimate, Theory
from escapade.theory.assumptions import common, isotropic_noise
from escapade.theory.setting import Setting


def jastrzebski_law(setting: Setting) -> Estimate:
    """Ratio of occupations, read as a time.

    Raises:
        Unsupported: without a loss, or where no way out is looked for.
    """
    hessian, variance = setting.hessian, setting.mean_variance
    if not variance > 0:
        raise DegenerateNoise("there is no gradient noise at the minimum")
    height, log_ratio = setting.height, 0.0
    if not setting.linear:
        there = np.linalg.slogdet(setting.passes[0].hessian)[1]
        log_ratio = float(there - np.linalg.slogdet(hessian)[1])
    exponent = 2 * height / variance
    return Estimate(
        log_mean=exponent / setting.noise_scale + log_ratio / 2 - np.log(setting.learning_rate),
        exponent=exponent,
        assumptions=(
            "a ratio of occupations, read as a time: it has no unit of time",
            isotropic_noise(setting),
            *common(setting, quadratic=setting.linear),
        ),
    )


JASTRZEBSKI = Theory(
    name="jastrzebski",
    title="Jastrzebski et al. 2017",
    formula="E[nu] = (1 / eta) sqrt(|det H'| / det H) exp(2 B dL / (eta sigma^2))",
    assumptions=("the stationary law", "isotropic noise, the same everywhere", "continuous time"),
    source="Jastrzebski et al., arXiv 1711.04623, as read by version 1 of arXiv 2111.04004",
    silent_where=(
        "drifts without a loss; basins beyond six dimensions; strictly on every time, since it "
        "compares occupations"
    ),
    law=jastrzebski_law,
)
