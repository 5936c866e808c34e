"""Exit of a diffusion from an interval, by its scale and speed integrals in logarithms."""

from functools import cached_property

import numpy as np
from jaxtyping import Float

from escapade.errors import Unsupported
from escapade.exact.exit import AbstractLaw
from escapade.exact.line import spectrum
from escapade.exact.line.mesh import Cumulative, Mesh, build, halved
from escapade.exact.line.process import Line

NEGLIGIBLE = 45.0
"""An open side is cut where the stationary mass beyond is below exp(-NEGLIGIBLE) of the whole."""

MEAN_MATCH = 1e-6
"""Relative mismatch of the mean exit time at which the sum over eigenfunctions is refused."""


class DiffusionLaw(AbstractLaw):
    """A diffusion on a line, with its inverse generator as a positive integral operator.

    With the scale density ``s = exp(Phi)``, the speed density ``m = 2 exp(-Phi) / variance`` and
    ``S(x, y)`` the integral of s, the mean of the time integral of f before the exit is

        G f(x) = [r(x) int_low^x l m f + l(x) int_x^high r m f] / W,

    where ``l(x) = S(low, x)``, ``r(x) = S(x, high)`` and ``W = S(low, high)``; at an end that
    cannot be left, that end's function and W are 1. Every term is positive. (Karlin and Taylor,
    A Second Course in Stochastic Processes, 1981, chapter 15.)
    """

    line: Line
    mesh: Mesh

    @cached_property
    def _left(self) -> Cumulative:
        if np.isfinite(self.line.low):
            return self.mesh.from_left(self.mesh.potential)
        return Cumulative(np.zeros_like(self.mesh.potential), np.zeros_like(self.mesh.edges))

    @cached_property
    def _right(self) -> Cumulative:
        if np.isfinite(self.line.high):
            return self.mesh.from_right(self.mesh.potential)
        return Cumulative(np.zeros_like(self.mesh.potential), np.zeros_like(self.mesh.edges))

    @cached_property
    def _log_whole(self) -> float:
        both = np.isfinite(self.line.low) and np.isfinite(self.line.high)
        return float(self._left.edges[-1]) if both else 0.0

    def occupation(self, log_values: Float[np.ndarray, "panels nodes"]) -> Cumulative:
        """Logarithm of G f, for f > 0 given by its logarithm at the nodes."""
        weighted = log_values + self.mesh.log_speed
        below = self.mesh.from_left(self._left.nodes + weighted)
        above = self.mesh.from_right(self._right.nodes + weighted)
        at_nodes, at_edges = (
            np.logaddexp(right + low, left + high) - self._log_whole
            for right, low, left, high in (
                (self._right.nodes, below.nodes, self._left.nodes, above.nodes),
                (self._right.edges, below.edges, self._left.edges, above.edges),
            )
        )
        return Cumulative(at_nodes, at_edges)

    @property
    def log_mean(self) -> float:
        """Logarithm of the mean exit time from the start."""
        mean = self.occupation(np.zeros_like(self.mesh.potential))
        return float(mean.edges[np.argmin(np.abs(self.mesh.edges - self.line.start))])

    @cached_property
    def rate(self) -> float:
        """Lowest eigenvalue, by power iteration of G and its Rayleigh quotient."""
        log_f = np.zeros_like(self.mesh.potential)
        previous = np.inf
        for _ in range(1000):
            image = self.occupation(log_f).nodes
            square = self.mesh.from_left(2 * log_f + self.mesh.log_speed).edges[-1]
            product = self.mesh.from_left(log_f + image + self.mesh.log_speed).edges[-1]
            log_rate = float(square - product)
            if abs(log_rate - previous) < 1e-13 * max(1.0, abs(log_rate)):
                break
            previous, log_f = log_rate, image - image.max()
        return float(np.exp(log_rate))

    @cached_property
    def _modes(self) -> spectrum.Modes:
        return spectrum.modes(self.line, self.mesh)

    @property
    def second_rate(self) -> float:
        """Second eigenvalue."""
        return float(self._modes.rates[1])

    def survival(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Sum over the eigenfunctions, with an absolute accuracy.

        Raises:
            Unsupported: when the sum does not give back the mean exit time, as happens when the
                start stands so high above the minimum that the terms cancel.
        """
        rates, amplitudes = self._spectrum()
        terms = np.exp(-np.outer(times, rates)) @ amplitudes
        return np.where(times == 0, 1.0, np.clip(terms, 0.0, 1.0))

    def hazard(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """Intensity per step of leaving, given still inside; from the sum over eigenfunctions.

        Raises:
            Unsupported: as for `survival`.
        """
        rates, amplitudes = self._spectrum()
        # Relative to the slowest mode, which alone is left at late times.
        parts = np.exp(-np.outer(times, rates - rates[0])) * amplitudes
        with np.errstate(divide="ignore", invalid="ignore"):
            hazard = (parts @ rates) / parts.sum(axis=1)
        return np.where(times == 0, 0.0, np.maximum(hazard, 0.0))

    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates and amplitudes in the survival from the start, checked by the mean exit time."""
        rates = np.append(self.rate, self._modes.rates[1:])
        amplitudes = self._modes.amplitudes
        mean = np.sum(amplitudes / rates)
        if not abs(mean * np.exp(-self.log_mean) - 1) < MEAN_MATCH:
            raise Unsupported(
                "the survival from this start cannot be summed over eigenfunctions in float64; "
                "start nearer to the minimum, use exp(-rate t) after the relaxation time, or "
                "simulate"
            )
        return rates, amplitudes

    def exit_probability(self, times: Float[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """One minus the survival."""
        return 1 - self.survival(times)


def solve_diffusion(line: Line) -> tuple[DiffusionLaw, float]:
    """The law of a diffusion's exit, and the relative error of its mean.

    Raises:
        Unsupported: when an open side does not hold the diffusion, so that the mean is infinite.
    """
    low = line.low if np.isfinite(line.low) else _cut(line, -1.0)
    high = line.high if np.isfinite(line.high) else _cut(line, 1.0)
    # Panels first resolve drift and noise alone, which is cheap however steep the potential.
    rough = build(line, _edges(line.start, low, high), np.inf)
    law = DiffusionLaw(line, build(line, rough.edges))
    finer = DiffusionLaw(line, build(line, halved(law.mesh.edges)))
    error = abs(np.expm1(finer.log_mean - law.log_mean))
    return finer, float(max(error, np.finfo(float).eps * (1 + abs(finer.log_mean))))


def _cut(line: Line, side: float) -> float:
    """Where to cut an open side: beyond it the stationary density holds a negligible mass."""

    def negligible(distance: float) -> bool:
        end = line.start + side * distance
        mesh = build(line, _edges(line.start, min(end, line.start), max(end, line.start)), np.inf)
        heights = mesh.log_speed if side > 0 else mesh.log_speed[::-1]
        last = heights[-1].min() + np.log(distance)
        widths = np.log(np.diff(mesh.edges))[:, None]
        mass = (mesh.log_speed + widths).max()
        return bool(last < mass - NEGLIGIBLE)

    distance = 1e-6 * (1 + abs(line.start))
    while not negligible(distance):
        distance *= 2
        if distance > 1e9 * (1 + abs(line.start)):
            raise Unsupported(
                f"the side of the region towards {'plus' if side > 0 else 'minus'} infinity does "
                "not hold the diffusion, so its mean exit time is infinite or too heavy-tailed to "
                "compute; bound it with a Slab or Ball"
            )
    return line.start + side * distance


def _edges(start: float, low: float, high: float) -> Float[np.ndarray, " edges"]:
    """First panels: uniform, and finer towards the start, which is one of their ends."""
    fractions = np.concatenate([0.5 ** np.arange(1.0, 24.0), np.linspace(0, 1, 17)])
    edges = [start + (end - start) * fractions for end in (low, high) if end != start]
    unique = np.unique(np.concatenate(edges))
    return unique
