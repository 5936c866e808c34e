"""What the corrected protocol asks: each contrast varies one thing, and laws answer by its power.

A contrast is a set of cells of one study that differ in one quantity. Every law of the form
``log E[nu] = (B / eta) V0 + log prefactor`` says how the barrier depends on it: as a power. The
power is measured, and those of the laws stand beside it (theory.md, sections 1 and 2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from escapade.study import Cell, CellResult

VARIABLES: dict[str, Callable[[Cell], float | None]] = {
    "lambda_max": lambda cell: cell.lambda_max,
    "sharpness": lambda cell: cell.sharpness,
    "learning_rate": lambda cell: cell.learning_rate,
    "batch_size": lambda cell: cell.batch_size,
    "size": lambda cell: cell.size,
    "batch_over_rate": lambda cell: cell.batch_size / cell.learning_rate,
}
"""Quantities that contrasts vary; "size" is a depth, a radius or an offset."""


@dataclass(frozen=True)
class Contrast:
    """Cells that differ in one quantity, or agree in all that matters ("together").

    Attributes:
        name: short name.
        question: what it decides.
        study: the study whose cells it reads.
        where: entries that its cells have; a tuple allows several values.
        variable: the quantity varied, of VARIABLES; "" where the cells are regressed on the full
            prediction only.
        power: of the barrier in the variable, to leading order in eta lambda.
        because: where that power comes from.
        rivals: powers of other laws, by name.
    """

    name: str
    question: str
    study: str
    where: dict[str, Any] = field(default_factory=dict)
    variable: str = ""
    power: float = 0.0
    because: str = ""
    rivals: dict[str, float] = field(default_factory=dict)

    def value(self, cell: Cell) -> float | None:
        """The variable of a cell; None where the cell has none."""
        return VARIABLES[self.variable](cell) if self.variable else None

    def select(self, results: Sequence[CellResult]) -> list[CellResult]:
        """The contrast's cells among those of its study, in the order of the variable."""
        chosen = [result for result in results if self._admits(result.cell)]
        if not self.variable:
            return chosen
        return sorted(chosen, key=lambda result: self.value(result.cell) or 0.0)

    def _admits(self, cell: Cell) -> bool:
        if self.variable and self.value(cell) is None:
            return False
        return all(
            getattr(cell, name) in wanted if isinstance(wanted, tuple)
            else getattr(cell, name) == wanted
            for name, wanted in self.where.items()
        )  # fmt: skip


_VERSION_1 = "version 1: exponent 2 (B/eta) r^2 lambda_min^(1/2)"
_VERSION_2 = "version 2's figures: exp(lambda_max^-1)"
_ACTION = "version 1's action at a fixed depth: exp(lambda_max^-1/2)"
_SHARPNESS_FREE = "version 2's figures for SGLD: independent of lambda_max"

_CHAIN = {"dynamics": "gaussian", "learning_rate": 0.05, "batch_size": 20.0}
_DEPTH = {"dynamics": "gaussian", "region": "sublevel", "noise": "hessian", "lambda_max": None}

