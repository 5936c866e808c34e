"""How far a point is from its minimum: the Newton step by conjugate gradients."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import InvalidArgument
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector, dot, norm


class NewtonStep(eqx.Module):
    """Solution of ``(H + damping) x = -g``, as far as the curvature met allowed.

    Attributes:
        step: x.
        decrement: ``g^T (H + damping)^-1 g``, from below: it grows with every product. Twice the
            loss to be gained, where the loss is quadratic.
        residual: ``|(H + damping) x + g| / |g|``, computed anew from the step.
        lowest_curvature: smallest Ritz value of ``H + damping`` met, an upper bound of its lowest
            eigenvalue.
        direction: unit vector along which the curvature is not above the floor, where one was met:
            at a saddle, a way down.
        flat: curvature at or below the floor was met and ended the iteration.
        products: products spent.
        converged: whether the residual is as small as was asked for.
    """

    step: Float[np.ndarray, " dim"]
    decrement: float
    residual: float
    lowest_curvature: float
    direction: Float[np.ndarray, " dim"] | None
    flat: bool
    products: int
    converged: bool


def newton_step(
    product: Product,
    gradient: Vector,
    *,
    tolerance: float = 1e-6,
    damping: float = 0.0,
    curvature_floor: float = 0.0,
    max_products: int | None = 500,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> NewtonStep:
    """The Newton step, its decrement, and whether the point is near a minimum at all.

    Conjugate gradients (Hestenes and Stiefel 1952), stopped where the curvature along a search
    direction is not above a floor, as in truncated Newton methods (Steihaug 1983): the step up to
    there is returned. The start needs no seed. Memory: six vectors.

    Args:
        product: ``v -> H v``.
        gradient: g.
        tolerance: of the residual, relative to ``|g|``.
        damping: added to every eigenvalue.
        curvature_floor: curvature of ``H + damping`` taken for none, in units of H.
        max_products: products that may be spent, the one for the final residual included; None for
            no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget ends before the first product.
    """
    g = np.array(gradient, np.dtype(precision))
    if g.ndim != 1 or not np.all(np.isfinite(g)):
        raise InvalidArgument(f"gradient has shape {g.shape}; give one finite vector")
    if not tolerance > 0 or damping < 0:
        raise InvalidArgument(
            f"tolerance is {tolerance} and damping {damping}; give a positive and a non-negative "
            "number"
        )
    spare = None if max_products is None else max(1, max_products - 1)
    operator = Operator(product, g.size, precision, spare, deadline)
    step = np.zeros_like(g)
    size = norm(g)
    if size == 0:
        return NewtonStep(step, 0.0, 0.0, np.inf, None, False, 0, True)
    operator.require("the Newton step")
    residual, search = -g, -g
    squared, decrement = size**2, 0.0
    lengths: list[float] = []
    turns: list[float] = []
    lowest, direction = np.inf, None
    while np.sqrt(squared) > tolerance * size and not operator.exhausted:
        image = operator(search)
        image += damping * search
        energy = dot(search, image)
        curvature = energy / dot(search, search)
        # Rounding of the product itself is no curvature.
        if curvature <= max(curvature_floor, operator.rounding / 10):
            direction, lowest = search / norm(search), min(lowest, curvature)
            break
        length = squared / energy
        step += length * search
        residual -= length * image
        decrement += length * squared
        before, squared = squared, norm(residual) ** 2
        lengths.append(length)
        turns.append(squared / before)
        search = residual + turns[-1] * search
    lowest = min(lowest, _lowest_ritz(lengths, turns))
    off = operator(step) + damping * step + g
    relative = norm(off) / size
    return NewtonStep(
        step=step,
        decrement=decrement,
        residual=relative,
        lowest_curvature=lowest,
        direction=direction,
        flat=direction is not None,
        products=operator.products,
        converged=relative <= max(2 * tolerance, 100 * float(np.finfo(g.dtype).eps)),
    )


def _lowest_ritz(lengths: list[float], turns: list[float]) -> float:
    """Smallest eigenvalue of the Lanczos matrix that conjugate gradients build on the way."""
    if not lengths:
        return np.inf
    alpha, beta = np.array(lengths), np.array(turns[:-1])
    diagonal = 1 / alpha
    diagonal[1:] += beta / alpha[:-1]
    off = np.sqrt(beta) / alpha[:-1]
    return float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))[0])
