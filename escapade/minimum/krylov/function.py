"""Functions of a symmetric operator, applied to one vector."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.minimum.krylov.lanczos import KrylovSpace
from escapade.minimum.krylov.operator import Operator, Product, Vector, norm


class MatrixFunctions(eqx.Module):
    """``f(A) z`` for one vector z and any f, from one Krylov space.

    Exact for polynomials of degree below the depth, and for any f once the space is invariant.

    Attributes:
        length: of z; zero for the zero vector, which any f leaves.
        axes: orthonormal directions, one column for each node: Ritz vectors.
        nodes: Ritz values of A.
        components: of z along the axes.
    """

    length: float
    axes: Float[np.ndarray, "dim depth"]
    nodes: Float[np.ndarray, " depth"]
    components: Float[np.ndarray, " depth"]

    def apply(
        self, function: Callable[[Float[np.ndarray, " depth"]], Float[np.ndarray, " depth"]]
    ) -> Vector:
        """``f(A) z``, in double precision."""
        if self.length == 0:
            return np.zeros(len(self.axes))
        return np.asarray(
            self.axes @ (function(self.nodes) * self.components).astype(self.axes.dtype), np.float64
        )


def matrix_functions(
    product: Product, start: Vector, depth: int, *, precision: str = "float64"
) -> MatrixFunctions:
    """The Krylov space of a vector; at most `depth` products and twice as many vectors kept.

    Raises:
        Diverged: when a product is NaN or infinite.
    """
    vector = np.asarray(start, np.dtype(precision))
    length = norm(vector)
    if length == 0:
        return MatrixFunctions(0.0, vector[:, None], np.zeros(1), np.zeros(1))
    space = KrylovSpace(Operator(product, vector.size, precision), vector, depth)
    while not space.finished:
        space.extend()
    nodes, rotation = np.linalg.eigh(space.projected)
    axes = space.rows.T @ rotation.astype(vector.dtype)
    return MatrixFunctions(length, axes, nodes, length * rotation[0])
