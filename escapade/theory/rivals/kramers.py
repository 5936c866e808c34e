r"""Eyring and Kramers: isotropic noise on a loss.

Time t is eta times steps, ``epsilon^2 = eta / B`` and the noise has the variance sigma^2 per
coordinate, so that the stationary law is ``exp(-2 L / (epsilon^2 sigma^2))``.

* Over a saddle s of index one, with the single negative eigenvalue ``-lambda_s``,

      ``E[tau] = (2 pi / lambda_s) sqrt(|det H_s| / det H_a) exp(2 (L_s - L_a) / (epsilon^2
      sigma^2))``

  is the time of the transition to the other side (Haenggi, Talkner and Borkovec, Rev. Mod. Phys.
  62, 1990, eq. 4.34 in one dimension; Bovier, Eckhoff, Gayrard and Klein, J. Eur. Math. Soc. 6,
  2004, in several). The saddle itself is reached in half of it.
* Through a boundary that the drift crosses inwards, with normal n, curvature II (positive where the
  region is convex) and ``W = 2 H / sigma^2``,

      ``1 / E[tau] = |grad L| / (sqrt(2 pi) epsilon) sqrt(det W_a / det(W_tan - |dV/dn| II))
      exp(-2 (L_x - L_a) / (epsilon^2 sigma^2))``

  (Matkowsky and Schuss, SIAM J. Appl. Math. 33, 1977). On a quadratic loss the flux is integrated
  over the whole boundary (`log_flux`).

sigma^2 is ``Tr C / d``: isotropic noise of the same power.
"""

import jax
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float
from scipy.special import logsumexp

from escapade.errors import DegenerateNoise
from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import common, isotropic_noise
from escapade.theory.rivals.flux import log_flux
from escapade.theory.setting import Pass, Setting


def kramers_law(setting: Setting) -> Estimate:
    """Mean exit time with prefactor, at leading order in epsilon^2.

    Raises:
        Unsupported: without a loss, or where no way out is looked for.
        Silent: where the exits through a curved boundary are not isolated.
    """
    hessian, variance = setting.hessian, setting.mean_variance
    temperature = setting.noise_scale * variance / 2
    if not temperature > 0:
        raise DegenerateNoise("there is no gradient noise at the minimum")
    if setting.linear:
        assert setting.form is not None
        height = setting.height
        log_rate = log_flux(hessian, temperature * np.linalg.inv(hessian), setting.form)
    else:
        height = setting.passes[0].height
        log_rate = float(
            logsumexp(
                [
                    over_saddle(found, hessian, temperature)
                    if found.saddle
                    else through_boundary(found, setting, temperature)
                    for found in setting.passes
                ]
            )
        )
    return Estimate(
        log_mean=-log_rate - np.log(setting.learning_rate),
        exponent=2 * height / variance,
        assumptions=(isotropic_noise(setting), *common(setting, quadratic=setting.linear)),
    )


def over_saddle(found: Pass, hessian: Float[np.ndarray, "dim dim"], temperature: float) -> float:
    """Log of the rate over one saddle; twice that of transitions where the region ends there."""
    curvatures = np.linalg.eigvalsh(found.hessian)
    return float(
        np.log(-curvatures[0] / (2 * np.pi))
        + 0.5 * (np.linalg.slogdet(hessian)[1] - np.sum(np.log(np.abs(curvatures))))
        - found.height / temperature
        + (0.0 if found.behind else np.log(2.0))
    )


def through_boundary(found: Pass, setting: Setting, temperature: float) -> float:
    """Log of the rate through one point of a smooth boundary."""
    dim = len(found.point)
    drift = float(np.linalg.norm(setting.loss.gradient(found.point)))
    slope, bend = (
        np.asarray(part) for part in in_float64(_level, setting.escape.region, found.point)
    )
    size = np.linalg.norm(slope)
    tangent = scipy.linalg.null_space(slope[None])
    # V / epsilon^2 is the loss over the temperature.
    along = tangent.T @ (found.hessian - drift * bend / size) @ tangent / temperature
    sign, log_determinant = np.linalg.slogdet(along) if dim > 1 else (1.0, 0.0)
    if not sign > 0 or (dim > 1 and np.linalg.eigvalsh(along)[0] <= 0):
        raise Silent(
            "needs isolated lowest points of the boundary, and along this one the loss does not "
            "rise; the formula for a whole boundary is for quadratic losses"
        )
    whole = np.linalg.slogdet(setting.hessian / temperature)[1]
    return float(
        np.log(drift / np.sqrt(2 * np.pi))
        + 0.5 * (whole - log_determinant)
        - found.height / temperature
    )


def _level(region: AbstractRegion, x: Float[Array, " dim"]) -> tuple[Array, Array]:
    return jax.grad(region._level)(x), jax.hessian(region._level)(x)


KRAMERS = Theory(
    name="kramers",
    title="Eyring and Kramers",
    formula=(
        "E[nu] = (2 pi / (eta lambda_s)) sqrt(|det H_s| / det H_a) exp(2 B dL / (eta sigma^2)) "
        "over a saddle; the flux of the Gibbs law through any other boundary"
    ),
    assumptions=(
        "isotropic noise, the same everywhere",
        "continuous time",
        "a high barrier: leading order in eta / B",
    ),
    source=(
        "Kramers, Physica 7 (1940); Haenggi, Talkner and Borkovec, Rev. Mod. Phys. 62 (1990), "
        "eq. 4.34; Matkowsky and Schuss, SIAM J. Appl. Math. 33 (1977) for boundaries"
    ),
    silent_where="drifts without a loss; basins beyond six dimensions",
    law=kramers_law,
)
