"""Studies: parameter sweeps, their results store, and what they found."""

from escapade.study.cell import Cell
from escapade.study.progress import StudyProgress
from escapade.study.results import CellResult, MinimumSummary, StudyResult
from escapade.study.run import load_study, run_study
from escapade.study.specification import Specification, builtin_studies, load_specification

__all__ = [
    "Cell",
    "CellResult",
    "MinimumSummary",
    "Specification",
    "StudyProgress",
    "StudyResult",
    "builtin_studies",
    "load_specification",
    "load_study",
    "run_study",
]
