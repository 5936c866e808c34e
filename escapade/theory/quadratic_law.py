"""Law of a Gaussian quadratic form ``Y = sum_i mu_i z_i^2``: its tails to full precision, in logs.

Laplace inversion along a parabola through the saddle point of the integrand, bent around the
singularities on the real axis as steepest descent is to third order. The trapezoidal rule converges
geometrically on it, at any depth of the tail and in any dimension; Rice, "Distribution of quadratic
forms in normal random variables" (1980).
"""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Complex, Float, Int

Derivatives = tuple[Float[np.ndarray, "..."], ...]

# Trapezoidal rule in w, where the contour leaves the saddle like sinh(w) standard deviations.
_STEP = 0.12
_REACH = 12.0
_CHUNK = 4_000_000


class QuadraticLaw(eqx.Module):
    """``Y = sum_i weights_i z_i^2`` of independent standard normals z, all weights positive."""

    modes: Float[np.ndarray, " modes"]
    weights: Float[np.ndarray, " nodes"]
    counts: Float[np.ndarray, " nodes"]

    def __init__(self, weights: Float[np.ndarray, " modes"]):
        """Law of these weights; many of them are grouped (`_grouped`)."""
        self.modes = weights
        self.weights, self.counts = _grouped(weights, np.ones_like(weights))

    def log_probability_below(
        self, levels: Float[np.ndarray, " levels"]
    ) -> Float[np.ndarray, " levels"]:
        """``log P(Y < h)`` for positive levels h; relative error below 1e-7."""

        # The transform exp(K(t) - t h) / (-t) is integrated left of its pole at 0. Away from the
        # pole the contour follows that of the density.
        def exponent(t: Complex[np.ndarray, "..."]) -> Complex[np.ndarray, "..."]:
            return self._cumulant(t) - np.log(-t)

        def derivatives(t: Float[np.ndarray, " levels"]) -> Derivatives:
            first, second, third = self._cumulant_derivatives(t)
            return first - 1 / t, second + 1 / t**2, third - 2 / t**3

        tilts = self._saddles(self._cumulant_derivatives, levels, self._edge)
        # Chernoff's bound on P(Y >= h): beyond e^-40 the probability is 1 in double precision.
        certain = (tilts > 0) & (self._cumulant(tilts).real - tilts * levels < -40)
        logs = np.zeros(len(levels))
        if not np.all(certain):
            rest = levels[~certain]
            saddles = self._saddles(derivatives, rest, 0.0)
            _, second, third = self._cumulant_derivatives(tilts[~certain])
            bend = third / (6 * second)
            width = 1 / np.sqrt(derivatives(saddles)[1])
            reach = 1 / np.sqrt(np.minimum(second, rest * bend))
            logs[~certain] = self._invert(exponent, rest, saddles, width, bend, reach)
        return logs

    def log_moment_density(
        self,
        levels: Float[np.ndarray, " levels"],
        moments: Float[np.ndarray, " modes"],
    ) -> Float[np.ndarray, " levels"]:
        """Log of ``E[sum_i m_i z_i^2 ; Y = h]``, density of Y included.

        The moments m are non-negative and not all zero; levels h are positive.
        """
        weights, masses = _grouped(self.modes, moments)

        def exponent(t: Complex[np.ndarray, "..."]) -> Complex[np.ndarray, "..."]:
            real, imaginary = _room(t, weights)
            square = real * real + imaginary * imaginary
            mean = (real / square) @ masses - 1j * ((imaginary / square) @ masses)
            return self._cumulant(t) + np.log(mean)

        def derivatives(t: Float[np.ndarray, " levels"]) -> Derivatives:
            first, second, third = self._cumulant_derivatives(t)
            room = 1 - 2 * t[:, None] * weights
            terms = masses / room
            factors = 2 * weights / room
            a0, a1, a2, a3 = (
                np.sum(terms * factors**k, axis=1) * scale
                for k, scale in enumerate((1.0, 1.0, 2.0, 6.0))
            )
            r1, r2, r3 = a1 / a0, a2 / a0, a3 / a0
            return first + r1, second + r2 - r1**2, third + r3 - 3 * r1 * r2 + 2 * r1**3

        saddles = self._saddles(derivatives, levels, self._edge)
        _, second, third = derivatives(saddles)
        width = 1 / np.sqrt(second)
        return self._invert(exponent, levels, saddles, width, third / (6 * second), width)

    def saddle(self, level: float) -> float:
        """The tilt t at which ``E[Y e^{t Y}] / E[e^{t Y}]`` is the level."""
        return float(
            self._saddles(self._cumulant_derivatives, np.array([float(level)]), self._edge)[0]
        )

    @property
    def _edge(self) -> float:
        return float(1 / (2 * np.max(self.weights)))

    def _cumulant(self, t: Complex[np.ndarray, "..."]) -> Complex[np.ndarray, "..."]:
        # Principal logarithms mode by mode stay continuous off the cut.
        real, imaginary = _room(t, self.weights)
        modulus = np.log(real * real + imaginary * imaginary) @ self.counts
        return -0.25 * modulus - 0.5j * (np.arctan2(imaginary, real) @ self.counts)

    def _cumulant_derivatives(self, t: Float[np.ndarray, " levels"]) -> Derivatives:
        ratios = 2 * self.weights / (1 - 2 * t[:, None] * self.weights)
        squares = ratios * ratios
        powers = ((0.5, ratios), (0.5, squares), (1.0, squares * ratios))
        return tuple(factor * (power @ self.counts) for factor, power in powers)

    def _saddles(
        self,
        derivatives: Callable[[Float[np.ndarray, " levels"]], Derivatives],
        levels: Float[np.ndarray, " levels"],
        right: float,
    ) -> Float[np.ndarray, " levels"]:
        """Where a convex exponent's slope, going from 0 at -infinity to infinity, is the level."""
        # Halving the distance to the right end, or doubling it, brackets; then safeguarded Newton.
        low = np.full(len(levels), -(1.0 + len(self.modes)) / np.min(levels)) + min(right, 0.0)
        slope = derivatives(low)[0]
        while np.any(slope > levels):
            low = np.where(slope > levels, right + 4 * (low - right), low)
            slope = derivatives(low)[0]
        gap_low, gap_high = right - low, np.zeros(len(levels))
        gap = gap_low / 2
        for _ in range(200):
            slope, curvature, _ = derivatives(right - gap)
            excess = slope - levels
            gap_high = np.where(excess > 0, gap, gap_high)
            gap_low = np.where(excess > 0, gap_low, gap)
            # Newton in log(gap): the slope grows like a power of the gap near the right end.
            proposal = gap * np.exp(np.clip(excess / (curvature * gap), -3, 3))
            inside = (proposal > gap_high) & (proposal < gap_low)
            middle = np.where(gap_high > 0, np.sqrt(gap_high * gap_low), gap_low / 8)
            update = np.where(inside, proposal, middle)
            if np.all(np.abs(update - gap) <= 1e-9 * gap):
                break
            gap = update
        return right - update

    def _invert(
        self,
        exponent: Callable[[Complex[np.ndarray, "..."]], Complex[np.ndarray, "..."]],
        levels: Float[np.ndarray, " levels"],
        saddles: Float[np.ndarray, " levels"],
        width: Float[np.ndarray, " levels"],
        bend: Float[np.ndarray, " levels"],
        reach: Float[np.ndarray, " levels"],
    ) -> Float[np.ndarray, " levels"]:
        """Log of ``1/(2 pi i) int exp(exponent(t) - t level) dt`` for each level.

        The contour is ``t = saddle + i u + bend u^2`` with ``u = width sinh(w)``: it resolves the
        width of the integrand at the saddle and goes on to its reach.
        """
        w = np.arange(0.0, np.arcsinh(_REACH * np.max(reach / width)) + _STEP, _STEP)
        rows = max(1, _CHUNK // (len(w) * len(self.weights)))
        logs = np.empty(len(levels))
        for start in range(0, len(levels), rows):
            part = slice(start, start + rows)
            u = width[part, None] * np.sinh(w)
            t = saddles[part, None] + 1j * u + bend[part, None] * u**2
            velocity = (1j + 2 * bend[part, None] * u) * width[part, None] * np.cosh(w)
            # The top of the integrand is taken out, so that no tail under- or overflows.
            values = exponent(t) - t * levels[part, None]
            top = values[:, :1].real
            integrand = (np.exp(values - top) * velocity).imag
            integral = _STEP / np.pi * (integrand.sum(axis=1) - integrand[:, 0] / 2)
            logs[part] = top[:, 0] + np.log(integral)
        return logs


def _room(
    t: Complex[np.ndarray, "..."], weights: Float[np.ndarray, " nodes"]
) -> tuple[Float[np.ndarray, "... nodes"], Float[np.ndarray, "... nodes"]]:
    """Real and imaginary part of ``1 - 2 t mu``.

    NumPy's complex logarithm and division take five times as long as those of the parts.
    """
    return 1 - 2 * t.real[..., None] * weights, -2 * t.imag[..., None] * weights


def _grouped(
    weights: Float[np.ndarray, " modes"], masses: Float[np.ndarray, " modes"]
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and masses that stand for many weights in sums of smooth functions of the weight.

    The functions are singular at or beyond the largest weight, so groups are narrow in relation
    to their distance from it and from 0: a ratio of 1.17. More than three weights of a group are
    replaced by their three-point Gauss rule, exact for polynomials of degree 5: logarithms of
    the law are right to about 1e-7.
    """
    largest = np.max(weights)
    gap = np.maximum(1 - weights / largest, 1e-12)
    position = np.where(
        gap < 0.5, -np.log(2 * gap), np.log(np.maximum(2 * weights / largest, 1e-12))
    )
    keys = np.floor(position / 0.16).astype(int)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1))
    sizes = np.diff(starts, append=len(order))
    x, m, alone = weights[order], masses[order], np.repeat(sizes <= 3, sizes)
    nodes, shares = _gauss_rules(x[~alone], m[~alone], sizes[sizes > 3])
    return np.concatenate([x[alone], nodes]), np.concatenate([m[alone], shares])


def _gauss_rules(
    x: Float[np.ndarray, " points"],
    masses: Float[np.ndarray, " points"],
    sizes: Int[np.ndarray, " groups"],
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Three-point Gauss rules of groups of neighbouring points (Golub and Welsch, 1969)."""
    starts = np.cumsum(sizes) - sizes
    total = np.add.reduceat(masses, starts) if len(sizes) else np.empty(0)
    if not np.any(total > 0):
        return np.empty(0), np.empty(0)

    def mean(values: Float[np.ndarray, " points"]) -> Float[np.ndarray, " groups"]:
        return np.add.reduceat(masses * values, starts) / np.where(total > 0, total, 1)

    def spread(values: Float[np.ndarray, " groups"]) -> Float[np.ndarray, " points"]:
        return np.repeat(values, sizes)

    # Monic orthogonal polynomials 1, y and p by their recurrence; a group of fewer distinct points
    # than three has a polynomial of no size, and its nodes get no mass.
    centre = mean(x)
    y = x - spread(centre)
    first = mean(y**2)
    known = first > (1e-12 * np.max(x)) ** 2
    tilt = np.divide(mean(y**3), first, where=known, out=np.zeros_like(first))
    p = y * (y - spread(tilt)) - spread(first)
    second = np.divide(mean(p**2), first, where=known, out=np.zeros_like(first))
    curved = second > (1e-12 * np.max(x)) ** 2
    last = np.divide(mean(y * p**2), first * second, where=curved, out=np.zeros_like(first))
    jacobi = np.zeros((len(sizes), 3, 3))
    jacobi[:, 1, 1], jacobi[:, 2, 2] = tilt, last
    jacobi[:, 0, 1] = jacobi[:, 1, 0] = np.sqrt(np.where(known, first, 0))
    jacobi[:, 1, 2] = jacobi[:, 2, 1] = np.sqrt(np.where(curved, second, 0))
    nodes, rotation = np.linalg.eigh(jacobi)
    nodes, shares = centre[:, None] + nodes, total[:, None] * rotation[:, 0] ** 2
    held = shares > 0
    return nodes[held], shares[held]
