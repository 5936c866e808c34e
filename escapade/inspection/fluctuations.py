"""Typical fluctuations around a point, and the motion of the mean, in all directions at once."""

import copy

import numpy as np
from jaxtyping import Float

from escapade.landscape import AbstractExpansion
from escapade.minimum.krylov.function import MatrixFunctions, matrix_functions
from escapade.minimum.local_model import LocalModel, noise_sample
from escapade.theory.network_law import spread_after

LONG = 10**9
"""Steps after which a mode that relaxes at all counts as relaxed."""


class Fluctuations:
    """Draws from the law of linear-Gaussian SGD some steps after it was at the point.

    Where every direction is measured the covariance is exact, and that of the draws too along as
    many directions as there are draws. Elsewhere a draw is ``sqrt(f(H)) z`` with z
    of the noise covariance C and f the growth of variance by then: of the right covariance where C
    and H commute, and of its size elsewhere.
    """

    def __init__(
        self,
        expansion: AbstractExpansion,
        model: LocalModel,
        learning_rate: float,
        batch_size: float,
        seed: int = 1,
        depth: int = 20,
    ):
        """Nothing is drawn yet; `depth` is the number of Hessian products behind a draw."""
        self.expansion = expansion
        self.model = model
        self.learning_rate = learning_rate
        self.noise_scale = learning_rate / batch_size
        self.whole = model.rest is None
        self.depth = depth
        self._generator = np.random.default_rng(seed)
        self._spaces: list[MatrixFunctions] = []
        self._normals = np.empty((0, expansion.dim))

    def at(self, learning_rate: float, batch_size: float) -> "Fluctuations":
        """The same draws under another learning rate and batch size."""
        other = copy.copy(self)
        other.learning_rate, other.noise_scale = learning_rate, learning_rate / batch_size
        return other

    def draw(self, steps: float, count: int) -> Float[np.ndarray, "count dim"]:
        """Displacements after some steps; at other times the same draws, grown or shrunk."""
        if self.whole:
            variances, modes = np.linalg.eigh(self._covariance(steps))
            modes = self.model.basis @ modes
            draws = _even(self._normal(count), modes) @ modes
            return (draws * np.sqrt(np.clip(variances, 0, None))) @ modes.T
        size = np.sqrt(self.noise_scale)
        return np.array(
            [
                space.apply(lambda at: size * np.sqrt(spread_after(at, steps, self.learning_rate)))
                for space in self._krylov(count)
            ]
        )

    def displaced(
        self, force: Float[np.ndarray, " dim"], steps: float, since: Float[np.ndarray, " dim"]
    ) -> Float[np.ndarray, " dim"]:
        """Where the mean is after some steps under a constant gradient, from `since`."""

        def kept(curvatures: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
            return _power(1 - self.learning_rate * curvatures, steps)

        def moved(curvatures: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
            return self.learning_rate * _sum_of_powers(1 - self.learning_rate * curvatures, steps)

        if self.whole:
            basis, curvatures = self.model.basis, self.model.curvatures
            return basis @ (kept(curvatures) * (basis.T @ since)) - basis @ (
                moved(curvatures) * (basis.T @ force)
            )
        return self._function(since).apply(kept) - self._function(force).apply(moved)

    def settled(self, steps: float) -> bool:
        """Whether all that relaxes has done so within some steps."""
        return bool(np.all(np.abs(1 - self.learning_rate * self._rising()) ** steps < 0.05))

    def _rising(self) -> Float[np.ndarray, " values"]:
        met = self.model.curvatures_met
        return met[met > 0]

    def _covariance(self, steps: float) -> Float[np.ndarray, "basis basis"]:
        """After some steps, in the basis."""
        factor = 1 - self.learning_rate * self.model.curvatures
        grown = _sum_of_powers(np.outer(factor, factor), steps)
        return self.noise_scale * self.learning_rate * self.model.covariance * grown

    def _normal(self, count: int) -> Float[np.ndarray, "count dim"]:
        missing = count - len(self._normals)
        if missing > 0:
            more = self._generator.standard_normal((missing, self._normals.shape[1]))
            self._normals = np.concatenate([self._normals, more])
        return self._normals[:count]

    def _krylov(self, count: int) -> list[MatrixFunctions]:
        while len(self._spaces) < count:
            self._spaces.append(self._function(noise_sample(self.expansion, self._generator)))
        return self._spaces[:count]

    def _function(self, vector: Float[np.ndarray, " dim"]) -> MatrixFunctions:
        return matrix_functions(
            self.expansion.hessian_product,
            vector,
            self.depth,
            precision=self.expansion.precision,
        )


def _even(
    normals: Float[np.ndarray, "count dim"], modes: Float[np.ndarray, "dim dim"]
) -> Float[np.ndarray, "count dim"]:
    """Draws with exact second moments along the widest modes, as many as there are draws.

    What noise does to the mean is quadratic in the draws to leading order, and most of it comes
    from few modes: averages over two dozen scatter eight times less. The polar factor neither knows
    the signs of modes nor their choice where variances coincide.
    """
    widest = modes[:, -len(normals) :]
    along = normals @ widest
    left, _, right = np.linalg.svd(along, full_matrices=False)
    return normals + (np.sqrt(len(normals)) * left @ right - along) @ widest.T


def _power(factor: Float[np.ndarray, "..."], steps: float) -> Float[np.ndarray, "..."]:
    """``factor^steps``; what grows is held, as the fall of the mean is not followed here."""
    return np.clip(factor, -1.0, 1.0) ** min(max(round(steps), 1), LONG)


def _sum_of_powers(factor: Float[np.ndarray, "..."], steps: float) -> Float[np.ndarray, "..."]:
    """``sum_{k < steps} factor^k``."""
    factor = np.clip(factor, -1.0, 1.0)
    gap = 1 - factor
    flat = gap < 1e-12
    whole = float(min(max(round(steps), 1), LONG))
    return np.where(flat, whole, (1 - _power(factor, steps)) / np.where(flat, 1.0, gap))
