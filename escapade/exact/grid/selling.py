"""Selling's decomposition: a covariance as non-negative weights times integer offsets.

``D = sum_k w_k e_k e_k^T`` with three offsets in two dimensions and six in three, so that a
diffusion becomes a jump process on a lattice whose rates are non-negative however anisotropic the
noise is. (Selling, Journal fuer die reine und angewandte Mathematik 77, 1874; Fehrenbach and
Mirebeau, Journal of Mathematical Imaging and Vision 49, 2014.)
"""

from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from escapade.errors import Unsupported

MOST_FLIPS = 5000
"""Changes of the superbase after which the matrix is taken for a degenerate one."""


def selling(
    matrices: Float[np.ndarray, "points dim dim"],
) -> tuple[Int[np.ndarray, "points terms dim"], Float[np.ndarray, "points terms"]]:
    """Offsets and weights of symmetric positive definite matrices in two or three dimensions.

    The superbases are made obtuse by Selling's flips, each of which shortens them in the norm of
    the matrix. The offsets of vanishing weight depend on rounding.

    Raises:
        Unsupported: when the flips do not end, as for a matrix that is singular to rounding.
    """
    count, dim = len(matrices), matrices.shape[1]
    first = np.vstack([np.eye(dim, dtype=np.int64), -np.ones((1, dim), dtype=np.int64)])
    bases = np.repeat(first[None], count, axis=0)
    pairs = list(combinations(range(dim + 1), 2))
    scale = np.trace(matrices, axis1=1, axis2=2)
    todo = np.arange(count)
    for _ in range(MOST_FLIPS):
        products = _products(bases[todo], matrices[todo])
        angles = np.stack([products[:, i, j] for i, j in pairs], axis=1)
        worst = angles.argmax(axis=1)
        acute = angles[np.arange(len(todo)), worst] > 1e-15 * scale[todo]
        todo, worst = todo[acute], worst[acute]
        if not len(todo):
            break
        for number, (i, j) in enumerate(pairs):
            _flip(bases, todo[worst == number], i, j)
    else:
        raise Unsupported(
            "the noise is so anisotropic that its covariance is singular to rounding; add a little "
            "isotropic noise, or simulate"
        )
    products = _products(bases, matrices)
    weights = np.stack([np.maximum(-products[:, i, j], 0.0) for i, j in pairs], axis=1)
    offsets = np.stack([_dual(bases, pair) for pair in pairs], axis=1)
    return offsets, weights


def _products(bases: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    return bases @ matrices @ bases.transpose(0, 2, 1)


def _flip(bases: np.ndarray, at: np.ndarray, i: int, j: int) -> None:
    """Replace the superbases with an acute pair (i, j) by shorter ones."""
    moved = bases[at, i].copy()
    others = [k for k in range(bases.shape[1]) if k not in (i, j)]
    if bases.shape[2] == 2:
        bases[at, others[0]] = moved - bases[at, j]
    else:
        for k in others:
            bases[at, k] += moved
    bases[at, i] = -moved


def _dual(bases: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """The integer vector orthogonal to the vectors of the superbase outside the pair."""
    others = [k for k in range(bases.shape[1]) if k not in pair]
    if bases.shape[2] == 2:
        return np.stack([-bases[:, others[0], 1], bases[:, others[0], 0]], axis=1)
    return np.cross(bases[:, others[0]], bases[:, others[1]])
