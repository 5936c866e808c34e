"""A cell: one escape problem of a study, the unit of work, of saving and of distribution."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

ADDED: dict[str, Any] = {
    "noise": "own",
    "noise_strength": None,
    "lambda_max": None,
    "runs": 0,
    "burn_in": None,
}
"""Entries that cells did not have at first: at these values they do not count for the identity."""


@dataclass(frozen=True)
class Cell:
    """Everything that identifies one escape problem of a study.

    Attributes:
        dynamics: "minibatch", "minibatch_without_replacement", "minibatch_shuffled_epochs",
            "gaussian", "continuous" or "langevin".
        learning_rate: eta.
        batch_size: B.
        sharpness: factor alpha of L_alpha(theta) = L(sqrt(alpha) theta); 1 leaves the loss as is.
        region: "slab", "half_space", "ball" or "sublevel".
        size: half-width, offset, radius or depth.
        replicas: number of independent runs; walkers of each run of a splitting.
        max_steps: cap on the steps of one run; on an excursion of a splitting.
        noise: of the Gaussian and the continuous dynamics, constant: "own" is the covariance of the
            examples' gradients at the minimum, or the Hessian where there are no examples;
            "isotropic" is a multiple of the identity, "hessian" a multiple c of the Hessian.
        noise_strength: that multiple, or c; None for the default of `Problem.covariance`.
        lambda_max: largest Hessian eigenvalue of a quadratic, in the place of its own; None leaves
            it.
        runs: independent runs of a splitting; 0 simulates the replicas directly.
        burn_in: steps before a splitting counts; None for the default of `split`.
    """

    dynamics: str
    learning_rate: float
    batch_size: float
    sharpness: float
    region: str
    size: float
    replicas: int
    max_steps: int
    noise: str = "own"
    noise_strength: float | None = None
    lambda_max: float | None = None
    runs: int = 0
    burn_in: int | None = None

    @property
    def splits(self) -> bool:
        """Whether the exit is too rare to wait for, and found by splitting."""
        return self.runs > 0

    @property
    def identity(self) -> str:
        """Short name of the cell: the same problem has the same name in every study."""
        # 1 and 1.0 are one learning rate; whole batch sizes are written whole.
        numbers = {
            name: float(getattr(self, name)) for name in ("learning_rate", "sharpness", "size")
        }
        whole = int(self.batch_size) == self.batch_size
        batch = int(self.batch_size) if whole else float(self.batch_size)
        entries = {**asdict(self), **numbers, "batch_size": batch}
        for name, default in ADDED.items():
            if entries[name] == default:
                del entries[name]
            elif name in ("noise_strength", "lambda_max"):
                entries[name] = float(entries[name])
        text = json.dumps(entries, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def key(self, seed: int) -> int:
        """Random key of the cell: depends on the study's seed and the cell alone."""
        text = f"{seed} {self.identity}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def __str__(self) -> str:
        scaled = f", sharpness x{self.sharpness:g}" if self.sharpness != 1 else ""
        noise = "" if self.noise == "own" else f" with {self.noise} noise"
        strength = "" if self.noise_strength is None else f" x{self.noise_strength:g}"
        spectrum = "" if self.lambda_max is None else f", lambda_max {self.lambda_max:g}"
        return (
            f"{self.dynamics.replace('_', ' ')}{noise}{strength}, eta {self.learning_rate:g}, "
            f"B {self.batch_size:g}{scaled}{spectrum}, {self.region.replace('_', '-')} "
            f"{self.size:.4g}"
        )
