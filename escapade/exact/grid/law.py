"""The law of the exit time on two lattices: decay rates, survival and hazard."""

from collections.abc import Callable
from functools import cached_property

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigs

from escapade.errors import Unsupported
from escapade.exact.exit import AbstractLaw
from escapade.exact.grid.recurrence import Recurrence, factorise
from escapade.exact.grid.transient import Transient, transient

ITERATIONS = 10
"""Inverse iterations tried for the quasi-stationary law before Arnoldi's method."""

SEPARATED = 1e-8
"""Ratio of the first two rates below which the second is found at a shift."""

FORGOTTEN = 36.0
"""Decay, in units of the exponent, after which the start is forgotten to rounding."""

MOST_JUMPS = 1e12
"""Jumps within a time beyond which its matrix exponential is refused."""


class Decay(eqx.Module):
    """Decay of a split process from a node.

    Attributes:
        split: the process.
        start: the node.
    """

    split: Recurrence
    start: int

    @property
    def _source(self) -> Float[np.ndarray, " nodes"]:
        source = np.zeros(len(self.split.others))
        source[self.start] = 1.0
        return source

    @cached_property
    def occupation(self) -> Float[np.ndarray, " nodes"]:
        """Mean time in steps spent at each node."""
        return self.split.occupation(self._source)

    def integral(self, values: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " nodes"]:
        """From every node, the mean time integral of a function before the exit."""
        return self.split.integral(values)

    @cached_property
    def quasi_stationary(self) -> Float[np.ndarray, " nodes"]:
        """Probabilities of the nodes long after the start, as long as there was no exit."""
        law = self.occupation / self.occupation.sum()
        for _ in range(ITERATIONS):
            previous, law = law, self.split.occupation(law)
            law = law / law.sum()
            if np.abs(law - previous).sum() < 1e-13:
                return law
        _, vectors = self._inverse_modes(law)
        law = np.abs(vectors[:, 0])
        # One more iteration makes every entry positive and relatively accurate.
        law = self.split.occupation(law / law.sum())
        return law / law.sum()

    @cached_property
    def rate(self) -> float:
        """Exit rate per step from the quasi-stationary law."""
        return float(self.quasi_stationary @ self.split.process.leaving)

    @cached_property
    def second_rate(self) -> float:
        """Real part of the second eigenvalue of minus the generator, per step."""
        means, _ = self._inverse_modes(self.occupation / self.occupation.sum())
        if abs(means[1]) > SEPARATED * abs(means[0]):
            return float((1 / means[1]).real)
        shift = 1 / float(self.split.duration.max())
        every = np.ones(len(self.split.others), dtype=bool)
        factors = factorise(self.split.process, every, shift)
        values, _ = _largest(factors.solve, self._source + 1 / len(every))
        return float((1 / values[1]).real - shift)

    @cached_property
    def forgotten(self) -> float:
        """Steps after which what remains follows the quasi-stationary law to rounding."""
        gap = self.second_rate - self.rate
        return FORGOTTEN / gap if gap > 0 else np.inf

    def at(self, times: Float[np.ndarray, " times"]) -> Transient:
        """What has happened by times in steps.

        Raises:
            Unsupported: at times too long for a matrix exponential that the start is still
                remembered at.
        """
        now = np.minimum(times, self.forgotten)
        process = self.split.process
        if now.max(initial=0.0) * np.median(process.total) > MOST_JUMPS:
            raise Unsupported(
                f"the start is remembered for {self.forgotten:.2g} steps, too many; ask for "
                "earlier times, or use exp(-rate t)"
            )
        distinct, places = np.unique(now, return_inverse=True)
        positive = distinct > 0
        early = transient(self.split, self.start, distinct[positive])
        survival, flux, exited = (
            _with_zero(values, positive, at_zero)[places]
            for values, at_zero in (
                (early.survival, 1.0),
                (early.flux, float(process.leaving[self.start])),
                (early.exited, 0.0),
            )
        )
        left = self.rate * (times - now)
        return Transient(
            survival * np.exp(-left), flux * np.exp(-left), exited - survival * np.expm1(-left)
        )

    def _inverse_modes(self, law: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _largest(self.split.occupation, law)


def _largest(
    apply: Callable[[np.ndarray], np.ndarray], first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The two eigenvalues of largest real part, and their vectors."""
    operator = LinearOperator((len(first), len(first)), matvec=apply, dtype=np.float64)
    values, vectors = eigs(operator, k=3, v0=first, ncv=24, tol=1e-11)
    order = np.argsort(-values.real)
    return values[order], vectors[:, order]


class GridLaw(AbstractLaw):
    """Law of the exit from a node, extrapolated from a coarser lattice to spacing zero.

    Attributes:
        fine: on the finer lattice.
        coarse: on the coarser one.
        gain: square of the ratio of their spacings.
    """

    fine: Decay
    coarse: Decay
    gain: float

    def _extrapolated(
        self, fine: float | np.ndarray, coarse: float | np.ndarray
    ) -> Float[np.ndarray, "..."]:
        """Logarithms extrapolated to spacing zero; the finer value where either vanishes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = fine * (fine / coarse) ** (1 / (self.gain - 1))
        return np.where(np.isfinite(value), value, fine)

    @cached_property
    def rate(self) -> float:
        """Lowest eigenvalue."""
        return float(self._extrapolated(self.fine.rate, self.coarse.rate))

    @cached_property
    def second_rate(self) -> float:
        """Real part of the second eigenvalue."""
        return float(self._extrapolated(self.fine.second_rate, self.coarse.second_rate))

    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Krylov spaces before the start is forgotten, then quasi-stationary decay.

        Raises:
            Unsupported: at times too long for the former that the start is still remembered at.
        """
        return self._at(times).survival

    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """The same; accurate relatively to what the quasi-stationary rate gives at the time."""
        return self._at(times).exited

    def hazard(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Probability per step of leaving at times, given still inside; accurate as `rate`."""
        law = self._at(times)
        return law.flux / law.survival

    def _at(self, times: Float[np.ndarray, " times"]) -> Transient:
        # On each lattice the slow decay is off by a factor of its own.
        fine, coarse = (
            decay.at(times * (self.rate / decay.rate)) for decay in (self.fine, self.coarse)
        )
        exited = np.minimum(self._extrapolated(fine.exited, coarse.exited), 1.0)
        survival = np.minimum(self._extrapolated(fine.survival, coarse.survival), 1.0)
        flux = self._extrapolated(fine.flux / self.fine.rate, coarse.flux / self.coarse.rate)
        early = exited < 0.5
        return Transient(
            np.where(early, 1 - exited, survival),
            flux * self.rate,
            np.where(early, exited, 1 - survival),
        )


def _with_zero(values: np.ndarray, positive: np.ndarray, at_zero: float) -> np.ndarray:
    result = np.full(len(positive), at_zero)
    result[positive] = values
    return result
