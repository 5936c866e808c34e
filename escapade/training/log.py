"""Where records go: a CSV file, row by row; a JSON file at the end; TensorBoard."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from escapade.errors import InvalidArgument
from escapade.training.record import FIELDS, Record, read_records, row_of, to_json


class Log:
    """The files of one folder. What a killed run wrote stays, and is continued."""

    def __init__(self, folder: str | Path):
        """Open the folder; a last line that was cut off is removed.

        Raises:
            InvalidArgument: when it cannot be made.
            DataError: when its table is none of a monitor.
        """
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(
                f"folder is {folder}, which cannot be made ({error}); give one that can"
            ) from error
        self._table = self._folder / "records.csv"
        if self._table.exists():
            self._cut()

    def read(self) -> list[Record]:
        """The records of the run so far; starts the table where there is none."""
        if not self._table.exists() or not self._table.stat().st_size:
            self._append(list(FIELDS))
        return read_records(self._table)

    def write(self, record: Record) -> None:
        """Append one record."""
        self._append(row_of(record))

    def close(self, records: Sequence[Record], attributes: dict[str, Any]) -> None:
        """Write all of it as JSON."""
        (self._folder / "records.json").write_text(to_json(records, attributes))

    def _append(self, row: list[str]) -> None:
        with self._table.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(row)

    def _cut(self) -> None:
        content = self._table.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._table.write_bytes(whole)


class Scalars:
    """Numbers of each record, given to a TensorBoard writer."""

    def __init__(self, target: Any):
        """From a writer, or a folder.

        Raises:
            InvalidArgument: when it is neither, or TensorBoard is not installed.
        """
        self._own = isinstance(target, str | Path)
        self._writer = _writer(target) if self._own else target
        if not callable(getattr(self._writer, "add_scalar", None)):
            raise InvalidArgument(
                f"tensorboard is a {type(target).__name__}; give a folder, or a writer with "
                "add_scalar(name, value, step)"
            )

    def write(self, record: Record) -> None:
        """Every finite number of a record."""
        for name, kind in FIELDS.items():
            value = getattr(record, name)
            if kind is not str and name != "step" and math.isfinite(value):
                self._writer.add_scalar(f"escapade/{name}", value, record.step)

    def close(self) -> None:
        """Finish the file, where it was opened here."""
        if self._own:
            self._writer.close()


def _writer(folder: str | Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-not-found, no-redef]
        except ImportError as error:
            raise InvalidArgument(
                f"tensorboard is {str(folder)!r} but TensorBoard is not installed; pip install "
                "tensorboard, or leave it out and use folder="
            ) from error
    return SummaryWriter(str(folder))
