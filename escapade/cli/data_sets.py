"""The command data: list, load and check data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from escapade.cli.terminal import app, console


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
        console.print(table)
        return
    options = {} if path is None else {"path": str(path)}
    dataset = data.load(name, **options)
    console.print(dataset)
    console.print(dataset.source, markup=False, soft_wrap=True)
