"""The command line: study, compare, reproduce, claims, inspect, predict, data and report."""

import sys

import typer
from rich.markup import escape

from escapade.cli import claims, comparison, data_sets, inspection, reproduction, studies
from escapade.cli.terminal import app, errors
from escapade.errors import EscapadeError, in_one_line

__all__ = ["claims", "comparison", "data_sets", "inspection", "main", "reproduction", "studies"]


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    try:
        # Outside standalone mode typer returns the code of `typer.Exit`, and 130 for Ctrl-C.
        code = app(prog_name="escapade", standalone_mode=False)
    except EscapadeError as error:
        errors.print(f"[bold red]error:[/bold red] {escape(in_one_line(error))}", soft_wrap=True)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        # Click's own complaints (unknown option, missing argument) know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        code = getattr(error, "exit_code", 2)
    if code == 130:
        errors.print("interrupted; finished cells are saved, the same study goes on from here")
    sys.exit(code)
