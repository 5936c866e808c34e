"""From a specification to escape problems: landscape, minimum, plan of cells, one cell's escape."""

import functools
import itertools
import math
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float

from escapade import data, noise
from escapade.dynamics import (
    AbstractDynamics,
    ContinuousSGD,
    GaussianSGD,
    LangevinSGD,
    MinibatchSGD,
)
from escapade.errors import EscapadeError, StudyError
from escapade.escape import Escape
from escapade.landscape import (
    MLP,
    AbstractLandscape,
    AbstractLoss,
    ConvolutionalNetwork,
    Empirical,
    Quadratic,
    StyblinskiTang,
    logistic_regression,
    network_landscape,
    rescale,
)
from escapade.landscape.descent import jacobian
from escapade.minimum import Minimum, Neighbourhood, find_minimum, train
from escapade.region import AbstractRegion, Ball, HalfSpace, Slab, Sublevel
from escapade.study.cell import Cell
from escapade.study.specification import Grid, LandscapeSpecification, Specification
from escapade.theory import Prediction, predict
from escapade.theory.groups import SHELL, local_covariance, measure_groups
from escapade.theory.prediction import Groups

TOO_RARE = 8.0
"""Barrier above which the method "auto" splits."""


class Problem:
    """A specification's landscape at its minimum, ready to give the escape of any cell."""

    def __init__(
        self,
        specification: Specification,
        landscape: AbstractLandscape,
        theta: Float[np.ndarray, " dim"],
    ):
        """A landscape with its minimum."""
        self.specification = specification
        self.landscape = landscape
        self.theta = theta
        self.base_jacobian = functools.cache(lambda: jacobian(landscape, theta))

    @functools.cached_property
    def sharpest_direction(self) -> Float[np.ndarray, " dim"]:
        """Unit eigenvector of the largest Hessian eigenvalue; the sign is fixed."""
        matrix = self.base_jacobian()
        vector = np.linalg.eigh(0.5 * (matrix + matrix.T))[1][:, -1]
        return vector * np.sign(vector[np.argmax(np.abs(vector))])

    @functools.cached_property
    def sharpness(self) -> float:
        """Largest Hessian eigenvalue of the unscaled landscape."""
        matrix = self.base_jacobian()
        return float(np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-1])

    @functools.lru_cache(maxsize=16)  # noqa: B019 - a problem lives as long as its study
    def scaled(
        self, sharpness: float, lambda_max: float | None = None
    ) -> tuple[AbstractLandscape, Float[np.ndarray, " dim"]]:
        """Landscape and minimum with every Hessian eigenvalue multiplied, or the largest replaced.

        Raises:
            StudyError: when the landscape is a drift, which has no loss to rescale; when it is not
                quadratic, or `lambda_max` would not be its largest eigenvalue.
        """
        landscape = self.landscape if lambda_max is None else self._with_largest(lambda_max)
        if sharpness == 1:
            return landscape, self.theta
        if not isinstance(landscape, AbstractLoss):
            raise StudyError("sharpness other than 1 needs a landscape with a loss")
        return rescale(landscape, sharpness), self.theta / math.sqrt(sharpness)

    def _with_largest(self, eigenvalue: float) -> Quadratic:
        if not isinstance(self.landscape, Quadratic):
            raise StudyError(
                "lambda_max needs a quadratic landscape, where one eigenvalue can be replaced; use "
                "sharpness, which multiplies them all"
            )
        eigenvalues, vectors = np.linalg.eigh(self.landscape.hessian)
        if len(eigenvalues) > 1 and eigenvalue <= eigenvalues[-2]:
            raise StudyError(
                f"lambda_max is {eigenvalue:g}, but another eigenvalue is {eigenvalues[-2]:g}; "
                "give a larger one"
            )
        eigenvalues[-1] = eigenvalue
        matrix = vectors * eigenvalues @ vectors.T
        return Quadratic(0.5 * (matrix + matrix.T), self.landscape.minimum)

    def _jacobian(self, sharpness: float, lambda_max: float | None) -> Float[np.ndarray, "dim dim"]:
        if lambda_max is None:
            return sharpness * self.base_jacobian()
        return sharpness * self._with_largest(lambda_max).hessian

    @functools.lru_cache(maxsize=16)  # noqa: B019
    def covariance(
        self, sharpness: float, lambda_max: float | None = None
    ) -> Float[np.ndarray, "dim dim"]:
        """Covariance of one example's gradient; c H with c = 1 where there are no examples."""
        landscape, theta = self.scaled(sharpness, lambda_max)
        if isinstance(landscape, Empirical):
            return noise.Empirical().covariance(landscape, theta)
        return noise.HessianProportional().covariance(landscape, theta)

    def noise(self, cell: Cell) -> noise.AbstractNoise:
        """Constant noise of a cell's Gaussian or continuous dynamics.

        Unless the cell gives its strength, isotropic noise has the trace of the examples'
        covariance, and noise proportional to the Hessian its c of least squares
        (`Alignment.c`); both have 1 where there are no examples.
        """
        covariance = self.covariance(cell.sharpness, cell.lambda_max)
        if cell.noise == "own":
            return noise.Constant(covariance)
        strength = cell.noise_strength
        jacobian = self._jacobian(cell.sharpness, cell.lambda_max)
        if strength is None and not isinstance(self.landscape, Empirical):
            strength = 1.0
        if cell.noise == "isotropic":
            return noise.Isotropic(strength or float(np.trace(covariance)) / len(covariance))
        return noise.Constant(
            (strength or Neighbourhood(jacobian, covariance).alignment.c) * jacobian
        )

    @functools.lru_cache(maxsize=64)  # noqa: B019
    def _neighbourhood(self, cell: Cell) -> Neighbourhood:
        landscape, theta = self.scaled(cell.sharpness, cell.lambda_max)
        chain = self._dynamics(cell).prepared(landscape)
        return Neighbourhood(
            self._jacobian(cell.sharpness, cell.lambda_max),
            chain.noise_covariance(landscape, theta),
        )

    def neighbourhood(self, cell: Cell) -> Neighbourhood:
        """Hessian and noise of a cell, computed once for all cells that share them."""
        batch = cell.batch_size if cell.dynamics.startswith("minibatch_") else 1
        shared = replace(
            _problem_of(cell), learning_rate=1.0, batch_size=batch, region="", size=1.0
        )
        return self._neighbourhood(shared)

    def escape(self, cell: Cell) -> Escape:
        """The escape problem of a cell."""
        return self._escape(_problem_of(cell))

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _escape(self, cell: Cell) -> Escape:
        landscape, theta = self.scaled(cell.sharpness, cell.lambda_max)
        region = self._region(cell.region, cell.size)
        return Escape(landscape, self._dynamics(cell), region, minimum=theta)

    def prediction(self, cell: Cell) -> Prediction:
        """The uniform mean exit time of a cell, computed once.

        Raises:
            EscapadeError: when no theory applies.
        """
        return self._prediction(_problem_of(cell))

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _prediction(self, cell: Cell) -> Prediction:
        return predict(self._escape(cell), neighbourhood=self.neighbourhood(cell))

    def _dynamics(self, cell: Cell) -> AbstractDynamics:
        kind, scale = cell.dynamics, (cell.learning_rate, cell.batch_size)
        if kind.startswith("minibatch"):
            sampling = kind.removeprefix("minibatch").removeprefix("_") or "with_replacement"
            return MinibatchSGD(*scale, sampling)
        if kind == "langevin":
            # Isotropic noise of the same variance along the sharpest direction, so that a slab
            # of the same width has the same barrier.
            covariance = self.covariance(cell.sharpness, cell.lambda_max)
            direction = self.sharpest_direction
            return LangevinSGD(*scale, float(direction @ covariance @ direction))
        if kind == "continuous":
            return ContinuousSGD(*scale, self.noise(cell), substeps=8)
        return GaussianSGD(*scale, self.noise(cell))

    def _region(self, kind: str, size: float) -> AbstractRegion:
        match kind:
            case "slab":
                return Slab(self.sharpest_direction, size)
            case "half_space":
                return HalfSpace(self.sharpest_direction, size)
            case "ball":
                return Ball(size)
            case _:
                return Sublevel(size)

    def plan(self, quick: bool) -> list[Cell]:
        """The cells of the study, in the order of its grid, each once.

        Raises:
            StudyError: when there is none, or no size of a region gives the barrier asked for.
        """
        cells: dict[str, Cell] = {}
        for grid in self.specification.grid:
            if quick and not grid.quick:
                continue
            for cell in self._cells(grid, quick):
                cells.setdefault(cell.identity, cell)
        if not cells:
            raise StudyError("every [[grid]] has quick = false, so --quick leaves no cell; drop it")
        return list(cells.values())

    def _cells(self, grid: Grid, quick: bool) -> list[Cell]:
        rates = grid.learning_rate or tuple(
            _rounded(stiffness / self.sharpness) for stiffness in grid.stiffness
        )
        product = itertools.product(
            grid.dynamics,
            grid.region,
            self._noises(grid),
            rates,
            grid.batch_size,
            grid.sharpness,
            grid.lambda_max or (None,),
            grid.size or grid.barrier,
        )
        replicas = min(grid.replicas, grid.quick_replicas) if quick else grid.replicas
        return [
            self._measured(
                Cell(dynamics, rate, batch, sharpness, region, size, replicas, grid.max_steps,
                     noise, grid.noise_strength, lambda_max),
                grid,
            )
            for dynamics, region, noise, rate, batch, sharpness, lambda_max, size in product
        ]  # fmt: skip

    def _noises(self, grid: Grid) -> tuple[str, ...]:
        """Noises as cells name them."""
        if "measured" in grid.noise and not isinstance(self.landscape, Empirical):
            raise StudyError(
                'noise "measured" needs a landscape with examples; use "hessian" or "isotropic"'
            )
        names = grid.noise or ("own",)
        return tuple("own" if name == "measured" else name for name in names)

    def _measured(self, cell: Cell, grid: Grid) -> Cell:
        """Turn a barrier into a size, and decide how the exit is measured."""
        if not grid.size:
            # The barrier grows as the square of a length, and in proportion to a depth.
            # The loss of a shallow valley may never rise by 1, so its unit of depth is small.
            unit, power = (1e-6, 1.0) if cell.region == "sublevel" else (1.0, 0.5)
            ratio = cell.size / self._groups(cell, unit).barrier
            cell = replace(cell, size=_rounded(unit * ratio**power))
        if grid.method == "split" or (grid.method == "auto" and self._too_rare(cell)):
            return replace(cell, replicas=grid.walkers, runs=grid.runs, burn_in=grid.burn_in)
        return self._capped(cell, grid)

    def _too_rare(self, cell: Cell) -> bool:
        """Whether direct runs would take too long."""
        groups = self._groups(cell, cell.size)
        if groups.shell_ratio >= SHELL:
            return False
        mean = self._predicted_mean(cell)
        return groups.barrier > TOO_RARE or (mean is not None and mean > cell.max_steps)

    def _predicted_mean(self, cell: Cell) -> float | None:
        """Predicted mean exit time, where it is known at once."""
        if cell.region in ("ball", "sublevel"):
            # Such a prediction may take seconds or minutes; it is left to the cell itself.
            return None
        try:
            return self.prediction(cell).mean
        except EscapadeError:
            return None

    def _capped(self, cell: Cell, grid: Grid) -> Cell:
        """Turn patience into a cap on steps."""
        mean = self._predicted_mean(cell)
        if mean is None:
            return cell
        # Never below a hundred steps, where a cap would save nothing.
        patient = max(100.0, grid.patience * mean)
        return replace(cell, max_steps=int(min(grid.max_steps, _rounded(patient, 2))))

    def _groups(self, wanted: Cell, size: float) -> Groups:
        """Dimensionless groups of a cell with another size."""
        cell = replace(wanted, size=size)
        try:
            around = self.neighbourhood(cell)
            escape = self.escape(cell)
            stationary = local_covariance(escape, around)
            groups, _ = measure_groups(escape, around, stationary, with_noise_correction=False)
        except EscapadeError as error:
            raise StudyError(
                f"barrier {wanted.size:g} gives no size for {cell.dynamics}, eta "
                f"{cell.learning_rate:g}, B {cell.batch_size:g}, {cell.region}: {error}"
            ) from error
        return groups


