"""Writing the chapter page of a reproduction: whole, or not at all."""

from pathlib import Path

from escapade.report.reproduction.figures import drawn
from escapade.report.reproduction.page import render
from escapade.report.write import write
from escapade.reproduction import Reproduction


def write_reproduction(found: Reproduction, folder: Path | str, *, command: str = "") -> Path:
    """Write ``reproduction.html`` and ``figures/*`` into a folder.

    Args:
        found: what the folder of a reproduction holds.
        folder: where; made if missing.
        command: the command that gives the same again, to be shown on the page.

    Returns:
        The page.

    Raises:
        StudyError: when the folder cannot be written to.
    """
    figures = drawn(found)
    page = Path(folder) / "reproduction.html"
    write(page, {page: render(found, figures, command).encode()}, figures)
    return page
