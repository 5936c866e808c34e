"""Folders of results: one that can be written, and files that are whole or not there."""

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from escapade.errors import StudyError


def require_writable(folder: Path, *below: str) -> None:
    """Create a folder if missing, and fail before the work rather than after it.

    Args:
        folder: of results.
        below: names of folders in it, created too.

    Raises:
        StudyError: when it cannot be created or written.
    """
    try:
        for created in (folder, *(folder / name for name in below)):
            created.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"output folder {folder} cannot be written ({error.strerror}); give another with --out"
        ) from error


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the final name, then rename: a reader never sees half a file.

    Args:
        path: the final name.
        write: writes the file it is given.

    Raises:
        StudyError: when the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
