"""One prediction at a study's minimum, without a grid."""

from dataclasses import replace

from escapade.errors import StudyError
from escapade.landscape import AbstractEmpirical
from escapade.study.cell import Cell
from escapade.study.problem import Problem, build_landscape, find_study_minimum
from escapade.study.specification import REGIONS, Grid, checked_grid, load_specification
from escapade.theory import Diagnosis, Prediction, diagnose
from escapade.theory import predict as predict_escape


def single_problem(
    name: str,
    learning_rate: float,
    batch_size: int,
    region: str,
    size: float | None,
    barrier: float | None,
) -> tuple[Problem, Cell]:
    """Train to the minimum of a study, and one exit from it.

    By minibatches where there are examples, else by discrete Gaussian SGD.

    Raises:
        StudyError: when the study or the region is unknown, or a number is not positive.
    """
    if region not in REGIONS:
        raise StudyError(f"region is {region!r}; choose one of {', '.join(REGIONS)}")
    specification = load_specification(name)
    landscape = build_landscape(specification.landscape, specification.seed)
    grid = Grid(
        dynamics=("minibatch" if isinstance(landscape, AbstractEmpirical) else "gaussian",),
        region=(region,),
        learning_rate=(learning_rate,),
        batch_size=(batch_size,),
        size=() if size is None else (size,),
        barrier=() if barrier is None else (barrier,),
    )
    specification = replace(specification, grid=(checked_grid(grid, f"exit from {name}"),))
    minimum = find_study_minimum(specification, landscape)
    problem = Problem(specification, landscape, minimum.theta)
    (cell,) = problem.plan(quick=False)
    return problem, cell


def predict_single(
    name: str,
    learning_rate: float,
    batch_size: int,
    region: str,
    size: float | None,
    barrier: float | None,
) -> tuple[Cell, Prediction, Prediction, Diagnosis]:
    """Train to the minimum of a study and predict one exit from it.

    Returns:
        The problem, the uniform prediction, the plain exponential law and the mechanism.

    Raises:
        StudyError: when the study or the region is unknown, or a number is not positive.
    """
    problem, cell = single_problem(name, learning_rate, batch_size, region, size, barrier)
    escape, around = problem.escape(cell), problem.neighbourhood(cell)
    return (
        cell,
        predict_escape(escape, neighbourhood=around),
        predict_escape(escape, "exponential_law", neighbourhood=around),
        diagnose(escape, neighbourhood=around),
    )
