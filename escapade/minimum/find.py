"""Finding a minimum, and making sure that it is one."""

import warnings
from collections.abc import Callable

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from escapade.errors import Diverged, InvalidArgument, NotAMinimum
from escapade.landscape import AbstractLandscape, AbstractLoss
from escapade.landscape._base import as_points
from escapade.landscape.descent import jacobian, require_dense, roll
from escapade.precision import in_float64

FLAT = 1e-9
"""Eigenvalues below this fraction of the sharpness count as flat directions."""


class Minimum(eqx.Module):
    """A polished minimum (or attractor of a drift), with the evidence that it is one.

    Attributes:
        theta: the parameters.
        loss: loss there; NaN for a drift.
        gradient_norm: Euclidean norm of the gradient, at rounding level.
        jacobian: derivative of the gradient field (the Hessian, for a loss).
        flat_directions: number of eigenvalues below 1e-9 of the largest.
    """

    theta: Float[np.ndarray, " dim"]
    loss: float
    gradient_norm: float
    jacobian: Float[np.ndarray, "dim dim"]
    flat_directions: int

    def __str__(self) -> str:
        flat = f", {self.flat_directions} flat directions" if self.flat_directions else ""
        return (
            f"minimum in dimension {self.theta.size}: loss {self.loss:.6g}, gradient norm "
            f"{self.gradient_norm:.1e}{flat}"
        )


def find_minimum(
    landscape: AbstractLandscape,
    near: ArrayLike | None = None,
    *,
    max_iterations: int = 20_000,
) -> Minimum:
    """Descend and polish until the point IS a minimum.

    Full-batch quasi-Newton descent (L-BFGS; the noiseless flow, for a drift), then Newton steps
    until rounding stops them (after a trust-region Newton method where they do not settle at
    once); all in float64, with a dense Hessian (up to a few thousand parameters).

    Args:
        landscape: a loss or a drift.
        near: starting point, shape (dim,); the landscape's initial parameters, or its first known
            minimum, unless given.
        max_iterations: cap on quasi-Newton iterations.

    Raises:
        InvalidArgument: when there are too many parameters for a dense Hessian.
        NotAMinimum: when the descent ends at a saddle, or where the gradient does not vanish.
        Diverged: when the loss or gradient becomes NaN or infinite.
    """
    require_dense(landscape.dim)
    point = _starting_point(landscape, near)
    if isinstance(landscape, AbstractLoss):
        point = _descend(landscape, point, max_iterations)
    else:
        point = _follow(landscape, point)
    try:
        point, matrix, norm = _polish(landscape, point)
    except NotAMinimum:
        if not isinstance(landscape, AbstractLoss):
            raise
        point, matrix, norm = _polish(landscape, _trust_region(landscape, point))
    eigenvalues = np.linalg.eigvals(matrix).real
    sharpness = eigenvalues.max()
    if not eigenvalues.min() > -FLAT * max(sharpness, 0.0) or sharpness <= 0:
        raise NotAMinimum(
            f"the descent ended at a saddle: Hessian eigenvalues from {eigenvalues.min():.3g} to "
            f"{sharpness:.3g}; start elsewhere (near=...)"
        )
    loss = float(landscape.loss(point)) if isinstance(landscape, AbstractLoss) else float("nan")
    flat = int((eigenvalues < FLAT * sharpness).sum())
    return Minimum(point, loss, norm, matrix, flat)


def _starting_point(
    landscape: AbstractLandscape, near: ArrayLike | None
) -> Float[np.ndarray, " dim"]:
    if near is None:
        known = landscape.minima
        initial = getattr(landscape, "initial", known[0] if len(known) else None)
        if initial is None:
            raise InvalidArgument("near is not given and the landscape knows no starting point")
        near = known[0] if len(known) else initial
    return as_points(near, landscape.dim, "near")[0]


def _descend(
    landscape: AbstractLoss, point: Float[np.ndarray, " dim"], max_iterations: int
) -> Float[np.ndarray, " dim"]:
    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 0, "gtol": 1e-8}
    return scipy.optimize.minimize(
        _checked_loss(landscape),
        point,
        jac=True,
        method="L-BFGS-B",
        options={**options, "maxcor": 30},
    ).x


def _follow(
    landscape: AbstractLandscape, point: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    """Where the flow from a point leads: it need only be close enough for Newton steps."""
    for _ in range(10):
        sharpness = np.linalg.norm(jacobian(landscape, point))
        if not 0 < sharpness < np.inf:
            break
        point = in_float64(_flow, landscape, np.float64(0.25 / sharpness), point)
    if not np.isfinite(point).all():
        raise Diverged("the flow of the drift runs to infinity from near; start elsewhere")
    return point


def _flow(
    landscape: AbstractLandscape, step: Float[Array, ""], point: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    return roll(landscape, point, step, 200)


def _trust_region(
    landscape: AbstractLoss, point: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    """Slower than Newton steps, but leaves saddles and survives nearly flat directions."""
    scale = np.linalg.norm(jacobian(landscape, point), 2)
    return scipy.optimize.minimize(
        _checked_loss(landscape),
        point,
        jac=True,
        hess=lambda theta: jacobian(landscape, theta),
        method="trust-exact",
        options={"gtol": 1e-10 * scale, "maxiter": 200},
    ).x


def _checked_loss(
    landscape: AbstractLoss,
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    def loss_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = float(landscape.loss(theta)), np.asarray(landscape.gradient(theta))
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            raise Diverged(f"the loss is {loss} during descent; start elsewhere or check the data")
        return loss, gradient

    return loss_and_gradient


def _polish(
    landscape: AbstractLandscape, point: Float[np.ndarray, " dim"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, "dim dim"], float]:
    """Newton steps while they help; returns the point, its Jacobian and the gradient norm.

    A Jacobian serves several steps while they shrink the gradient tenfold: it is what costs.

    Raises:
        NotAMinimum: when the gradient does not vanish, or the Jacobian is not positive.
    """
    gradient = np.asarray(landscape.gradient(point))
    for _ in range(20):
        matrix = jacobian(landscape, point)
        before = np.linalg.norm(gradient)
        solve = _solver(matrix)
        while np.linalg.norm(gradient) > 0:
            candidate = point - solve(gradient)
            new = np.asarray(landscape.gradient(candidate))
            shrunk = np.linalg.norm(new) / np.linalg.norm(gradient)
            if not shrunk < 1:
                break
            point, gradient = candidate, new
            if shrunk > 0.1:
                break
        if not np.linalg.norm(gradient) < 0.5 * before:
            break
    norm = float(np.linalg.norm(gradient))
    scale = np.linalg.norm(matrix, 2) * (1 + np.linalg.norm(point))
    if not norm <= 1e-9 * scale:
        raise NotAMinimum(
            f"the gradient norm stays at {norm:.3g} (1e-9 of its scale is {1e-9 * scale:.3g}); the "
            "loss may have kinks (ReLU) or no minimum here: use a smooth activation, weight decay "
            "or another start"
        )
    return point, matrix, norm


def _solver(
    matrix: Float[np.ndarray, "dim dim"],
) -> Callable[[Float[np.ndarray, " dim"]], Float[np.ndarray, " dim"]]:
    """Solve with a factorised matrix; in the least-squares sense where it is singular."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
        factors = scipy.linalg.lu_factor(matrix)
    pivots = np.abs(np.diag(factors[0]))
    if pivots.min() > 1e-13 * pivots.max():
        return lambda vector: scipy.linalg.lu_solve(factors, vector)
    inverse = scipy.linalg.pinv(matrix, rtol=1e-13)
    return lambda vector: inverse @ vector
