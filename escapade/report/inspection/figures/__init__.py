"""The figures of an inspection: each a function of what was found, by its name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from escapade.inspection import Inspection
from escapade.report.inspection.figures.escape_map import escape_map
from escapade.report.inspection.figures.layers import layers
from escapade.report.inspection.figures.noise_shape import noise_shape
from escapade.report.inspection.figures.spectrum import spectrum

DRAWINGS: dict[str, Callable[[Inspection], Figure]] = {
    "escape_map": escape_map,
    "spectrum": spectrum,
    "noise_shape": noise_shape,
    "layers": layers,
}
"""By name, in the order of the page."""


def drawn(found: Inspection) -> dict[str, Figure]:
    """The figures that there is something to show in."""
    without = {
        "escape_map": found.escape_map is None,
        "layers": all(outlook.direction is None for outlook in found.outlooks),
    }
    return {name: draw(found) for name, draw in DRAWINGS.items() if not without.get(name, False)}
