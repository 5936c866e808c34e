"""The verb `inspect`: a network at a point, and what SGD will do there."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from escapade.dynamics import MinibatchSGD
from escapade.dynamics.streams import seed_words
from escapade.errors import InvalidArgument, NotConverged
from escapade.inspection.budget import Budget, Progress
from escapade.inspection.drift import measure_fall
from escapade.inspection.escape_map import EscapeMap, escape_map
from escapade.inspection.fluctuations import Fluctuations
from escapade.inspection.gradient_noise import NoiseScale, noise_scale, noise_shape
from escapade.inspection.inspection import Change, Inspection, first_exit
from escapade.inspection.outlook import (
    Outlook,
    Surroundings,
    default_regions,
    outlook,
    require_region,
)
from escapade.inspection.stability import measure_stability
from escapade.inspection.stationarity import Stationarity, stationarity
from escapade.landscape import AbstractEmpirical, AbstractExpansion
from escapade.landscape._base import as_points, positive_number
from escapade.minimum.krylov import (
    AlignmentEstimate,
    Eigenpairs,
    Extremes,
    SpectralDensity,
    dense_extremes,
    estimate_alignment,
    exact_density,
    extreme_eigenpairs,
    largest_eigenpairs,
    newton_step,
    orthonormal_basis,
    spectral_density,
)
from escapade.minimum.local_model import LocalModel, local_model
from escapade.precision import PRECISIONS
from escapade.region import AbstractRegion, HalfSpace, Slab

WHOLE = 700
"""Parameters up to which every direction is measured, and nothing is estimated."""

DOUBLE = 20_000
"""Parameters up to which double precision is used unasked."""

INTERPOLATING = 1e-3
"""Mean loss below which single precision loses the curvature (backward cancellation)."""


def inspect(
    landscape: AbstractEmpirical,
    theta: ArrayLike | None = None,
    *,
    learning_rate: float,
    batch_size: int,
    sampling: str = "with_replacement",
    regions: Sequence[AbstractRegion] | None = None,
    depth: float | None = None,
    count: int = 10,
    precision: str = "auto",
    key: int = 0,
    time_budget: float | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Is this a minimum, how sharp and how noisy, and will SGD stay: for how many steps?

    Everything is matrix-free: Hessian and noise products over the whole data set, in chunks. Up to
    700 parameters every direction is measured; beyond, the sharpest and the noisiest ones, and of
    all others how much noise there is at which curvature.

    Args:
        landscape: a network on data (`landscapes.network_landscape`), or `landscapes.Empirical`.
        theta: the point, shape (dim,); the landscape's known minimum, or the parameters it was
            built with, unless given.
        learning_rate: of the SGD asked about.
        batch_size: of the SGD asked about.
        sampling: of minibatches: "with_replacement", "without_replacement" or "shuffled_epochs".
        regions: sets to be left: `Slab`, `HalfSpace`, `Ball`, `Sublevel`, centred at the point. A
            slab across the sharpest direction, a sublevel set and a ball unless given, of one
            `depth`.
        depth: rise of the loss that counts as having left; the loss at the point (so that it
            doubles) unless given.
        count: top eigenpairs of the Hessian, and of the noise covariance.
        precision: "float64", "float32", or "auto": double for small networks and wherever the
            mean loss is below 1e-3, where single precision loses the curvature.
        key: seed of the random vectors.
        time_budget: seconds; what does not fit is left out, and named in `skipped`.
        memory: bytes kept of the examples to make products faster.
        progress: called with a few words at each stage.

    Raises:
        InvalidArgument: when an argument does not fit, or the time budget is too small.
        Diverged: when the loss or gradient at the point is NaN or infinite.
    """
    if not isinstance(landscape, AbstractEmpirical):
        raise InvalidArgument(
            f"landscape is {type(landscape).__name__}; inspect needs a loss over examples: "
            "landscapes.network_landscape(model, data) or landscapes.Empirical(...)"
        )
    dynamics = MinibatchSGD(learning_rate, batch_size, sampling).prepared(landscape)
    if time_budget is not None:
        time_budget = positive_number(time_budget, "time_budget")
    seed = int(np.random.default_rng(seed_words(key)).integers(2**31))
    budget = Budget(time_budget, progress)
    point = _point(landscape, theta)
    budget.say("loss and gradient")
    expansion = _expand(landscape, point, precision, memory)
    depth = expansion.loss if depth is None else positive_number(depth, "depth")
    if regions is None and not depth > 0:
        raise InvalidArgument(f"the loss here is {depth:.3g}; give depth, the rise that counts")
    try:
        found = _Measurements(landscape, expansion, dynamics, budget, seed, count)
        chosen = found.regions(regions, depth)
        surroundings = found.surroundings(chosen)
    except NotConverged as error:
        if time_budget is None:
            raise
        raise InvalidArgument(
            f"time_budget is {time_budget:g} seconds, too few for the first measurements "
            f"({budget.spent:.3g} seconds so far); give more time, or fewer examples"
        ) from error
    outlooks = tuple(
        outlook(surroundings, region, dynamics)
        for region in chosen
        if budget.allows(f"exit from the {region}")
    )
    return Inspection(
        network=landscape.title,
        theta=point,
        parameters=tuple(landscape.parameter_names),
        examples=landscape.examples,
        loss=expansion.loss,
        weight_decay=float(expansion.weight_decay),
        learning_rate=dynamics.learning_rate,
        batch_size=dynamics.batch_size,
        sampling=sampling,
        precision=expansion.precision,
        stationarity=found.stationarity,
        curvature=found.extremes.largest,
        noise=found.noise,
        alignment=found.alignment,
        density=found.density(),
        noise_trace=found.noise_trace,
        noise_scale=found.noise_scale(),
        noise_shape=noise_shape(surroundings.model.slopes[:, :count], batch_size),
        stability=surroundings.stability,
        outlooks=outlooks,
        escape_map=_map(landscape, surroundings, chosen, dynamics, budget),
        changes=_changes(landscape, surroundings, first_exit(outlooks), dynamics, budget),
        seconds=budget.spent,
        skipped=tuple(budget.skipped),
        key=key,
    )


