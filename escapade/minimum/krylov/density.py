"""Spectral densities by stochastic Lanczos quadrature: of a matrix, and as noise weighs it."""

from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Float

from escapade.errors import Diverged, InvalidArgument
from escapade.minimum.krylov.basis import random_unit
from escapade.minimum.krylov.eigenpairs import Eigenpairs
from escapade.minimum.krylov.estimate import Estimate, mean
from escapade.minimum.krylov.lanczos import KrylovSpace, gauss_quadrature
from escapade.minimum.krylov.operator import Deadline, Operator, Product, Vector, norm
from escapade.minimum.krylov.relaxation import lifetime, shrinkage
from escapade.minimum.krylov.trace import known_rows

# Relative weights below it are rounding: no mass is there.
_NO_MASS = 1e-14

Nodes = Float[np.ndarray, "..."]
Function = Callable[[Nodes], Nodes]


class SpectralDensity(eqx.Module):
    """Where the eigenvalues of H are, each weighted by 1 or by the noise along its eigenvector.

    Each probe is a Gauss quadrature rule; their spread is the statistical error, and what a rule
    with fewer nodes gives differently (`quadrature_errors`) shows how far each is resolved.

    Attributes:
        nodes: eigenvalues seen from each probe.
        weights: their mass; its sum is `dim`, or ``|z|^2`` for a probe z of the noise.
        coarse_nodes, coarse_weights: the rules from three quarters of the same products.
        known_values: eigenvalues that were given, of mass 1 each.
        products: products spent.
        converged: whether all the probes asked for were done.
    """

    nodes: Float[np.ndarray, "probes depth"]
    weights: Float[np.ndarray, "probes depth"]
    coarse_nodes: Float[np.ndarray, "probes coarse"]
    coarse_weights: Float[np.ndarray, "probes coarse"]
    known_values: Float[np.ndarray, " known"]
    products: int
    converged: bool

    @property
    def total(self) -> Estimate:
        """All mass: dim, or the trace of the noise covariance."""
        return self._mean(self.weights.sum(axis=1) + len(self.known_values))

    def integral(self, function: Function) -> Estimate:
        """``sum f(l_i)`` over the eigenvalues: tr f(H), or tr(C f(H)) of a noise-weighted density.

        The function gets an array of eigenvalues; it may be infinite where it diverges, and the
        integral is then infinite if any mass is there.
        """
        exact = float(np.sum(function(self.known_values))) if len(self.known_values) else 0.0
        return self._mean(exact + _integrals(self.nodes, self.weights, function))

    def quadrature_error(self, function: Function) -> float:
        """Mean change of the integral from a quarter more products; the error itself is less."""
        fine = _integrals(self.nodes, self.weights, function)
        coarse = _integrals(self.coarse_nodes, self.coarse_weights, function)
        with np.errstate(invalid="ignore"):
            return float(np.abs(np.mean(fine - coarse)))

    def density(self, grid: Float[np.ndarray, " points"], width: float) -> Estimate:
        """Mass per unit of eigenvalue at each grid point, seen through a Gaussian of `width`.

        Value and standard error have the shape of the grid; the integral over all is `total`.
        """
        if not 0 < width < np.inf:
            raise InvalidArgument(f"width is {width}; give a positive width in units of eigenvalue")

        def bell(nodes: Float[np.ndarray, "..."]) -> Float[np.ndarray, "... points"]:
            steps = (np.asarray(grid) - nodes[..., None]) / width
            return np.exp(-(steps**2) / 2) / (np.sqrt(2 * np.pi) * width)

        exact = bell(self.known_values).sum(axis=0)
        each = [
            weights @ bell(nodes) for nodes, weights in zip(self.nodes, self.weights, strict=True)
        ]
        return self._mean(exact + np.array(each))

    def below(self, value: float) -> Estimate:
        """Mass at eigenvalues up to a value, resolved as far as there are nodes."""
        return self.integral(lambda nodes: (nodes <= value).astype(np.float64))

    def _mean(self, samples: Float[np.ndarray, "probes ..."]) -> Estimate:
        result = mean(samples, self.products)
        return Estimate(
            result.value, result.standard_error, result.probes, result.products, self.converged
        )


