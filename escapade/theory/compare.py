"""The verb `compare`: every theory on one escape, ranked by its error in log E[nu]."""

import json
from typing import Any

import equinox as eqx
import numpy as np
import xarray as xr

from escapade.errors import EscapadeError, InvalidArgument, in_one_line
from escapade.escape import Escape, require_escape
from escapade.exact import ExactExit
from escapade.exits import ExitSample, RareExit
from escapade.minimum import Neighbourhood
from escapade.theory._base import Theory
from escapade.theory.assumptions import LOGARITHMIC
from escapade.theory.catalogue import THEORIES
from escapade.theory.prediction import Prediction, readable_steps
from escapade.theory.setting import Setting

Measured = ExitSample | RareExit | ExactExit

FAILS = "FAILS: "


class Measurement(eqx.Module):
    """A mean exit time with its 95 % interval, in natural logarithms of steps.

    Attributes:
        log_mean: infinite where no replica left.
        log_low: lower end of the interval.
        log_high: upper end; infinite where no replica left.
        source: what measured it.
    """

    log_mean: float
    log_low: float
    log_high: float
    source: str


class Standing(eqx.Module):
    """How one theory stands on one escape.

    Attributes:
        theory: its name.
        title: its authors.
        prediction: what it says; None where it is silent.
        log_error: predicted minus measured log mean; NaN where either is missing.
        log_error_interval: 95 % interval of that error, from the measurement alone.
        silence: why it says nothing, or "".
    """

    theory: str
    title: str
    prediction: Prediction | None
    log_error: float
    log_error_interval: tuple[float, float]
    silence: str

    @property
    def failing(self) -> tuple[str, ...]:
        """What it takes for granted and is not so here."""
        if self.prediction is None:
            return ()
        lines = self.prediction.assumptions
        failing = [line.removeprefix(FAILS) for line in lines if line.startswith(FAILS)]
        return tuple(failing + [line for line in lines if line == LOGARITHMIC])

    @property
    def agrees(self) -> bool:
        """Whether the interval reaches zero once widened by the error that the theory states.

        Always False for a theory that states none, unless the bare interval does.
        """
        if self.prediction is None or np.isnan(self.log_error_interval[0]):
            return False
        stated = self.prediction.relative_error
        slack = float(np.log1p(stated)) if np.isfinite(stated) else 0.0
        low, high = self.log_error_interval
        return bool(low - slack <= 0 <= high + slack)

    @property
    def reason(self) -> str:
        """Why it is silent, or what it assumes that fails here."""
        return self.silence or "; ".join(self.failing)


class Comparison(eqx.Module):
    """All theories on one escape.

    Attributes:
        escape: the problem in words.
        measured: the mean exit time they are held against; None where nothing was measured.
        standings: smallest error in log E[nu] first; without a measurement in the order of the
            catalogue; the silent ones last.
    """

    escape: str
    measured: Measurement | None
    standings: tuple[Standing, ...]

    def __getitem__(self, theory: str) -> Standing:
        for standing in self.standings:
            if standing.theory == theory:
                return standing
        raise InvalidArgument(
            f"theory is {theory!r}; compared were {', '.join(s.theory for s in self.standings)}"
        )

    @property
    def speaking(self) -> tuple[Standing, ...]:
        """Those that say something, best first."""
        return tuple(found for found in self.standings if found.prediction is not None)

    def to_json(self) -> str:
        """Everything as JSON text; numbers that are not finite are null."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain containers; numbers that are not finite are None."""
        measured = self.measured
        return {
            "escape": self.escape,
            "measured": None
            if measured is None
            else {
                "log_mean": _finite(measured.log_mean),
                "log_interval_95": [_finite(measured.log_low), _finite(measured.log_high)],
                "source": measured.source,
            },
            "theories": [_standing_as_dict(standing) for standing in self.standings],
        }

    def to_xarray(self) -> xr.Dataset:
        """Predictions and errors with the dimension ``theory``, in the order of the ranking."""
        predictions = [standing.prediction for standing in self.standings]
        nan = float("nan")
        return xr.Dataset(
            {
                "log_mean": (
                    "theory",
                    [nan if one is None else one.log_mean for one in predictions],
                    {"long_name": "log of the predicted mean exit time in SGD steps"},
                ),
                "log_error": (
                    "theory",
                    [standing.log_error for standing in self.standings],
                    {"long_name": "predicted minus measured"},
                ),
                "log_error_interval": (
                    ("theory", "end"),
                    np.array([standing.log_error_interval for standing in self.standings]),
                ),
                "relative_error": (
                    "theory",
                    [nan if one is None else one.relative_error for one in predictions],
                ),
                "reason": ("theory", [standing.reason for standing in self.standings]),
            },
            coords={
                "theory": [standing.theory for standing in self.standings],
                "end": ["low", "high"],
            },
            attrs={
                "escape": self.escape,
                "measured_log_mean": nan if self.measured is None else self.measured.log_mean,
                "time_units": "SGD steps",
            },
        )

    def __str__(self) -> str:
        lines = [self.escape]
        if self.measured is not None:
            ends = (self.measured.log_low, self.measured.log_high)
            low, high = (readable_steps(end) if np.isfinite(end) else "infinity" for end in ends)
            mean = (
                f"mean exit time {readable_steps(self.measured.log_mean)} steps, "
                if np.isfinite(self.measured.log_mean)
                else ""
            )
            lines.append(f"measured: {mean}95 % interval {low} to {high} ({self.measured.source})")
        width = max(len(standing.title) for standing in self.standings)
        lines.append(f"{'theory':<{width}}  {'E[nu]':>9}  {'log error':>9}  95 % interval")
        for standing in self.speaking:
            assert standing.prediction is not None
            low_error, high_error = standing.log_error_interval
            error, between = "", ""
            if not np.isnan(standing.log_error):
                error = f"{standing.log_error:+.3f}"
            if not np.isnan(low_error):
                between = f"[{low_error:+.3f}, {high_error:+.3f}]"
            lines.append(
                f"{standing.title:<{width}}  {readable_steps(standing.prediction.log_mean):>9}  "
                f"{error:>9}  {between}".rstrip()
            )
            lines += [f"    fails here: {line}" for line in standing.failing]
        silences: dict[str, list[str]] = {}
        for standing in self.standings:
            if standing.prediction is None:
                silences.setdefault(standing.silence, []).append(standing.title)
        for silence, titles in silences.items():
            lines += [f"silent: {'; '.join(titles)}", f"    {silence}"]
        return "\n".join(lines)


