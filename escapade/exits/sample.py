"""The result of simulating an ensemble of replicas until each leaves the region."""

import html
from functools import cached_property

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int64, Real

from escapade.errors import Diverged, InvalidArgument
from escapade.exits import statistics


def _int64(times: np.ndarray) -> Int64[np.ndarray, " replicas"]:
    times = np.asarray(times)
    if not np.issubdtype(times.dtype, np.integer):
        raise InvalidArgument(f"times has dtype {times.dtype}; give whole steps as integers")
    return times.astype(np.int64)


class ExitSample(eqx.Module):
    """Exit times, in SGD steps, and exit points of an ensemble of independent replicas.

    Replicas still inside after ``times[i]`` steps are ``censored``; those that produced NaN or
    infinity are ``diverged`` and excluded from every statistic, which is therefore conditional on
    not diverging. With censored replicas ``mean`` and ``interval`` rest on the exponential law;
    ``survival``, ``hazard`` and ``kaplan_meier`` assume no law.

    Every statistic raises Diverged if all replicas diverged.

    Attributes:
        times: the step of the exit, or the last step taken if the replica did not exit.
        censored: whether the replica was still inside after that step.
        diverged: whether the replica produced NaN or infinity.
        exit_points: the first state outside the region; the last state if censored.
        start: the state from which every replica started.
        max_steps: the step at which replicas are censored.
        seconds: wall time of the simulation.
        precision: name of the dtype in which the states were computed.
        engine: name of the engine that computed them.
        key: identity of the random stream.
    """

    times: Int64[np.ndarray, " replicas"] = eqx.field(converter=_int64)
    censored: Bool[np.ndarray, " replicas"] = eqx.field(converter=np.asarray)
    diverged: Bool[np.ndarray, " replicas"] = eqx.field(converter=np.asarray)
    exit_points: Float[np.ndarray, "replicas dim"] = eqx.field(converter=np.asarray)
    start: Float[np.ndarray, " dim"] = eqx.field(converter=np.asarray)
    max_steps: int = eqx.field(static=True)
    seconds: float = eqx.field(static=True)
    precision: str = eqx.field(static=True)
    engine: str = eqx.field(static=True)
    key: str = eqx.field(static=True, converter=str)

    def __check_init__(self) -> None:
        replicas = self.times.shape
        if len(replicas) != 1 or replicas[0] == 0:
            raise InvalidArgument(
                f"times has shape {replicas}; give one time for each of one or more replicas"
            )
        for name in ("censored", "diverged"):
            flags = getattr(self, name)
            if flags.shape != replicas or flags.dtype != np.bool_:
                raise InvalidArgument(
                    f"{name} has shape {flags.shape} and dtype {flags.dtype}; give one bool for "
                    f"each of the {self.replicas} times"
                )
        if self.start.ndim != 1 or self.exit_points.shape != (self.replicas, self.start.size):
            raise InvalidArgument(
                f"exit_points has shape {self.exit_points.shape} and start {self.start.shape}; "
                f"give shapes ({self.replicas}, dim) and (dim,)"
            )
        if self.times.min() < 1 or self.times.max() > self.max_steps:
            raise InvalidArgument(
                f"times range from {self.times.min()} to {self.times.max()}; give steps from 1 to "
                f"max_steps = {self.max_steps}"
            )
        if not np.isfinite(self.exit_points[~self.diverged]).all():
            raise InvalidArgument(
                "exit_points holds NaN or infinity for replicas that are not marked as diverged; "
                "mark them in `diverged`"
            )

    @property
    def replicas(self) -> int:
        """Number of replicas, whatever became of them."""
        return self.times.size

    @property
    def exits(self) -> int:
        """Number of replicas that left the region."""
        return int(np.count_nonzero(self._exited))

    @property
    def walker_steps(self) -> int:
        """Steps taken by all replicas together, diverged ones included."""
        return int(self.times.sum())

    @property
    def mean(self) -> float:
        """Mean exit time in steps; see :func:`statistics.exponential_mean`."""
        return statistics.exponential_mean(*self._data)

    @property
    def standard_error(self) -> float:
        """Standard error of ``mean`` in steps; see :func:`statistics.mean_standard_error`."""
        return statistics.mean_standard_error(*self._data)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of ``mean`` in steps; see :func:`statistics.mean_interval`."""
        return statistics.mean_interval(*self._data)

    @property
    def coefficient_of_variation(self) -> float:
        """Standard deviation over mean; see :func:`statistics.coefficient_of_variation`."""
        return float(self._variation.value)

    @cached_property
    def exponentiality(self) -> statistics.Exponentiality:
        """The test of the exponential law; see :func:`statistics.exponentiality_test`."""
        return statistics.exponentiality_test(*self._data)

    def kaplan_meier(self, confidence: float = 0.95) -> statistics.SurvivalCurve:
        """The survival curve with its limits; see :func:`statistics.kaplan_meier`."""
        return statistics.kaplan_meier(*self._data, confidence=confidence)

    @property
    def restricted_mean(self) -> statistics.Estimate:
        """Kaplan-Meier mean up to the last step observed, assuming no law, with standard error.

        Equals `mean` without censoring, and is a lower bound of it otherwise.
        """
        return statistics.restricted_mean(*self._data)

    def survival(
        self, t: int | float | Real[np.ndarray, "..."]
    ) -> float | Float[np.ndarray, "..."]:
        """Kaplan-Meier estimate of P(exit time > t), ``t`` in steps.

        NaN after the last step observed if some replica outlived it.
        """
        return self._survival_curve(t)

    def hazard(
        self, bins: int | Real[np.ndarray, " edges"] | None = None, confidence: float = 0.95
    ) -> statistics.Hazard:
        """Probability per step of leaving, in bins of time; see :func:`statistics.hazard`."""
        return statistics.hazard(*self._data, bins=bins, confidence=confidence)

    def exit_directions(
        self,
        eigenvectors: Real[np.ndarray, "dim k"],
        center: Real[np.ndarray, " dim"] | None = None,
    ) -> statistics.Estimate:
        """How much exits align with each eigenvector: the mean over exits of a squared cosine.

        The cosine is that of the angle between exit point - ``center`` (the start, unless given)
        and the eigenvector; for a full orthonormal set the k values sum to 1. NaN without an exit.
        The standard error is that of a mean over independent exits, NaN with fewer than two.

        Returns:
            An estimate with a value and a standard error of shape (k,).

        Raises:
            InvalidArgument: if a shape does not fit, an eigenvector is zero or the centre is an
                exit point.
        """
        dim = self.start.size
        eigenvectors = np.asarray(eigenvectors, dtype=float)
        center = np.asarray(self.start if center is None else center, dtype=float)
        if eigenvectors.ndim != 2 or len(eigenvectors) != dim or center.shape != (dim,):
            raise InvalidArgument(
                f"eigenvectors has shape {eigenvectors.shape} and center {center.shape}; give "
                f"eigenvectors as the columns of shape ({dim}, k) and a center of shape ({dim},)"
            )
        displacements = self.exit_points[self._exited] - center
        lengths = np.linalg.norm(displacements, axis=1)
        norms = np.linalg.norm(eigenvectors, axis=0)
        if not lengths.all() or not norms.all():
            raise InvalidArgument(
                "an eigenvector is zero or center is an exit point, which leaves a direction "
                "undefined; give non-zero eigenvectors and a center inside the region"
            )
        squared = (displacements @ eigenvectors / np.outer(lengths, norms)) ** 2
        unknown = np.full(norms.size, np.nan)
        return statistics.Estimate(
            squared.mean(axis=0) if self.exits else unknown,
            squared.std(axis=0, ddof=1) / np.sqrt(self.exits) if self.exits > 1 else unknown,
        )

    def to_xarray(self) -> xr.Dataset:
        """The sample with dimensions ``replica`` and ``parameter``, and its scalars as attributes.

        Attributes that are statistics (``mean_exit_time`` ...) are there to be read by people;
        ``from_xarray`` computes them anew.
        """
        steps = {"units": "SGD steps"}
        attributes = {
            "title": "sample of exit times",
            "max_steps": self.max_steps,
            "seconds": self.seconds,
            "precision": self.precision,
            "engine": self.engine,
            "key": self.key,
            "replicas": self.replicas,
            "exits": self.exits,
            "time_units": "SGD steps",
        }
        if not self.diverged.all():
            attributes["mean_exit_time"] = self.mean
            attributes["mean_exit_time_interval_95"] = np.array(self.interval)
            attributes["mean_exit_time_standard_error"] = self.standard_error
            attributes["coefficient_of_variation"] = self.coefficient_of_variation
            attributes["exponentiality_p_value"] = self.exponentiality.p_value
        return xr.Dataset(
            {
                "times": ("replica", self.times, {"long_name": "exit time", **steps}),
                "censored": ("replica", self.censored, {"long_name": "still inside"}),
                "diverged": ("replica", self.diverged, {"long_name": "NaN or infinity met"}),
                "exit_points": (("replica", "parameter"), self.exit_points),
                "start": ("parameter", self.start),
            },
            attrs=attributes,
        )

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset) -> "ExitSample":
        """The sample that ``to_xarray`` gave, also after a round trip through a NetCDF file.

        Raises:
            InvalidArgument: if a variable or attribute of the sample is missing.
        """
        variables = ("times", "censored", "diverged", "exit_points", "start")
        missing = [name for name in variables if name not in dataset]
        scalars = ("max_steps", "seconds", "precision", "engine", "key")
        missing += [name for name in scalars if name not in dataset.attrs]
        if missing:
            raise InvalidArgument(
                f"dataset lacks {', '.join(missing)}; give one made by ExitSample.to_xarray"
            )
        attributes = dataset.attrs
        return cls(
            **{name: dataset[name].to_numpy() for name in variables},
            max_steps=int(attributes["max_steps"]),
            seconds=float(attributes["seconds"]),
            precision=str(attributes["precision"]),
            engine=str(attributes["engine"]),
            key=str(attributes["key"]),
        )

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(len(label) for label, _ in rows)
        return "\n".join(["ExitSample", *(f"  {label:<{width}}  {text}" for label, text in rows)])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align: left'>{html.escape(label)}</th>"
            f"<td style='text-align: left'>{html.escape(text)}</td></tr>"
            for label, text in self._rows()
        )
        return f"<table><caption>ExitSample</caption>{cells}</table>"

    def _rows(self) -> list[tuple[str, str]]:
        """What both representations show: labels and texts."""
        diverged = int(np.count_nonzero(self.diverged))
        censored = self.replicas - diverged - self.exits
        counts = (
            f"{self.replicas:,}: {self.exits:,} exits, {censored:,} censored, {diverged:,} diverged"
        )
        rows = [("replicas", f"{counts} (excluded)" if diverged else counts)]
        if diverged < self.replicas:
            rows = [("mean exit time", self._mean_text()), *rows]
        if self.exits > 1:
            variation = self._variation
            spread = f"{variation.value:.3g} ± {variation.standard_error:.1g}"
            rows.append(("coefficient of variation", spread))
            rows.append(("exponentiality", repr(self.exponentiality)))
        share = censored / max(self.replicas - diverged, 1)
        if share > 0.1:
            contradicted = self.exits > 1 and self.exponentiality.p_value < 0.05
            law = "exponential law" + (", which the exits contradict" if contradicted else "")
            advice = "raise max_steps, or split for rare exits"
            text = f"{share:.0%} censored: the mean extrapolates by the {law}; {advice}"
            rows.append(("caution", text))
        effort = f"{self.walker_steps:,} steps in {self.seconds:.3g} s"
        return [*rows, ("computed by", f"{self.engine}, {self.precision}, {effort}")]

    def _mean_text(self) -> str:
        lower, upper = self.interval
        if not self.exits:
            return f"no exit seen; above {_readable(lower)} steps (95 %, if exponential)"
        return (
            f"{_readable(self.mean)} steps, 95 % interval {_readable(lower)} to {_readable(upper)}"
        )

    @cached_property
    def _exited(self) -> Bool[np.ndarray, " replicas"]:
        return ~self.censored & ~self.diverged

    @cached_property
    def _data(self) -> tuple[statistics.Times, statistics.Censored]:
        """Times and censoring of the replicas that did not diverge."""
        kept = ~self.diverged
        if not kept.any():
            raise Diverged(
                f"all {self.replicas} replicas diverged, so there is no exit time to average; "
                "lower the learning rate, or leave a smaller region"
            )
        return self.times[kept], self.censored[kept]

    @cached_property
    def _survival_curve(self) -> statistics.SurvivalCurve:
        return self.kaplan_meier()

    @cached_property
    def _variation(self) -> statistics.Estimate:
        return statistics.coefficient_of_variation(*self._data)


def _readable(steps: float) -> str:
    """A time in steps with about four digits, such as 24.31, 1,234 or 1.234e+07."""
    return f"{steps:,.0f}" if 1e3 <= steps < 1e7 else f"{steps:.4g}"
