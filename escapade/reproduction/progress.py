"""What a reproduction shows while it runs: one bar over cells of any kind."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from escapade.errors import in_one_line
from escapade.study.progress import StudyProgress


class CellBar(StudyProgress):
    """Progress bar that counts cells; a receiver for studies and for stores of cells alike."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("starting", total=None)
        self.failed = 0

    def __enter__(self) -> "CellBar":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def stage(self, message: str) -> None:
        """A new stage begins."""
        self.bar.update(self.task, description=message)

    def planned(self, cells: Sequence[Any], finished: Sequence[Any]) -> None:
        """The cells of the experiment, and those found finished."""
        self.bar.reset(self.task, total=len(cells), completed=len(finished))

    def cell_done(self, cell: Any) -> None:
        """A cell was computed and saved."""
        self.bar.advance(self.task)

    def cell_failed(self, cell: Any, error: Exception) -> None:
        """A cell failed; the others go on."""
        self.failed += 1
        self.bar.advance(self.task)
        message = escape(f"{cell}: {in_one_line(error)}")
        self.console.print(f"[red]cell failed:[/red] {message}", soft_wrap=True)
