"""The trace of an operator from random vectors."""

import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.minimum.krylov.basis import Rows, orthonormal, project_out
from escapade.minimum.krylov.eigenpairs import Eigenpairs
from escapade.minimum.krylov.estimate import Estimate, mean
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector, dot

# Fewer probes do not give a standard error that a stopping rule can rest on.
LEAST_PROBES = 16


def trace(
    product: Product,
    dim: int,
    *,
    tolerance: float = 0.02,
    eigenpairs: Eigenpairs | None = None,
    sketch: int = 0,
    seed: int = 0,
    max_probes: int = 100,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> Estimate:
    """The trace of a symmetric operator, without bias, and its standard error.

    Exact on a subspace, random on its complement, as in Hutch++ (Meyer, Musco, Musco and Woodruff
    2021). The subspace is that of known eigenpairs (no product is spent on it, and inexact ones do
    no harm: their Rayleigh quotients are what is needed) and of a random sketch (two products per
    vector); without either this is Hutchinson's estimator. Stops at the first probe after which the
    standard error is at most ``tolerance * |value|``. Memory: the subspace and a few vectors.

    Args:
        product: ``v -> A v``.
        dim: rows of A.
        tolerance: of the standard error, relative to the value.
        eigenpairs: eigenvalues known already, of either end.
        sketch: random vectors whose images span the rest of the subspace.
        seed: of the probes.
        max_probes: random vectors at most.
        max_products: products that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget ends before two probes are done.
    """
    if max_probes < 2:
        raise InvalidArgument(f"max_probes is {max_probes}; two are needed for a standard error")
    if not tolerance > 0:
        raise InvalidArgument(f"tolerance is {tolerance}; give a positive number")
    operator = Operator(product, dim, precision, max_products, deadline)
    rng = np.random.default_rng(seed)
    known = known_rows(None if eigenpairs is None else eigenpairs.vectors, operator)
    exact = 0.0 if eigenpairs is None else float(eigenpairs.values.sum())
    if sketch:
        images = np.empty((min(sketch, dim), dim), operator.dtype)
        for row in images:
            operator.require("the trace")
            row[:] = operator(probe(rng, known))
        found = orthonormal(np.concatenate([known, images]).T)[len(known) :]
        for row in found:
            operator.require("the trace")
            exact += dot(row, operator(row))
        known = np.concatenate([known, found])
    if len(known) == dim:
        return Estimate(exact, 0.0, 0, operator.products, True)
    samples: list[float] = []
    converged = False
    while len(samples) < max_probes and not converged:
        if operator.exhausted:
            if len(samples) < 2:
                operator.require("the trace")
            break
        vector = probe(rng, known)
        samples.append(exact + dot(vector, operator(vector)))
        if len(samples) >= LEAST_PROBES:
            error = np.std(samples, ddof=1) / np.sqrt(len(samples))
            converged = bool(error <= tolerance * abs(np.mean(samples)))
    result = mean(np.array(samples), operator.products)
    return Estimate(result.value, result.standard_error, result.probes, result.products, converged)


def probe(rng: np.random.Generator, known: Rows) -> Vector:
    """Random signs, with what is known taken out."""
    vector = rng.integers(0, 2, known.shape[1], dtype=np.int8).astype(known.dtype)
    vector *= 2
    vector -= 1
    project_out(known, vector)
    return vector


def known_rows(columns: Float[np.ndarray, "dim size"] | None, operator: Operator) -> Rows:
    """Orthonormal columns as rows in the operator's precision; none when there are none.

    Raises:
        InvalidArgument: when they do not fit or are not orthonormal.
    """
    if columns is None:
        return np.empty((0, operator.dim), operator.dtype)
    rows = np.ascontiguousarray(columns.T, operator.dtype)
    if rows.ndim != 2 or rows.shape[1] != operator.dim or len(rows) > operator.dim:
        raise InvalidArgument(
            f"the known vectors have shape {columns.shape}; give orthonormal columns of "
            f"{operator.dim} numbers"
        )
    off = np.abs(rows @ rows.T - np.eye(len(rows))).max(initial=0.0)
    if off > 1e-3:
        raise InvalidArgument(
            f"the known vectors are not orthonormal (by {off:.1g}); orthonormalise them first "
            "(krylov.orthonormal_basis)"
        )
    return rows
