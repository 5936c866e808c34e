r"""Simsekli, Sagun and Gurbuzbalaban (ICML 2019) and Nguyen et al. (NeurIPS 2019): Levy noise.

SGD is taken for ``dX = -grad L dt + epsilon dZ`` with a symmetric alpha-stable Z of jump density
``|y|^(-1 - alpha)``. The interval (-R, R) is left by a single large jump:

    ``E[tau] = (alpha / 2) R^alpha epsilon^(-alpha)``,

a power law that knows no barrier (Imkeller and Pavlyukevich, Stochastic Processes and their
Applications 116, 2006). The jump density gives ``P(|jump of a unit of time| > x) = (2 / alpha)
epsilon^alpha x^(-alpha)``, so in steps ``E[nu] = 1 / P(|jump of a step| > R)``, which is used
here with the tail of the noise as it is: ``P(|z| > x) = A x^(-alpha)``, ``A = (2 / pi)
Gamma(alpha) sin(pi alpha / 2)`` of stable noise with the characteristic function
``exp(-|k|^alpha)`` and ``A = 2 k^(k / 2 - 1) Gamma((k + 1) / 2) / (sqrt(pi) Gamma(k / 2))`` of
Student's t with k degrees of freedom, alpha = k.

In several dimensions the coordinates jump on their own and the first to leave decides:

    ``1 / E[nu] = (A / 2) scale^alpha sum_i (R_i+^(-alpha) + R_i-^(-alpha))``

with the distances R_i to the boundary along both senses of each axis.
"""

import numpy as np
from scipy.special import gamma, gammaln

from escapade.dynamics import AbstractHeavyTailedSGD, AlphaStableSGD, HeavyTailedSGD
from escapade.escape import Escape
from escapade.landscape.descent import jacobian
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import from_elsewhere
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting


def require_heavy_tails(escape: Escape) -> None:
    """Refuse noise without a power-law tail.

    Raises:
        Silent: when the noise has none.
    """
    if not isinstance(escape.dynamics, AbstractHeavyTailedSGD):
        raise Silent(
            f"needs noise with a power-law tail: that of {escape.dynamics} has none, and does not "
            "leave by large jumps"
        )


def tail(dynamics: AbstractHeavyTailedSGD) -> tuple[float, float]:
    """Exponent alpha and constant A of ``P(|z| > x) = A x^(-alpha)`` for large x.

    Raises:
        Silent: for stable noise of stability two, which is Gaussian.
    """
    if isinstance(dynamics, AlphaStableSGD):
        alpha = dynamics.stability
        if alpha == 2:
            raise Silent("noise of stability two is Gaussian: it has no large jumps")
        return alpha, float(2 / np.pi * gamma(alpha) * np.sin(np.pi * alpha / 2))
    if isinstance(dynamics, HeavyTailedSGD):
        k = dynamics.degrees_of_freedom
        log_ratio = gammaln((k + 1) / 2) - gammaln(k / 2)
        return k, float(2 / np.sqrt(np.pi) * np.exp(log_ratio + (k / 2 - 1) * np.log(k)))
    raise Silent(f"the tail of the noise of {dynamics} is not known")


def levy_law(setting: Setting) -> Estimate:
    """One jump along an axis.

    Raises:
        Silent: when no axis leads out of the region.
    """
    escape = setting.escape
    dynamics = escape.dynamics
    assert isinstance(dynamics, AbstractHeavyTailedSGD)
    alpha, constant = tail(dynamics)
    axes = np.eye(escape.landscape.dim)
    distances = setting.distances(np.concatenate([axes, -axes])) / dynamics.scale
    total = float(np.sum(distances**-alpha))
    if not total > 0:
        raise Silent("no axis leads out of the region, and the coordinates jump on their own")
    slowest = np.linalg.eigvals(jacobian(escape.landscape, escape.minimum)).real.min()
    kept = abs(1 - dynamics.learning_rate * slowest)
    # The stationary scale of x' = kept x + z, z stable.
    power = min(alpha, 2.0)
    spread = (1 - kept**power) ** (-1 / power) if kept < 1 else np.inf
    width = spread / distances.min()
    return Estimate(
        log_mean=-np.log(constant / 2 * total),
        exponent=float("nan"),
        assumptions=(
            assumption(alpha < 2, f"stable noise: tail exponent {alpha:.3g} (below 2)"),
            assumption(
                width <= 0.1,
                "one jump: the scale of the fluctuations between jumps is "
                f"{width:.2g} of the way to the boundary (at most 0.1)",
            ),
            *from_elsewhere(escape),
        ),
    )


LEVY = Theory(
    name="levy",
    title="Simsekli et al., Nguyen et al. 2019",
    formula="E[nu] = 1 / P(|jump of one step| > R), which is (alpha / 2) (R / epsilon)^alpha / eta",
    assumptions=("alpha-stable noise", "small noise: one large jump leaves"),
    source=(
        "Simsekli, Sagun and Gurbuzbalaban, ICML 2019; Nguyen, Simsekli, Gurbuzbalaban and "
        "Richard, NeurIPS 2019; Imkeller and Pavlyukevich, Stoch. Proc. Appl. 116 (2006)"
    ),
    silent_where="noise without a power-law tail",
    law=levy_law,
    require=require_heavy_tails,
)
