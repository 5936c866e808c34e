"""The verb `predict`: mean exit time of an escape according to a theory."""

import equinox as eqx

from escapade.dynamics import MomentumSGD
from escapade.errors import (
    DegenerateNoise,
    InvalidArgument,
    NotConverged,
    Unsupported,
    in_one_line,
)
from escapade.escape import Escape, require_escape
from escapade.minimum import Neighbourhood
from escapade.theory._base import require_plain_steps
from escapade.theory.catalogue import THEORIES
from escapade.theory.instanton_law import applies
from escapade.theory.own import INSTANTON, MOMENTUM, QUADRATIC
from escapade.theory.prediction import Prediction, assumption
from escapade.theory.setting import Setting

BEST = "escapade"


def predict(
    escape: Escape, theory: str = BEST, *, neighbourhood: Neighbourhood | None = None
) -> Prediction:
    """Predict the mean exit time of an escape that starts at its minimum.

    Args:
        escape: the problem.
        theory: "escapade", which is "momentum" for `MomentumSGD`, "instanton" where that applies
            and the problem is not linear, and "quadratic" otherwise; or the name of one theory of
            `escapade.theory.THEORIES`:

            * ours: "quadratic" (uniform, of the quadratic approximation at the minimum, in any
              dimension), "instanton" (along the paths of least steepness on the landscape, up to
              six dimensions), "minibatch" (with the noise that minibatches really have), "momentum"
              (for `MomentumSGD`);
            * rivals, as their authors have them: "kramers", "jastrzebski", "zhu", "hu", "levy",
              "xie", "mori", "liu", "linear_stability", "ibayashi_imaizumi_v1",
              "ibayashi_imaizumi_v2", and "exponential_law", their law with the true exponent.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Raises:
        InvalidArgument: when the theory is unknown, or the escape is none.
        Unsupported: when the theory says nothing about the escape (`Silent`), or cannot be
            applied to this landscape, region or dynamics.
        NotConverged: when no path is found (theory "instanton").
        Unstable: when the learning rate is too large for the chain to be stable.
        NotAMinimum: when the minimum has a flat or unstable direction.
    """
    require_escape(escape)
    setting = Setting(escape, neighbourhood)
    if theory == BEST:
        return _best(setting)
    if theory not in THEORIES:
        raise InvalidArgument(f"theory is {theory!r}; choose one of {', '.join((BEST, *THEORIES))}")
    return THEORIES[theory].predict_in(setting)


def _best(setting: Setting) -> Prediction:
    """The best theory that applies; why a better one failed is said."""
    escape = setting.escape
    if isinstance(escape.dynamics, MomentumSGD):
        return MOMENTUM.predict_in(setting)
    require_plain_steps(escape)
    if not applies(escape, setting.around):
        return QUADRATIC.predict_in(setting)
    try:
        return INSTANTON.predict_in(setting)
    except (NotConverged, Unsupported, DegenerateNoise) as error:
        if setting.form is None:
            raise
        found = QUADRATIC.predict_in(setting)
        reason = assumption(False, f"law along instantons: {in_one_line(error)}")
        return eqx.tree_at(
            lambda prediction: prediction.assumptions, found, (*found.assumptions, reason)
        )
