"""What a theory says about one escape."""

import equinox as eqx
import numpy as np


class Groups(eqx.Module):
    """The dimensionless groups that decide the regime.

    Attributes:
        barrier: ``b = (B / eta) V0``; the exponential law needs about 4 or more. NaN where no
            closed form of V0 exists for the region.
        signal_to_noise: ``s = sqrt(B) |n . gradient| / sqrt(n^T C n)`` at the exit point; small
            means close to a diffusion, large means exits in single jumps.
        stiffness: ``eta lambda_max``; the edge of stability is 2.
        effective_dimension: ``Tr S / lambda_max(S)``.
        shell_ratio: mean squared distance of the stationary law in units of the region's size
            squared (``epsilon^2 Tr S / R^2`` for a ball); near or above 1 the region lies inside
            the typical shell and exit is no rare event.
        relaxation_steps: relaxation times in steps, ``(slowest, fastest)``.
        noise_correction: change of log E[nu] by the skewness and tails of minibatch noise, to
            first order; the Gaussian approximation needs it well below 1 in size.
    """

    barrier: float
    signal_to_noise: float
    stiffness: float
    effective_dimension: float
    shell_ratio: float
    relaxation_steps: tuple[float, float]
    noise_correction: float = 0.0


def assumption(holds: bool, text: str) -> str:
    """An assumption of a prediction, marked with whether it holds."""
    return f"{'holds' if holds else 'FAILS'}: {text}"


class Prediction(eqx.Module):
    """Mean exit time according to one theory.

    Attributes:
        theory: its name.
        log_mean: natural logarithm of the mean exit time in steps.
        relative_error: error the theory states for itself, as a fraction of the mean; infinite
            where it states none (a law on the logarithmic scale only).
        exponent: minimum steepness V0, in ``log E[nu] ~ (B / eta) V0``; NaN where the theory has
            none.
        groups: the dimensionless groups.
        assumptions: what must hold, each marked with whether it does here.
        source: paper and equation.
    """

    theory: str
    log_mean: float
    relative_error: float
    exponent: float
    groups: Groups
    assumptions: tuple[str, ...]
    source: str

    @property
    def mean(self) -> float:
        """Mean exit time in steps; infinite where it exceeds the largest float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_mean))

    def __str__(self) -> str:
        error = (
            f"+- {100 * self.relative_error:.0f} %"
            if np.isfinite(self.relative_error)
            else "on the logarithmic scale"
        )
        lines = [f"{self.theory}: mean exit time {readable_steps(self.log_mean)} steps {error}"]
        if np.isfinite(self.exponent):
            steepness = f"minimum steepness V0 = {self.exponent:.6g}"
            lines.append(f"  {steepness}, barrier b = {self.groups.barrier:.3g}")
        return "\n".join([*lines, *(f"  - {assumption}" for assumption in self.assumptions)])


def readable_steps(log_mean: float) -> str:
    """A number of steps from its natural logarithm, with a few digits at any size."""
    if log_mean < np.log(1e6):
        return f"{np.exp(log_mean):.4g}"
    digits = log_mean / np.log(10)
    return f"{10 ** (digits % 1):.3g}e{int(digits)}"


class Diagnosis(eqx.Module):
    """The mechanism of an escape.

    Attributes:
        mechanism: "activated", "diffusive", "drift" or "unstable".
        reason: one sentence saying why.
        groups: the dimensionless groups it rests on.
    """

    mechanism: str
    reason: str
    groups: Groups

    def __str__(self) -> str:
        return f"{self.mechanism}: {self.reason}"
