"""The command reproduce: a paper's experiments, run again."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from escapade.cli.claims import show_ledger
from escapade.cli.terminal import (
    Scheduler,
    Workers,
    app,
    command_line,
    console,
    errors,
    one_thread_per_computation,
)

if TYPE_CHECKING:
    from escapade.reproduction import Reproduction
    from escapade.reproduction.corrected import CorrectedResult
    from escapade.reproduction.described import DescribedResult
    from escapade.reproduction.published import PublishedResult


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="ibayashi-imaizumi-2022")],
    protocol: Annotated[
        str,
        typer.Option(
            help="published (the public code as it runs), described (what the text says), "
            "corrected (experiments that can tell the laws apart) or all."
        ),
    ] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help="Reduced scans: under three minutes in all.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Results folder; results/PAPER (or results/PAPER-quick) unless given."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Run a paper's experiments again, and measure its claims: ends with a ledger and a page.

    The experiments run as the public code runs them, as the text describes them, and in a way that
    can tell the laws apart; the ledger of `escapade claims` is measured with them.

    Needs the AVILA data; ESCAPADE_DATA names the folder that holds avila.zip. Each finished cell is
    saved at once. After Ctrl-C, the same command goes on where it stopped.

    Example: escapade reproduce ibayashi-imaizumi-2022 --protocol published --quick
    """
    one_thread_per_computation()
    from escapade.report.reproduction import write_reproduction
    from escapade.reproduction import reproduce as run_again
    from escapade.reproduction.progress import CellBar

    folder = out or Path("results") / f"{paper}{'-quick' if quick else ''}"
    with CellBar(errors) as progress:
        found = run_again(
            paper,
            folder,
            protocol,
            quick=quick,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
            command=command_line(),
        )
    with console.status("drawing the page"):
        page = write_reproduction(found, folder, command=command_line())
    _show(found)
    if found.claims:
        show_ledger(folder / "claims")
    console.print(f"report: {page}", markup=False, soft_wrap=True)
    if progress.failed:
        raise typer.Exit(1)


def _show(found: "Reproduction") -> None:
    """Tables of what the folder holds."""
    if found.published is not None:
        _show_published(found.published)
    if found.described is not None:
        _show_described(found.described)
    if found.corrected is not None:
        _show_corrected(found.corrected)


def _show_published(result: "PublishedResult") -> None:
    table = Table(
        *("scan", "values", "steps", "measured / published", "log-log slope", "published slope"),
        title="The public experiment code, as it runs",
    )
    for scan in result.scans:
        ratio, error = scan.ratio
        slope, published = scan.slope, scan.published_slope()
        table.add_row(
            f"{scan.optimiser.upper()}, {scan.quantity.replace('_', ' ')}",
            f"{scan.values[0]:g} to {scan.values[-1]:g}",
            f"{scan.means[0]:.4g} to {scan.means[-1]:.4g}",
            "means not published" if math.isnan(ratio) else f"{ratio:.3f} +- {error:.3f}",
            f"{slope.value:.3f} ({slope.interval[0]:.3f}, {slope.interval[1]:.3f})",
            f"{published.value:.3f} ({published.interval[0]:.3f}, {published.interval[1]:.3f})",
        )
    console.print(table)
    base = Table("base point", "steps (95 % interval)", "CV", "exits", "what it is")
    rows = [
        ("SGD", result.base("sgd"), "published as SGD and as discrete SGD: one code, run once"),
        ("SGLD", result.base("sgld"), "full gradients over 1000, and normal numbers"),
        *((one.name, one.point.sample, one.reads) for one in result.variations),
    ]
    for name, sample, meaning in rows:
        low, high = sample.interval
        seen = f"{sample.mean:.4g} ({low:.4g}, {high:.4g})" if sample.exits else f"> {low:.4g}"
        variation = f"{sample.coefficient_of_variation:.3f}" if sample.exits > 1 else "-"
        base.add_row(name, seen, variation, f"{sample.exits}/{sample.replicas}", meaning)
    console.print(base)
    for check in result.reparametrisations:
        console.print(
            f"N(eta, k, r) = N(k eta, 1, sqrt(k) r) at k = {check.factor:g}: "
            f"{len(check.scaled) - check.differing} of {len(check.scaled)} runs leave at the same "
            "step"
        )


def _show_described(result: "DescribedResult") -> None:
    table = Table(
        *(
            "scan",
            "value",
            "steps (95 % interval)",
            "predicted",
            "plain law",
            "CV",
            "exponential?",
        ),
        *("mechanism",),
        title=f"What the text describes, on {len(result.minimum.theta)} parameters",
    )
    for scan in result.scans:
        name = "radius" if scan.quantity == "size" else scan.quantity.replace("_", " ")
        for value, point in zip(scan.values, scan.points, strict=True):
            sample = point.sample
            low, high = sample.interval
            p_value = sample.exponentiality.p_value
            table.add_row(
                name,
                f"{value:g}",
                f"{sample.mean:.4g} ({low:.4g}, {high:.4g})" if sample.exits else f"> {low:.4g}",
                _power(point.log_predicted),
                _power(point.log_exponential_law),
                f"{sample.coefficient_of_variation:.3f}",
                f"p = {p_value:.1g}",
                point.mechanism,
            )
    console.print(table)
    for scan in result.scans:
        if scan.slope is not None:
            said = f"log mean on log {scan.quantity}: {scan.slope}"
            console.print(said, markup=False, soft_wrap=True)
    console.print(f"the text leaves {len(result.openings)} things open:")
    for opening in result.openings:
        console.print(f"  {opening.question}: {opening.choice}", soft_wrap=True)


def _show_corrected(result: "CorrectedResult") -> None:
    console.print(
        f"Experiments that can tell the laws apart: {len(result.points)} of {result.planned} cells"
    )
    for said in (*map(str, result.fits), *result.missing):
        console.print(said, markup=False, highlight=False, soft_wrap=True)


def _power(log_steps: float) -> str:
    """A number given by its natural logarithm, with three digits."""
    return "silent" if math.isnan(log_steps) else f"{math.exp(min(log_steps, 700.0)):.3g}"
