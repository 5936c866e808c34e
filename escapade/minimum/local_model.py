"""What exits see of a large network around a point: a few sharp and noisy directions, and the rest.

The Hessian H and the noise covariance C are kept in a small basis, in which H is diagonal; of all
other directions only how much noise there is at which curvature. Both come from products.
"""

from collections.abc import Callable
from functools import cached_property

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.landscape import AbstractExpansion
from escapade.minimum.krylov import (
    Deadline,
    SpectralDensity,
    noise_weighted_density,
    orthonormal_basis,
)

Vector = Float[np.ndarray, " dim"]


class LocalModel(eqx.Module):
    """Hessian and noise at a point, in a basis that diagonalises the Hessian within its span.

    Attributes:
        basis: orthonormal columns, sharpest direction first.
        curvatures: ``u^T H u`` of each (Ritz values).
        residuals: ``|H u - curvature u|``; a true eigenvalue lies within each.
        slopes: centred slope of every example's loss along each column.
        rest: the noise in all other directions, by curvature; None where there are none.
        dim: number of parameters.
    """

    basis: Float[np.ndarray, "dim basis"]
    curvatures: Float[np.ndarray, " basis"]
    residuals: Float[np.ndarray, " basis"]
    slopes: Float[np.ndarray, "examples basis"]
    rest: SpectralDensity | None
    dim: int

    @cached_property
    def covariance(self) -> Float[np.ndarray, "basis basis"]:
        """Noise covariance C in the basis."""
        return self.slopes.T @ self.slopes / len(self.slopes)

    def noise_integral(
        self, function: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]
    ) -> tuple[float, float]:
        """``tr(C f(H))`` over all directions, with the standard error of the rest."""
        within = float(np.diag(self.covariance) @ function(self.curvatures))
        outside, error = self.rest_integral(function)
        return within + outside, error

    def rest_integral(
        self, function: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]
    ) -> tuple[float, float]:
        """``tr(C f(H))`` outside the basis, with its standard error."""
        if self.rest is None:
            return 0.0, 0.0
        found = self.rest.integral(function)
        return float(found.value), float(found.standard_error)

    @property
    def curvatures_met(self) -> Float[np.ndarray, " values"]:
        """Curvatures along which there is noise."""
        if self.rest is None:
            return self.curvatures
        return np.append(self.curvatures, self.rest.nodes[self.rest.weights > 0])


def local_model(
    expansion: AbstractExpansion,
    directions: Float[np.ndarray, "dim directions"],
    *,
    probes: int = 4,
    depth: int = 24,
    seed: int = 0,
    deadline: Deadline | None = None,
) -> LocalModel:
    """Measure the local model in the span of some directions.

    Costs a Hessian product per direction and ``probes * depth`` for the rest.

    Args:
        expansion: the loss around the point.
        directions: columns, for example eigenvectors of H and of C; need not be orthogonal.
        probes: random vectors for the rest.
        depth: Hessian products from each.
        seed: of those vectors.
        deadline: returns True when time is up; what is left of the rest is then not measured.

    Raises:
        NotConverged: when the time is up before the first probe is done.
    """
    span = orthonormal_basis(np.asarray(directions, expansion.theta.dtype))
    products = np.empty_like(span)
    for number, column in enumerate(span.T):
        products[:, number] = expansion.hessian_product(column)
    projected = (span.T @ products).astype(np.float64)
    curvatures, rotation = np.linalg.eigh(0.5 * (projected + projected.T))
    # In the precision of the vectors: double would need as much memory again.
    rotation = rotation[:, ::-1].astype(span.dtype)
    basis, products = span @ rotation, products @ rotation
    curvatures = curvatures[::-1].copy()
    # The sign of an eigenvector means nothing; one and the same is shown each time. A random vector
    # decides, since symmetries of networks make the largest components come in pairs.
    generic = np.random.default_rng(0).standard_normal(expansion.dim).astype(span.dtype)
    signs = np.where(generic @ basis < 0, -1, 1).astype(span.dtype)
    basis *= signs
    products *= signs
    residuals = np.array(
        [
            np.linalg.norm(product - value * column)
            for product, value, column in zip(products.T, curvatures, basis.T, strict=True)
        ]
    )
    del products
    slopes = np.stack(
        [expansion.example_slopes(np.ascontiguousarray(column, expansion.theta.dtype))
         for column in basis.T], axis=1,
    ).astype(np.float64)  # fmt: skip
    slopes -= slopes.mean(axis=0)
    rest = None
    if span.shape[1] < expansion.dim:
        rest = _rest(expansion, span, probes, depth, seed, deadline)
    return LocalModel(basis, curvatures, residuals, slopes, rest, expansion.dim)


def noise_sample(expansion: AbstractExpansion, generator: np.random.Generator) -> Vector:
    """A random vector of the covariance C of one example's gradient."""
    weights = generator.standard_normal(expansion.examples)
    weights = (weights - weights.mean()) / np.sqrt(expansion.examples)
    return expansion.pull(weights.astype(expansion.theta.dtype))


def _rest(
    expansion: AbstractExpansion,
    span: Float[np.ndarray, "dim directions"],
    probes: int,
    depth: int,
    seed: int,
    deadline: Deadline | None,
) -> SpectralDensity:
    def outside(vector: Vector) -> Vector:
        return vector - span @ (span.T @ vector)

    return noise_weighted_density(
        lambda vector: outside(expansion.hessian_product(vector)),
        lambda generator: outside(noise_sample(expansion, generator)),
        expansion.dim,
        probes=probes,
        depth=depth,
        seed=seed,
        deadline=deadline,
        precision=expansion.precision,
    )
