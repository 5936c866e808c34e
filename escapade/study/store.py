"""The results folder: one file per finished cell, written at once, so nothing finished is lost.

    study.toml          the specification
    minimum.nc          the minimum and its neighbourhood
    instanton.nc        the easiest path out of one region
    cells/<identity>.nc one finished cell: exit times (or, where they are too rare to wait for, the
                        runs of a splitting) and points, prediction, diagnosis
    study.json          title, seed, planned cells, versions, machine, command

Cells are self-describing NetCDF files: ``xarray.open_dataset(path, engine="h5netcdf")``.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from escapade.errors import StudyError
from escapade.exits import ExitSample, RareExit
from escapade.minimum import Alignment
from escapade.study.cell import Cell
from escapade.study.folder import require_writable, write_whole
from escapade.study.results import CellResult, InstantonSummary, MinimumSummary
from escapade.theory import Diagnosis, Groups, Prediction

UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What reading a damaged file raises."""


class Store:
    """A study's results folder."""

    def __init__(self, folder: Path):
        """Open or create a folder.

        Raises:
            StudyError: when it cannot be created or written.
        """
        self.folder = Path(folder)
        require_writable(self.folder, "cells")

    def claim(self, specification: str) -> None:
        """Make the folder this study's, or make sure that it is.

        Raises:
            StudyError: when it holds the results of another study.
        """
        path = self.folder / "study.toml"
        if path.is_file() and path.read_text("utf-8") != specification:
            raise StudyError(
                f"output folder {self.folder} holds the results of another study (or of an older "
                "version of this one); give another with --out, or delete it"
            )
        write_whole(path, lambda target: target.write_text(specification, "utf-8"))

    @property
    def specification(self) -> str:
        """Text of the study file."""
        return (self.folder / "study.toml").read_text("utf-8")

    def save_cell(self, result: CellResult) -> None:
        """Write one finished cell, atomically."""
        dataset = result.measured.to_xarray()
        if result.rare is not None:
            # What the data set of a splitting does not say already, but its paths.
            dataset.attrs["escapade_rare"] = json.dumps(
                {"relaxation_time": result.rare.relaxation_time}
            )
        dataset["exit_points"] = dataset["exit_points"].astype(np.float32)
        dataset["exit_shares"] = ("direction", result.exit_shares)
        dataset.attrs["escapade_cell"] = json.dumps(
            {
                "cell": asdict(result.cell),
                "prediction": _prediction_to_json(result.prediction),
                "exponential_law": _prediction_to_json(result.exponential_law),
                "diagnosis": {
                    "mechanism": result.diagnosis.mechanism,
                    "reason": result.diagnosis.reason,
                    "groups": _fields(result.diagnosis.groups),
                },
                "silence": result.silence,
            }
        )
        path = self._cell_path(result.cell)
        write_whole(path, lambda target: dataset.to_netcdf(target, engine="h5netcdf"))

    def load_cell(self, cell: Cell) -> CellResult | None:
        """A finished cell, or None; an unreadable file counts as unfinished."""
        path = self._cell_path(cell)
        if not path.is_file():
            return None
        try:
            with xr.open_dataset(path, engine="h5netcdf") as opened:
                dataset = opened.load()
            content = json.loads(dataset.attrs.pop("escapade_cell"))
            shares = np.asarray(dataset["exit_shares"])
            rare = "escapade_rare" in dataset.attrs
            return CellResult(
                cell=Cell(**content["cell"]),
                sample=None if rare else ExitSample.from_xarray(dataset.drop_vars("exit_shares")),
                rare=_rare_exit(dataset) if rare else None,
                prediction=_prediction_from_json(content["prediction"]),
                exponential_law=_prediction_from_json(content["exponential_law"]),
                diagnosis=Diagnosis(
                    content["diagnosis"]["mechanism"],
                    content["diagnosis"]["reason"],
                    _groups(content["diagnosis"]["groups"]),
                ),
                exit_shares=shares,
                silence=content["silence"],
            )
        except UNREADABLE:
            return None

    def save_minimum(self, minimum: MinimumSummary, origin: str) -> None:
        """Write the minimum and what it was found from, atomically."""
        content = asdict(minimum)
        content["alignment"] = _fields(minimum.alignment)
        arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
        scalars = {name: value for name, value in content.items() if name not in arrays}
        dataset = xr.Dataset(
            {name: ("direction", value) for name, value in arrays.items()},
            attrs={"escapade_minimum": json.dumps(scalars), "escapade_origin": origin},
        )
        path = self.folder / "minimum.nc"
        write_whole(path, lambda target: dataset.to_netcdf(target, engine="h5netcdf"))

    def load_minimum(self, origin: str | None = None) -> MinimumSummary | None:
        """The minimum, or None when it has not been found yet or its file is unreadable.

        Raises:
            StudyError: when an origin is given, and it was found from another.
        """
        path = self.folder / "minimum.nc"
        if not path.is_file():
            return None
        try:
            with xr.open_dataset(path, engine="h5netcdf") as opened:
                dataset = opened.load()
            content: dict[str, Any] = json.loads(dataset.attrs["escapade_minimum"])
            content["alignment"] = Alignment(**content["alignment"])
            content |= {str(name): np.asarray(value) for name, value in dataset.data_vars.items()}
            minimum = MinimumSummary(**content)
        except UNREADABLE:
            return None
        found_from = dataset.attrs.get("escapade_origin", origin)
        if origin is not None and found_from != origin:
            raise StudyError(
                f"output folder {self.folder} holds results for {found_from}, not for {origin}; "
                "give another folder"
            )
        return minimum

    def save_instanton(self, found: InstantonSummary) -> None:
        """Write the easiest path, atomically."""
        dataset = xr.Dataset(
            {
                "actions": ("point", found.actions),
                "along": (("point", "direction"), found.along),
            },
            coords={"times": ("point", found.times, {"units": "steps"})},
            attrs={
                "value": found.value,
                "error": found.error,
                "quadratic_value": found.quadratic_value,
                "method": found.method,
                "escapade_cell": json.dumps(asdict(found.cell)),
            },
        )
        path = self.folder / "instanton.nc"
        write_whole(path, lambda target: dataset.to_netcdf(target, engine="h5netcdf"))

    def load_instanton(self) -> InstantonSummary | None:
        """The easiest path; None when it has not been found or its file is unreadable."""
        path = self.folder / "instanton.nc"
        if not path.is_file():
            return None
        try:
            with xr.open_dataset(path, engine="h5netcdf") as opened:
                dataset = opened.load()
            attributes = dict(dataset.attrs)
            cell = Cell(**json.loads(attributes.pop("escapade_cell")))
            method = str(attributes.pop("method"))
            return InstantonSummary(
                cell=cell,
                method=method,
                times=np.asarray(dataset["times"]),
                actions=np.asarray(dataset["actions"]),
                along=np.asarray(dataset["along"]),
                **{name: float(value) for name, value in attributes.items()},
            )
        except UNREADABLE:
            return None

    def save_header(self, header: dict[str, Any], cells: list[Cell]) -> None:
        """Write what the study is and which cells it plans."""
        text = json.dumps({**header, "cells": [asdict(cell) for cell in cells]}, indent=2)
        write_whole(self.folder / "study.json", lambda target: target.write_text(text))

    def load_header(self) -> tuple[dict[str, Any], list[Cell]]:
        """What the study is and which cells it plans.

        Raises:
            StudyError: when the folder holds no study, or its study.json is damaged.
        """
        path = self.folder / "study.json"
        if not path.is_file():
            raise StudyError(f"{self.folder} holds no study; run `escapade study NAME` first")
        try:
            header = json.loads(path.read_text())
            return header, [Cell(**cell) for cell in header.pop("cells")]
        except UNREADABLE as error:
            raise StudyError(f"{path} is damaged ({error}); run the study again") from error

    def _cell_path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.identity}.nc"


