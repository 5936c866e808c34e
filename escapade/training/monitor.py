"""Watching a training run: sharpness, noise, stability, stays and escapes, every k steps."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import equinox as eqx
import numpy as np
import xarray as xr

from escapade.dynamics import MinibatchSGD
from escapade.dynamics.streams import seed_words
from escapade.errors import InvalidArgument, in_one_line
from escapade.landscape import AbstractEmpirical
from escapade.landscape._base import positive_number
from escapade.minimum.krylov.basis import Rows
from escapade.precision import PRECISIONS
from escapade.training import hooks
from escapade.training.log import Log, Scalars
from escapade.training.observation import Observation, observe
from escapade.training.optimiser import Optimiser, optimiser_of
from escapade.training.outlook import slab_exit
from escapade.training.pace import Pace
from escapade.training.record import NAN, Record, to_dataset
from escapade.training.stays import RESUMED, Stay, stays
from escapade.training.steepness import Batches, Increment, interval_steepness
from escapade.training.subset import Point, Subset

EXAMPLES = 256
"""Examples watched unless said otherwise."""

FOLLOW, FIND = 6, 20
"""Hessian products to follow the sharpest direction, and to find it at first."""


class Monitor:
    """Watches training through any loop, and changes nothing of it.

    Call `step` after each step of the optimiser, or let `torch_hook` or `lightning` do so. Every
    `every` steps it looks at the loss over a fixed subset of the examples and appends a `Record`.
    An error inside a record never reaches the training loop: it is kept in the record's `error`,
    and warned of once.

    ::

        monitor = esc.Monitor(landscape, learning_rate=0.1, batch_size=64, folder="run")
        for inputs, targets in batches:
            ...
            monitor.step(model)
        monitor.close()

    Attributes:
        records: what was seen, oldest first; those of the run that `folder` continues included.
        preparation: seconds spent at construction: compiling, finding the sharpest direction.
        record_seconds: that the last record took.
    """

    def __init__(
        self,
        landscape: AbstractEmpirical,
        learning_rate: float,
        batch_size: int,
        *,
        every: int | None = None,
        folder: str | Path | None = None,
        tensorboard: Any = None,
        sampling: str = "with_replacement",
        examples: int | None = None,
        depth: float | None = None,
        directions: int = 1,
        momentum: float = 0.0,
        optimiser: str = "SGD",
        precision: str = "float32",
        key: int = 0,
    ):
        """Prepare to watch; the landscape is the loss that is trained, over all examples.

        Args:
            landscape: a network on data (`landscapes.network_landscape`) or any loss over examples.
            learning_rate: of the training; `step` takes another where it is scheduled.
            batch_size: of the training.
            every: steps between records; chosen from measured times unless given, so that records
                take about 3 % of the time.
            folder: where ``records.csv`` grows row by row and ``records.json`` is written at the
                end. A folder that holds records is continued after their last step.
            tensorboard: a writer with ``add_scalar(name, value, step)``, or a folder.
            sampling: of minibatches: "with_replacement", "without_replacement" or
                "shuffled_epochs" (what a shuffling loader does).
            examples: how many are watched; 256 unless given. A record costs some 15 gradients of
                them, and its errors fall with the root of their number.
            depth: rise of the loss that counts as having left; the loss at each record (so that it
                doubles) unless given.
            directions: how many of the sharpest directions the steepness is accumulated along.
            momentum: of heavy-ball momentum.
            optimiser: its name. What a record says of stability, exits and steepness is about
                plain SGD, and NaN under momentum or another name; `torch_hook` finds out itself.
            precision: "float32" or "float64", of what is measured.
            key: seed of the subset and the random vectors.

        Raises:
            InvalidArgument: when an argument does not fit.
            Diverged: when the loss or gradient where the landscape was built is not finite.
        """
        if not isinstance(landscape, AbstractEmpirical):
            raise InvalidArgument(
                f"landscape is {type(landscape).__name__}; a monitor needs a loss over examples: "
                "landscapes.network_landscape(model, data) or landscapes.Empirical(...)"
            )
        dynamics = MinibatchSGD(learning_rate, batch_size, sampling).prepared(landscape)
        if every is not None:
            every = _whole(every, "every", 10**12)
        if not 0 <= momentum < 1:
            raise InvalidArgument(f"momentum is {momentum}; give a number from 0 to below 1")
        if precision not in PRECISIONS:
            raise InvalidArgument(f"precision is {precision!r}; choose {' or '.join(PRECISIONS)}")
        began = time.perf_counter()
        self._dynamics = dynamics
        self._optimiser = Optimiser(optimiser, momentum)
        self._torch_optimizer: Any = None
        self._depth = None if depth is None else positive_number(depth, "depth")
        self._precision, self._key = precision, key
        directions = _whole(directions, "directions", landscape.dim)
        examples = EXAMPLES if examples is None else _whole(examples, "examples", 10**12)
        self._generator = np.random.default_rng(seed_words(key))
        self._subset = Subset(landscape, examples, self._generator)
        self._batches = Batches(
            dynamics.batch_size, sampling, self._subset.population, self._subset.error_share
        )
        self._factor = dynamics.finite_population_factor(landscape)
        self._pace = Pace(every)
        self._scalars = None if tensorboard is None else Scalars(tensorboard)
        self._log = None if folder is None else Log(folder)
        self.records: list[Record] = [] if self._log is None else self._log.read()
        self._step = self.records[-1].step if self.records else 0
        self._resumed = bool(self.records)
        self._stay = self.records[-1].stay if self.records else 0
        self._home: _Slab | None = None
        self._before: _Seen | None = None
        self._rates: list[float] = []
        self._steepness = _last_finite(self.records, "steepness")
        self._expected = _last_finite(self.records, "expected_steepness")
        self._warned = False
        self._rows = self._generator.standard_normal((directions, landscape.dim)).astype(precision)
        rate = dynamics.learning_rate
        # Twice: what is compiled at the first is timed at the second.
        self._rows = self._observe(landscape.initial, rate, FIND).rows
        before = time.perf_counter()
        self._rows = self._observe(landscape.initial, rate, FOLLOW).rows
        self.record_seconds = time.perf_counter() - before
        self.preparation = time.perf_counter() - began

    @property
    def every(self) -> int | None:
        """Steps between records; None until it has been chosen."""
        return self._pace.every

    @property
    def overhead(self) -> float:
        """Share of the time since the first step that was spent in the monitor."""
        return self._pace.overhead

    @property
    def seconds(self) -> float:
        """Time spent in the monitor since the first step."""
        return self._pace.spent

    @property
    def stays(self) -> list[Stay]:
        """The run as a sequence of stays and escapes."""
        return stays(self.records)

    def step(
        self, parameters: Any, learning_rate: float | None = None, step: int | None = None
    ) -> None:
        """Take notice of one step of training, after it has been made.

        Args:
            parameters: a flat vector of shape (dim,), a PyTorch module that is or holds the
                landscape's, or a pytree of the landscape's own structure.
            learning_rate: of this step, where it is not the monitor's.
            step: number of steps done, where it is not one more than before. Nothing is recorded
                up to the last step that is recorded already.
        """
        self._notice(
            parameters,
            lambda: self._dynamics.learning_rate if learning_rate is None else learning_rate,
            step,
        )

    def torch_hook(self, optimizer: Any, model: Any) -> Any:
        """Call `step` after every step of a PyTorch optimiser; returns a handle to ``remove()``.

        The learning rate is that of the optimiser at each step, its momentum and name are noted.
        """

        def after(optimizer: Any, *_: Any) -> None:
            self._notice(model, lambda: self._follow(optimizer))

        return optimizer.register_step_post_hook(after)

    def lightning(self) -> Any:
        """A callback for Lightning's ``Trainer(callbacks=[monitor.lightning()])``.

        It subclasses the ``Callback`` of whichever Lightning is installed, if one is.
        """
        stepped: list[Any] = []  # the optimiser and its learning rate, before a scheduler moves it

        def before(optimizer: Any) -> None:
            stepped[:] = optimizer, optimizer.param_groups[0].get("lr")

        def rate(trainer: Any) -> float:
            if not stepped:
                return self._follow(trainer.optimizers[0])
            self._torch_optimizer, learning_rate = stepped
            return float(learning_rate)

        def after(trainer: Any, model: Any, step: int) -> None:
            self._notice(model, lambda: rate(trainer), step)

        return hooks.lightning_callback(before, after, self.close)

    def close(self) -> None:
        """Write the JSON file and finish what was opened here; more steps may follow."""
        if self._log is not None:
            self._log.close(self.records, self._attributes())
        if self._scalars is not None:
            self._scalars.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_xarray(self) -> xr.Dataset:
        """The records over the dimension ``step``."""
        return to_dataset(self.records, self._attributes())

    def __repr__(self) -> str:
        every = "an interval to be chosen" if self.every is None else f"{self.every} steps"
        last = f"; {self.records[-1]}" if self.records else ""
        return (
            f"Monitor of {self._subset.examples} of {self._subset.population} examples every "
            f"{every}, overhead {100 * self.overhead:.2g} %{last}"
        )

    def _attributes(self) -> dict[str, Any]:
        return {
            "learning_rate": self._dynamics.learning_rate,
            "batch_size": self._dynamics.batch_size,
            "sampling": self._dynamics.sampling,
            "optimiser": self._optimiser.name,
            "momentum": self._optimiser.momentum,
            "examples": self._subset.examples,
            "population": self._subset.population,
            "depth": NAN if self._depth is None else self._depth,
            "precision": self._precision,
            "key": self._key,
            "every": 0 if self.every is None else self.every,
            "preparation": self.preparation,
            "overhead": self.overhead,
        }

    def _notice(
        self, parameters: Any, learning_rate: Callable[[], float], step: int | None = None
    ) -> None:
        """One step of training: whatever fails does not reach it."""
        began = self._pace.begin()
        try:
            rate = float(learning_rate())
            self._rates.append(rate)
            self._step = self._step + 1 if step is None else int(step)
            known = bool(self.records) and self._step <= self.records[-1].step
            if not known and self._pace.due(self.record_seconds):
                before = time.perf_counter()
                self._record(self._step, parameters, rate)
                self.record_seconds = time.perf_counter() - before
        except Exception as error:
            self._warn(f"the monitor failed at step {self._step} ({in_one_line(error)})")
        finally:
            self._pace.end(began)

    def _follow(self, optimizer: Any) -> float:
        """Learning rate of a PyTorch optimiser, whose rule the next record will look at."""
        self._torch_optimizer = optimizer
        return float(optimizer.param_groups[0]["lr"])

    def _observe(self, theta: Point, learning_rate: float, max_products: int) -> Observation:
        return observe(
            self._subset.landscape.expand(theta, precision=self._precision),
            self._rows,
            self._generator,
            max_products=max_products,
            population=self._subset.population,
            learning_rate=learning_rate,
            batch_size=self._dynamics.batch_size,
            sampling_factor=self._factor,
        )

    def _record(self, step: int, parameters: Any, learning_rate: float) -> None:
        """Look, and keep the record; whatever fails is kept in it."""
        seconds = self._pace.seconds
        rates, self._rates = np.array(self._rates), []
        before, self._before = self._before, None
        if before is not None and step - before.step != len(rates):
            before = None  # steps were left out: their learning rates are not known
        record = Record(step, seconds, learning_rate, stay=self._stay)
        try:
            with _torch_randomness_kept(), np.errstate(all="ignore"):
                if self._torch_optimizer is not None:
                    decay = float(getattr(self._subset.landscape, "weight_decay", 0.0))
                    self._optimiser = optimiser_of(self._torch_optimizer, decay)
                theta = self._subset.theta(parameters)
                seen = self._observe(theta, learning_rate, FOLLOW)
                record = self._judge(record, seen, theta, before, rates)
                self._before = _Seen(step, seen, _positions(seen.rows, theta))
                self._rows = seen.rows
        except Exception as error:
            record = eqx.tree_at(
                lambda it: it.error, record, f"{type(error).__name__}: {in_one_line(error)}"
            )
            self._warn(f"no record at step {step}: {in_one_line(error)}")
        self.records.append(record)
        for sink in (self._log, self._scalars):
            if sink is not None:
                sink.write(record)

    def _judge(
        self,
        record: Record,
        seen: Observation,
        theta: Point,
        before: "_Seen | None",
        rates: np.ndarray,
    ) -> Record:
        rule, rate = self._optimiser, record.learning_rate
        notes = [rule.note]
        curvature, noise = float(seen.curvatures[0]), float(seen.noise[0, 0])
        depth = seen.loss if self._depth is None else self._depth
        half_width = float(np.sqrt(2 * depth / abs(curvature))) if depth > 0 and curvature else NAN
        values: dict[str, Any] = {
            "loss": seen.loss,
            "gradient_norm": seen.gradient_norm,
            "sharpness": curvature,
            "residual": seen.residual,
            "sharpness_error": self._sharpness_error(seen),
            "noise_variance": noise,
            "noise_trace": seen.noise_trace,
            "noise_scale": self._noise_scale(seen),
            "linear_margin": (
                rule.linear_limit / (rate * curvature)
                if curvature > 0
                else rule.linear_limit * np.inf
            ),
        }
        if rule.plain:
            exit = slab_exit(
                float(seen.slopes[0]),
                curvature,
                noise * self._factor,
                half_width,
                seen.stability,
                self._dynamics.batch_size,
            )
            values["mean_square_margin"] = seen.stability.mean_square_limit / rate
            values["exit_steps"], values["mechanism"] = exit.steps, exit.mechanism
            if before is not None:
                increment = self._spent(before, theta, rates)
                if np.isnan(increment.value):
                    notes.append("the steepness of the interval before is not counted: no law")
                else:
                    self._steepness += increment.value
                    self._expected += increment.expected
            values["steepness"], values["expected_steepness"] = self._steepness, self._expected
        if self._resumed and self._home is None:
            notes.append(RESUMED)
        values["displacement"] = self._settle(seen, theta, half_width)
        values["stay"] = self._stay
        values["note"] = "; ".join(filter(None, notes))
        return Record(record.step, record.seconds, rate, **values)

    def _sharpness_error(self, seen: Observation) -> float:
        spread = float(seen.stability.curvature_spread[0]) / np.sqrt(max(self._factor, 1e-300))
        return float(spread * np.sqrt(self._subset.error_share))

    def _noise_scale(self, seen: Observation) -> float:
        square = seen.gradient_norm**2 - seen.noise_trace * self._subset.error_share
        return seen.noise_trace / square if square > 0 else float("inf")

    def _spent(self, before: "_Seen", theta: Point, rates: np.ndarray) -> Increment:
        moved = _positions(before.observation.rows, theta) - before.positions
        return interval_steepness(before.observation, moved, rates, self._batches, before.step)

    def _settle(self, seen: Observation, theta: Point, half_width: float) -> float:
        """Share of the way out of the stay's slab; a new stay begins where that is one."""
        share = 0.0
        if self._home is not None:
            moved = float(_positions(self._home.row[None], theta)[0]) - self._home.position
            share = abs(moved) / self._home.half_width
            if share < 1:
                return share
        if not np.isfinite(half_width):
            return share
        if self._home is not None or self._resumed:
            self._stay += 1
        self._resumed = False
        row = seen.rows[0]
        self._home = _Slab(row, float(_positions(row[None], theta)[0]), half_width)
        return share

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(f"{text}; training goes on, further failures are silent", stacklevel=4)
        self._warned = True


class _Seen(eqx.Module):
    """The last record's observation, and where it was made."""

    step: int
    observation: Observation
    positions: np.ndarray


class _Slab(eqx.Module):
    """The region of the present stay."""

    row: np.ndarray
    position: float
    half_width: float


def _positions(rows: Rows, theta: Point) -> np.ndarray:
    return np.array([np.vdot(row.astype(np.float64), theta) for row in rows])


def _last_finite(records: list[Record], name: str) -> float:
    values = [getattr(record, name) for record in records]
    return next((value for value in reversed(values) if np.isfinite(value)), 0.0)


def _whole(number: int, argument: str, most: int) -> int:
    if isinstance(number, bool) or int(number) != number or not 1 <= number <= most:
        limit = f" and at most {most}" if most < 10**12 else ""
        raise InvalidArgument(f"{argument} is {number!r}; give a whole number of at least 1{limit}")
    return int(number)


@contextlib.contextmanager
def _torch_randomness_kept() -> Iterator[None]:
    """PyTorch's global random stream stays where it is, whatever a network draws."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
    else:
        with torch.random.fork_rng(devices=[]):
            yield
