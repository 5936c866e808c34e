"""The verb `trace_steepness`: what a training run has cost, step by step, as it is read."""

from collections.abc import Iterable, Iterator

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike

from escapade.errors import Diverged, InvalidArgument, Unsupported
from escapade.escape import Escape
from escapade.landscape._base import as_points
from escapade.steepness.action.lagrangian import points_at_once
from escapade.steepness.action.steepness import increments, reach_of
from escapade.steepness.hamiltonian import hamiltonian

LONGEST_BLOCK = 256


class SteepnessTrace(eqx.Module):
    """Steepness along a run of a chain.

    Attributes:
        steps: number of each step, from 1, shape (n,).
        increments: its steepness, in units in which a path of steepness S has a probability of
            order exp(-(B / eta) S), shape (n,); infinite for a step the noise cannot make.
        noise_scale: ``epsilon^2 = learning_rate / batch_size``, the unit of B S / eta.
    """

    steps: Int64[np.ndarray, " n"]
    increments: Float[np.ndarray, " n"]
    noise_scale: float

    @property
    def cumulative(self) -> Float[np.ndarray, " n"]:
        """Steepness of the path up to and including each step."""
        return np.cumsum(self.increments)

    @property
    def value(self) -> float:
        """Steepness of the whole run."""
        return float(self.increments.sum())

    def to_xarray(self) -> xr.Dataset:
        """Increments and cumulative steepness over the dimension ``step``."""
        units = {"units": "1", "long_name": "steepness, in units of learning rate / batch size"}
        return xr.Dataset(
            {
                "increments": ("step", self.increments, units),
                "cumulative": ("step", self.cumulative, units),
            },
            coords={"step": ("step", self.steps, {"units": "SGD steps"})},
            attrs={
                "title": "steepness along a run",
                "steepness": self.value,
                "noise_scale": self.noise_scale,
            },
        )

    def __str__(self) -> str:
        impossible = np.flatnonzero(np.isinf(self.increments))
        if impossible.size:
            return (
                f"steepness infinite: noise cannot make {impossible.size} of {len(self.steps)} "
                f"steps, first step {self.steps[impossible[0]]}"
            )
        barrier = self.value / self.noise_scale
        return (
            f"steepness {self.value:.6g} over {len(self.steps)} steps: (B / eta) S = "
            f"{barrier:.4g}, {barrier / len(self.steps):.3g} a step, at most "
            f"{self.increments.max() / self.noise_scale:.3g}"
        )


def trace_steepness(
    escape: Escape, iterates: Iterable[ArrayLike], *, tolerance: float | None = None
) -> SteepnessTrace:
    """Steepness of each step of a training run.

    The iterates are read once and forgotten: any iterable will do, such as
    `escapade.iterates(escape, steps)` or an array of shape (n, dim). No matrix over pairs of
    parameters is formed in more than 1024 dimensions, nor one of all examples' gradients where it
    is large: conjugate gradients then use products only.

    Args:
        escape: the problem; its region plays no part.
        iterates: parameter vectors, shape (dim,) each, one per step, at least two.
        tolerance: as for `steepness`.

    Raises:
        InvalidArgument: when there are fewer than two iterates, or of the wrong shape.
        Unsupported: for continuous dynamics, which have no steps, and for shuffled epochs.
        Diverged: when an iterate, or the gradient or noise there, is not finite.
        NotConverged: when the Lagrangian cannot be computed.
    """
    law = hamiltonian(escape)
    if law.time_step is None:
        raise Unsupported(
            f"{escape.dynamics} has no steps to trace; use steepness(escape, path, times=...), or "
            "GaussianSGD"
        )
    dim = escape.landscape.dim
    block = min(points_at_once(law, dim), LONGEST_BLOCK)
    done: list[Float[np.ndarray, " block"]] = []
    count = 0
    for points, reach, epsilon in _blocks(iterates, dim, block, tolerance):
        found = increments(law, points, reach, epsilon)
        if np.isnan(found).any():
            first = count + int(np.flatnonzero(np.isnan(found))[0])
            raise Diverged(f"the gradient or the noise at iterate {first} is not finite")
        done.append(found)
        count += len(found)
    if not count:
        raise InvalidArgument("iterates has fewer than two points; one point has no steepness")
    return SteepnessTrace(
        np.arange(1, count + 1, dtype=np.int64), np.concatenate(done), float(escape.noise_scale)
    )


def _blocks(
    iterates: Iterable[ArrayLike], dim: int, block: int, tolerance: float | None
) -> Iterator[tuple[Float[np.ndarray, "rows dim"], float, float]]:
    """Up to `block` steps at a time; each block starts where the one before ended."""
    rows: list[Float[np.ndarray, " dim"]] = []
    reach, epsilon = reach_of(0.0, tolerance)
    for number, iterate in enumerate(iterates):
        row = np.asarray(iterate)
        if row.shape != (dim,):
            raise InvalidArgument(
                f"iterate {number} has shape {row.shape}; give vectors of {dim} numbers"
            )
        if not np.isfinite(row).all():
            raise Diverged(f"iterate {number} holds NaN or infinity; end the trace before it")
        if number == 0:
            reach, epsilon = reach_of(row, tolerance)
        rows.append(as_points(row, dim, f"iterate {number}")[0])
        if len(rows) > block:
            yield np.stack(rows), reach, epsilon
            del rows[:-1]
    if len(rows) > 1:
        yield np.stack(rows), reach, epsilon
