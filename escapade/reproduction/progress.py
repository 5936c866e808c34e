"""What a reproduction shows while it runs: one bar over cells of any kind."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn

from escapade.study.progress import Bar


class CellBar(Bar):
    """Progress bar that counts cells; a receiver for studies and for stores of cells alike."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, MofNCompleteColumn(), TextColumn("cells"))

    def planned(self, cells: Sequence[Any], finished: Sequence[Any]) -> None:
        """The cells of the experiment, and those found finished."""
        self.bar.reset(self.task, total=len(cells), completed=len(finished))

    def cell_done(self, cell: Any) -> None:
        """A cell was computed and saved."""
        self.bar.advance(self.task)

    def cell_failed(self, cell: Any, error: Exception) -> None:
        """A cell failed; the others go on."""
        self.bar.advance(self.task)
        super().cell_failed(cell, error)