def _problem_of(cell: Cell) -> Cell:
    """The cell but for how it is measured."""
    return replace(cell, replicas=1, max_steps=1, runs=0, burn_in=None)


def build_landscape(specification: LandscapeSpecification, seed: int) -> AbstractLandscape:
    """The landscape a specification names.

    Raises:
        StudyError: when the network is unknown or the user's function does not build a landscape.
        DataError: when the data cannot be loaded.
    """
    if specification.build is not None:
        try:
            landscape = specification.build()
        except EscapadeError:
            raise
        except Exception as error:
            raise StudyError(f"[landscape] build failed: {error!r}") from error
        if not isinstance(landscape, AbstractLandscape):
            raise StudyError(f"[landscape] build returned {landscape!r}, not a landscape")
        return landscape
    if specification.function == "quadratic":
        return Quadratic(specification.eigenvalues)
    if specification.function:
        return StyblinskiTang(specification.dim)
    options = {
        name: value
        for name in ("path", "preprocessing")
        if (value := getattr(specification, name)) is not None
    }
    dataset = data.load(specification.data, **options)
    if specification.examples:
        dataset = dataset.subset(specification.examples, seed)
    network = _network(specification, dataset, seed)
    return network_landscape(network, dataset, specification.weight_decay, specification.loss)


