"""The Krylov space of one vector: what an operator looks like from there."""

import numpy as np
from jaxtyping import Float

from escapade.minimum.krylov.basis import Rows, project_out
from escapade.minimum.krylov.operator import Operator, Vector, norm


class KrylovSpace:
    """Orthonormal basis of span(v, A v, A^2 v, ...), one product longer at every `extend`.

    ``A V^T = V^T T + beta next e_last^T`` with rows V and the tridiagonal T; full
    orthogonalisation, also against `known` rows (then A is restricted to their complement).
    Memory: `depth + 2` vectors, touched as they are needed.

    Attributes:
        diagonal: of T.
        off_diagonal: of T, and last the norm of what leaves the space (beta); zero once the space
            is invariant.
    """

    def __init__(self, operator: Operator, start: Vector, depth: int, known: Rows | None = None):
        """From a non-zero start."""
        self.operator = operator
        self.known = np.empty((0, operator.dim), operator.dtype) if known is None else known
        self._rows = np.empty(
            (min(depth, operator.dim - len(self.known)), operator.dim), start.dtype
        )
        self._next = start / norm(start)
        self.diagonal: list[float] = []
        self.off_diagonal: list[float] = []

    @property
    def rows(self) -> Rows:
        """The basis."""
        return self._rows[: len(self.diagonal)]

    @property
    def finished(self) -> bool:
        """Whether the space is invariant or as large as allowed."""
        return len(self.diagonal) == len(self._rows) or self.off_diagonal[-1:] == [0.0]

    @property
    def leaving(self) -> float:
        """Norm of the part of ``A v_last`` outside the space."""
        return self.off_diagonal[-1] if self.off_diagonal else 0.0

    @property
    def projected(self) -> Float[np.ndarray, "size size"]:
        """T."""
        off = self.off_diagonal[:-1]
        return np.diag(self.diagonal) + np.diag(off, 1) + np.diag(off, -1)

    def extend(self) -> None:
        """One product more."""
        size = len(self.diagonal)
        self._rows[size] = self._next
        image = self.operator(self._rows[size])
        project_out(self.known, image)
        components = project_out(self._rows[: size + 1], image)
        self.diagonal.append(float(components[size]))
        length = norm(image)
        invariant = length <= self.operator.rounding
        self.off_diagonal.append(0.0 if invariant else length)
        if not invariant:
            self._next = image / length


def gauss_quadrature(
    diagonal: Float[np.ndarray, " depth"], off_diagonal: Float[np.ndarray, " depth-1"]
) -> tuple[Float[np.ndarray, " depth"], Float[np.ndarray, " depth"]]:
    """Nodes and weights (summing to 1) of Gauss's rule for the spectral measure of the start.

    Golub and Welsch 1969; exact for polynomials of degree below ``2 depth``.
    """
    matrix = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes, vectors[0] ** 2