CONTRASTS: tuple[Contrast, ...] = (
    Contrast(
        "depth, C = cH, lambda_max",
        "At a fixed depth with C = c H: is the exponent inverse in the largest eigenvalue, or in "
        "its square root?",
        "quadratic",
        {**_CHAIN, "region": "sublevel", "noise": "hessian", "size": 0.016},
        "lambda_max",
        -1.0,
        "2 depth / (c lambda_max)",
        {_VERSION_2: -1.0, _ACTION: -0.5},
    ),
    Contrast(
        "depth, isotropic, lambda_max",
        "At a fixed depth with isotropic noise: does the exponent depend on sharpness?",
        "quadratic",
        {**_CHAIN, "region": "sublevel", "noise": "isotropic", "size": 0.0064},
        "lambda_max",
        0.0,
        "2 depth / c",
        {_SHARPNESS_FREE: 0.0, _VERSION_2: -1.0},
    ),
    Contrast(
        "radius, C = cH, lambda_max",
        "At a fixed radius with C = c H: does the exponent depend on sharpness?",
        "quadratic",
        {**_CHAIN, "region": "ball", "noise": "hessian", "size": 0.112},
        "lambda_max",
        0.0,
        "radius^2 / c, in every direction",
        {_VERSION_1: 0.0, _VERSION_2: -1.0},
    ),
    Contrast(
        "radius, C = cH, every eigenvalue",
        "At a fixed radius with C = c H, all eigenvalues in proportion: does the exponent grow as "
        "the square root of the smallest?",
        "quadratic",
        {**_CHAIN, "region": "ball", "noise": "hessian", "size": 0.112, "lambda_max": None},
        "sharpness",
        0.0,
        "radius^2 / c, in every direction",
        {_VERSION_1: 0.5, _VERSION_2: -1.0},
    ),
    Contrast(
        "radius, isotropic, lambda_max",
        "At a fixed radius with isotropic noise: does the largest eigenvalue matter?",
        "quadratic",
        {**_CHAIN, "region": "ball", "noise": "isotropic", "size": 0.354},
        "lambda_max",
        0.0,
        "radius^2 lambda_min / c: the exit follows the flattest direction",
        {_SHARPNESS_FREE: 0.0, _VERSION_2: -1.0},
    ),
    Contrast(
        "offset, C = cH, lambda_max",
        "Across the sharpest direction at a fixed distance with C = c H: does sharpness matter?",
        "quadratic",
        {**_CHAIN, "region": "half_space", "noise": "hessian", "size": 0.112},
        "lambda_max",
        0.0,
        "distance^2 / c",
        {_VERSION_2: -1.0},
    ),
    Contrast(
        "offset, isotropic, lambda_max",
        "Across the sharpest direction at a fixed distance with isotropic noise: does sharpness "
        "protect?",
        "quadratic",
        {**_CHAIN, "region": "half_space", "noise": "isotropic", "size": 0.144},
        "lambda_max",
        1.0,
        "distance^2 lambda_max / c",
        {_SHARPNESS_FREE: 0.0, _VERSION_2: -1.0},
    ),
    Contrast(
        "depth, C = cH, batch size",
        "Is log E[nu] proportional to the batch size?",
        "quadratic",
        {**_DEPTH, "learning_rate": 0.05, "size": 0.016},
        "batch_size",
        1.0,
        "(B / eta) V0",
        {"version 2's figures: exp(B)": 1.0},
    ),
    Contrast(
        "depth, C = cH, learning rate",
        "Is log E[nu] inverse in the learning rate?",
        "quadratic",
        {**_DEPTH, "batch_size": 20.0, "size": 0.016},
        "learning_rate",
        -1.0,
        "(B / eta) V0, times 1 - eta lambda_max / 2 at a finite step",
        {"version 2's figures: exp(1 / eta)": -1.0},
    ),
    Contrast(
        "depth, C = cH, depth",
        "Is log E[nu] proportional to the depth?",
        "quadratic",
        {**_DEPTH, **_CHAIN},
        "size",
        1.0,
        "2 depth / (c lambda_max)",
        {"version 2's figures: exp(depth)": 1.0},
    ),
    Contrast(
        "radius, C = cH, radius",
        "Is log E[nu] proportional to the squared radius?",
        "quadratic",
        {**_CHAIN, "region": "ball", "noise": "hessian", "lambda_max": None, "sharpness": 1.0},
        "size",
        2.0,
        "radius^2 / c",
        {"version 1: exponent proportional to r^2": 2.0},
    ),
    Contrast(
        "chain, every region and noise",
        "Does one formula, exponent and prefactor, cover three regions and two kinds of noise?",
        "quadratic",
        {**_CHAIN, "lambda_max": None},
    ),
    Contrast(
        "diffusion, every region and noise",
        "Does its continuous limit cover continuous SGD?",
        "quadratic",
        {"dynamics": "continuous"},
    ),
    Contrast(
        "constant B / eta",
        "Does only the ratio of learning rate and batch size matter?",
        "quadratic",
        {
            "dynamics": "gaussian",
            "region": "half_space",
            "noise": "hessian",
            "size": 0.112,
            "lambda_max": None,
        },
        "learning_rate",
        0.0,
        "the exponent depends on B / eta alone, but for 1 - eta lambda / 2; the number of steps "
        "also through the prefactor",
    ),
    Contrast(
        "Styblinski-Tang, isotropic, batch size",
        "Is log E[nu] proportional to the batch size where the loss is not quadratic?",
        "styblinski_tang",
        {"region": "sublevel", "noise": "isotropic", "size": 2.0, "sharpness": 1.0},
        "batch_size",
        1.0,
        "(B / eta) V0",
        {"version 2's figures: exp(B)": 1.0},
    ),
    Contrast(
        "Styblinski-Tang, isotropic, depth",
        "Is log E[nu] proportional to the depth, whatever the shape?",
        "styblinski_tang",
        {"region": "sublevel", "noise": "isotropic", "batch_size": 1.0, "sharpness": 1.0},
        "size",
        1.0,
        "2 depth / c, exactly",
        {"version 2's figures: exp(depth)": 1.0},
    ),
    Contrast(
        "Styblinski-Tang, C = cH, sharpness",
        "The paper's own construction L(sqrt(alpha) theta) at a fixed depth with C = c H: which "
        "power of sharpness?",
        "styblinski_tang",
        {"region": "sublevel", "noise": "hessian"},
        "sharpness",
        -1.0,
        "2 depth / (c lambda_max), where the loss is quadratic",
        {_VERSION_2: -1.0, _ACTION: -0.5},
    ),
    Contrast(
        "Styblinski-Tang, isotropic, sharpness",
        "The same with isotropic noise: any dependence?",
        "styblinski_tang",
        {"region": "sublevel", "noise": "isotropic", "size": 2.0, "batch_size": 1.0},
        "sharpness",
        0.0,
        "2 depth / c",
        {_SHARPNESS_FREE: 0.0, _VERSION_2: -1.0},
    ),
    Contrast(
        "Styblinski-Tang, every region",
        "Does the law along instantons, exponent and prefactor, cover every region and noise?",
        "styblinski_tang",
    ),
    Contrast(
        "Avila, B / eta by the batch size",
        "Real minibatch SGD on a real network: the predicted slope of log E[nu] in B / eta?",
        "avila",
        {"region": "half_space", "learning_rate": 0.033, "size": 0.0278, "runs": 0},
        "batch_over_rate",
        1.0,
        "(B / eta) V0",
        {"version 2's figures: exp(B)": 1.0},
    ),
    Contrast(
        "Avila, B / eta by the learning rate",
        "The same, by the learning rate?",
        "avila",
        {"region": "half_space", "batch_size": 64.0, "size": 0.0278},
        "batch_over_rate",
        1.0,
        "(B / eta) V0, times 1 - eta lambda_max / 2 at a finite step",
        {"version 2's figures: exp(1 / eta)": 1.0},
    ),
    Contrast(
        "Avila, deep exits too",
        "Does the slope hold up to exits of many millions of steps (means by splitting)?",
        "avila",
        {"region": "half_space", "learning_rate": 0.033, "size": 0.0278},
        "batch_over_rate",
        1.0,
        "(B / eta) V0",
        {"version 2's figures: exp(B)": 1.0},
    ),
    Contrast(
        "Avila, barrier fixed",
        "Slabs and half-spaces as narrow as each batch size needs for b = 4: is the number of "
        "steps the predicted one?",
        "avila",
        {"region": ("slab", "half_space"), "learning_rate": 0.068},
    ),
    Contrast(
        "Avila subset, every noise and dynamics",
        "Across the sharpest direction: does each of measured, Hessian and isotropic noise, chain, "
        "diffusion and minibatches follow its own prediction?",
        "avila_subset",
        {"region": "half_space"},
    ),
)
