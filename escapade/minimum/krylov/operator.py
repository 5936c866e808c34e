"""A symmetric matrix known by its products with vectors, and how many of them may be spent."""

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from escapade.errors import Diverged, InvalidArgument, NotConverged

Vector = Float[np.ndarray, " dim"]
Product = Callable[[Vector], Vector]
"""``v -> A v`` for a symmetric A of dim x dim."""

Deadline = Callable[[], bool]
"""True when time is up: asked before every product."""

# Numbers converted to double precision at a time.
_CHUNK = 65536


def seconds_from_now(seconds: float) -> Deadline:
    """A deadline on the clock; one can be shared by several calls."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


class Operator:
    """Counts the products of one calculation, checks each, and knows when to stop.

    Attributes:
        dim: rows of the matrix.
        dtype: of every vector.
        products: how many were computed.
        largest: largest ``|A v| / |v|`` met, a lower bound of the norm of A.
    """

    def __init__(
        self,
        product: Product,
        dim: int,
        precision: str = "float64",
        max_products: int | None = None,
        deadline: Deadline | None = None,
    ):
        """From a product.

        Raises:
            InvalidArgument: when dim, precision or max_products is not usable.
        """
        if dim < 1 or dim != int(dim):
            raise InvalidArgument(f"dim is {dim}; give the number of parameters, 1 or more")
        if precision not in ("float32", "float64"):
            raise InvalidArgument(f"precision is {precision!r}; give 'float32' or 'float64'")
        if max_products is not None and max_products < 1:
            raise InvalidArgument(f"max_products is {max_products}; give 1 or more")
        self.dim, self.dtype = int(dim), np.dtype(precision)
        self.products, self.largest = 0, 0.0
        self._product, self._max_products, self._deadline = product, max_products, deadline

    @property
    def exhausted(self) -> bool:
        """Whether the products or the time have been spent."""
        return (self._max_products is not None and self.products >= self._max_products) or (
            self._deadline is not None and self._deadline()
        )

    @property
    def rounding(self) -> float:
        """Size of the rounding errors to be expected in a product with a unit vector."""
        return 10 * float(np.finfo(self.dtype).eps) * self.largest

    def __call__(self, vector: Vector) -> Vector:
        """The product, as a new array that the caller may overwrite.

        Raises:
            InvalidArgument: when it has another shape than the vector.
            Diverged: when it is NaN or infinite.
        """
        self.products += 1
        result = np.array(self._product(vector), dtype=self.dtype)
        if result.shape != (self.dim,):
            raise InvalidArgument(
                f"product returned shape {result.shape} for a vector of {self.dim} numbers; it "
                "must return one array of the same shape"
            )
        size = norm(result)
        if not np.isfinite(size):
            raise Diverged(
                f"product {self.products} is NaN or infinite; the loss may have no second "
                "derivative there (a norm at zero, a logarithm of zero) or overflow: try float64, "
                "or another point"
            )
        self.largest = max(self.largest, size / max(norm(vector), np.finfo(self.dtype).tiny))
        return result

    def require(self, work: str) -> None:
        """Go on only while there are products and time left.

        Raises:
            NotConverged: when there are none and `work` has no figure yet to report.
        """
        if self.exhausted:
            raise NotConverged(
                f"{work} ran out of its budget after {self.products} products, before its first "
                "figure; allow more products (max_products) or time (deadline)"
            )


def dot(one: Vector, other: Vector) -> float:
    """Scalar product, summed in double precision: ten million terms are too many for float32."""
    if one.dtype == np.float64 and other.dtype == np.float64:
        return float(np.dot(one, other))
    parts = (slice(start, start + _CHUNK) for start in range(0, one.size, _CHUNK))
    return sum(
        float(np.dot(one[part].astype(np.float64), other[part].astype(np.float64)))
        for part in parts
    )


def norm(vector: Vector) -> float:
    """Euclidean norm, summed in double precision."""
    return float(np.sqrt(dot(vector, vector)))
