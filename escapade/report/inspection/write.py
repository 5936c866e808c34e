"""Writing the report of an inspection to a folder: whole, or not at all."""

from pathlib import Path

from escapade.inspection import Inspection
from escapade.report.inspection.figures import drawn
from escapade.report.inspection.page import render
from escapade.report.write import write


def write_inspection(inspection: Inspection, folder: Path, *, command: str = "") -> Path:
    """Write ``inspection.html``, ``inspection.json`` and ``figures/*`` into a folder.

    Args:
        inspection: what was found.
        folder: where; made if missing.
        command: the command that gives the same again, to be shown on the page.

    Returns:
        The page.

    Raises:
        StudyError: when the folder cannot be written to.
    """
    folder = Path(folder)
    figures = drawn(inspection)
    page = folder / "inspection.html"
    texts = {
        folder / "inspection.json": inspection.to_json().encode(),
        page: render(inspection, figures, command).encode(),
    }
    write(page, texts, figures)
    return page
