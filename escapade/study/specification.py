"""What a study is asked to do: a TOML file, a Python file, or one of the built-in studies."""

import difflib
import importlib.resources
import math
import runpy
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from escapade.dynamics import SAMPLINGS
from escapade.errors import StudyError
from escapade.landscape import AbstractLandscape

DYNAMICS = ("minibatch", *(f"minibatch_{name}" for name in SAMPLINGS[1:]), "gaussian", "continuous",
            "langevin")  # fmt: skip
REGIONS = ("slab", "half_space", "ball", "sublevel")
NOISES = ("measured", "isotropic", "hessian")
METHODS = ("simulate", "split", "auto")
FUNCTIONS = ("quadratic", "styblinski_tang")


@dataclass(frozen=True)
class LandscapeSpecification:
    """A network on a data set, an analytic function, or one of the user's that builds a landscape.

    `function` is "quadratic", with its Hessian `eigenvalues`, or "styblinski_tang" in `dim`
    dimensions; `minimum` counts the minima that the landscape lists, from 0 (of Styblinski-Tang: 0
    with all coordinates deep, 1 with all shallow).
    """

    data: str = ""
    path: str | None = None
    preprocessing: str | None = None
    examples: int = 0
    network: str = "mlp"
    widths: tuple[int, ...] = (8,)
    activation: str = "tanh"
    bias: bool = False
    weight_decay: float = 1e-3
    loss: str = "cross_entropy"
    build: Callable[[], AbstractLandscape] | None = None
    function: str = ""
    eigenvalues: tuple[float, ...] = ()
    dim: int = 0
    minimum: int = 0


@dataclass(frozen=True)
class TrainingSpecification:
    """The minibatch phase before the polish."""

    learning_rate: float = 0.1
    batch_size: int = 32
    steps: int = 4000


@dataclass(frozen=True)
class Grid:
    """A block of cells: the product of its lists.

    `stiffness` is eta times the sharpness of the unscaled minimum, an alternative to
    `learning_rate`; `barrier` chooses the region's size so that b takes that value, an
    alternative to `size`. Runs are capped at `patience` predicted mean exit times, and at
    `max_steps`.

    `noise` is for the Gaussian and the continuous dynamics: the examples' covariance unless given,
    or the Hessian where there are no examples. `noise_strength` multiplies the identity or the
    Hessian: unless given, by what keeps the trace of the examples' covariance, or by its best c in
    C = c H; by 1 where there are no examples. `lambda_max` puts another eigenvalue in the place of
    a quadratic's largest, and leaves the others.

    `method` "split" finds the mean by splitting, in `runs` independent runs of `walkers`; "auto"
    does so where the barrier is above 8 or, of a slab or half-space, the predicted mean above
    `max_steps`, unless the exit is diffusive.
    """

    dynamics: tuple[str, ...] = ("minibatch",)
    region: tuple[str, ...] = ("slab",)
    learning_rate: tuple[float, ...] = ()
    stiffness: tuple[float, ...] = ()
    batch_size: tuple[float, ...] = (64,)
    sharpness: tuple[float, ...] = (1.0,)
    size: tuple[float, ...] = ()
    barrier: tuple[float, ...] = ()
    noise: tuple[str, ...] = ()
    noise_strength: float | None = None
    lambda_max: tuple[float, ...] = ()
    method: str = "simulate"
    runs: int = 16
    walkers: int = 512
    burn_in: int | None = None
    replicas: int = 512
    patience: float = 20.0
    max_steps: int = 200_000
    quick: bool = True
    quick_replicas: int = 192


@dataclass(frozen=True)
class Specification:
    """A whole study; `instanton` is whether to find the easiest path out of one of its regions."""

    name: str
    title: str
    description: str = ""
    seed: int = 0
    instanton: bool = True
    landscape: LandscapeSpecification = field(default_factory=LandscapeSpecification)
    training: TrainingSpecification = field(default_factory=TrainingSpecification)
    grid: tuple[Grid, ...] = ()
    text: str = ""


def builtin_studies() -> dict[str, str]:
    """Name and title of each built-in study."""
    folder = importlib.resources.files("escapade.study") / "builtin"
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): tomllib.loads((folder / name).read_text())["title"]
        for name in files
    }


