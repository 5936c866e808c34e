r"""Ibayashi and Imaizumi (arXiv 2111.04004): version 1, version 2 and the plain law.

*Version 1* ("Quasi-potential theory for escape problem"), theorems 1 and 2, out of a ball of
radius r:

    ``E[tau] = exp[2 (B / eta) r^2 lambda_min^(1/2) c^(-1/2)]`` for ``C = c H``,

as printed (theorem 1 has c = 1; theorem 2 bounds it for ``c_1 <= C / H <= c_2``). Its steepness
weighs deviations by ``C^(-1/2)``, where noise of amplitude ``C^(1/2)`` needs ``C^(-1)``: under
``L -> a L, C -> a^2 C, eta -> eta / a``, which leaves every path of SGD as it is, the printed
exponent is multiplied by a. With ``C^(-1)`` it is ``(B / eta) r^2 / c``, without sharpness.

*Version 2* ("Exponential escape efficiency"): as drawn in the figures of the authors' repository,
``E[nu] ~ exp(lambda_max^(-1))`` at fixed depth, ``exp(eta^(-1))``, ``exp(B)`` and ``exp(dL)``. The
theorems were not available. With ``C = c H`` the true action at depth dL gives this,

    ``E[tau] = exp[(B / eta) 2 dL / (c lambda_max)]``.

*The plain law* ``E[tau] = exp((B / eta) V0)`` takes V0 from the true action and the measured C at
the minimum. Times are ``t = eta nu`` in all three; c is fitted.
"""

import numpy as np

from escapade.errors import DegenerateNoise, Unsupported
from escapade.landscape import Quadratic
from escapade.region import Ball
from escapade.steepness.local import minimum_over_boundary
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import (
    LOGARITHMIC,
    common,
    continuous_time,
    hessian_noise,
    quadratic_to_the_exit,
    regime,
)
from escapade.theory.groups import measure_groups
from escapade.theory.nonlinearity import nonlinearity
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting


def version_1(setting: Setting) -> Estimate:
    """Ball, with the power of C as printed.

    Raises:
        Silent: out of another region than a ball around the minimum.
    """
    region = setting.escape.region
    if not isinstance(region, Ball) or setting.form is None:
        raise Silent("is about a ball around the minimum, and this region is none")
    curvatures, c = setting.around.eigenvalues, _fitted(setting)
    value = 2 * region.radius**2 * np.sqrt(curvatures[-1] / c)
    return _exponential(
        setting, value, assumption(False, "the action weighs by C^(-1/2); C^(-1) is right")
    )


def version_2(setting: Setting) -> Estimate:
    """Fixed depth: the rise of the loss up to the lowest way out.

    Raises:
        Unsupported: without a loss, or where no way out is looked for.
    """
    around, c = setting.around, _fitted(setting)
    value = 2 * setting.height / (c * around.sharpness)
    line = "a fixed depth: whether the exit is along the sharpest direction is not known here"
    if setting.form is not None:
        right = minimum_over_boundary(c / 2 * np.eye(around.dim), setting.form).value
        line = assumption(
            abs(value / right - 1) <= 0.1,
            "a fixed depth, and an exit along the sharpest direction: with C = c H the true "
            f"V0 of this region is {right:.3g}, that of the figures {value:.3g}",
        )
    return _exponential(setting, value, line)


def exponential_law(setting: Setting) -> Estimate:
    """True exponent of continuous SGD at the minimum.

    Raises:
        Unsupported: when the region has no closed form.
    """
    escape, around = setting.escape, setting.around
    if setting.form is None:
        raise Unsupported(
            f"no closed form predicts the exit from this region ({escape.region}); use a ball, "
            "sublevel set, half-space or slab around the minimum, or simulate"
        )
    stationary = around.stationary_covariance()
    groups, exit_point = measure_groups(escape, around, stationary, with_noise_correction=False)
    log_mean = groups.barrier - float(np.log(setting.learning_rate))
    lines = [*regime(groups), *continuous_time(escape, groups)]
    if not isinstance(escape.landscape, Quadratic):
        steps = float(np.exp(min(log_mean, 700.0)))
        deviation = nonlinearity(escape, around, setting.form, exit_point, steps)
        lines.append(quadratic_to_the_exit(deviation))
    return Estimate(
        log_mean=log_mean,
        exponent=groups.barrier * setting.noise_scale,
        assumptions=(LOGARITHMIC, *lines),
        groups=groups,
    )


def _fitted(setting: Setting) -> float:
    """C in units of the Hessian.

    Raises:
        DegenerateNoise: when the noise has no share like the Hessian.
    """
    setting.loss  # noqa: B018 - refuses a drift, which has no Hessian
    c = setting.around.alignment.c
    if not c > 0:
        raise DegenerateNoise("the noise has no share that is proportional to the Hessian")
    return c


def _exponential(setting: Setting, value: float, line: str) -> Estimate:
    return Estimate(
        log_mean=value / setting.noise_scale - np.log(setting.learning_rate),
        exponent=float(value),
        assumptions=(
            LOGARITHMIC,
            line,
            hessian_noise(setting),
            *common(setting, quadratic=setting.linear),
        ),
    )


_PAPER = "Ibayashi and Imaizumi, arXiv 2111.04004"

IBAYASHI_IMAIZUMI_V1 = Theory(
    name="ibayashi_imaizumi_v1",
    title="Ibayashi and Imaizumi, version 1",
    formula="E[nu] = (1 / eta) exp[2 (B / eta) r^2 (lambda_min / c)^(1/2)], as printed",
    assumptions=("a quadratic loss in a ball", "C = c H", "a vanishing eta / B"),
    source=f"{_PAPER}v1, theorems 1 and 2",
    silent_where="regions other than a ball around the minimum",
    law=version_1,
)

IBAYASHI_IMAIZUMI_V2 = Theory(
    name="ibayashi_imaizumi_v2",
    title="Ibayashi and Imaizumi, version 2",
    formula="E[nu] = (1 / eta) exp[(B / eta) 2 dL / (c lambda_max)], as drawn in the figures",
    assumptions=("a fixed depth dL", "C = c H", "a vanishing eta / B"),
    source=f"{_PAPER}v2, figures of the authors' repository; theorems not available",
    silent_where="basins beyond six dimensions",
    law=version_2,
)

EXPONENTIAL_LAW = Theory(
    name="exponential_law",
    title="Ibayashi and Imaizumi, plain law",
    formula="E[nu] = (1 / eta) exp((B / eta) V0), V0 with the measured C at the minimum",
    assumptions=("a quadratic loss", "Gaussian noise", "a vanishing eta / B"),
    source=f"{_PAPER}: E[tau] = exp((B / eta) V0), tau = eta nu",
    silent_where="regions other than a ball, sublevel set, half-space or slab around the minimum",
    law=exponential_law,
)
