"""SGD with momentum: the rate of clusters of exits, derived in `escapade.theory.momentum`."""

from escapade.dynamics import MomentumSGD
from escapade.escape import Escape
from escapade.theory._base import Estimate, Silent, Theory
from escapade.theory.momentum import momentum_law
from escapade.theory.setting import Setting


def require_momentum(escape: Escape) -> None:
    """Refuse another dynamics.

    Raises:
        Silent: when the dynamics is not `MomentumSGD`.
    """
    if not isinstance(escape.dynamics, MomentumSGD):
        raise Silent(f"is about momentum: {escape.dynamics} has none")


def clusters(setting: Setting) -> Estimate:
    """Mean exit time of the linear chain of position and velocity.

    Raises:
        As `momentum_law`.
    """
    found = momentum_law(setting.escape, setting.around)
    return Estimate(
        found.log_mean, found.exponent, found.assumptions, found.relative_error, found.groups
    )


MOMENTUM = Theory(
    name="momentum",
    title="Escapade, momentum",
    formula="1 / E[nu] = P(outside now, and inside for the next m steps) of the stationary chain",
    assumptions=("quadratic loss and constant Gaussian noise up to the exit", "rare exits"),
    source="rate of clusters of exits of the linear chain (docs/theory.md)",
    silent_where="dynamics other than MomentumSGD, momentum one, regions without closed form",
    law=clusters,
    require=require_momentum,
)
