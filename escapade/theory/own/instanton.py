"""Exponent and prefactor along the paths of least steepness on the landscape itself."""

import equinox as eqx

from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.assumptions import from_elsewhere, regime
from escapade.theory.groups import local_covariance, measure_groups
from escapade.theory.instanton_law import MOST_DIMENSIONS, instanton_law
from escapade.theory.prediction import assumption
from escapade.theory.setting import Setting


def along_instantons(setting: Setting) -> Estimate:
    """Law along instantons.

    Raises:
        Silent: where the problem is linear and has a closed form.
        Unsupported: for minibatch noise, in more than six dimensions, or where V is not smooth.
        NotConverged: when no instanton is found, or one passes a caustic.
        DegenerateNoise: when the noise does not reach every direction at the minimum.
    """
    escape, around = setting.escape, setting.around
    if setting.linear and around.dim <= MOST_DIMENSIONS:
        raise Silent(
            'leaves linear problems of closed form to theory="quadratic", whose expansion in '
            "eta / B it would be"
        )
    law = instanton_law(escape, around)
    groups, _ = measure_groups(escape, around, local_covariance(escape, around))
    groups = eqx.tree_at(lambda found: found.barrier, groups, law.value / setting.noise_scale)
    lines = [
        *regime(groups),
        assumption(
            law.relative_error <= 0.1,
            f"{law.prefactor.description}: what is left out is about "
            f"{100 * law.relative_error:.2g} % (at most 10 %)",
        ),
        *from_elsewhere(escape),
    ]
    return Estimate(law.log_mean, law.value, tuple(lines), law.relative_error, groups)


INSTANTON = Theory(
    name="instanton",
    title="Escapade, along instantons",
    formula="E[nu] = K exp((B / eta) V0) (1 + O(eta / B)), V0 and K along the easiest paths out",
    assumptions=("Gaussian noise", "a high barrier: an expansion in eta / (B V0)"),
    source="instantons with prefactor (docs/theory.md)",
    silent_where=(
        "minibatch noise, more than six dimensions, exits where V is not smooth, linear problems "
        "of closed form"
    ),
    law=along_instantons,
)
