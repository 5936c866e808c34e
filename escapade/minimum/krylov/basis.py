"""Orthonormal vectors: rows of a C-contiguous array, so that one more is one more row."""

import numpy as np
from jaxtyping import Float

from escapade.minimum.krylov.operator import Vector, norm

Rows = Float[np.ndarray, "size dim"]

# Columns rotated at a time: a rotation in place needs that much memory beside the rows.
_CHUNK = 65536


def project_out(rows: Rows, vector: Vector) -> Float[np.ndarray, " size"]:
    """Remove from a vector, in place, its components along orthonormal rows; return them.

    Classical Gram-Schmidt twice: orthogonal to working precision (Giraud, Langou, Rozloznik, van
    den Eshof, "Rounding error analysis of the classical Gram-Schmidt orthogonalization process",
    2005) at the price of four matrix-vector products.
    """
    total = np.zeros(len(rows))
    for _ in range(2 if len(rows) else 0):
        components = rows @ vector
        vector -= components @ rows
        total += components
    return total


def rotate(rows: Rows, rotation: Float[np.ndarray, "size kept"]) -> None:
    """Replace the first `kept` rows by ``rotation^T rows``, in place."""
    kept = rotation.shape[1]
    turn = np.ascontiguousarray(rotation.T, dtype=rows.dtype)
    for start in range(0, rows.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        rows[:kept, part] = turn @ rows[:, part]


def random_unit(rng: np.random.Generator, rows: Rows) -> Vector:
    """A random unit vector orthogonal to orthonormal rows."""
    while True:
        vector = rng.standard_normal(rows.shape[1], dtype=rows.dtype)
        before = norm(vector)
        project_out(rows, vector)
        after = norm(vector)
        if after > 1e-3 * before / np.sqrt(rows.shape[1]):
            vector /= after
            project_out(rows, vector)
            return vector / norm(vector)


def orthonormal(columns: Float[np.ndarray, "dim size"], tolerance: float = 1e-6) -> Rows:
    """Orthonormal rows that span the columns.

    A column within `tolerance` (relative) of the span of those before it is left out.
    """
    dim = columns.shape[0]
    rows = np.empty((min(columns.shape), dim), columns.dtype)
    size = 0
    for column in columns.T:
        if size == len(rows):
            break
        vector = column.copy()
        before = norm(vector)
        project_out(rows[:size], vector)
        after = norm(vector)
        if after <= tolerance * before:
            continue
        vector /= after
        project_out(rows[:size], vector)
        rows[size] = vector / norm(vector)
        size += 1
    return rows[:size]
