"""One point of the public experiment, and the scans made of such points."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Optimiser = Literal["sgd", "sgld"]
Quantity = Literal["learning_rate", "batch_size", "radius", "sharpness"]

QUANTITIES: tuple[Quantity, ...] = ("learning_rate", "batch_size", "radius", "sharpness")
VALUES = 20
"""Values of a scan in the public experiment."""


@dataclass(frozen=True)
class Experiment:
    """Everything the exit times of one point depend on, but for the seed: a cell of the store.

    The defaults are the base point of the public experiment, configurations ``MLP_SGD`` and
    ``MLP_discreteSGD``, whose code is the same.

    Attributes:
        scan: which scan or variation the point belongs to; each has random numbers of its own.
        optimiser: "sgd", or "sgld": full gradients over 1000 and normal numbers.
        learning_rate: eta.
        batch_size: B; without effect on "sgld".
        radius: of the region; the distance is the sum over weight matrices of Frobenius norms.
        sharpness: factor k of L(sqrt(k) theta); the start is divided by sqrt(k).
        width: hidden units.
        gradients: "accumulated" over the steps, as in the public code, or "zeroed" before each.
        labels: drawn "independent" of the inputs, as in the public code, or "paired" with them.
        activation: of the hidden units; "relu" in the public code.
        trials: independent runs, each from a fresh start.
        max_steps: runs still inside are censored there; the public code has no cap.
    """

    scan: str = "base"
    optimiser: Optimiser = "sgd"
    learning_rate: float = 1e-3
    batch_size: int = 10
    radius: float = 0.5
    sharpness: float = 1.0
    width: int = 50_000
    gradients: Literal["accumulated", "zeroed"] = "accumulated"
    labels: Literal["independent", "paired"] = "independent"
    activation: Literal["relu", "tanh", "identity"] = "relu"
    trials: int = 100
    max_steps: int = 500

    def __str__(self) -> str:
        return (
            f"{self.optimiser.upper()}, {self.scan.replace('_', ' ')}, eta "
            f"{self.learning_rate:.4g}, B {self.batch_size}, r {self.radius:.4g}, sharpness x"
            f"{self.sharpness:.4g}"
        )


BASE = {
    "sgd": Experiment(),
    "sgld": Experiment(optimiser="sgld", radius=1.0, width=1000),
}
"""The base point of each optimiser; every scan starts at it."""

_END: dict[Optimiser, dict[Quantity, float]] = {
    "sgd": {"learning_rate": 2e-3, "batch_size": 29, "radius": 1.0, "sharpness": 2.0},
    "sgld": {"learning_rate": 2e-3, "batch_size": 29, "radius": 1.1, "sharpness": 2.0},
}


def scan(optimiser: Optimiser, quantity: Quantity, values: int, trials: int) -> list[Experiment]:
    """The points of one scan: `values` of the public experiment's twenty, evenly spread."""
    base = BASE[optimiser]
    grid = np.linspace(getattr(base, quantity), _END[optimiser][quantity], VALUES)
    chosen = grid[np.linspace(0, VALUES - 1, values).round().astype(int)]
    return [
        _changed(base, scan=quantity, trials=trials, **{quantity: _whole_or_real(quantity, value)})
        for value in chosen
    ]


def _changed(base: Experiment, **entries: Any) -> Experiment:
    return Experiment(**{**vars(base), **entries})


def _whole_or_real(quantity: Quantity, value: float) -> float:
    return int(value) if quantity == "batch_size" else float(value)


@dataclass(frozen=True)
class Variation:
    """The base point with one thing changed, which shows what it is for."""

    name: str
    experiment: Experiment
    reads: str


def variations(quick: bool) -> Iterator[Variation]:
    """What explains the public numbers: one change at a time."""
    few, many = (2, 20) if quick else (20, 100)
    changes: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
        (
            "gradients zeroed",
            "plain SGD, as one optimiser step is usually written, from the same start",
            few,
            {"gradients": "zeroed", "max_steps": 3000},
        ),
        (
            "labels paired",
            "each input with its own label",
            many,
            {"labels": "paired"},
        ),
        (
            "hidden units tanh",
            "the public model has rectifiers; this is what another choice would give",
            many,
            {"activation": "tanh"},
        ),
        (
            "hidden units linear",
            "no activation at all",
            many,
            {"activation": "identity"},
        ),
    )
    for name, reads, trials, changed in changes:
        yield Variation(name, _changed(BASE["sgd"], scan=name, trials=trials, **changed), reads)
