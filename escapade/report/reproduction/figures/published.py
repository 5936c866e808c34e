"""The public experiment run again, beside its own result arrays."""

import numpy as np
from matplotlib.figure import Figure

from escapade.report.reproduction.figures.scans import LABELS, Panel, draw_panels
from escapade.reproduction.published import PublishedResult, Scan
from escapade.reproduction.published.experiment import Optimiser


def published_sgd(result: PublishedResult) -> Figure:
    """The scans of SGD."""
    return _scans(result, "sgd")


def published_sgld(result: PublishedResult) -> Figure:
    """The scans of SGLD."""
    return _scans(result, "sgld")


def _scans(result: PublishedResult, optimiser: Optimiser) -> Figure:
    found = {
        quantity: _panel(scan)
        for quantity in LABELS
        if (scan := result.scan(optimiser, quantity)) is not None  # type: ignore[arg-type]
    }
    return draw_panels((found, "published arrays"))


def _panel(scan: Scan) -> Panel:
    slope = scan.slope
    return Panel(
        quantity=scan.quantity,
        values=scan.values,
        samples=tuple(point.sample for point in scan.points),
        known=np.array(
            [np.nan if one.reference is None else one.reference.mean for one in scan.points]
        ),
        power=(slope.value, slope.interval[1] - slope.value),
    )
