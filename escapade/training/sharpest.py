"""The sharpest directions, followed from one point to the next with a few Hessian products."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapade.minimum.krylov.basis import Rows, project_out
from escapade.minimum.krylov.operator import Operator, Product, Vector, norm


class Sharpest(NamedTuple):
    """Ritz pairs of a Hessian.

    Attributes:
        curvatures: the largest, from the top.
        rows: unit vectors, a row each.
        residuals: ``|H u - lambda u|``: an eigenvalue lies within that distance of each.
        products: Hessian products spent.
    """

    curvatures: Float[np.ndarray, " directions"]
    rows: Rows
    residuals: Float[np.ndarray, " directions"]
    products: int


def follow_sharpest(
    product: Product,
    start: Rows,
    hint: Vector,
    *,
    tolerance: float,
    max_products: int,
    precision: str,
) -> Sharpest:
    """The largest eigenpairs of H, from approximate ones.

    Rayleigh and Ritz on a space that grows by residuals (Davidson 1975 without a preconditioner;
    from a single vector it is the Lanczos space). The first addition carries a share of `hint`,
    such as the gradient, and the runner-up is improved once, so that a direction that has become
    the sharpest is found although the vectors at hand are exact eigenvectors. Memory: twice
    `max_products` vectors.

    Args:
        product: ``v -> H v``.
        start: approximate eigenvectors, a row each; need not be orthonormal.
        hint: a vector with a share of every direction that may matter.
        tolerance: of the residuals, relative to the largest curvature.
        max_products: products that may be spent; one for each row is.
        precision: "float32" or "float64", of the vectors.

    Raises:
        Diverged: when a product is NaN or infinite.
    """
    space, count = _Space(Operator(product, start.shape[1], precision)), len(start)
    space.extend(start)
    found, missing = space.ritz(count)
    new = _unit(np.asarray(hint, missing.dtype))
    if found.residuals[0] > space.operator.rounding:
        new += _unit(missing[0])
    challenged = False
    while found.products < max_products and space.extend([new]):
        found, missing = space.ritz(count)
        new = missing[int(np.argmax(found.residuals))]
        if np.all(found.residuals <= tolerance * np.abs(found.curvatures).max()):
            if challenged or len(missing) == count:
                break
            # What the hint brought in may lead to a sharper direction still.
            new, challenged = missing[count], True
    return found


class _Space:
    """Orthonormal rows and their images under an operator."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self.rows = np.empty((0, operator.dim), operator.dtype)
        self.images = np.empty((0, operator.dim), operator.dtype)

    def extend(self, vectors: Rows | list[Vector]) -> bool:
        """Add vectors, a product each; False where all of them were in the space already."""
        size = len(self.rows)
        for vector in vectors:
            direction = _unit(np.asarray(vector, self.operator.dtype))
            project_out(self.rows, direction)
            if norm(direction) <= 100 * np.finfo(direction.dtype).eps:
                continue
            direction = _unit(direction)
            project_out(self.rows, direction)
            self.rows = np.concatenate([self.rows, direction[None]])
            self.images = np.concatenate([self.images, self.operator(direction)[None]])
        return len(self.rows) > size

    def ritz(self, count: int) -> tuple[Sharpest, Rows]:
        """The largest Ritz pairs, and what they and the next one miss, ``H u - lambda u``."""
        projected = (self.rows @ self.images.T).astype(np.float64)
        values, turns = np.linalg.eigh(0.5 * (projected + projected.T))
        curvatures = values[::-1][: count + 1]
        turn = np.ascontiguousarray(turns[:, ::-1][:, : count + 1].T, self.rows.dtype)
        vectors = turn @ self.rows
        missing = turn @ self.images - curvatures[:, None].astype(vectors.dtype) * vectors
        residuals = np.linalg.norm(missing, axis=1).astype(np.float64)
        top = slice(count)
        return Sharpest(
            curvatures[top], vectors[top], residuals[top], self.operator.products
        ), missing


def _unit(vector: Vector) -> Vector:
    """The vector at length one; zero stays zero."""
    size = norm(vector)
    return vector / size if size > 0 else vector.copy()
