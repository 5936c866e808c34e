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
from escapade.theory.groups import local_covariance, measure_groups


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

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a problem lives as long as its study
    def scaled(self, sharpness: float) -> tuple[AbstractLandscape, Float[np.ndarray, " dim"]]:
        """Landscape and minimum with every Hessian eigenvalue multiplied.

        Raises:
            StudyError: when the landscape is a drift, which has no loss to rescale.
        """
        if sharpness == 1:
            return self.landscape, self.theta
        if not isinstance(self.landscape, AbstractLoss):
            raise StudyError("sharpness other than 1 needs a landscape with a loss")
        return rescale(self.landscape, sharpness), self.theta / math.sqrt(sharpness)

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def covariance(self, sharpness: float) -> Float[np.ndarray, "dim dim"]:
        """Covariance of one example's gradient; c H with c = 1 where there are no examples."""
        landscape, theta = self.scaled(sharpness)
        if isinstance(landscape, Empirical):
            return noise.Empirical().covariance(landscape, theta)
        return noise.HessianProportional().covariance(landscape, theta)

    @functools.lru_cache(maxsize=32)  # noqa: B019
    def _neighbourhood(self, sharpness: float, dynamics: str, batch_size: float) -> Neighbourhood:
        landscape, theta = self.scaled(sharpness)
        chain = self._dynamics(dynamics, 1.0, batch_size, sharpness).prepared(landscape)
        return Neighbourhood(
            sharpness * self.base_jacobian(), chain.noise_covariance(landscape, theta)
        )

    def neighbourhood(self, cell: Cell) -> Neighbourhood:
        """Hessian and noise of a cell, computed once for all cells that share them."""
        finite = cell.dynamics.startswith("minibatch_")
        return self._neighbourhood(cell.sharpness, cell.dynamics, cell.batch_size if finite else 1)

    def escape(self, cell: Cell) -> Escape:
        """The escape problem of a cell."""
        return self._escape(replace(cell, replicas=1, max_steps=1))

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _escape(self, cell: Cell) -> Escape:
        landscape, theta = self.scaled(cell.sharpness)
        dynamics = self._dynamics(
            cell.dynamics, cell.learning_rate, cell.batch_size, cell.sharpness
        )
        return Escape(landscape, dynamics, self._region(cell.region, cell.size), minimum=theta)

    def prediction(self, cell: Cell) -> Prediction:
        """The uniform mean exit time of a cell, computed once.

        Raises:
            EscapadeError: when no theory applies.
        """
        return self._prediction(replace(cell, replicas=1, max_steps=1))

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _prediction(self, cell: Cell) -> Prediction:
        return predict(self._escape(cell), neighbourhood=self.neighbourhood(cell))

    def _dynamics(
        self, kind: str, learning_rate: float, batch_size: float, sharpness: float
    ) -> AbstractDynamics:
        if kind.startswith("minibatch"):
            sampling = kind.removeprefix("minibatch").removeprefix("_") or "with_replacement"
            return MinibatchSGD(learning_rate, batch_size, sampling)
        covariance = self.covariance(sharpness)
        if kind == "langevin":
            # Isotropic noise of the same variance along the sharpest direction, so that a slab
            # of the same width has the same barrier.
            direction = self.sharpest_direction
            return LangevinSGD(learning_rate, batch_size, float(direction @ covariance @ direction))
        measured = noise.Constant(covariance)
        if kind == "continuous":
            return ContinuousSGD(learning_rate, batch_size, measured, substeps=8)
        return GaussianSGD(learning_rate, batch_size, measured)

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
            rates,
            grid.batch_size,
            grid.sharpness,
            grid.size or grid.barrier,
        )
        replicas = min(grid.replicas, grid.quick_replicas) if quick else grid.replicas
        return [
            self._capped(
                Cell(dynamics, rate, batch, sharpness, region, size, replicas, grid.max_steps),
                grid,
            )
            for dynamics, region, rate, batch, sharpness, size in product
        ]

    def _capped(self, cell: Cell, grid: Grid) -> Cell:
        """Turn a barrier into a size, and patience into a cap on steps."""
        if not grid.size:
            # The barrier grows as the square of a length, and in proportion to a depth.
            # The loss of a shallow valley may never rise by 1, so its unit of depth is small.
            unit, power = (1e-6, 1.0) if cell.region == "sublevel" else (1.0, 0.5)
            ratio = cell.size / self._barrier(cell, unit)
            cell = replace(cell, size=_rounded(unit * ratio**power))
        if cell.region in ("ball", "sublevel"):
            # In many dimensions such a prediction takes seconds; it is left to the cell itself.
            return cell
        try:
            mean = self.prediction(cell).mean
        except EscapadeError:
            return cell
        # Never below a hundred steps, where a cap would save nothing.
        patient = max(100.0, grid.patience * mean)
        return replace(cell, max_steps=int(min(grid.max_steps, _rounded(patient, 2))))

    def _barrier(self, wanted: Cell, size: float) -> float:
        """Barrier of a cell with another size."""
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
        return groups.barrier


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
    """Polish the first known minimum; train a loss over examples that knows none."""
    if not isinstance(landscape, Empirical) or len(landscape.minima):
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
