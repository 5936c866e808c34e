r"""Xie, Sato and Sugiyama, "A diffusion theory for deep learning dynamics" (ICLR 2021).

With the noise ``C = |H|`` held at its value H_ae along the escape direction e near the minimum a,
and at its value |H_be| near the saddle b,

    ``E[tau] = (2 pi / |H_be|) exp[(2 B dL / eta) (s / H_ae + (1 - s) / |H_be|)]``,

s being "a path-dependent parameter between 0 and 1", is the time of a transition: the saddle itself
is reached in half of it, and over several saddles the rates add. With that noise the quasipotential
is ``int 2 dL / C`` along the path: s is the share of the climb that is done near the minimum. Here
it is the share done at the first point of the descent path, reversed, where the loss curves
downwards along it. C = |H| has a unit; ``C = c |H|`` with the c fitted at the minimum divides the
exponent by c.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

from escapade.errors import DegenerateNoise
from escapade.landscape import AbstractLoss
from escapade.precision import in_float64
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import common, hessian_noise
from escapade.theory.prediction import assumption
from escapade.theory.setting import Pass, Setting


def xie_law(setting: Setting) -> Estimate:
    """Over the saddles.

    Raises:
        Silent: when the region ends before a saddle.
        Unsupported: without a loss, or where no saddle is looked for.
    """
    lowest = setting.passes[0]
    if not lowest.saddle:
        raise Silent(
            "needs a saddle, and the region ends before one: the curvature along the escape "
            "direction is that of the minimum all the way"
        )
    c = setting.around.alignment.c
    if not c > 0:
        raise DegenerateNoise("the noise has no share that is proportional to the Hessian")
    exponents, log_rates = zip(*(_over(found, setting, c) for found in setting.passes), strict=True)
    easiest = int(np.argmin(exponents))
    lowest = setting.passes[easiest]
    curvatures, directions = np.linalg.eigh(lowest.hessian)
    along, at_saddle = directions[:, 0], float(-curvatures[0])
    share = share_of_climb(setting.loss, lowest)
    at_top = setting.noise_along(lowest.point - setting.escape.minimum, along) / (c * at_saddle)
    travel = np.linalg.norm(lowest.path[-1] - lowest.path[0])
    straight = abs(along @ (lowest.path[-1] - lowest.path[0])) / travel
    return Estimate(
        log_mean=-float(logsumexp(log_rates)) - np.log(setting.learning_rate),
        exponent=exponents[easiest],
        assumptions=(
            hessian_noise(setting),
            assumption(
                straight >= 0.9,
                "one escape direction: the cosine of the way and the saddle's unstable direction "
                f"is {straight:.2g} (at least 0.9)",
            ),
            assumption(
                abs(at_top - 1) <= 0.1,
                f"noise like the Hessian at the saddle: there it is {at_top:.2g} times c |H_be| "
                "(within 10 %)",
            ),
            f"noise constant on either part of the way; s = {share:.3g}, where it bends downwards",
            *common(setting, quadratic=False, constant=False),
        ),
    )


def _over(found: Pass, setting: Setting, c: float) -> tuple[float, float]:
    """Exponent and log of the rate over one saddle."""
    curvatures, directions = np.linalg.eigh(found.hessian)
    along = directions[:, 0]
    at_minimum, at_saddle = float(along @ setting.hessian @ along), float(-curvatures[0])
    share = share_of_climb(setting.loss, found)
    exponent = 2 * found.height * (share / at_minimum + (1 - share) / at_saddle) / c
    log_rate = np.log(at_saddle / (2 * np.pi)) - exponent / setting.noise_scale
    return exponent, float(log_rate + (0.0 if found.behind else np.log(2.0)))


def share_of_climb(loss: AbstractLoss, lowest: Pass) -> float:
    """Share s of the rise up to where the loss first curves downwards along the path."""
    tangents = np.gradient(lowest.path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    values, curvatures = in_float64(_along, loss, lowest.path, tangents)
    values, curvatures = np.asarray(values), np.asarray(curvatures)
    turn = int(np.argmax(curvatures < 0)) if np.any(curvatures < 0) else len(values) - 1
    if turn > 0 and curvatures[turn] < 0:
        # Curvature and loss are taken for linear between two points of the path.
        before, behind = curvatures[turn - 1], curvatures[turn]
        part = before / (before - behind)
        reached = values[turn - 1] + part * (values[turn] - values[turn - 1])
    else:
        reached = values[turn]
    return float(np.clip((reached - values[0]) / (values[-1] - values[0]), 0.0, 1.0))


def _along(
    loss: AbstractLoss, path: Float[Array, "n dim"], tangents: Float[Array, "n dim"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    def one(
        point: Float[Array, " dim"], tangent: Float[Array, " dim"]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        bent = jax.jvp(jax.grad(loss._loss), (point,), (tangent,))[1]
        return loss._loss(point), jnp.vdot(tangent, bent)

    return jax.vmap(one)(path, tangents)


XIE = Theory(
    name="xie",
    title="Xie, Sato and Sugiyama 2021",
    formula="E[nu] = (2 pi / (eta |H_be|)) exp[(2 B dL / (eta c)) (s / H_ae + (1 - s) / |H_be|)]",
    assumptions=(
        "noise C = c |H|, constant near the minimum and constant near the saddle",
        "one escape direction, an eigenvector of both Hessians",
        "quasi-equilibrium and a high barrier",
        "continuous time",
    ),
    source="Xie, Sato and Sugiyama, ICLR 2021 (arXiv 2002.03495), theorem for SGD",
    silent_where="regions that end before a saddle; more than six dimensions",
    law=xie_law,
)
