"""Commands on studies: study, report, predict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from escapade.cli.terminal import (
    Scheduler,
    Workers,
    app,
    console,
    errors,
    one_thread_per_computation,
)
from escapade.errors import EscapadeError

if TYPE_CHECKING:
    from escapade.study import StudyResult


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(help="digits, breast_cancer, avila, or the path of a .toml or .py file."),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Run a reduced grid: under a minute.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Results folder; results/NAME (or results/NAME-quick) unless given."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    r"""Measure exits from one minimum over a grid, compare with theory, write the report.

    Each finished cell is saved at once. After Ctrl-C, the same command goes on where it stopped.

    A study of your own is a TOML file:

        name = "mine"
        \[landscape]
        data = "breast_cancer"        # or digits, avila
        widths = [8]                  # hidden layers
        [\[grid]]
        dynamics = ["minibatch"]      # or gaussian, continuous, langevin
        region = ["slab", "ball"]     # half_space, sublevel
        learning_rate = [0.1]         # or stiffness = [0.2], eta * sharpness
        batch_size = [16, 64]
        barrier = [3.0, 5.0]          # or size = [0.1]

    Or of a formula instead of a network, with exits too rare to wait for:

        \[landscape]
        function = "quadratic"        # or styblinski_tang: dim, minimum
        eigenvalues = [1.0, 0.2]
        [\[grid]]
        dynamics = ["gaussian"]
        noise = ["isotropic"]         # hessian; measured (examples)
        lambda_max = [0.5, 5.0]       # instead of the largest eigenvalue
        region = ["sublevel"]
        learning_rate = [0.05]
        batch_size = [20]
        size = [0.016]
        method = "auto"               # split where the barrier is above 8
    """
    one_thread_per_computation()
    from escapade.study import load_specification, run_study
    from escapade.study.progress import ProgressBar

    specification = load_specification(name)
    folder = out or Path("results") / f"{specification.name}{'-quick' if quick else ''}"
    command = f"escapade study {name}{' --quick' if quick else ''}"
    with ProgressBar(errors) as progress:
        result = run_study(
            specification,
            folder,
            quick=quick,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            command=command,
        )
    _write_and_show(result, folder)
    if progress.failed:
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of a study, finished or not.")],
) -> None:
    """Write the report of a results folder again, without computing anything."""
    from escapade.study import load_study

    _write_and_show(load_study(folder), folder)


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="A study: name or path, as for `escapade study`.")],
    learning_rate: Annotated[float, typer.Option("--learning-rate", "-e", help="eta")],
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="B")],
    region: Annotated[str, typer.Option(help="slab, half_space, ball or sublevel")] = "slab",
    size: Annotated[
        float | None, typer.Option(help="Half-width, offset, radius or depth of the region.")
    ] = None,
    barrier: Annotated[
        float | None, typer.Option(help="Instead of --size: choose it so that b has this value.")
    ] = None,
) -> None:
    """Predict how many steps SGD stays at a study's minimum, without simulating.

    Example: escapade predict digits --learning-rate 0.5 --batch-size 64 --barrier 5
    """
    one_thread_per_computation()
    from escapade.study.single import predict_single

    if (size is None) == (barrier is None):
        raise EscapadeError("give either --size or --barrier")
    with console.status("finding the minimum"):
        cell, prediction, law, diagnosis = predict_single(
            name, learning_rate, batch_size, region, size, barrier
        )
    console.print(f"[bold]{cell}[/bold]")
    # Not as markup, which would swallow the brackets of E[nu].
    for said in (prediction, law, f"mechanism {diagnosis}"):
        console.print(str(said), highlight=False, markup=False, soft_wrap=True)


def _write_and_show(result: "StudyResult", folder: Path) -> None:
    from escapade.report import write_report

    with console.status("drawing the report"):
        page = write_report(result, folder)
    console.print(_summary(result))
    unfinished = result.planned - len(result.cells)
    if unfinished:
        console.print(f"[yellow]{unfinished} of {result.planned} cells are not finished[/yellow]")
    console.print(f"report: {page}", markup=False, soft_wrap=True)


def _summary(result: "StudyResult") -> Table:
    table = Table("cell", "b", "measured steps", "predicted", "ratio", "CV", "mechanism")
    table.columns[0].no_wrap = True
    for cell in result.cells:
        sample, prediction = cell.sample, cell.prediction
        measured, ratio, variation = "all diverged", "-", "-"
        if sample is None or not sample.diverged.all():
            low, high = cell.measured.interval
            measured = f"> {low:.3g}"
        if sample is not None and not sample.diverged.all():
            variation = f"{sample.coefficient_of_variation:.2f}"
        if sample is None or sample.exits:
            measured = f"{cell.measured.mean:.4g} ({low:.4g}, {high:.4g})"
            if prediction is not None:
                ratio = f"{cell.measured.mean / prediction.mean:.2f}"
        table.add_row(
            str(cell.cell),
            f"{cell.diagnosis.groups.barrier:.2f}",
            measured,
            "-" if prediction is None else f"{prediction.mean:.4g}",
            ratio,
            variation,
            cell.diagnosis.mechanism,
        )
    return table
