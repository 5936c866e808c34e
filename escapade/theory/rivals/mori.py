r"""Mori, Ziyin, Liu and Ueda, "Power-law escape rate of SGD" (ICML 2022): loss-proportional noise.

For the square loss ``C(theta) = 2 L(theta) H``: the noise grows with the loss. The logarithm of
the loss then takes the place of the loss, and the stationary law is ``L^(-(1 + B / (eta h)))``.
With n outliers of the Hessian, of typical size h, flat directions frozen, escape over a saddle
has the rate

    ``kappa = (|h_e| / (2 pi)) sqrt(det H_a / |det H_s|) [L_s / L_a]^(-(B / (eta h) + 1 - n / 2))``

per unit of t = eta times steps, both determinants over the outliers; ``V = ln(L / L_a) / h``. The
saddle itself is reached at twice that rate, and over several saddles the rates add. Through a
boundary, which the paper does not treat, the flux of the same stationary law is taken, whose
integrals are Beta functions where the outliers are alike:

    ``kappa = h R^n L_R^(-p) / int_0^inf r^(n - 1) L^(-p) dr``,  ``p = 1 + B / (eta h)``

out of a ball of radius R, with ``L = L_a + h r^2 / 2``. Where ``n >= 2 p`` nothing is stationary.
Outliers are the eigenvalues of at least a tenth of the largest.
"""

import numpy as np
from scipy.special import betaln, logsumexp

from escapade.region.forms import LinearForm
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import common
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting

OUTLIER = 0.1
"""Share of the largest eigenvalue from which one is an outlier."""


def mori_law(setting: Setting) -> Estimate:
    """Power law in the ratio of the losses.

    Raises:
        Silent: where the loss at the minimum is not positive, no law is stationary, or the way
            out is along flat directions.
        Unsupported: without a loss, or where no way out is looked for.
    """
    hessian, around = setting.hessian, setting.around
    floor = float(setting.loss.loss(setting.escape.minimum))
    if not floor > 0:
        raise Silent(
            f"needs a positive loss at the minimum: it is {floor:.3g} there, and the theory takes "
            "ratios of losses"
        )
    outliers = around.eigenvalues[around.eigenvalues >= OUTLIER * around.sharpness]
    h, n = float(outliers.mean()), len(outliers)
    power = 1 + 1 / (setting.noise_scale * h)
    if n >= 2 * power:
        raise Silent(
            f"has no stationary law: n = {n} outliers are at least 2 (1 + B / (eta h)) = "
            f"{2 * power:.3g}"
        )
    if setting.form is not None and (setting.linear or not setting.passes[0].saddle):
        log_rate, ratio = _through_boundary(setting, floor, h, n, power)
    else:
        lowest, block = setting.passes[0], around.eigenvectors[:, :n]
        if not lowest.saddle:
            raise Silent(
                f"needs a saddle, or a region around the minimum of closed form: {setting.escape} "
                "has neither"
            )
        ratio = 1 + lowest.height / floor
        log_rates = []
        for found in setting.passes:
            there = np.linalg.eigvalsh(block.T @ found.hessian @ block)
            if there[0] >= 0:
                continue
            log_rates.append(
                np.log(-there[0] / (2 * np.pi))
                + 0.5 * np.sum(np.log(outliers) - np.log(np.abs(there)))
                - (power - n / 2) * np.log1p(found.height / floor)
                + (0.0 if found.behind else np.log(2.0))
            )
        if not log_rates:
            raise Silent("freezes the flat directions, and the saddle is crossed along them")
        log_rate = logsumexp(log_rates)
    proportional = 2 * floor * hessian
    deviation = np.linalg.norm(around.covariance - proportional) / np.linalg.norm(around.covariance)
    spread = float(outliers.std() / h)
    return Estimate(
        log_mean=float(-log_rate - np.log(setting.learning_rate)),
        exponent=float(np.log(ratio) / h),
        assumptions=(
            assumption(
                bool(deviation <= 0.1),
                f"noise of a square loss: |C - 2 L H| / |C| = {deviation:.2g} at the minimum "
                "(at most 0.1)",
            ),
            assumption(
                spread <= 0.2,
                f"alike outliers: {n} of size {h:.3g}, standard deviation over mean {spread:.2g} "
                "(at most 0.2)",
            ),
            *common(setting, quadratic=setting.linear, constant=False),
        ),
    )


def _through_boundary(
    setting: Setting, floor: float, h: float, n: int, power: float
) -> tuple[float, float]:
    """Log of the rate, and the ratio of the losses at the boundary and at the minimum."""
    form, outlying = setting.form, setting.around.eigenvectors[:, :n]
    if isinstance(form, LinearForm):
        normal = outlying.T @ form.normal
        if np.linalg.norm(normal) < 0.9 * np.linalg.norm(form.normal):
            raise Silent("freezes the flat directions, and the region is left along them")
        radius = form.offset / float(np.linalg.norm(form.normal))
        # Integrated over the other outliers the law along one of them has a smaller power.
        power, n, sides = power - (n - 1) / 2, 1, 2 if form.two_sided else 1
    else:
        assert form is not None
        along = outlying[:, 0]
        radius, sides = form.radius / float(np.sqrt(along @ form.matrix @ along)), 2
    ratio = 1 + h * radius**2 / (2 * floor)
    log_mass = 0.5 * n * np.log(2 * floor / h) + betaln(n / 2, power - n / 2) - np.log(2)
    log_rate = np.log(h) + n * np.log(radius) - power * np.log(ratio) - log_mass
    return float(log_rate + np.log(sides / 2)), float(ratio)


MORI = Theory(
    name="mori",
    title="Mori, Ziyin, Liu and Ueda 2022",
    formula=(
        "1 / E[nu] = eta (|h_e| / (2 pi)) sqrt(det H_a / |det H_s|) [L_s / L_a]^-(B / (eta h) + 1 "
        "- n / 2); the flux of L^-(1 + B / (eta h)) through a boundary"
    ),
    assumptions=(
        "square loss: C = 2 L H",
        "n outliers alike, flat directions frozen",
        "a positive loss at the minimum",
        "continuous time",
    ),
    source="Mori, Ziyin, Liu and Ueda, ICML 2022 (arXiv 2105.09557)",
    silent_where="minima of zero or negative loss; regions and saddles left along flat directions",
    law=mori_law,
)