def spectral_density(
    product: Product,
    dim: int,
    *,
    probes: int = 8,
    depth: int = 60,
    eigenpairs: Eigenpairs | None = None,
    seed: int = 0,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> SpectralDensity:
    """All eigenvalues of a symmetric operator, as a density.

    Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017) from uniform unit vectors, with full
    orthogonalisation. Known eigenpairs are taken out and put back exactly, which they should be for
    the outliers of a network's Hessian. Memory: the known vectors and `depth + 2` more.

    Args:
        product: ``v -> H v``.
        dim: rows of H.
        probes: random vectors.
        depth: products from each.
        eigenpairs: eigenvalues known already, as exact as the density is to be.
        seed: of the probes.
        max_products: products that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Diverged: when a product is NaN or infinite.
        NotConverged: when the budget ends before the first probe is done.
    """
    operator = Operator(product, dim, precision, max_products, deadline)
    known = known_rows(None if eigenpairs is None else eigenpairs.vectors, operator)
    values = np.empty(0) if eigenpairs is None else eigenpairs.values
    if len(known) == dim:
        raise InvalidArgument("all eigenpairs are known; their values are the density")

    def draw(rng: np.random.Generator) -> tuple[Vector, float]:
        return random_unit(rng, known), float(dim - len(known))

    def space(start: Vector) -> KrylovSpace:
        return KrylovSpace(operator, start, depth, known)

    return _density(operator, draw, space, probes, depth, values, seed)


def exact_density(values: Float[np.ndarray, " dim"]) -> SpectralDensity:
    """The density of a spectrum that is known whole."""
    nothing = np.zeros((2, 1))
    return SpectralDensity(nothing, nothing, nothing, nothing, np.asarray(values), 0, True)


def noise_weighted_density(
    product: Product,
    sample: Callable[[np.random.Generator], Vector],
    dim: int,
    *,
    probes: int = 32,
    depth: int = 40,
    seed: int = 0,
    max_products: int | None = None,
    deadline: Deadline | None = None,
    precision: str = "float64",
) -> SpectralDensity:
    """How much gradient noise lies along which curvature.

    Lanczos on H started from vectors z of covariance C gives ``E[z^T f(H) z] = tr(C f(H))`` for any
    f: with f = 1 / (2 l) the trace of the stationary covariance of SGD's position, and so on
    (`position_trace`, `loss_excess`). Memory: `depth + 2` vectors.

    Args:
        product: ``v -> H v``.
        sample: draws a vector of mean zero and covariance C, the gradient noise of one example: a
            centred gradient of an example drawn at random, or a Gaussian one.
        dim: rows of H.
        probes: vectors drawn.
        depth: products from each.
        seed: of the draws.
        max_products: products that may be spent; None for no cap.
        deadline: returns True when time is up.
        precision: "float64" or "float32", of the vectors.

    Raises:
        InvalidArgument: when an argument does not fit.
        Diverged: when a product or a draw is NaN or infinite.
        NotConverged: when the budget ends before the first probe is done.
    """
    operator = Operator(product, dim, precision, max_products, deadline)

    def draw(rng: np.random.Generator) -> tuple[Vector, float]:
        vector = np.asarray(sample(rng), operator.dtype)
        if vector.shape != (operator.dim,):
            raise InvalidArgument(
                f"sample returned shape {vector.shape}; it must return {operator.dim} numbers"
            )
        mass = norm(vector) ** 2
        if not np.isfinite(mass):
            raise Diverged("sample returned NaN or infinity; check the examples' gradients")
        return vector, mass

    def space(start: Vector) -> KrylovSpace:
        return KrylovSpace(operator, start, depth)

    return _density(operator, draw, space, probes, depth, np.empty(0), seed)


def position_trace(
    density: SpectralDensity, *, horizon: float = np.inf, learning_rate: float | None = None
) -> Estimate:
    """Trace of the covariance of SGD's position around a minimum, in units of ``eta / B``.

    Of a noise-weighted density. Stationary unless a horizon is given: a time, or a number of steps
    when a learning rate is given (then of the discrete chain). Infinite when noise lies along
    eigenvalues that do not hold SGD (``l <= 0``, or ``eta l >= 2``) for ever; `density.below(0)` is
    how much of it. A finite horizon is finite for any spectrum.
    """
    return density.integral(lambda nodes: _accumulated(nodes, horizon, learning_rate))


def loss_excess(
    density: SpectralDensity, *, horizon: float = np.inf, learning_rate: float | None = None
) -> Estimate:
    """Mean of ``x^T H x / 2`` over SGD's position x, in units of ``eta / B``: see `position_trace`.

    Flat directions (``l = 0``) add nothing to it and negative ones an infinite amount, negative in
    sign, at an infinite horizon.
    """

    def excess(nodes: Nodes) -> Nodes:
        with np.errstate(invalid="ignore"):
            value = nodes / 2 * _accumulated(nodes, horizon, learning_rate)
        return np.where(nodes == 0, 0.0, value)

    return density.integral(excess)


def _accumulated(nodes: Nodes, horizon: float, learning_rate: float | None) -> Nodes:
    """Variance along eigenvalues per unit of noise."""
    return lifetime(shrinkage(nodes, learning_rate), horizon, learning_rate)


def _density(
    operator: Operator,
    draw: Callable[[np.random.Generator], tuple[Vector, float]],
    space: Callable[[Vector], KrylovSpace],
    probes: int,
    depth: int,
    values: Float[np.ndarray, " known"],
    seed: int,
) -> SpectralDensity:
    if probes < 1 or depth < 2:
        raise InvalidArgument(f"probes is {probes} and depth {depth}; give at least 1 and 2")
    rng = np.random.default_rng(seed)
    rules: list[tuple[np.ndarray, np.ndarray]] = []
    coarse_rules: list[tuple[np.ndarray, np.ndarray]] = []
    exhausted = False
    for _ in range(probes):
        start, mass = draw(rng)
        if mass == 0:
            # Noise that happens to be zero: a probe without mass, not one to be left out.
            rules.append((np.zeros(1), np.zeros(1)))
            coarse_rules.append(rules[-1])
            continue
        krylov = space(start)
        while not krylov.finished:
            if operator.exhausted:
                exhausted = True
                break
            krylov.extend()
        if exhausted:
            break
        coarse = max(1, 3 * len(krylov.diagonal) // 4)
        if krylov.leaving == 0:
            coarse = len(krylov.diagonal)
        for size, into in ((len(krylov.diagonal), rules), (coarse, coarse_rules)):
            nodes, weights = gauss_quadrature(
                np.array(krylov.diagonal[:size]), np.array(krylov.off_diagonal[: size - 1])
            )
            nodes[np.abs(nodes) <= operator.rounding] = 0.0
            into.append((nodes, np.where(weights > _NO_MASS, weights, 0.0) * mass))
    if not rules:
        operator.require("the spectral density")
    nodes, weights = _stacked(rules)
    coarse_nodes, coarse_weights = _stacked(coarse_rules)
    return SpectralDensity(
        nodes, weights, coarse_nodes, coarse_weights, values, operator.products, not exhausted
    )


def _stacked(
    rules: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[Float[np.ndarray, "probes depth"], Float[np.ndarray, "probes depth"]]:
    """Rules of different lengths as two arrays; what is missing has no mass."""
    depth = max(len(nodes) for nodes, _ in rules)
    nodes, weights = np.zeros((2, len(rules), depth))
    for k, (some_nodes, some_weights) in enumerate(rules):
        nodes[k] = some_nodes[-1]
        nodes[k, : len(some_nodes)] = some_nodes
        weights[k, : len(some_weights)] = some_weights
    return nodes, weights


def _integrals(
    nodes: Float[np.ndarray, "probes depth"],
    weights: Float[np.ndarray, "probes depth"],
    function: Function,
) -> Float[np.ndarray, " probes"]:
    values = np.asarray(function(nodes), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(weights > 0, weights * values, 0.0).sum(axis=1)