def load_specification(name_or_path: str) -> Specification:
    """Read a built-in study by name, or the user's TOML or Python file.

    A Python file defines ``study``, a dictionary of the same form as the TOML, in which
    ``study["landscape"]["build"]`` may be a function that returns a landscape.

    Raises:
        StudyError: when the study is unknown or malformed; the message names the entry.
    """
    path = Path(name_or_path)
    if path.suffix in (".toml", ".py"):
        if not path.is_file():
            raise StudyError(f"study file {path} does not exist")
        text = _read(path)
        content = _run_python(path) if path.suffix == ".py" else _parse(text, str(path))
        return _specification(content, text, str(path))
    known = builtin_studies()
    if name_or_path not in known:
        close = difflib.get_close_matches(name_or_path, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise StudyError(
            f"unknown study {name_or_path!r}; {hint}choose from {', '.join(known)}, or give the "
            "path of a .toml or .py file"
        )
    resource = importlib.resources.files("escapade.study") / "builtin" / f"{name_or_path}.toml"
    text = resource.read_text()
    return _specification(_parse(text, name_or_path), text, name_or_path)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"study file {path} cannot be read as UTF-8 text: {error}") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"study {where} is not valid TOML: {error}") from error


def _run_python(path: Path) -> dict[str, Any]:
    try:
        content = runpy.run_path(str(path)).get("study")
    except (Exception, SystemExit) as error:
        raise StudyError(f"study file {path} failed to run: {error!r}") from error
    if not isinstance(content, dict):
        raise StudyError(f"study file {path} must define `study`, a dictionary")
    return content


def _specification(content: dict[str, Any], text: str, where: str) -> Specification:
    content = dict(content)
    grids = content.pop("grid", [])
    if not isinstance(grids, list) or not grids:
        raise StudyError(f"study {where} has no [[grid]]; give at least one block of cells")
    landscape = _fill(LandscapeSpecification, content.pop("landscape", {}), f"{where}: [landscape]")
    training = _fill(TrainingSpecification, content.pop("training", {}), f"{where}: [training]")
    grid = tuple(
        checked_grid(
            _fill(Grid, block, f"{where}: [[grid]] {number}"), f"{where}: [[grid]] {number}"
        )
        for number, block in enumerate(grids, 1)
    )
    _check_landscape(landscape, f"{where}: [landscape]")
    _check_numbers(training, ("learning_rate", "batch_size"), f"{where}: [training]")
    content.setdefault("name", Path(where).stem)
    content.setdefault("title", f"How fast does SGD leave this minimum? ({content['name']})")
    parts = {"landscape": landscape, "training": training, "grid": grid, "text": text}
    specification = _fill(Specification, {**content, **parts}, where)
    if specification.seed < 0 or training.steps < 0:
        raise StudyError(f"{where}: seed or [training] steps is negative; give 0 or more")
    return specification


def _check_landscape(landscape: LandscapeSpecification, where: str) -> None:
    sources = (bool(landscape.data), landscape.build is not None, bool(landscape.function))
    if sum(sources) != 1:
        raise StudyError(
            f"{where} needs either `data` (a data set), `function` (an analytic landscape) or, in "
            "Python, `build` (a function)"
        )
    if not landscape.data:
        _check_unused(landscape, _OF_A_NETWORK, "without `data`", where)
    if landscape.minimum < 0:
        raise StudyError(f"{where}: minimum is {landscape.minimum}; count the minima from 0")
    if not landscape.function:
        return
    if landscape.function not in FUNCTIONS:
        raise StudyError(
            f"{where}: function {landscape.function!r} is unknown; choose from "
            f"{', '.join(FUNCTIONS)}"
        )
    entry, other = "eigenvalues", "dim"
    if landscape.function == "styblinski_tang":
        entry, other = other, entry
    _check_unused(landscape, (other,), f"of the function {landscape.function}", where)
    if not getattr(landscape, entry):
        raise StudyError(f"{where}: function {landscape.function} needs {entry}")
    _check_numbers(landscape, (entry,), where)