def _network(
    specification: LandscapeSpecification, dataset: data.Dataset, seed: int
) -> MLP | ConvolutionalNetwork:
    key = jax.random.key(seed)
    match specification.network:
        case "mlp":
            widths = (dataset.features, *specification.widths, dataset.classes)
            return MLP(widths, specification.activation, specification.bias, key=key)
        case "logistic":
            return logistic_regression(
                dataset.features, dataset.classes, specification.bias, key=key
            )
        case "convolutional":
            side = math.isqrt(dataset.features)
            if side * side != dataset.features:
                raise StudyError(
                    f"network is convolutional but rows of {dataset.features} features are no "
                    "square images; use mlp"
                )
            shape = (1, side, side)
            return ConvolutionalNetwork(
                shape, dataset.classes, specification.widths, specification.activation, key=key
            )
    raise StudyError(f"network is {specification.network!r}; choose mlp, logistic or convolutional")


def find_study_minimum(specification: Specification, landscape: AbstractLandscape) -> Minimum:
    """Polish the known minimum asked for; train a loss over examples that knows none.

    Raises:
        StudyError: when the landscape lists fewer minima.
    """
    number = specification.landscape.minimum
    known = landscape.minima
    if number and number >= len(known):
        raise StudyError(
            f"[landscape] minimum is {number}, but {len(known)} minima are known, counted from 0"
        )
    if number:
        return find_minimum(landscape, known[number])
    if not isinstance(landscape, Empirical) or len(known):
        return find_minimum(landscape)
    training = specification.training
    return train(
        landscape,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        steps=training.steps,
        key=specification.seed,
    )


def _rounded(value: float, digits: int = 6) -> float:
    """Round to significant digits, so that a cell's identity does not hang on the last bit."""
    return float(f"{value:.{digits}g}")
