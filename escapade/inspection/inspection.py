"""What an inspection found."""

import json
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.inspection.escape_map import EscapeMap
from escapade.inspection.gradient_noise import NoiseScale, NoiseShape
from escapade.inspection.outlook import Outlook
from escapade.inspection.stability import Stability
from escapade.inspection.stationarity import Stationarity
from escapade.minimum.krylov import AlignmentEstimate, Eigenpairs, Estimate, SpectralDensity
from escapade.region import Ball


class Inspection(eqx.Module):
    """A network at one point, and what SGD will do there.

    Every figure carries a residual bound (`Eigenpairs`), a standard error (`Estimate`) or a stated
    error (`Prediction`). Parts that the time budget left out are None, and `skipped` names them.

    Attributes:
        network: what was inspected, in a few words.
        theta: the point, shape (dim,).
        parameters: name and shape of each parameter array, in order.
        examples: N.
        loss: mean loss there, weight decay included.
        weight_decay: its coefficient: the share of it in every Hessian eigenvalue.
        learning_rate, batch_size, sampling: the SGD asked about.
        precision: of the measurements.
        stationarity: whether this is a minimum.
        curvature: top Hessian eigenpairs.
        noise_trace: trace of C.
        noise: top eigenpairs of C.
        alignment: traces and sizes of H and C, and how close C is to a multiple of H.
        density: spectral density of H.
        noise_scale: batch sizes at which noise and gradient balance.
        noise_shape: skewness and tails along the top Hessian directions.
        stability: largest stable learning rates.
        outlooks: exits, by region.
        escape_map: mean exit steps over learning rate and batch size.
        changes: what other settings would do.
        seconds: time spent.
        skipped: what the budget left out.
        key: seed of the random vectors.
    """

    network: str
    theta: Float[np.ndarray, " dim"]
    parameters: tuple[str, ...]
    examples: int
    loss: float
    weight_decay: float
    learning_rate: float
    batch_size: int
    sampling: str
    precision: str
    stationarity: Stationarity
    curvature: Eigenpairs
    noise_trace: Estimate
    noise: Eigenpairs | None
    alignment: AlignmentEstimate
    density: SpectralDensity | None
    noise_scale: NoiseScale
    noise_shape: NoiseShape
    stability: Stability
    outlooks: tuple[Outlook, ...]
    escape_map: EscapeMap | None
    changes: "tuple[Change, ...]"
    seconds: float
    skipped: tuple[str, ...]
    key: int

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.theta.size

    @property
    def sharpness(self) -> float:
        """Largest Hessian eigenvalue."""
        return float(self.curvature.values[0])

    @property
    def first_exit(self) -> Outlook | None:
        """The exit that comes first; see `first_exit`."""
        return first_exit(self.outlooks)

    @property
    def answer(self) -> str:
        """The answer in two sentences: what SGD will do here, and how far that can be trusted."""
        from escapade.inspection.text import answer

        return " ".join(answer(self))

    def layers(self, vector: Float[np.ndarray, " dim"]) -> dict[str, float]:
        """Share of a vector's squared length in each parameter array."""
        total = float(vector @ vector)
        shares, used = {}, 0
        for name in self.parameters:
            size = _size_of(name)
            part = vector[used : used + size]
            shares[name] = float(part @ part) / total
            used += size
        return shares

    def to_dict(self) -> dict[str, Any]:
        """All figures, without the parameter-sized vectors, for a JSON file."""
        return _plain(self, large=self.dim)

    def to_json(self) -> str:
        """`to_dict` as text; what is no number (NaN, infinity) is null."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def __str__(self) -> str:
        from escapade.inspection.text import summary

        return summary(self)


def first_exit(outlooks: tuple[Outlook, ...]) -> Outlook | None:
    """The exit that comes first; a ball counts only where nothing else was asked about.

    Flat directions carry parameters out of any ball without changing the loss.
    """
    others = [outlook for outlook in outlooks if not isinstance(outlook.region, Ball)]
    return min(others or outlooks, key=lambda outlook: outlook.steps, default=None)


class Change(eqx.Module):
    """What one change of the settings would do to the first exit.

    Attributes:
        text: the change.
        learning_rate, batch_size: the new setting.
        steps: expected steps until the first exit.
        mechanism: of it.
    """

    text: str
    learning_rate: float
    batch_size: int
    steps: float
    mechanism: str


def _size_of(name: str) -> int:
    """Numbers in an array named like ``layers[0].weight (8, 64)``."""
    shape = name[name.rindex("(") + 1 : name.rindex(")")]
    return int(np.prod([int(part) for part in shape.split(",") if part.strip()], dtype=np.int64))


def _plain(value: Any, large: int) -> Any:
    """Numbers, texts, lists and dictionaries only; arrays of a dimension of `large` left out."""
    if isinstance(value, eqx.Module):
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
        plain = {name: _plain(field, large) for name, field in fields.items()}
        return {name: field for name, field in plain.items() if field is not _LARGE}
    if isinstance(value, np.ndarray):
        if large in value.shape and value.size >= large > 64:
            return _LARGE
        return _plain(value.tolist(), large)
    if isinstance(value, np.generic):
        return _plain(value.item(), large)
    if isinstance(value, tuple | list):
        return [_plain(part, large) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


_LARGE = object()