def _rare_exit(dataset: xr.Dataset) -> RareExit:
    """A splitting from its data set; paths are not kept."""
    attributes = dataset.attrs
    return RareExit(
        rates=np.asarray(dataset["rates"]),
        fluxes=np.asarray(dataset["fluxes"]),
        probabilities=np.asarray(dataset["probabilities"]),
        exit_points=np.asarray(dataset["exit_points"]),
        exit_weights=np.asarray(dataset["exit_weights"]),
        relaxation_time=json.loads(attributes["escapade_rare"])["relaxation_time"],
        threshold=float(attributes["threshold"]),
        paths=(),
        steps_used=int(attributes["steps_used"]),
        burn_in=int(attributes["burn_in"]),
        method=str(attributes["method"]),
        seconds=float(attributes["seconds"]),
    )


def _fields(record: Any) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(record).items()
    }


def _groups(content: dict[str, Any]) -> Groups:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Groups(**values)


def _prediction_to_json(prediction: Prediction | None) -> dict[str, Any] | None:
    if prediction is None:
        return None
    return {**_fields(prediction), "groups": _fields(prediction.groups)}


def _prediction_from_json(content: dict[str, Any] | None) -> Prediction | None:
    if content is None:
        return None
    content = {**content, "assumptions": tuple(content["assumptions"])}
    return Prediction(**{**content, "groups": _groups(content["groups"])})
