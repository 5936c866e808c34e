"""The command line: study, inspect, predict, data and report."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from escapade.errors import EscapadeError, in_one_line

if TYPE_CHECKING:
    from escapade.study import StudyResult

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
_console = Console(width=None if sys.stdout.isatty() else 140)
_errors = Console(stderr=True)


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
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; all processors unless given.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, or 'local' for a Dask cluster here."),
    ] = None,
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
    """
    _one_thread_per_computation()
    from escapade.study import load_specification, run_study
    from escapade.study.progress import ProgressBar

    specification = load_specification(name)
    folder = out or Path("results") / f"{specification.name}{'-quick' if quick else ''}"
    command = f"escapade study {name}{' --quick' if quick else ''}"
    with ProgressBar(_errors) as progress:
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
    _one_thread_per_computation()
    from escapade.study.single import predict_single

    if (size is None) == (barrier is None):
        raise EscapadeError("give either --size or --barrier")
    with _console.status("finding the minimum"):
        cell, prediction, law, diagnosis = predict_single(
            name, learning_rate, batch_size, region, size, barrier
        )
    _console.print(f"[bold]{cell}[/bold]")
    # Not as markup, which would swallow the brackets of E[nu].
    for said in (prediction, law, f"mechanism {diagnosis}"):
        _console.print(str(said), highlight=False, markup=False, soft_wrap=True)


@app.command(name="inspect")
def inspect_network(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC", help="digits, breast_cancer, avila, or the path of a .py or .toml file."
        ),
    ],
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "-e", help="eta")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="B")] = None,
    sampling: Annotated[
        str | None, typer.Option(help="with_replacement, without_replacement or shuffled_epochs")
    ] = None,
    depth: Annotated[
        float | None,
        typer.Option(help="Rise of the loss that counts as having left; the loss unless given."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Top eigenpairs of Hessian and noise.")] = 10,
    precision: Annotated[str, typer.Option(help="float64, float32 or auto")] = "auto",
    time_budget: Annotated[
        float | None, typer.Option(help="Seconds; what does not fit is left out, and named.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Kept of the examples for speed, such as 500MB.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random vectors.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder; results/NAME-inspection unless given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON, and no page unless --out.")
    ] = False,
) -> None:
    r"""Will SGD stay at this point of this network? Sharpness, noise, stability and exits.

    A built-in study is trained to its minimum first. Your own network, data and checkpoint, of
    PyTorch, Flax, Equinox or plain JAX, are a Python file with a function landscape():

        import escapade as esc, torch
        from mine import Net, loader
        def landscape():
            model = Net()
            model.load_state_dict(torch.load("run/weights.pt"))
            return esc.landscapes.network_landscape(model.eval(), loader)

    or a TOML file, of which the options here override the last table:

        loss = "cross_entropy"          # or square
        weight_decay = 0.0
        # only = "head.*"               # what moves; everything otherwise
        \[model]
        factory = "mine.py:Net"         # or package.module:function
        arguments = {width = 64}
        checkpoint = "run/weights.pt"   # or .eqx, .msgpack, .npz
        \[data]
        npz = "data.npz"                # of inputs and targets, or
        # name = "digits"               # a data set of Escapade, or
        # factory = "mine.py:loader"    # a function that returns them
        \[sgd]
        learning_rate = 0.1
        batch_size = 64
    """
    from escapade.inspection import inspect
    from escapade.inspection.specification import load_subject

    available = None if memory is None else _bytes(memory)
    given = {"learning_rate": learning_rate, "batch_size": batch_size, "sampling": sampling}
    chosen = {name: value for name, value in given.items() if value is not None}
    if not what.endswith(".toml"):
        _require_setting(chosen)  # before a network is trained
    with _errors.status("loading the network and its data") as status:
        subject = load_subject(what)
        settings = {**subject.settings, **chosen}
        _require_setting(settings)
        found = inspect(
            subject.landscape,
            **settings,
            depth=depth,
            count=count,
            precision=precision,
            key=seed,
            time_budget=time_budget,
            memory=available,
            progress=status.update,
        )
        page = None
        if out is not None or not as_json:
            from escapade.report import write_inspection

            status.update("drawing the page")
            folder = out or Path("results") / f"{subject.name}-inspection"
            page = write_inspection(found, folder, command=_command_line())
    if as_json:
        sys.stdout.write(f"{found.to_json()}\n")
        return
    for said in (str(found), f"page: {page}"):
        _console.print(said, highlight=False, markup=False, soft_wrap=True)


@app.command(name="data")
def show_data(
    name: Annotated[
        str | None, typer.Argument(help="A data set to load and check; all are listed without.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="For avila: a local avila.zip or its folder.")
    ] = None,
) -> None:
    """List the data sets, or load one and check it.

    avila is downloaded once from the UCI archive unless --path or ESCAPADE_DATA names a local copy.
    """
    from escapade import data

    if name is None:
        table = Table("data set", "what it is")
        for known, description in data.available().items():
            table.add_row(known, description)
        _console.print(table)
        return
    options = {} if path is None else {"path": str(path)}
    dataset = data.load(name, **options)
    _console.print(dataset)
    _console.print(dataset.source, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    try:
        # Outside standalone mode typer returns the code of `typer.Exit`, and 130 for Ctrl-C.
        code = app(prog_name="escapade", standalone_mode=False)
    except EscapadeError as error:
        _errors.print(f"[bold red]error:[/bold red] {escape(in_one_line(error))}", soft_wrap=True)
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
        _errors.print("interrupted; finished cells are saved, the same study goes on from here")
    sys.exit(code)


def _require_setting(settings: dict[str, Any]) -> None:
    for name in ("learning_rate", "batch_size"):
        if name not in settings:
            option = f"--{name.replace('_', '-')}"
            raise EscapadeError(f"give {option}, or {name} under [sgd] in a TOML file")


def _bytes(text: str) -> float:
    """A size such as 500MB, 2 GiB or 1e9 in bytes."""
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    if match is None or not amount > 0:
        raise EscapadeError(f"--memory is {text!r}; give a size such as 500MB or 2GiB")
    return amount * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")


def _command_line() -> str:
    return shlex.join(["escapade", *sys.argv[1:]])


def _one_thread_per_computation() -> None:
    """Cells run side by side: XLA, which reads this when it starts, is to use one thread each."""
    os.environ.setdefault("NPROC", "1")


def _write_and_show(result: "StudyResult", folder: Path) -> None:
    from escapade.report import write_report

    with _console.status("drawing the report"):
        page = write_report(result, folder)
    _console.print(_summary(result))
    unfinished = result.planned - len(result.cells)
    if unfinished:
        _console.print(f"[yellow]{unfinished} of {result.planned} cells are not finished[/yellow]")
    _console.print(f"report: {page}", markup=False, soft_wrap=True)


def _summary(result: "StudyResult") -> Table:
    table = Table("cell", "b", "measured steps", "predicted", "ratio", "CV", "mechanism")
    table.columns[0].no_wrap = True
    for cell in result.cells:
        sample, prediction = cell.sample, cell.prediction
        measured, ratio, variation = "all diverged", "-", "-"
        if not sample.diverged.all():
            low, high = sample.interval
            measured = f"> {low:.3g}"
            variation = f"{sample.coefficient_of_variation:.2f}"
        if sample.exits:
            measured = f"{sample.mean:.4g} ({low:.4g}, {high:.4g})"
        if sample.exits and prediction is not None:
            ratio = f"{sample.mean / prediction.mean:.2f}"
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
