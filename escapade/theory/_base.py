"""What a theory of escape is: a formula with its assumptions, its source and where it is silent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import numpy as np

from escapade.dynamics import AbstractHeavyTailedSGD, MinibatchSGD
from escapade.dynamics.optimiser import require_no_memory
from escapade.errors import Unsupported
from escapade.escape import Escape
from escapade.minimum import Neighbourhood
from escapade.theory.prediction import Groups, Prediction
from escapade.theory.setting import Setting


class Silent(Unsupported):
    """A theory says nothing about an escape; the message says why."""


class Estimate(NamedTuple):
    """What a law makes of an escape.

    Attributes:
        log_mean: natural logarithm of the mean exit time in steps.
        exponent: V0 in ``log E[nu] ~ (B / eta) V0``; NaN where the theory has no barrier.
        assumptions: each marked with whether it holds here.
        relative_error: error stated for the mean; infinite where none is.
        groups: dimensionless groups, where the law has better ones than those at the minimum.
    """

    log_mean: float
    exponent: float
    assumptions: tuple[str, ...]
    relative_error: float = float("inf")
    groups: Groups | None = None


def require_plain_steps(escape: Escape) -> None:
    """Refuse what no theory of independent light-tailed steps covers.

    Raises:
        Unsupported: for steps with a memory, shuffled epochs and heavy tails.
    """
    dynamics = escape.dynamics
    require_no_memory(dynamics, "the mean exit time")
    if isinstance(dynamics, MinibatchSGD) and dynamics.sampling == "shuffled_epochs":
        raise Unsupported(
            "no theory predicts shuffled epochs: the noise of successive steps is anti-correlated "
            "within an epoch; simulate, or sample with or without replacement"
        )
    if isinstance(dynamics, AbstractHeavyTailedSGD):
        raise Unsupported(
            "this theory has no heavy tails: a single jump, not a path against the drift, is the "
            'easiest way out; use theory="levy", solve in one dimension, simulate or split'
        )


@dataclass(frozen=True)
class Theory:
    """One theory of escape.

    Attributes:
        name: by which `predict` and `compare` call it.
        title: authors or usual name.
        formula: mean exit time in steps, in plain text.
        assumptions: what it takes for granted.
        source: paper and equation.
        silent_where: on which escapes it says nothing.
        law: the formula itself.
        require: refuses the dynamics that the theory is not about.
    """

    name: str
    title: str
    formula: str
    assumptions: tuple[str, ...]
    source: str
    silent_where: str
    law: Callable[[Setting], Estimate]
    require: Callable[[Escape], None] = require_plain_steps

    def predict(self, escape: Escape, around: Neighbourhood | None = None) -> Prediction:
        """Mean exit time of an escape; `around` is its neighbourhood, if already measured.

        Raises:
            Silent: when the theory says nothing about this escape.
            EscapadeError: when what it needs cannot be measured.
        """
        return self.predict_in(Setting(escape, around))

    def predict_in(self, setting: Setting) -> Prediction:
        """The same, sharing what other theories have measured.

        Raises:
            Silent: when the theory says nothing about this escape.
            EscapadeError: when what it needs cannot be measured.
        """
        self.require(setting.escape)
        found = self.law(setting)
        groups = found.groups
        if groups is None:
            groups = setting.groups
            if np.isfinite(found.exponent):
                barrier = found.exponent / setting.noise_scale
                groups = eqx.tree_at(lambda groups: groups.barrier, groups, barrier)
        return Prediction(
            theory=self.name,
            log_mean=float(found.log_mean),
            relative_error=float(found.relative_error),
            exponent=float(found.exponent),
            groups=groups,
            assumptions=found.assumptions,
            source=self.source,
        )

    def __str__(self) -> str:
        lines = [
            f"{self.title} ({self.name})",
            f"  formula: {self.formula}",
            *(f"  assumes: {assumed}" for assumed in self.assumptions),
            f"  silent: {self.silent_where}",
            f"  source: {self.source}",
        ]
        return "\n".join(lines)
