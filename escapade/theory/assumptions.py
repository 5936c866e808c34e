"""What theories take for granted, each with the number that decides whether it holds here."""

from contextlib import suppress

import numpy as np

from escapade.dynamics import MinibatchSGD
from escapade.errors import EscapadeError
from escapade.escape import Escape
from escapade.landscape import Quadratic
from escapade.theory.groups import SHELL
from escapade.theory.prediction import Groups, assumption
from escapade.theory.setting import Setting

LOGARITHMIC = "holds on the logarithmic scale only: no prefactor, no finite step size"


def regime(groups: Groups) -> list[str]:
    """Rare exits of a stable chain."""
    return [
        assumption(
            groups.barrier >= 2, f"exit over a barrier: b = {groups.barrier:.3g} (at least 2)"
        ),
        assumption(
            groups.shell_ratio <= SHELL,
            "the region lies outside the typical shell: mean squared distance over size squared "
            f"is {groups.shell_ratio:.2g} (at most {SHELL:g})",
        ),
        assumption(
            groups.stiffness < 2, f"stable step: eta lambda_max = {groups.stiffness:.3g} (< 2)"
        ),
    ]


def from_elsewhere(escape: Escape) -> list[str]:
    """What is to be said of a start that is not the minimum."""
    if np.array_equal(escape.start, escape.minimum):
        return []
    return ["starts at the minimum: no, so the time of the first relaxation is not seen"]


def quadratic_to_the_exit(deviation: float) -> str:
    """That the force is linear up to the exit."""
    return assumption(
        deviation <= 0.1,
        "quadratic up to the exit: with typical fluctuations in the other directions the "
        f"force there differs from linear by {100 * deviation:.2g} % (at most 10 %)",
    )


def gaussian_noise(groups: Groups) -> str:
    """That minibatch noise may be replaced by a Gaussian."""
    return assumption(
        abs(groups.noise_correction) <= 0.3,
        "Gaussian noise: skewness and tails of the minibatch noise change log E[nu] by "
        f"about {groups.noise_correction:+.2g} (at most 0.3)",
    )


def continuous_time(escape: Escape, groups: Groups) -> list[str]:
    """That an exit between two steps is one; nothing where time is continuous."""
    if escape.dynamics.continuous:
        return []
    return [
        assumption(
            groups.signal_to_noise <= 0.3,
            "continuous time: at the exit the drift of a step is "
            f"{groups.signal_to_noise:.2g} standard deviations of its noise (at most 0.3)",
        )
    ]


def constant_noise(setting: Setting) -> list[str]:
    """That the noise at the exit is that at the minimum; nothing where it is so by construction."""
    try:
        change = setting.noise_change
    except EscapadeError:
        return []
    if change == 0:
        return []
    return [
        assumption(
            abs(change) <= 0.1,
            "constant noise: its variance across the boundary differs at the exit by "
            f"{100 * change:+.2g} % from that at the minimum (at most 10 %)",
        )
    ]


def common(
    setting: Setting, *, quadratic: bool, constant: bool = True, rare: bool = True
) -> list[str]:
    """What every theory of a barrier that knows no steps takes for granted.

    `quadratic` says whether the theory was given the neighbourhood of the minimum only,
    `constant` whether it holds the noise at its value there, `rare` whether exits must be rare.
    """
    escape, groups = setting.escape, setting.groups
    lines = regime(groups) if rare else []
    lines += continuous_time(escape, groups)
    if quadratic and not isinstance(escape.landscape, Quadratic):
        # Where it cannot be measured there is no quadratic prediction to be wrong.
        with suppress(EscapadeError):
            lines.append(quadratic_to_the_exit(setting.nonlinearity))
    if constant:
        lines += constant_noise(setting)
    if isinstance(escape.dynamics, MinibatchSGD):
        lines.append(gaussian_noise(groups))
    return [*lines, *from_elsewhere(escape)]


def isotropic_noise(setting: Setting) -> str:
    """That ``C = sigma^2 I``; sigma^2 is the mean variance."""
    covariance, variance = setting.around.covariance, setting.mean_variance
    deviation = np.linalg.norm(covariance - variance * np.eye(len(covariance)))
    deviation /= np.linalg.norm(covariance)
    return assumption(
        bool(deviation <= 0.1),
        f"isotropic noise: |C - sigma^2 I| / |C| = {deviation:.2g} with sigma^2 = Tr C / d = "
        f"{variance:.3g} (at most 0.1)",
    )


def hessian_noise(setting: Setting) -> str:
    """That ``C = c H``; c is fitted."""
    alignment = setting.around.alignment
    return assumption(
        alignment.relative_residual <= 0.1,
        f"noise like the Hessian: |C - c H| / |C| = {alignment.relative_residual:.2g} with "
        f"c = {alignment.c:.3g} (at most 0.1)",
    )