class _Measurements:
    """The measurements, each made once, dearest last."""

    def __init__(
        self,
        landscape: AbstractEmpirical,
        expansion: AbstractExpansion,
        dynamics: MinibatchSGD,
        budget: Budget,
        seed: int,
        count: int,
    ):
        self.landscape = landscape
        self.expansion = expansion
        self.dynamics = dynamics
        self.budget = budget
        self.seed = seed
        self.dim = expansion.dim
        self.precision = expansion.precision
        self.whole = self.dim <= WHOLE
        self.factor = dynamics.finite_population_factor(landscape)
        budget.say("sharpest directions")
        self.extremes = self._extremes(count)
        self.noise = self._noise(count)
        self.alignment = self._alignment()
        self.noise_trace = self.alignment.noise_trace
        self.stationarity = self._stationarity()

    def _extremes(self, count: int) -> Extremes:
        if self.whole:
            return dense_extremes(self.expansion.hessian_product, self.dim, count, 1)
        return extreme_eigenpairs(
            self.expansion.hessian_product,
            self.dim,
            count,
            1,
            tolerance=1e-3 if self.precision == "float32" else 1e-6,
            seed=self.seed,
            deadline=self.budget.until(0.35, least=count + 1),
            precision=self.precision,
        )

    def _noise(self, count: int) -> Eigenpairs | None:
        if not self.budget.allows("noisiest directions"):
            return None
        if self.whole:
            return dense_extremes(self.expansion.noise_product, self.dim, count, 0).largest
        try:
            return largest_eigenpairs(
                self.expansion.noise_product,
                self.dim,
                count,
                tolerance=1e-3,
                seed=self.seed + 1,
                deadline=self.budget.until(0.5),
                precision=self.precision,
            )
        except NotConverged:
            self.budget.leave_out("noisiest directions")
            return None

    def _span(self) -> Float[np.ndarray, "dim directions"]:
        if self.whole:
            return np.eye(self.dim, dtype=self.expansion.theta.dtype)
        if self.noise is None:
            return self.extremes.largest.vectors
        return orthonormal_basis(self.extremes.largest.vectors, self.noise.vectors)

    def _alignment(self) -> AlignmentEstimate:
        self.budget.say("traces and alignment")
        span = self._span()
        return estimate_alignment(
            self.expansion.hessian_product,
            self.expansion.noise_product,
            self.dim,
            basis=span,
            seed=self.seed + 2,
            max_probes=40,
            deadline=self.budget.until(0.6, least=span.shape[1] + 2),
            precision=self.precision,
        )

    def _stationarity(self) -> Stationarity:
        self.budget.say("distance to the minimum")
        step = newton_step(
            self.expansion.hessian_product,
            self.expansion.gradient,
            tolerance=1e-3,
            max_products=60,
            deadline=self.budget.until(0.65, least=2),
            precision=self.precision,
        )
        noise = float(self.noise_trace.value) * self.factor
        rate, batch = self.dynamics.learning_rate, self.dynamics.batch_size
        lowest = self.extremes.lowest
        return stationarity(
            self.expansion.gradient,
            decrement=0.5 * step.decrement,
            newton_distance=float(np.linalg.norm(step.step)),
            noise_floor=rate * noise / (4 * batch),
            lowest=(float(lowest.values[0]), float(lowest.residuals[0])),
            sharpness=float(self.extremes.largest.values[0]),
        )

    def density(self) -> SpectralDensity | None:
        """Spectral density of the Hessian."""
        if self.whole:
            return exact_density(self.model.curvatures)
        if not self.budget.allows("spectral density"):
            return None
        try:
            return spectral_density(
                self.expansion.hessian_product,
                self.dim,
                probes=4,
                depth=40,
                seed=self.seed + 3,
                deadline=self.budget.expired,
                precision=self.precision,
            )
        except NotConverged:
            self.budget.leave_out("spectral density")
            return None

    def noise_scale(self) -> NoiseScale:
        """Batch sizes at which noise and gradient balance."""
        product = float(self.alignment.inner_product.value)
        return noise_scale(self.expansion, float(self.noise_trace.value), product)

    def regions(
        self, given: Sequence[AbstractRegion] | None, depth: float
    ) -> tuple[AbstractRegion, ...]:
        """The regions asked about, or three of one depth."""
        if given is not None:
            for region in given:
                require_region(region, self.dim)
            return tuple(given)
        sharpest = self.extremes.largest
        if not sharpest.values[0] > 0:
            return ()
        direction = np.asarray(sharpest.vectors[:, 0], np.float64)
        return default_regions(direction, float(sharpest.values[0]), depth)

    def surroundings(self, regions: tuple[AbstractRegion, ...]) -> Surroundings:
        """Curvature, noise, stability and descent, as the exits need them."""
        normals = [region.normal for region in regions if isinstance(region, Slab | HalfSpace)]
        span = self._span()
        if normals and not self.whole:
            columns = np.stack(normals, axis=1).astype(span.dtype)
            span = orthonormal_basis(span, columns)
        self.budget.say("noise by curvature")
        depth = 24
        self.model: LocalModel = local_model(
            self.expansion,
            span,
            probes=4,
            depth=depth,
            seed=self.seed + 4,
            deadline=self.budget.until(0.85, least=depth),
        )
        rate, batch = self.dynamics.learning_rate, self.dynamics.batch_size
        top = slice(0, self.extremes.largest.values.size)
        self.budget.say("stability")
        stability = measure_stability(
            self.expansion,
            self.model.curvatures[top],
            self.model.basis[:, top],
            rate,
            batch,
            self.factor,
        )
        lowest = self.extremes.lowest
        fall = measure_fall(
            self.expansion, rate, batch, (float(lowest.values[0]), lowest.vectors[:, 0])
        )
        fluctuations = None
        if self.budget.allows("force on typical fluctuations"):
            fluctuations = Fluctuations(
                self.expansion, self.model, rate, batch / self.factor, seed=self.seed + 5
            )
        return Surroundings(self.model, stability, fall, self.landscape, fluctuations, self.factor)


