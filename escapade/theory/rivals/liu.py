r"""Liu, Ziyin and Ueda, "Noise and fluctuation of finite learning rate SGD" (ICML 2021).

The stationary covariance of SGD on a quadratic loss at its finite learning rate,

    ``H S + S H - eta H S H = C``,

takes the place of the temperature in Kramers' formula. Through a boundary of a quadratic loss:
the flux of ``N(0, (eta / B) S)`` with the drift of a step (`log_flux`). Over a saddle with
unstable direction e: Kramers' prefactor, and the exponent ``dL / (e^T H e  e^T S e)``, which for
``e^T C e = c`` is ``(B / eta) dL (2 - eta h) / c``. Exits between steps do not exist, and the
formula counts them.
"""

import numpy as np
from scipy.special import logsumexp

from escapade.errors import DegenerateNoise
from escapade.steepness.local import minimum_over_boundary
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import common
from escapade.theory.groups import local_covariance
from escapade.theory.rivals.flux import log_flux
from escapade.theory.rivals.kramers import over_saddle
from escapade.theory.setting import Setting


def liu_law(setting: Setting) -> Estimate:
    """Kramers with the stationary covariance of the chain (of the diffusion, for one).

    Raises:
        Silent: through a boundary where the loss is not quadratic.
        Unstable: when the learning rate is too large.
    """
    around, scale = setting.around, setting.noise_scale
    stationary = local_covariance(setting.escape, around)
    if setting.linear:
        assert setting.form is not None
        log_rate = log_flux(around.drift_matrix, scale * stationary, setting.form)
        exponent = minimum_over_boundary(stationary, setting.form).value
    else:
        hessian, passes = setting.hessian, setting.passes
        if not passes[0].saddle:
            raise Silent(
                "needs a quadratic loss up to the boundary, or a saddle; here it has neither"
            )
        rates, exponents = [], []
        for found in passes:
            along = np.linalg.eigh(found.hessian)[1][:, 0]
            temperature = scale * float(along @ hessian @ along) * float(along @ stationary @ along)
            if not temperature > 0:
                raise DegenerateNoise("there is no noise along the saddle's unstable direction")
            rates.append(over_saddle(found, hessian, temperature))
            exponents.append(found.height / temperature * scale)
        log_rate, exponent = float(logsumexp(rates)), min(exponents)
    return Estimate(
        log_mean=-log_rate - np.log(setting.learning_rate),
        exponent=exponent,
        assumptions=tuple(common(setting, quadratic=True)),
    )


LIU = Theory(
    name="liu",
    title="Liu, Ziyin and Ueda 2021",
    formula=(
        "1 / E[nu] = flux of N(0, (eta / B) S) through the boundary, H S + S H - eta H S H = C; "
        "over a saddle Kramers with the temperature e^T H e e^T S e"
    ),
    assumptions=("quadratic loss around the minimum", "constant Gaussian noise", "a high barrier"),
    source="Liu, Ziyin and Ueda, ICML 2021 (arXiv 2012.03636)",
    silent_where="boundaries of losses that are not quadratic; basins beyond six dimensions",
    law=liu_law,
)
