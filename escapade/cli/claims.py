"""The command claims: the paper's claims, their evidence and verdicts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from escapade.cli.terminal import app, console, errors
from escapade.errors import EscapadeError, in_one_line

if TYPE_CHECKING:
    from escapade.reproduction.claims import ClaimResult, Quantity

COLOURS = {
    "supported": "green",
    "supported in regime": "yellow",
    "refuted": "red",
    "not testable here": "dim",
}


@app.command()
def claims(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(metavar="[NUMBER]...", help="Claims to measure and explain."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Measure all of them.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Reduced measurements: a few seconds each.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Measure even where there is a result.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of every random number.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; results/claims unless given.")
    ] = None,
) -> None:
    """What Ibayashi and Imaizumi (arXiv 2111.04004) claim, and what measurements say of it.

    Without numbers: the table, from the results saved so far. With numbers: each claim is
    measured, unless it has been, and explained. The verdict is computed from the measured numbers
    by a rule that is printed with it.

    Claims about networks use that of `escapade study avila` where ESCAPADE_DATA names a copy of
    avila.zip, and that of `escapade study digits` otherwise.
    """
    from escapade.reproduction.claims import CLAIMS, FOLDER, find_claim, run_claim

    folder = out or FOLDER
    if every and numbers:
        raise EscapadeError("give either numbers or --all")
    chosen = [claim.number for claim in CLAIMS] if every else list(dict.fromkeys(numbers or []))
    for number in chosen:
        find_claim(number)  # before anything is computed
    failed = False
    for number in chosen:
        try:
            with errors.status(f"claim {number}") as status:
                result = run_claim(
                    number,
                    quick=quick,
                    folder=folder,
                    key=seed,
                    again=again,
                    progress=status.update,
                )
        except EscapadeError as error:
            failed = True
            message = escape(in_one_line(error))
            errors.print(f"[red]claim {number} failed:[/red] {message}", soft_wrap=True)
            continue
        if not every:
            _explain(result)
    if every or not chosen:
        show_ledger(folder)
    if failed:
        raise typer.Exit(1)


def show_ledger(folder: Path) -> None:
    """The table of claims, from the results in a folder."""
    from escapade.reproduction.claims import CLAIMS, load_claim

    table = Table("#", "claim", "verdict", "the number that decides", show_lines=True)
    for claim in CLAIMS:
        result = load_claim(claim.number, folder)
        verdict, number = "not run yet", f"escapade claims {claim.number}"
        if result is not None:
            judgement = result.judgement
            colour = COLOURS[judgement.verdict]
            verdict = f"[{colour}]{judgement.verdict}[/{colour}]{' (quick)' * result.quick}"
            deciding = judgement.deciding
            measured = deciding.quantity
            number = f"{measured.name}: {_value(measured)}; claimed: {deciding.band.limits}"
        table.add_row(str(claim.number), escape(claim.statement), verdict, escape(number))
    console.print(table)


def _explain(result: "ClaimResult") -> None:
    claim, judgement = result.claim, result.judgement
    colour = COLOURS[judgement.verdict]
    console.print(f"[bold]Claim {claim.number}. {escape(claim.statement)}[/bold]", soft_wrap=True)
    console.print(f"[{colour}]{judgement.verdict}[/{colour}]")
    for label, text in (
        ("source", claim.source),
        ("regime", claim.regime),
        ("test", claim.test),
        ("rule", claim.rule.words),
    ):
        console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)
    table = Table("measured", "value and interval", "predicted by")
    for one in result.evidence.quantities:
        predicted = "\n".join(f"{value:.4g}  {name}" for name, value in one.expected.items())
        table.add_row(escape(one.name), escape(_value(one)), escape(predicted))
    console.print(table)
    lines = [f"assumption fails: {one}" for one in judgement.failed]
    lines += [str(one) for one in judgement.comparisons]
    lines += [f"note: {one}" for one in result.evidence.notes]
    for line in lines:
        console.print(f"- {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"measured {result.date} in {result.seconds:g} s, seed {result.key}\n{result.command}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _value(quantity: "Quantity") -> str:
    low, high = quantity.interval
    unit = f" {quantity.unit}" if quantity.unit else ""
    width = high - low
    # An interval narrower than the digits shown is not worth its place.
    if width <= 1e-4 * max(abs(low), abs(high)) or width < 1e-9:
        value = 0.0 if low <= 0 <= high else quantity.value
        return f"{value:.5g} (exact to {max(width / 2, 0.0):.0e}){unit}"
    return f"{quantity.value:.4g} ({low:.4g}, {high:.4g}){unit}"