def _point(landscape: AbstractEmpirical, theta: ArrayLike | None) -> Float[np.ndarray, " dim"]:
    if theta is None:
        return landscape.minima[-1] if len(landscape.minima) else landscape.initial
    points = as_points(theta, landscape.dim, "theta")
    if len(points) != 1:
        raise InvalidArgument(f"theta holds {len(points)} points; give one")
    return points[0]


def _expand(
    landscape: AbstractEmpirical,
    theta: Float[np.ndarray, " dim"],
    precision: str,
    memory: float | None,
) -> AbstractExpansion:
    if precision not in ("auto", *PRECISIONS):
        raise InvalidArgument(
            f"precision is {precision!r}; choose one of auto, {', '.join(PRECISIONS)}"
        )
    if precision != "auto":
        return landscape.expand(theta, precision=precision, memory=memory)
    if landscape.dim <= DOUBLE:
        return landscape.expand(theta, precision="float64", memory=memory)
    single = landscape.expand(theta, precision="float32", memory=memory)
    if single.loss >= INTERPOLATING:
        return single
    return landscape.expand(theta, precision="float64", memory=memory)


def _judge(
    landscape: AbstractEmpirical,
    surroundings: Surroundings,
    region: AbstractRegion,
    learning_rate: float,
    batch_size: int,
    sampling: str,
    *,
    quick: bool,
) -> tuple[float, str]:
    """Steps and mechanism of one region at another setting."""
    dynamics = MinibatchSGD(learning_rate, batch_size, sampling)
    factor = dynamics.finite_population_factor(landscape)
    there = surroundings.at(dynamics, factor, quick=quick)
    found = outlook(there, region, dynamics, quick=quick)
    return found.steps, found.diagnosis.mechanism


