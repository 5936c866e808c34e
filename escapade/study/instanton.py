"""The easiest path out of one of a study's regions."""

from escapade.escape import Escape
from escapade.minimum import Neighbourhood
from escapade.steepness import minimum_steepness
from escapade.steepness.local import minimum_over_boundary
from escapade.study.cell import Cell
from escapade.study.problem import Problem
from escapade.study.results import InstantonSummary

PREFERRED = ("slab", "half_space", "sublevel", "ball")
"""Kinds of region, those first whose easiest exit does not follow a flat direction for long."""

SHARED = ("dynamics", "batch_size", "learning_rate", "noise", "noise_strength", "lambda_max")
"""What the candidates have in common."""


def representative(cells: list[Cell]) -> Cell:
    """The cell whose path is found: the first cell's chain out of its largest region.

    Cells with other batches have regions of other sizes for the same barrier.
    """
    candidates = [
        cell
        for cell in cells
        if cell.sharpness == 1 and cell.dynamics != "minibatch_shuffled_epochs"
    ] or cells
    first = candidates[0]
    same = [
        cell
        for cell in candidates
        if all(getattr(cell, name) == getattr(first, name) for name in SHARED)
    ]
    return min(same, key=lambda cell: (PREFERRED.index(cell.region), -cell.size))


def find_instanton(problem: Problem, cell: Cell) -> InstantonSummary:
    """The path of least steepness out of the region of a cell.

    Raises:
        EscapadeError: when none is found; the message says why.
    """
    escape = problem.escape(cell)
    around = problem.neighbourhood(cell)
    found = minimum_steepness(escape, neighbourhood=around)
    return InstantonSummary(
        cell=cell,
        value=found.value,
        error=found.error,
        quadratic_value=_quadratic_value(escape, around),
        times=found.times,
        actions=found.actions,
        along=(found.path - escape.minimum) @ around.eigenvectors,
        method=found.method,
    )


def _quadratic_value(escape: Escape, around: Neighbourhood) -> float:
    form = escape.region.local_form(escape.minimum, around.drift_matrix)
    if form is None:
        return float("nan")
    rate = None if escape.dynamics.continuous else escape.dynamics.learning_rate
    return minimum_over_boundary(around.stationary_covariance(rate), form).value
