"""A cell: one escape problem of a study, the unit of work, of saving and of distribution."""

import hashlib
import json
from dataclasses import asdict, dataclass


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
        replicas: number of independent runs.
        max_steps: cap on the steps of one run.
    """

    dynamics: str
    learning_rate: float
    batch_size: float
    sharpness: float
    region: str
    size: float
    replicas: int
    max_steps: int

    @property
    def identity(self) -> str:
        """Short name of the cell: the same problem has the same name in every study."""
        # 1 and 1.0 are one learning rate; whole batch sizes are written whole.
        numbers = {
            name: float(getattr(self, name)) for name in ("learning_rate", "sharpness", "size")
        }
        whole = int(self.batch_size) == self.batch_size
        batch = int(self.batch_size) if whole else float(self.batch_size)
        text = json.dumps({**asdict(self), **numbers, "batch_size": batch}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def key(self, seed: int) -> int:
        """Random key of the cell: depends on the study's seed and the cell alone."""
        text = f"{seed} {self.identity}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def __str__(self) -> str:
        scaled = f", sharpness x{self.sharpness:g}" if self.sharpness != 1 else ""
        return (
            f"{self.dynamics.replace('_', ' ')}, eta {self.learning_rate:g}, B {self.batch_size:g}"
            f"{scaled}, {self.region.replace('_', '-')} {self.size:.4g}"
        )
