"""Compilation of the grid kernels by Numba, remembered on disk where that is possible."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile to machine code; the cache is left out where no folder can be written.

    Numba compiles a cached function anew when its own file has changed, not when that of a
    function it calls has: after editing a kernel, remove ``grid/__pycache__``.
    """
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:
        return numba.njit(error_model="numpy")(function)
