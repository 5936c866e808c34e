"""Reports of studies and inspections: figures, and one self-contained HTML page each."""

from escapade.report.figures import (
    agreement,
    easiest_path,
    exit_directions,
    mean_against_barrier,
    mean_against_noise_scale,
    regimes,
    spectrum,
    survival,
)
from escapade.report.figures.instanton import instanton_directions, instanton_map
from escapade.report.figures.training import training
from escapade.report.inspection import write_inspection
from escapade.report.write import write_report

__all__ = [
    "agreement",
    "easiest_path",
    "exit_directions",
    "instanton_directions",
    "instanton_map",
    "mean_against_barrier",
    "mean_against_noise_scale",
    "regimes",
    "spectrum",
    "survival",
    "training",
    "write_inspection",
    "write_report",
]
