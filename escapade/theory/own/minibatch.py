"""The noise that minibatches really have, all cumulants included, along the exit.

* Through a slab or half-space along a Hessian eigenvector the displacement is a scalar chain: its
  saddlepoint gives the Gaussian level that is as rarely exceeded (`minibatch_level`).
* Up to 24 dimensions the exponent is that of the minibatch chain on the landscape itself, ``(1 /
  eta) sum log (1/N) sum_i exp(-p . g_i)`` in place of ``p^T C p / 2``, and the prefactor that of
  the uniform theory.
* Beyond, the exponent changes by minus the integral of the difference along the Gaussian path,
  where that is small.

Framework: Azizian, Iutzeler, Malick and Mertikopoulos (ICML 2024).
"""

import numpy as np
from scipy.special import logsumexp

from escapade.dynamics import MinibatchSGD
from escapade.escape import Escape
from escapade.landscape import AbstractEmpirical
from escapade.region.forms import LinearForm
from escapade.steepness.instanton import FEW, minimum_steepness
from escapade.steepness.local import minimum_over_boundary
from escapade.theory._base import Estimate, Silent, Theory, require_plain_steps
from escapade.theory.assumptions import from_elsewhere, quadratic_to_the_exit, regime
from escapade.theory.groups import local_covariance
from escapade.theory.minibatch_level import minibatch_level
from escapade.theory.network_law import ALONE, through_levels
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting

FIRST_ORDER = 1.0
"""Change of log E[nu] beyond which its first order says nothing."""


def require_minibatches(escape: Escape) -> None:
    """Refuse dynamics without independent minibatches.

    Raises:
        Silent: for noise that is given and not drawn from examples.
        Unsupported: for shuffled epochs.
    """
    require_plain_steps(escape)
    if not isinstance(escape.dynamics, MinibatchSGD):
        raise Silent(f"is about the noise of minibatches: {escape.dynamics} draws none")


def minibatch_law(setting: Setting) -> Estimate:
    """Mean exit time with the cumulants of minibatches.

    Raises:
        Unsupported: when the region has no closed form.
        Unstable: when the learning rate is too large.
        NotConverged: when no path is found.
    """
    escape, uniform = setting.escape, setting.uniform
    groups, _ = setting.exit
    lines = regime(groups)
    column = _eigenvector(setting)
    error = float("inf")
    if column is not None:
        log_mean, exponent = _along_eigenvector(setting, column)
        error = uniform.relative_error
        lines.append(quadratic_to_the_exit(setting.nonlinearity))
    elif escape.landscape.dim <= FEW:
        log_mean, exponent = _along_paths(setting)
        lines.append("prefactor of the uniform theory; no error is known")
    else:
        if abs(groups.noise_correction) > FIRST_ORDER:
            raise Silent(
                "knows the first order only where the exit is not along an eigenvector: skewness "
                f"and tails change log E[nu] by {groups.noise_correction:+.2g}, beyond it"
            )
        log_mean = uniform.log_mean + groups.noise_correction
        exponent = (groups.barrier + groups.noise_correction) * setting.noise_scale
        lines.append(
            assumption(
                abs(groups.noise_correction) <= 0.3,
                "close to Gaussian: to first order skewness and tails change log E[nu] by "
                f"{groups.noise_correction:+.2g} (at most 0.3)",
            )
        )
        lines.append(quadratic_to_the_exit(setting.nonlinearity))
    return Estimate(log_mean, exponent, (*lines, *from_elsewhere(escape)), error)


def _eigenvector(setting: Setting) -> int | None:
    """The Hessian eigenvector that is the normal of the region, if any."""
    form = setting.form
    if not isinstance(form, LinearForm):
        return None
    shares = np.abs(setting.around.eigenvectors.T @ form.normal) / np.linalg.norm(form.normal)
    column = int(np.argmax(shares))
    return column if shares[column] > ALONE else None


def _along_eigenvector(setting: Setting, column: int) -> tuple[float, float]:
    """Log mean and exponent of the scalar chain along one eigenvector."""
    escape, around, form = setting.escape, setting.around, setting.form
    dynamics, landscape, rate = escape.dynamics, escape.landscape, setting.learning_rate
    assert isinstance(dynamics, MinibatchSGD)
    assert isinstance(landscape, AbstractEmpirical)
    assert isinstance(form, LinearForm)
    direction = around.eigenvectors[:, column]
    direction = direction * np.sign(direction @ form.normal)
    slopes = landscape.expand(escape.minimum).example_slopes(direction).astype(np.float64)
    slopes -= slopes.mean()
    batch = dynamics.batch_size / dynamics.finite_population_factor(landscape)
    offset = form.offset / float(np.linalg.norm(form.normal))
    curvature = float(around.eigenvalues[column])
    levels = np.array(
        [
            minibatch_level(side * slopes, curvature, offset, rate, batch)
            for side in ((1.0, -1.0) if form.two_sided else (1.0,))
        ]
    )
    log_mean = through_levels(levels, curvature, rate)
    if not np.isfinite(log_mean):
        raise Silent(
            "no sequence of minibatches leads out: all examples push back on the way, and this "
            "exit is impossible"
        )
    return log_mean, float(0.5 * levels.min() ** 2 * setting.noise_scale)


def _along_paths(setting: Setting) -> tuple[float, float]:
    """Log mean and exponent with the minibatch steepness and the prefactor of the uniform law."""
    escape, form = setting.escape, setting.form
    assert form is not None  # or there would be no uniform mean
    gaussian = minimum_over_boundary(local_covariance(escape, setting.around), form)
    found = minimum_steepness(escape, neighbourhood=setting.around)
    exits = len(gaussian.points)
    values = np.array([orbit.value for orbit in found.orbits[:exits]])
    log_share = logsumexp((gaussian.value - values) / setting.noise_scale) - np.log(exits)
    return float(setting.uniform.log_mean - log_share), float(found.value)


MINIBATCH = Theory(
    name="minibatch",
    title="Escapade, minibatch cumulants",
    formula=(
        "as the uniform theory, with the barrier of log (1/N) sum_i exp(-p . g_i) in place of "
        "p^T C p / 2"
    ),
    assumptions=("independent minibatches", "quadratic loss up to the exit, for the prefactor"),
    source="docs/theory.md; Azizian, Iutzeler, Malick and Mertikopoulos, ICML 2024",
    silent_where="noise that is not drawn from examples; shuffled epochs",
    law=minibatch_law,
    require=require_minibatches,
)
