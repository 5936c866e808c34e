"""Laplace's method to the next order."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Peak(NamedTuple):
    """Derivatives at a minimum of f, and of log a, in the integral of ``a exp(-f / eps^2)``."""

    hessian: Float[np.ndarray, "dim dim"]
    third: Float[np.ndarray, "dim dim dim"]
    fourth: Float[np.ndarray, "dim dim dim dim"]
    log_gradient: Float[np.ndarray, " dim"]
    log_hessian: Float[np.ndarray, "dim dim"]

    @property
    def log_determinant(self) -> float:
        """Of the Hessian; NaN unless it is positive definite."""
        sign, log = np.linalg.slogdet(self.hessian) if self.hessian.size else (1.0, 0.0)
        return float(log) if sign > 0 else float("nan")

    @property
    def correction(self) -> float:
        """The integral is ``a (2 pi eps^2)^{dim/2} det(hessian)^{-1/2} (1 + eps^2 correction)``."""
        if self.hessian.size == 0:
            return 0.0
        spread = np.linalg.inv(self.hessian)
        contracted = np.einsum("ijk,jk->i", self.third, spread)
        raised = np.einsum("ijk,il,jm,kn->lmn", self.third, spread, spread, spread, optimize=True)
        log_second = self.log_hessian + np.outer(self.log_gradient, self.log_gradient)
        return float(
            np.sum(spread * log_second) / 2
            - self.log_gradient @ spread @ contracted / 2
            - np.einsum("ijkl,ij,kl", self.fourth, spread, spread, optimize=True) / 8
            + contracted @ spread @ contracted / 8
            + np.sum(raised * self.third) / 12
        )