def compare(
    escape: Escape,
    measured: Measured | None = None,
    *,
    theories: tuple[str, ...] | None = None,
    neighbourhood: Neighbourhood | None = None,
) -> Comparison:
    """Ask every theory about one escape, and rank them by their error in log E[nu].

    Args:
        escape: the problem.
        measured: what `simulate`, `split`, `importance_sample` or `solve` gave for it; nothing is
            ranked without.
        theories: names of those to ask; all unless given.
        neighbourhood: Hessian and noise at the minimum, if already computed.

    Raises:
        InvalidArgument: when an argument is of another kind, or a theory is unknown.
        Diverged: when every replica of the sample diverged.
    """
    require_escape(escape)
    if not isinstance(neighbourhood, Neighbourhood | None):
        raise InvalidArgument(
            f"neighbourhood is {neighbourhood!r}; give what escapade.neighbourhood(escape) returned"
        )
    asked = checked_theories(theories)
    measurement = None if measured is None else measurement_of(measured)
    setting = Setting(escape, neighbourhood)
    standings = [_standing(theory, setting, measurement) for theory in asked]
    order = sorted(range(len(standings)), key=lambda index: _rank(standings[index]))
    return Comparison(str(escape), measurement, tuple(standings[index] for index in order))


def checked_theories(names: tuple[str, ...] | None) -> tuple[Theory, ...]:
    """Theories by their names, all for None.

    Raises:
        InvalidArgument: when a name is unknown or none is given.
    """
    if names is None:
        return tuple(THEORIES.values())
    several = isinstance(names, tuple | list)
    if not several or not names or any(name not in THEORIES for name in names):
        raise InvalidArgument(
            f"theories is {names!r}; give a tuple of some of {', '.join(THEORIES)}, or leave it out"
        )
    return tuple(THEORIES[name] for name in names)


def measurement_of(measured: Measured) -> Measurement:
    """Mean and interval of whatever measured an escape.

    Raises:
        InvalidArgument: when it is none of the results of `simulate`, `split`,
            `importance_sample` and `solve`.
    """
    if isinstance(measured, ExactExit):
        slack = float(np.log1p(measured.error))
        mean = measured.log_mean
        return Measurement(mean, mean - slack, mean + slack, f"exact: {measured.method}")
    if isinstance(measured, ExitSample):
        with np.errstate(divide="ignore"):
            low, high = np.log(measured.interval)
            mean = float(np.log(measured.mean))
        kept = int(np.count_nonzero(~measured.diverged))
        source = f"{measured.exits} exits of {kept} replicas"
        if kept < measured.replicas:
            source += f", {measured.replicas - kept} more diverged"
        return Measurement(mean, float(low), float(high), source)
    if isinstance(measured, RareExit):
        low, high = np.log(measured.interval)
        return Measurement(measured.log_mean, float(low), float(high), measured.method)
    raise InvalidArgument(
        f"measured is {measured!r}; give what simulate, split, importance_sample or solve returned"
    )


def _standing(theory: Theory, setting: Setting, measured: Measurement | None) -> Standing:
    nan = float("nan")
    try:
        prediction = theory.predict_in(setting)
    except EscapadeError as error:
        return Standing(theory.name, theory.title, None, nan, (nan, nan), in_one_line(error))
    log_error, interval = nan, (nan, nan)
    if measured is not None:
        if np.isfinite(measured.log_mean):
            log_error = prediction.log_mean - measured.log_mean
        interval = (
            prediction.log_mean - measured.log_high,
            prediction.log_mean - measured.log_low,
        )
    return Standing(theory.name, theory.title, prediction, log_error, interval, "")


def _rank(standing: Standing) -> tuple[bool, float]:
    error = abs(standing.log_error)
    return standing.prediction is None, np.inf if np.isnan(error) else error


def _standing_as_dict(standing: Standing) -> dict[str, Any]:
    prediction = standing.prediction
    return {
        "theory": standing.theory,
        "title": standing.title,
        "log_mean": None if prediction is None else _finite(prediction.log_mean),
        "relative_error": None if prediction is None else _finite(prediction.relative_error),
        "exponent": None if prediction is None else _finite(prediction.exponent),
        "log_error": _finite(standing.log_error),
        "log_error_interval_95": [_finite(end) for end in standing.log_error_interval],
        "agrees": standing.agrees,
        "assumptions": [] if prediction is None else list(prediction.assumptions),
        "silence": standing.silence,
        "source": "" if prediction is None else prediction.source,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
