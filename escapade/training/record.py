"""One line of a training run's log, and the log as a table."""

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
import xarray as xr

from escapade.errors import DataError

NAN = float("nan")


class Record(eqx.Module):
    """What was seen after one step of training, on the examples watched.

    What does not apply to the optimiser, or could not be computed, is NaN; `note` and `error` say
    why.

    Attributes:
        step: steps done.
        seconds: since the monitor's first step.
        learning_rate: of that step.
        loss: mean loss.
        gradient_norm: of its gradient.
        sharpness: largest Hessian eigenvalue.
        residual: ``|H u - lambda u|`` of the vector u found: the nearest eigenvalue of the loss
            watched lies within it (mostly much closer, by its square over the gap).
        sharpness_error: standard error from watching some examples only, along that direction.
        noise_variance: of one example's gradient, along the sharpest direction.
        noise_trace: the same over all directions, two random vectors' estimate.
        noise_scale: gradient noise scale ``tr(C) / |g|^2`` in examples, |g|^2 without the share of
            the noise; infinite where noise is all there is.
        linear_margin: ``2 / sharpness`` over the learning rate; SGD is unstable below 1.
        mean_square_margin: the same of the mean-square limit at this batch size.
        exit_steps: expected steps until the parameters leave the slab across the sharpest
            direction, at whose faces the loss has risen by the monitor's depth.
        mechanism: of that exit: "activated", "diffusive", "drift" or "unstable".
        stay: number of the stay the parameters are in, from 0.
        displacement: from where the stay began, as a share of the half-width of its slab.
        steepness: accumulated up to here, in units of learning rate over batch size.
        expected_steepness: what noise alone would have spent on average.
        note: what does not apply, and why.
        error: what went wrong.
    """

    step: int
    seconds: float = NAN
    learning_rate: float = NAN
    loss: float = NAN
    gradient_norm: float = NAN
    sharpness: float = NAN
    residual: float = NAN
    sharpness_error: float = NAN
    noise_variance: float = NAN
    noise_trace: float = NAN
    noise_scale: float = NAN
    linear_margin: float = NAN
    mean_square_margin: float = NAN
    exit_steps: float = NAN
    mechanism: str = ""
    stay: int = 0
    displacement: float = NAN
    steepness: float = NAN
    expected_steepness: float = NAN
    note: str = ""
    error: str = ""

    @property
    def excess_steepness(self) -> float:
        """Steepness beyond what noise alone would have spent."""
        return self.steepness - self.expected_steepness

    def __str__(self) -> str:
        if self.error:
            return f"step {self.step}: {self.error}"
        error = f" (± {self.sharpness_error:.1g})" if self.sharpness_error > 0 else ""
        shown = f"step {self.step}: loss {self.loss:.4g}, sharpness {self.sharpness:.4g}{error}"
        margin = np.fmin(self.linear_margin, self.mean_square_margin)
        shown += f", stability margin {margin:.3g}" if np.isfinite(margin) else ""
        if self.mechanism:
            shown += f", exit in {self.exit_steps:.3g} steps ({self.mechanism})"
        return shown + (f"; {self.note}" if self.note else "")


FIELDS: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Record)}
"""Name and type of each column."""

UNITS = {
    "step": "SGD steps",
    "seconds": "s",
    "exit_steps": "SGD steps",
    "noise_scale": "examples",
    "steepness": "learning rate / batch size",
    "expected_steepness": "learning rate / batch size",
}


def row_of(record: Record) -> list[str]:
    """The record as a line of a table."""
    return [
        value if isinstance(value := getattr(record, name), str) else repr(value) for name in FIELDS
    ]


def record_of(row: Sequence[str]) -> Record:
    """The record of a line.

    Raises:
        ValueError: when it is none.
    """
    values: dict[str, Any] = {
        name: kind(text) for (name, kind), text in zip(FIELDS.items(), row, strict=True)
    }
    return Record(**values)


def read_records(path: str | Path) -> list[Record]:
    """Records from the CSV file of a monitor, or from its folder.

    Raises:
        DataError: when there is no such file or it holds something else.
    """
    path = Path(path)
    path = path / "records.csv" if path.is_dir() else path
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
            if header != list(FIELDS):
                raise ValueError("its columns are others")
            return [record_of(row) for row in rows]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} holds no records of a monitor ({error}); give the file or folder "
            "that Monitor(folder=...) wrote"
        ) from error


def to_dataset(records: Sequence[Record], attributes: dict[str, Any]) -> xr.Dataset:
    """Every number of the records over the dimension ``step``."""
    columns = {
        name: (
            "step",
            np.array([getattr(record, name) for record in records]),
            {"units": UNITS.get(name, "1")},
        )
        for name in FIELDS
        if name != "step"
    }
    steps = np.array([record.step for record in records], np.int64)
    return xr.Dataset(
        columns,
        coords={"step": ("step", steps, {"units": UNITS["step"]})},
        attrs={"title": "a training run", **attributes},
    )


def to_json(records: Sequence[Record], attributes: dict[str, Any]) -> str:
    """Settings and records; what is not finite is null, or "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        return value

    rows = [{name: plain(getattr(record, name)) for name in FIELDS} for record in records]
    settings = {name: plain(value) for name, value in attributes.items()}
    return json.dumps({"monitor": settings, "records": rows}, indent=1)
