"""What a study tells while it runs."""

from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from escapade.errors import in_one_line
from escapade.study.cell import Cell

SPLITTING = 20_000
"""Steps of a walker in a splitting, on the generous scale of the caps on direct runs."""


class StudyProgress:
    """Receiver of progress over cells of any kind; this one says nothing."""

    def stage(self, message: str) -> None:
        """A new stage begins."""

    def planned(self, cells: Sequence[Any], finished: Sequence[Any]) -> None:
        """All cells, and those found finished."""

    def cell_done(self, cell: Any) -> None:
        """A cell was computed and saved."""

    def cell_failed(self, cell: Any, error: Exception) -> None:
        """A cell failed; the others go on."""


class Bar(StudyProgress):
    """Frame of a progress bar with the time left; counts failures, and leaves the rest to do.

    It appears with the first stage: an argument that is refused leaves no empty bar behind.

    Args:
        console: where it is drawn.
        columns: between the bar and the time left.
        entries: what the columns show at first.
    """

    def __init__(self, console: Console, *columns: ProgressColumn, **entries: Any) -> None:
        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("starting", total=None, **entries)
        self.failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def stage(self, message: str) -> None:
        """A new stage begins."""
        self.bar.start()
        self.bar.update(self.task, description=message)

    def cell_failed(self, cell: Any, error: Exception) -> None:
        """A cell failed; the others go on."""
        self.failed += 1
        message = escape(f"{cell}: {in_one_line(error)}")
        self.console.print(f"[red]cell failed:[/red] {message}", soft_wrap=True)


class ProgressBar(Bar):
    """Progress bar over cells, weighted by the steps each may take."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, TextColumn("{task.fields[cells]}"), cells="")
        self.total = self.done = 0

    def planned(self, cells: Sequence[Cell], finished: Sequence[Cell]) -> None:
        """The cells of the study, and those found finished."""
        self.total, self.done = len(cells), len(finished)
        self.bar.update(
            self.task,
            description="simulating",
            total=sum(map(work, cells)),
            completed=sum(map(work, finished)),
            cells=f"{self.done}/{self.total} cells",
        )

    def cell_done(self, cell: Cell) -> None:
        """A cell was computed and saved."""
        self.done += 1
        self.bar.update(self.task, advance=work(cell), cells=f"{self.done}/{self.total} cells")

    def cell_failed(self, cell: Cell, error: Exception) -> None:
        """A cell failed; the others go on."""
        self.bar.update(self.task, advance=work(cell))
        super().cell_failed(cell, error)


def work(cell: Cell) -> float:
    """Steps that a cell may take: at most, where it is simulated; roughly, where it splits."""
    if cell.splits:
        return float(cell.runs * cell.replicas * SPLITTING)
    return float(cell.replicas * cell.max_steps)
