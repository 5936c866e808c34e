"""The command inspect: a network at a point."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from escapade.cli.terminal import app, command_line, console, errors
from escapade.errors import EscapadeError


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
    with errors.status("loading the network and its data") as status:
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
            page = write_inspection(found, folder, command=command_line())
    if as_json:
        sys.stdout.write(f"{found.to_json()}\n")
        return
    for said in (str(found), f"page: {page}"):
        console.print(said, highlight=False, markup=False, soft_wrap=True)


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
