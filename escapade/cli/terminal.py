"""What all commands share: the application, its two consoles, how computations use threads."""

import os
import shlex
import sys
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "How fast, by which route and by which mechanism does SGD leave a minimum?\n\n"
        "Start with [bold]escapade study digits --quick[/bold]: it trains a small network to a "
        "minimum, measures how long SGD stays there, compares with theory, and writes one HTML "
        "page. Then look at [bold]escapade study --help[/bold], and for a network of your own at "
        "[bold]escapade inspect --help[/bold]."
    ),
)
# Tables keep their shape when the output is not a terminal, whose width is then unknown.
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

Workers = Annotated[int | None, typer.Option(min=1, help="Threads; all processors unless given.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, or 'local' for a Dask cluster here."),
]


def command_line() -> str:
    """The command as it was typed, to be quoted in a report."""
    return shlex.join(["escapade", *sys.argv[1:]])


def one_thread_per_computation() -> None:
    """Cells run side by side: XLA, which reads this when it starts, is to use one thread each."""
    os.environ.setdefault("NPROC", "1")
