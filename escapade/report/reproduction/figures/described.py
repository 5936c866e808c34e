"""The experiment of the paper's text: what was measured, and what is predicted for it."""

import numpy as np
from matplotlib.figure import Figure

from escapade.report import formats
from escapade.report.reproduction.figures.scans import LABELS, Panel, draw_panels
from escapade.reproduction.described import DescribedResult, DescribedScan

_NAMES = {"size": "radius"}


def described(result: DescribedResult) -> Figure:
    """The four scans, with the uniform prediction of each point."""
    panels = {
        _NAMES.get(scan.quantity, scan.quantity): _panel(scan)
        for scan in result.scans
        if scan.points
    }
    return draw_panels(({name: panels[name] for name in LABELS if name in panels}, "predicted"))


def _panel(scan: DescribedScan) -> Panel:
    fit = scan.slope
    power = (np.nan, np.nan)
    if fit is not None:
        low, high = fit.slope_interval
        power = (fit.slope, (high - low) / 2)
    return Panel(
        quantity=_NAMES.get(scan.quantity, scan.quantity),
        values=np.array(scan.values),
        samples=tuple(point.sample for point in scan.points),
        known=np.array([formats.exponential(point.log_predicted) for point in scan.points]),
        power=power,
    )
