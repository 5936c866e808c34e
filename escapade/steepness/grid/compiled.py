"""Compilation of the grid kernels by Numba, remembered on disk where that is possible."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

njit: Any = numba.njit  # what is used of both here goes beyond their stubs
settings: Any = numba.config

SOURCES = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile to machine code; the cache is left out where no folder can be written."""
    try:
        kernel = njit(cache=True, error_model="numpy")(function)
    except RuntimeError:
        return njit(error_model="numpy")(function)
    # Numba compiles a cached function anew when its own file has changed, not when that of a
    # function it calls has. It has no public way to say on which files a kernel depends.
    if not settings.DISABLE_JIT:
        kernel._cache._cache_file._source_stamp = SOURCES
    return kernel


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that makes no arrays into each of its callers.

    Without counting references to arrays, which would take three times as long as the arithmetic.
    """
    return njit(error_model="numpy", forceinline=True, _nrt=False)(function)
