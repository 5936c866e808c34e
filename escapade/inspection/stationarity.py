"""Is this a minimum, or how far from one?"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

STEEP = 0.05
"""Decrement, in units of the loss that noise adds, up to which a point counts as a minimum."""

BENT = 1e-3
"""Negative curvature, in units of the sharpness, up to which a direction counts as flat."""


class Stationarity(eqx.Module):
    """How far a point is from a minimum, measured by what SGD would notice.

    Attributes:
        gradient_norm: Euclidean norm of the full gradient.
        decrement: ``g^T H^+ g / 2``, the loss that a Newton step along the directions of positive
            curvature would gain.
        newton_distance: length of that step.
        noise_floor: mean loss above the minimum at which SGD of this learning rate and batch size
            settles, ``eta tr(C) / (4 B)``.
        lowest_curvature: smallest Hessian eigenvalue met.
        lowest_residual: bound on its error.
        sharpness: largest Hessian eigenvalue, for scale.
        verdict: "minimum", "not yet" (the gradient matters more than the noise), "saddle" or
            "maximum".
    """

    gradient_norm: float
    decrement: float
    newton_distance: float
    noise_floor: float
    lowest_curvature: float
    lowest_residual: float
    sharpness: float
    verdict: str

    @property
    def is_minimum(self) -> bool:
        """Whether exits from here can be called escapes from a minimum."""
        return self.verdict == "minimum"

    def __str__(self) -> str:
        curved = (
            f"lowest curvature {self.lowest_curvature:.3g} (± {self.lowest_residual:.1g}), "
            f"sharpness {self.sharpness:.4g}"
        )
        gained = f"a Newton step would gain {self.decrement:.3g} of loss"
        floor = f"noise alone keeps SGD {self.noise_floor:.3g} above a minimum"
        match self.verdict:
            case "minimum":
                return f"a minimum as far as SGD can tell: {gained}; {floor}; {curved}"
            case "not yet":
                return f"not yet at a minimum: {gained}, but {floor}; {curved}"
        return f"a {self.verdict}: the loss curves downwards; {curved}; {gained}"


def stationarity(
    gradient: Float[np.ndarray, " dim"],
    decrement: float,
    newton_distance: float,
    noise_floor: float,
    lowest: tuple[float, float],
    sharpness: float,
) -> Stationarity:
    """Judge a point; `lowest` is the lowest eigenvalue and the bound on its error."""
    value, residual = lowest
    if sharpness <= 0:
        verdict = "maximum"
    elif value + residual < 0 and value < -BENT * sharpness:
        verdict = "saddle"
    elif decrement > STEEP * noise_floor:
        verdict = "not yet"
    else:
        verdict = "minimum"
    return Stationarity(
        gradient_norm=float(np.linalg.norm(gradient)),
        decrement=decrement,
        newton_distance=newton_distance,
        noise_floor=noise_floor,
        lowest_curvature=value,
        lowest_residual=residual,
        sharpness=sharpness,
        verdict=verdict,
    )