_OF_A_NETWORK = (
    "path", "preprocessing", "examples", "network", "widths", "activation", "bias",
    "weight_decay", "loss",
)  # fmt: skip


def _check_unused(
    landscape: LandscapeSpecification, names: tuple[str, ...], whose: str, where: str
) -> None:
    """Refuse entries that would be ignored."""
    for name in names:
        if getattr(landscape, name) != getattr(LandscapeSpecification(), name):
            raise StudyError(f"{where}: {name} says nothing {whose}; leave it out")


def _fill(kind: type, content: dict[str, Any], where: str) -> Any:
    """Build a dataclass, turning lists and single values into tuples where tuples are meant."""
    if not isinstance(content, dict):
        raise StudyError(f"{where} is {content!r}; give a table of entries")
    known = {entry.name: entry for entry in fields(kind)}
    for name in content:
        if name not in known:
            raise StudyError(f"{where}: unknown entry {name!r}; known: {', '.join(known)}")
    values = {}
    for name, value in content.items():
        wanted = known[name].type
        several = typing.get_origin(wanted) is tuple
        if several:
            value = tuple(value) if isinstance(value, (list, tuple)) else (value,)
            wanted = typing.get_args(wanted)[0]
        if not all(_is(entry, wanted) for entry in (value if several else (value,))):
            kind_wanted = getattr(wanted, "__name__", str(wanted))
            raise StudyError(f"{where}: {name} is {content[name]!r}; it must be {kind_wanted}")
        values[name] = value
    return kind(**values)


def _is(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are floats, truth values neither."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    allowed = tuple(typing.get_origin(one) or one for one in kinds)
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, (*allowed, int) if float in allowed else allowed)


def checked_grid(grid: Grid, where: str) -> Grid:
    """A block of cells whose entries are known and in range.

    Raises:
        StudyError: when one is not; the message begins with `where`.
    """
    for name in ("dynamics", "region", "batch_size", "sharpness"):
        if not getattr(grid, name):
            raise StudyError(f"{where}: {name} is empty; give at least one")
    for name, allowed in (("dynamics", DYNAMICS), ("region", REGIONS), ("noise", NOISES)):
        for value in getattr(grid, name):
            if value not in allowed:
                raise StudyError(
                    f"{where}: {name} {value!r} is unknown; choose from {', '.join(allowed)}"
                )
    for one, other in (("learning_rate", "stiffness"), ("size", "barrier")):
        if bool(getattr(grid, one)) == bool(getattr(grid, other)):
            raise StudyError(f"{where}: give either {one} or {other}")
    if grid.method not in METHODS:
        raise StudyError(f"{where}: method is {grid.method!r}; choose from {', '.join(METHODS)}")
    given = {"isotropic", "hessian"} & set(grid.noise)
    if given and not set(grid.dynamics) <= {"gaussian", "continuous"}:
        raise StudyError(
            f"{where}: noise {min(given)!r} is for the dynamics gaussian and continuous; minibatch "
            "noise is what the examples make it, and that of langevin is isotropic"
        )
    if grid.noise_strength is not None and (not given or len(given) < len(grid.noise)):
        raise StudyError(
            f"{where}: noise_strength is for isotropic and hessian noise; give noise, without "
            "measured"
        )
    lists = ("learning_rate", "stiffness", "batch_size", "sharpness", "size", "barrier",
             "lambda_max")  # fmt: skip
    counts = ("replicas", "quick_replicas", "max_steps", "patience", "runs", "walkers")
    _check_numbers(grid, (*lists, *counts), where)
    if grid.noise_strength is not None:
        _check_numbers(grid, ("noise_strength",), where)
    if grid.runs < 2 or grid.walkers < 2:
        raise StudyError(f"{where}: runs or walkers is 1; splitting needs at least 2 of each")
    if grid.burn_in is not None and grid.burn_in < 0:
        raise StudyError(f"{where}: burn_in is {grid.burn_in}; give 0 or more steps")
    return grid


def _check_numbers(record: object, names: tuple[str, ...], where: str) -> None:
    for name in names:
        value = getattr(record, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not 0 < number < math.inf:
                raise StudyError(f"{where}: {name} is {number!r}; give a positive number")
