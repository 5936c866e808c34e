"""The report of a study: figures, and one self-contained HTML page that answers its question."""

from escapade.report.figures import (
    agreement,
    exit_directions,
    mean_against_barrier,
    mean_against_noise_scale,
    regimes,
    spectrum,
    survival,
)
from escapade.report.write import write_report

__all__ = [
    "agreement",
    "exit_directions",
    "mean_against_barrier",
    "mean_against_noise_scale",
    "regimes",
    "spectrum",
    "survival",
    "write_report",
]
