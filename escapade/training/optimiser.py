"""What of a record applies to an optimiser."""

from typing import Any

import equinox as eqx


class Optimiser(eqx.Module):
    """A rule by which parameters move.

    Attributes:
        name: such as "SGD".
        momentum: of heavy-ball momentum.
        others: what else differs from ``theta - learning_rate * gradient``, in words.
    """

    name: str = "SGD"
    momentum: float = 0.0
    others: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is plain SGD, which all of a record is about."""
        return self.name == "SGD" and not self.momentum and not self.others

    @property
    def linear_limit(self) -> float:
        """Learning rate times sharpness at which it becomes unstable; NaN where unknown.

        ``2 (1 + momentum)`` (Cohen et al., "Gradient descent on neural networks typically occurs
        at the edge of stability", 2021, appendix B).
        """
        return 2 * (1 + self.momentum) if self.name == "SGD" and not self.others else float("nan")

    @property
    def note(self) -> str:
        """What does not apply, and why; empty for plain SGD."""
        if self.plain:
            return ""
        if self.others:
            return f"{self.name} with {self.others}: stability, exit and steepness are not given"
        if self.name == "SGD":
            return (
                f"momentum {self.momentum:g}: mean-square stability, exit and steepness are not "
                "given; the linear limit is 2 (1 + momentum) / sharpness"
            )
        return f"{self.name}: stability, exit and steepness are those of plain SGD, so not given"


def optimiser_of(optimizer: Any, weight_decay: float = 0.0) -> Optimiser:
    """The rule of a PyTorch optimiser.

    `weight_decay` is the landscape's; another one in the optimiser is a difference.
    """
    groups = optimizer.param_groups
    rate = float(groups[0]["lr"])
    name = type(optimizer).__name__
    if name != "SGD":
        return Optimiser(name)
    differences = []
    if any(float(group["lr"]) != rate for group in groups):
        differences.append("several learning rates")
    momentum = {float(group.get("momentum", 0)) for group in groups}
    for option in ("nesterov", "dampening", "maximize"):
        if any(group.get(option, 0) for group in groups) and (
            option == "maximize" or any(momentum)
        ):
            differences.append(option)
    if len(momentum) > 1:
        differences.append("several momenta")
    decays = {float(group.get("weight_decay", 0)) for group in groups}
    if any(abs(decay - weight_decay) > 1e-9 + 1e-6 * weight_decay for decay in decays):
        given = ", ".join(f"{decay:g}" for decay in sorted(decays))
        differences.append(f"weight decay {given} where the landscape has {weight_decay:g}")
    return Optimiser(name, momentum.pop(), ", ".join(differences))
