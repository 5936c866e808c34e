"""Writing a report to a folder: whole, or not at all."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from matplotlib.figure import Figure

from escapade.errors import StudyError
from escapade.report import figures, svg
from escapade.report.page import render
from escapade.study.results import StudyResult


def write_report(study: StudyResult, folder: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` and ``*.svg`` into a folder.

    Everything is drawn before anything is written, and each file replaces its predecessor in one
    step, the page last: a failure leaves the old page as it was.

    Args:
        study: what the study found.
        folder: where; made if missing.

    Returns:
        The page.

    Raises:
        StudyError: when the folder cannot be written to.
    """
    drawn = {name: getattr(figures, name)(study) for name in figures.__all__}
    page = Path(folder) / "report.html"
    write(page, {page: render(study, drawn).encode()}, drawn)
    return page


def write(page: Path, texts: Mapping[Path, bytes], drawn: Mapping[str, Figure]) -> None:
    """Write figures as files, then the texts, all or none.

    Args:
        page: of the report; figures go into a folder beside it.
        texts: files and what they hold, the page last.
        drawn: figures by name.

    Raises:
        StudyError: when the folder cannot be written to.
    """
    files = {
        page.parent / "figures" / f"{name}.{form}": svg.save(figure, form)
        for name, figure in drawn.items()
        for form in ("png", "svg")
    }
    try:
        _replace({**files, **texts})
    except OSError as error:
        raise StudyError(
            f"the report cannot be written to folder {page.parent}: {error.strerror or error}; "
            "choose another folder, or make room and give yourself permission to write there"
        ) from error


def _replace(files: Mapping[Path, bytes]) -> None:
    """Write all files under other names first, then give each its name."""
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial[path].write_bytes(content)
        for path, temporary in partial.items():
            temporary.replace(path)
    except BaseException:
        for temporary in partial.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
