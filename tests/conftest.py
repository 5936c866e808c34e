"""Shared fixtures. Tests are skipped without the reference values or real data they need."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("ESCAPADE_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], dict[str, Any]]:
    """Look up one reference case by its identifier, for example ``oracle("Q03")["value"]``."""
    path = SHARED / "oracles.json"
    if not path.is_file():
        pytest.skip(f"reference values not found at {path}; set ESCAPADE_SHARED to their folder")
    cases = {case["id"]: case for case in json.loads(path.read_text())["cases"]}
    return cases.__getitem__


@pytest.fixture(scope="session")
def avila_archive() -> Path:
    """Path of a local ``avila.zip``."""
    path = SHARED / "data" / "avila" / "avila.zip"
    if not path.is_file():
        pytest.skip(
            f"avila.zip not found at {path}; set ESCAPADE_SHARED to the folder holding data/"
        )
    return path