def _map(
    landscape: AbstractEmpirical,
    surroundings: Surroundings,
    regions: tuple[AbstractRegion, ...],
    dynamics: MinibatchSGD,
    budget: Budget,
) -> EscapeMap | None:
    """Over the first slab or half-space: the only regions quick enough for a whole map."""
    straight = [region for region in regions if isinstance(region, Slab | HalfSpace)]
    if not straight or not budget.allows("escape map"):
        return None
    return escape_map(
        str(straight[0]),
        dynamics.learning_rate,
        dynamics.batch_size,
        landscape.examples,
        lambda rate, batch: _judge(
            landscape, surroundings, straight[0], rate, batch, dynamics.sampling, quick=True
        ),
        expired=budget.expired,
    )


def _changes(
    landscape: AbstractEmpirical,
    surroundings: Surroundings,
    first: Outlook | None,
    dynamics: MinibatchSGD,
    budget: Budget,
) -> tuple[Change, ...]:
    """What half and twice the learning rate and the batch size do to the first exit."""
    if first is None or not budget.allows("other settings"):
        return ()
    region = first.region
    rate, batch = dynamics.learning_rate, dynamics.batch_size
    settings = [
        ("half the learning rate", rate / 2, batch),
        ("twice the learning rate", rate * 2, batch),
        ("half the batch size", rate, max(batch // 2, 1)),
        ("twice the batch size", rate, min(batch * 2, landscape.examples)),
    ]
    # Beyond whole networks each would take as long as all that was measured here.
    quick = surroundings.model.rest is not None
    changes = []
    for text, new_rate, new_batch in settings:
        if (new_rate, new_batch) != (rate, batch):
            steps, mechanism = _judge(
                landscape, surroundings, region, new_rate, new_batch, dynamics.sampling, quick=quick
            )
            changes.append(Change(text, new_rate, new_batch, steps, mechanism))
    return tuple(changes)
