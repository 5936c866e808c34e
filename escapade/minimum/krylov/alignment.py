"""Traces, sizes and alignment of the Hessian and the gradient noise, from the same probes."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.minimum.krylov.estimate import Estimate, jackknife
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector, dot
from escapade.minimum.krylov.trace import LEAST_PROBES, known_rows, probe


class AlignmentEstimate(eqx.Module):
    """How close the gradient noise covariance C is to a multiple of the Hessian H, estimated.

    The matrix-free sibling of `Alignment`; every number has its standard error.

    Attributes:
        hessian_trace: tr H.
        noise_trace: tr C.
        hessian_size: ``|H|``, Frobenius.
        noise_size: ``|C|``, Frobenius.
        inner_product: ``tr(C H)``.
        c: the best constant in C = c H, ``tr(C H) / |H|^2``; units of loss.
        cosine: ``tr(C H) / (|C| |H|)``.
        relative_residual: ``|C - c H| / |C|``, the sine.
    """

    hessian_trace: Estimate
    noise_trace: Estimate
    hessian_size: Estimate
    noise_size: Estimate
    inner_product: Estimate
    c: Estimate
    cosine: Estimate
    relative_residual: Estimate


def estimate_alignment(
    hessian_product: Product,
    noise_product: Product,
    dim: int,
    *,
    basis: Float[np.ndarray, "dim size"] | None = None,
    tolerance: float = 0.05,
    seed: int = 0,
    max_probes: int = 100,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> AlignmentEstimate:
    """Alignment of the gradient noise with the Hessian.

    With probes z of covariance 1, ``z.Hz``, ``z.Cz``, ``|Hz|^2``, ``|Cz|^2`` and ``Hz.Cz`` have the
    means tr H, tr C, |H|^2, |C|^2 and tr(C H). On the span of `basis`, best the top eigenvectors of
    both, they are computed exactly, which takes away most of the variance. Standard errors by the
    jackknife. Stops when those of tr H, tr C, c and the cosine are at most `tolerance`, relative.

    Args:
        hessian_product: ``v -> H v``.
        noise_product: ``v -> C v``.
        dim: number of parameters.
        basis: orthonormal columns.
        tolerance: of the standard errors, relative to the values.
        seed: of the probes.
        max_probes: random vectors at most; each costs one product with H and one with C.
        max_products: products with H and C together that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget ends before two probes are done.
    """
    if max_probes < 2:
        raise InvalidArgument(f"max_probes is {max_probes}; two are needed for a standard error")
    cap = None if max_products is None else max(1, max_products // 2)
    hessian = Operator(hessian_product, dim, precision, cap, deadline)
    noise = Operator(noise_product, dim, precision)
    known = known_rows(basis, hessian)
    exact = np.zeros(5)
    for vector in known:
        hessian.require("the alignment")
        exact += _products(vector, hessian(vector), noise(vector))
    rng = np.random.default_rng(seed)
    records: list[Float[np.ndarray, " figures"]] = []
    value, error, converged = _figures(exact), np.zeros(8), len(known) == dim
    while not converged and len(records) < max_probes:
        if hessian.exhausted:
            if len(records) < 2:
                hessian.require("the alignment")
            break
        vector = probe(rng, known)
        curved, noisy = hessian(vector), noise(vector)
        # tr(A B) = sum over the known u of Au.Bu + E[A z.B z], z on the complement.
        records.append(exact + _products(vector, curved, noisy))
        if len(records) >= LEAST_PROBES:
            value, error = jackknife(np.array(records), _figures)
            decisive = [0, 1, 5, 6]
            converged = bool(np.all(error[decisive] <= tolerance * np.abs(value[decisive])))
    if records:
        value, error = jackknife(np.array(records), _figures)
    spent = hessian.products + noise.products
    return AlignmentEstimate(
        *(
            Estimate(float(v), float(e), len(records), spent, converged)
            for v, e in zip(value, error, strict=True)
        )
    )


def _products(vector: Vector, curved: Vector, noisy: Vector) -> Float[np.ndarray, " figures"]:
    pairs = [(vector, curved), (vector, noisy), (curved, curved), (noisy, noisy), (curved, noisy)]
    return np.array([dot(one, other) for one, other in pairs])


def _figures(means: Float[np.ndarray, "... figures"]) -> Float[np.ndarray, "... numbers"]:
    curvature, noise, curved, noisy, inner = np.moveaxis(means, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size, noise_size = np.sqrt(curved), np.sqrt(noisy)
        cosine = inner / (size * noise_size)
        c = inner / curved
    sine = np.sqrt(np.clip(1 - cosine**2, 0, None))
    return np.stack([curvature, noise, size, noise_size, inner, c, cosine, sine], axis=-1)
