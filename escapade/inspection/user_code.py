"""Running the user's own Python: what it raises is told in a line, with its place."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from escapade.errors import EscapadeError, InvalidArgument

_HERE = str(Path(__file__).parents[1])
_EXTRAS = ("torch", "flax", "optax")


def function_named(reference: str, folder: Path, where: str) -> Callable[..., Any]:
    """The function of ``package.module:function`` or ``file.py:function``.

    Raises:
        InvalidArgument: when there is none; `where` begins the message.
    """
    module_name, _, name = reference.rpartition(":")
    if not module_name or not name:
        raise InvalidArgument(f'{where}: write "package.module:function" or "file.py:function"')
    if module_name.endswith(".py"):
        file = folder / module_name
        if not file.is_file():
            raise InvalidArgument(f"{where}: there is no file {file}; paths begin at {folder}")
        module = run_file(file)
    else:
        module = _loaded(lambda: importlib.import_module(module_name), where)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        known = [entry for entry, value in vars(module).items() if _is_own(entry, value, module)]
        raise InvalidArgument(
            f"{where}: {module_name} has no function {name}; it has {', '.join(known) or 'none'}"
        )
    return function


def _is_own(name: str, value: Any, module: ModuleType) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return callable(value) and own and not name.startswith("_")


def run_file(path: Path) -> ModuleType:
    """Run a Python file, as a module of its own, beside its neighbours.

    Raises:
        InvalidArgument: when it fails.
    """
    # Under a name that hides no package, and known, as dataclasses and pickles expect.
    name = f"inspected_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    loader = specification.loader
    assert loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    with importing_from(path.parent):
        _loaded(lambda: loader.exec_module(module), str(path))
    return module


def call(function: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> Any:
    """What a function of the user's returns.

    Raises:
        InvalidArgument: when it fails; `where` begins the message.
    """
    return _loaded(lambda: function(**arguments), where)


def _loaded(run: Callable[[], Any], where: str) -> Any:
    """Run the user's code; what it raises is told in a line, with the place."""
    try:
        return run()
    except EscapadeError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = f"escapade[{package}]" if package in _EXTRAS else package
        raise InvalidArgument(
            f"{where} needs {error.name}, which is not found; pip install '{extra}', or put its "
            "folder on PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:
        raise InvalidArgument(
            f"{where} failed at {_place(error)}: {type(error).__name__}: {error}; run it alone to "
            "see the whole traceback"
        ) from error


def _place(error: BaseException) -> str:
    """The last line of the user's own code on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def _is_installed(file: str) -> bool:
    return "site-packages" in file or file.startswith((_HERE, "<", sys.base_prefix))


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Let the user's code import its neighbours, as if it were run from its folder."""
    added = [str(folder.resolve()), os.getcwd()]
    sys.path[:0] = added
    try:
        yield
    finally:
        for entry in added:
            sys.path.remove(entry)
