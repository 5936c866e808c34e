"""The figures of a report: each a function from a study's result to a Matplotlib figure.

`stationarity` draws single problems (`Course`) instead, so no report contains it.
"""

from escapade.report.figures.agreement import agreement
from escapade.report.figures.directions import exit_directions
from escapade.report.figures.instanton import easiest_path
from escapade.report.figures.means import mean_against_barrier, mean_against_noise_scale
from escapade.report.figures.regimes import regimes
from escapade.report.figures.spectrum import spectrum
from escapade.report.figures.stationarity import Course as Course
from escapade.report.figures.stationarity import stationarity as stationarity
from escapade.report.figures.survival import survival

__all__ = [
    "agreement",
    "easiest_path",
    "exit_directions",
    "mean_against_barrier",
    "mean_against_noise_scale",
    "regimes",
    "spectrum",
    "survival",
]
