"""One cell from problem to result; runs anywhere, and depends on the cell and the seed alone."""

import functools
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from escapade.errors import EscapadeError
from escapade.exits import ExitSample, RareExit, simulate, split
from escapade.study.cell import Cell
from escapade.study.problem import Problem, build_landscape
from escapade.study.results import CellResult
from escapade.study.specification import Specification
from escapade.theory import diagnose, predict


def compute_cell(
    problem: Problem, cell: Cell, cancelled: threading.Event | None = None
) -> CellResult:
    """Simulate a cell, or split it; predict it and name its mechanism.

    Raises:
        KeyboardInterrupt: soon after `cancelled` is set; in a splitting, after its next runs.
    """

    def stop_if_cancelled(finished: int, replicas: int) -> None:
        if cancelled is not None and cancelled.is_set():
            raise KeyboardInterrupt

    escape = problem.escape(cell)
    neighbourhood = problem.neighbourhood(cell)
    prediction = exponential_law = None
    silence = ""
    try:
        prediction = problem.prediction(cell)
        exponential_law = predict(escape, "exponential_law", neighbourhood=neighbourhood)
    except EscapadeError as error:
        silence = str(error)
    key = cell.key(problem.specification.seed)
    sample: ExitSample | None = None
    rare: RareExit | None = None
    if cell.splits:
        rare = split(
            escape,
            key,
            runs=cell.runs,
            walkers=cell.replicas,
            burn_in=cell.burn_in,
            max_steps=cell.max_steps,
            progress=stop_if_cancelled,
        )
        points, weights = rare.exit_points, rare.exit_weights
    else:
        sample = simulate(escape, cell.replicas, cell.max_steps, key, progress=stop_if_cancelled)
        points, weights = sample.exit_points, ~sample.censored & ~sample.diverged
    return CellResult(
        cell=cell,
        sample=sample,
        prediction=prediction,
        exponential_law=exponential_law,
        diagnosis=diagnose(
            escape, sample, neighbourhood=neighbourhood, prediction=prediction
        ),
        exit_shares=exit_shares(points, weights, escape.minimum, neighbourhood.eigenvectors),
        silence=silence,
        rare=rare,
    )  # fmt: skip


def exit_shares(
    exit_points: Float[np.ndarray, "replicas dim"],
    weights: Bool[np.ndarray, " replicas"] | Float[np.ndarray, " replicas"],
    minimum: Float[np.ndarray, " dim"],
    eigenvectors: Float[np.ndarray, "dim dim"],
) -> Float[np.ndarray, " dim"]:
    """Mean share of the squared exit displacement along each eigenvector; NaN without exits.

    A point of weight zero did not exit.
    """
    exited = weights > 0
    if not exited.any():
        return np.full(minimum.size, np.nan)
    components = (exit_points[exited] - minimum) @ eigenvectors
    shares = components**2 / (components**2).sum(axis=1, keepdims=True)
    return np.average(shares, axis=0, weights=weights[exited])


@functools.lru_cache(maxsize=1)
def _worker_problem(specification: Specification, theta: bytes) -> Problem:
    landscape = build_landscape(specification.landscape, specification.seed)
    return Problem(specification, landscape, np.frombuffer(theta))


def _compute_remotely(
    specification: Specification, theta: bytes, cell: Cell, cancelled: threading.Event
) -> CellResult:
    return compute_cell(_worker_problem(specification, theta), cell, cancelled)


def to_be_sent(problem: Problem) -> Callable[[Cell, threading.Event], CellResult]:
    """`compute_cell` in a form that can be sent to another machine; the problem is kept there."""
    # Workers need no text of the file that the specification was read from.
    specification = replace(problem.specification, text="")
    return functools.partial(_compute_remotely, specification, problem.theta.tobytes())
