"""The command compare: every theory on a study, or on one escape."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from escapade.cli.terminal import app, console, one_thread_per_computation
from escapade.errors import EscapadeError

MOST_REASONS = 3
"""Shown for each theory; all are in the JSON and under --cells."""

if TYPE_CHECKING:
    from escapade.study.comparison import StudyComparison


@app.command()
def compare(
    what: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="Results folder of a study, or a study's name; with --learning-rate the study "
            "whose minimum is left.",
        ),
    ],
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "-e", help="eta, for one escape")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="B, for one escape")
    ] = None,
    region: Annotated[str, typer.Option(help="slab, half_space, ball or sublevel")] = "slab",
    size: Annotated[
        float | None, typer.Option(help="Half-width, offset, radius or depth of the region.")
    ] = None,
    barrier: Annotated[
        float | None, typer.Option(help="Instead of --size: choose it so that b has this value.")
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=0, help="For one escape: runs to measure it by; 0 measures nothing.")
    ] = 0,
    theory: Annotated[
        list[str] | None, typer.Option(help="Ask this theory only; may be repeated.")
    ] = None,
    cells: Annotated[bool, typer.Option("--cells", help="Show every cell of a study.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Ask every theory of escape, and rank them by their error in log E[nu].

    Where a theory is wrong or silent its reason is given. Examples:

        escapade study digits --quick
        escapade compare digits
        escapade compare digits -e 0.5 -b 64 --barrier 5 --replicas 200
    """
    one_thread_per_computation()
    theories = tuple(theory) if theory else None
    if learning_rate is None and batch_size is None:
        if size is not None or barrier is not None or replicas:
            raise EscapadeError("--size, --barrier and --replicas need --learning-rate and -b")
        _compare_folder(_results_folder(what), theories, cells, as_json)
        return
    if learning_rate is None or batch_size is None:
        raise EscapadeError("give both --learning-rate and --batch-size, or neither")
    if (size is None) == (barrier is None):
        raise EscapadeError("give either --size or --barrier")
    from escapade.exits import simulate
    from escapade.study.single import single_problem
    from escapade.theory import compare as compare_theories

    with console.status("finding the minimum") as status:
        problem, cell = single_problem(what, learning_rate, batch_size, region, size, barrier)
        problem_of_cell, sample = problem.escape(cell), None
        if replicas:
            status.update("measuring")
            sample = simulate(problem_of_cell, replicas, cell.max_steps, cell.key(0))
        status.update("asking the theories")
        found = compare_theories(
            problem_of_cell, sample, theories=theories, neighbourhood=problem.neighbourhood(cell)
        )
    if as_json:
        sys.stdout.write(f"{found.to_json()}\n")
    else:
        console.print(str(found), highlight=False, markup=False, soft_wrap=True)


def _results_folder(what: str) -> Path:
    """A folder as given, or the results of a study by its name: the full ones, else the quick."""
    folders = [Path(what), Path("results") / what, Path("results") / f"{what}-quick"]
    for folder in folders:
        if (folder / "study.json").is_file():
            return folder
    raise EscapadeError(
        f"{what} has no results here (looked in {', '.join(map(str, folders))}); run `escapade "
        f"study {what}` first, or give --learning-rate, --batch-size and --barrier for one escape"
    )


def _compare_folder(
    folder: Path, theories: tuple[str, ...] | None, cells: bool, as_json: bool
) -> None:
    from escapade.study import load_study
    from escapade.study.comparison import compare_study

    with console.status("asking the theories"):
        found = compare_study(load_study(folder), theories=theories)
    if as_json:
        sys.stdout.write(f"{found.to_json()}\n")
        return
    console.print(_ranking(found))
    if cells:
        for cell in found.cells:
            console.print(f"\n{cell}", highlight=False, markup=False, soft_wrap=True)


def _ranking(found: "StudyComparison") -> Table:
    table = Table(
        *("theory", "cells", "rms error", "worst", "slope, measured on predicted", "why"),
        title=f"{escape(found.name)}: errors in log E\\[nu] over {found.measured} cells with exits",
    )
    for score in found.scores:
        numbers = ("-", "-", "-")
        if score.cells:
            slope = "-"
            if score.slope == score.slope:
                low, high = score.slope_interval
                slope = f"{score.slope:.3g} ({low:.3g}, {high:.3g})"
            numbers = (f"{score.root_mean_square:.3f}", f"{score.worst:+.3f}", slope)
        reasons = "; ".join(f"{reason} ({count})" for reason, count in score.reasons[:MOST_REASONS])
        table.add_row(score.title, str(score.cells or "silent"), *numbers, escape(reasons))
    return table
