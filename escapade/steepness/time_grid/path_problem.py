"""The action of a path on a grid of times, with its first and second derivatives.

Points are minimised over, momenta maximised over. On a panel of width h with quadrature nodes j,

    ``sum_j w_j [p_j . (D x)_j - h H((E x)_j, p_j)]``,

where x are the panel's points. With one node, ``D x`` the difference and ``E x`` the left end this
is one step of a chain, exactly; its stationary points obey the chain's symplectic map. With Gauss
nodes and polynomials x it is the collocation method of Gauss for Hamilton's equations, symplectic
and of order 2s (Marsden and West, Acta Numerica 2001, section 2.2.6), whose action is as accurate.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre

from escapade.precision import in_float64
from escapade.region import AbstractRegion
from escapade.steepness.hamiltonian import AbstractHamiltonian
from escapade.steepness.time_grid.newton import SaddleMatrix, damped_newton

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

STAGES = 3
"""Gauss nodes per panel: order 6."""

CHUNKS = (32, 512)
"""Points at which H is differentiated at once: few shapes, so that little is compiled."""


@dataclass(frozen=True)
class Grid:
    """Panels of time, and how a path is represented on one of them.

    Attributes:
        edges: times of the panels' ends, increasing, shape (panels + 1,).
        difference: D, shape (nodes, nodes + 1): points of a panel to displacements at its nodes.
        evaluate: E, same shape: points of a panel to points at its nodes.
        weights: of the nodes; their sum is one.
        positions: where the panel's points stand on it, from 0 to 1, shape (nodes + 1,).
        nodes: where its momenta stand.
    """

    edges: Float[np.ndarray, " edges"]
    difference: Float[np.ndarray, "nodes points"]
    evaluate: Float[np.ndarray, "nodes points"]
    weights: Float[np.ndarray, " nodes"]
    positions: Float[np.ndarray, " points"]
    nodes: Float[np.ndarray, " nodes"]

    @property
    def panels(self) -> int:
        """Number of panels."""
        return len(self.edges) - 1

    @property
    def widths(self) -> Float[np.ndarray, " panels"]:
        """Durations of the panels."""
        return np.diff(self.edges)

    @property
    def stages(self) -> int:
        """Nodes per panel."""
        return len(self.weights)

    @property
    def times(self) -> Float[np.ndarray, " n"]:
        """Times of all points of the path."""
        inner = self.edges[:-1, None] + self.widths[:, None] * self.positions[1:]
        return np.concatenate([self.edges[:1], inner.ravel()])


def chain_grid(learning_rate: float, steps: int) -> Grid:
    """One panel for every step of a chain; time is learning rate times steps."""
    return Grid(
        edges=learning_rate * np.arange(steps + 1.0),
        difference=np.array([[-1.0, 1.0]]),
        evaluate=np.array([[1.0, 0.0]]),
        weights=np.ones(1),
        positions=np.array([0.0, 1.0]),
        nodes=np.zeros(1),
    )


def gauss_grid(edges: Float[np.ndarray, " edges"]) -> Grid:
    """Gauss collocation on the panels between the edges."""
    nodes, weights = legendre.leggauss(STAGES)
    inner = legendre.legroots(legendre.legder(np.eye(STAGES + 1)[STAGES]))
    positions = np.concatenate([[0.0], (1 + inner) / 2, [1.0]])
    nodes = (1 + nodes) / 2
    return Grid(
        edges=edges,
        difference=interpolation(positions, nodes, derivative=1),
        evaluate=interpolation(positions, nodes),
        weights=weights / 2,
        positions=positions,
        nodes=nodes,
    )


def interpolation(
    known: Float[np.ndarray, " known"], wanted: Float[np.ndarray, " wanted"], derivative: int = 0
) -> Float[np.ndarray, "wanted known"]:
    """Values at `known` to values (or derivatives) at `wanted` of the polynomial through them."""
    powers = np.vander(known, increasing=True)
    coefficients = np.eye(len(known))
    columns = [np.polynomial.polynomial.polyder(row, derivative) for row in coefficients]
    at_wanted = np.stack([np.polynomial.polynomial.polyval(wanted, row) for row in columns], 1)
    return np.linalg.solve(powers.T, at_wanted.T).T


@dataclass(frozen=True)
class PointEnd:
    """The path ends at a point; or, compliant, is drawn to it at cost ``|x - target|^2 / 2c``."""

    target: Vector
    compliance: float = 0.0

    def constraint(self, x: Vector, multiplier: Vector) -> tuple[Vector, Matrix, Vector, Matrix]:
        """Constraint, its derivative, and gradient and curvature of what the end adds."""
        zero = np.zeros((len(x), len(x)))
        return x - self.target, np.eye(len(x)), np.zeros(len(x)), zero


@dataclass(frozen=True)
class BoundaryEnd:
    """The path ends anywhere on a region's boundary, or at a level within.

    A proximal cost ``(x - anchor)^T metric (x - anchor) / 2`` may hold the end back.
    """

    region: AbstractRegion
    anchor: Vector
    metric: Matrix
    level: float = 0.0
    compliance: float = 0.0

    def constraint(
        self, x: Vector, multiplier: Float[np.ndarray, " 1"]
    ) -> tuple[Float[np.ndarray, " 1"], Float[np.ndarray, "1 dim"], Vector, Matrix]:
        """Constraint, its derivative, and gradient and curvature of what the end adds."""
        level, slope, curvature = in_float64(_level_derivatives, self.region, x)
        held = self.metric @ (x - self.anchor)
        return level[None] - self.level, slope[None], held, self.metric - multiplier[0] * curvature


End = PointEnd | BoundaryEnd


@dataclass(frozen=True)
class Path:
    """Points and momenta on a grid.

    Attributes:
        points: shape (panels * nodes + 1, dim).
        momenta: at the panels' nodes, shape (panels, nodes, dim).
        initial: momentum at the first point.
        multiplier: of the end's constraint.
    """

    points: Float[np.ndarray, "n dim"]
    momenta: Float[np.ndarray, "panels nodes dim"]
    initial: Vector
    multiplier: Float[np.ndarray, " constraints"]


@dataclass(frozen=True)
class PathProblem:
    """Stationary action from a start to an end.

    Attributes:
        hamiltonian: of the noise.
        grid: of times.
        mean: where the path starts.
        spread: covariance of the start, whose cost ``(x - mean)^T spread^-1 (x - mean) / 2`` is
            part of the action; zero for a given starting point.
        end: where the path ends.
        units: length and momentum of the problem, to scale the unknowns.
        hold: weight of a proximal cost ``hold |x - anchor|^2 / 2`` of every point, for paths whose
            passage between two long rests may be shifted in time at hardly any cost.
        anchor: points of that cost, shape (n, dim).
    """

    hamiltonian: AbstractHamiltonian
    grid: Grid
    mean: Vector
    spread: Matrix
    end: End
    units: tuple[float, float]
    hold: float = 0.0
    anchor: Float[np.ndarray, "n dim"] | None = None

    def solve_held(self, guess: Path) -> "StationaryPath | None":
        """As `solve`, by proximal steps where the plain problem is too flat for Newton's method."""
        found = self.solve(guess)
        if found is not None:
            return found
        hold = 1e-7 * self.units[1] / self.units[0] / len(guess.points)
        value = np.inf
        for _ in range(8):
            found = replace(self, hold=hold, anchor=guess.points).solve(guess)
            if found is None or abs(found.value - value) < 1e-11 * abs(value):
                break
            guess, value = found.path, found.value
        return found

    def solve(self, guess: Path, most_iterations: int = 25) -> "StationaryPath | None":
        """The stationary path near a guess; None when Newton's method does not find it."""
        scale = self._scale(guess)
        return damped_newton(
            lambda z: StationaryPath(self, self._unpack(z * scale), scale),
            self._pack(guess) / scale,
            most_iterations,
        )

    def _scale(self, guess: Path) -> Float[np.ndarray, " n"]:
        """Units of all unknowns."""
        length, momentum = self.units
        unit = momentum
        if isinstance(self.end, BoundaryEnd):
            slope = self.end.constraint(guess.points[-1], np.zeros(1))[1]
            unit = momentum / max(float(np.linalg.norm(slope)), 1e-300)
        return self._pack(
            Path(
                np.full_like(guess.points, length),
                np.full_like(guess.momenta, momentum),
                np.full_like(guess.initial, momentum),
                np.full_like(guess.multiplier, unit),
            )
        )

    def _pack(self, path: Path) -> Float[np.ndarray, " n"]:
        dim = path.points.shape[1]
        points = path.points[1:].reshape(self.grid.panels, self.grid.stages, dim)
        inner = np.concatenate([path.momenta, points], axis=1)
        return np.concatenate([path.initial, path.points[0], inner.ravel(), path.multiplier])

    def _unpack(self, z: Float[np.ndarray, " n"]) -> Path:
        dim, stages = len(self.mean), self.grid.stages
        last = dim if isinstance(self.end, PointEnd) else 1
        inner = z[2 * dim : -last].reshape(self.grid.panels, 2 * stages, dim)
        points = np.concatenate([z[None, dim : 2 * dim], inner[:, stages:].reshape(-1, dim)])
        return Path(points, inner[:, :stages], z[:dim], z[-last:])


class StationaryPath:
    """A path, stationary once Newton's method has ended, with the action's expansion there.

    Attributes:
        problem: the problem.
        path: points and momenta.
        residual: first derivative of the action in the units of the problem.
    """

    def __init__(self, problem: PathProblem, path: Path, scale: Float[np.ndarray, " n"]):
        """Expand the action at a path; `scale` holds the units of all unknowns."""
        self.problem, self.path = problem, path
        grid = problem.grid
        first = grid.stages * np.arange(grid.panels)[:, None]
        panels = path.points[first + np.arange(grid.stages + 1)]
        self._moved = np.einsum("ji,kid->kjd", grid.difference, panels)
        at_nodes = np.einsum("ji,kid->kjd", grid.evaluate, panels)
        self._derivatives = derivatives(problem.hamiltonian, at_nodes, path.momenta)
        self._end = problem.end.constraint(path.points[-1], path.multiplier)
        weighted = grid.widths[:, None] * grid.weights
        # Derivatives of each panel's action by its points.
        self._pull = np.einsum(
            "ji,kjd->kid", grid.weights[:, None] * grid.difference, path.momenta
        ) - np.einsum("ji,kjd->kid", grid.evaluate, weighted[:, :, None] * self._derivatives[1])
        self._unit = scale[-len(path.multiplier) :]
        self.residual = self._gradient() * scale / (problem.units[0] * problem.units[1])

    @property
    def end(self) -> Vector:
        """Where it ends."""
        return self.path.points[-1]

    @property
    def value(self) -> float:
        """Its action."""
        return float(self.actions()[-1])

    def actions(self) -> Float[np.ndarray, " edges"]:
        """Steepness up to each end of a panel, the start's cost included."""
        grid, path = self.problem.grid, self.path
        work = np.einsum("kjd,kjd->kj", path.momenta, self._moved)
        costs = (work - grid.widths[:, None] * self._derivatives[0]) @ grid.weights
        offset = path.points[0] - self.problem.mean
        first = path.initial @ (offset - 0.5 * self.problem.spread @ path.initial)
        return first + np.concatenate([[0.0], np.cumsum(costs)])

    def noise(self) -> Float[np.ndarray, "panels dim dim"]:
        """``H_pp`` on every panel, averaged over its nodes."""
        return self._derivatives[5].mean(axis=1)

    def edge_momenta(self) -> Float[np.ndarray, "edges dim"]:
        """Momenta at the panels' ends: derivative of the action there."""
        return np.concatenate([self.path.initial[None], self._pull[:, -1]])

    def is_minimum(self) -> bool:
        """Whether the path costs less than every neighbour."""
        path = self.path
        maximised = path.initial.size + path.momenta.size + path.multiplier.size
        return self.matrix().negative_eigenvalues() == maximised

    def _gradient(self) -> Float[np.ndarray, " n"]:
        problem, path, grid = self.problem, self.path, self.problem.grid
        by_points = np.zeros_like(path.points)
        by_points[1:] = self._pull[:, 1:].reshape(-1, path.points.shape[1])
        by_points[: -grid.stages : grid.stages] += self._pull[:, 0]
        by_points[0] += path.initial
        if problem.anchor is not None:
            by_points += problem.hold * (path.points - problem.anchor)
        value, slope, held, _ = self._end
        by_points[-1] += held - slope.T @ path.multiplier
        along = self._moved - grid.widths[:, None, None] * self._derivatives[2]
        return problem._pack(
            Path(
                by_points,
                grid.weights[:, None] * along,
                path.points[0] - problem.mean - problem.spread @ path.initial,
                -value - problem.end.compliance * path.multiplier,
            )
        )

    def matrix(self) -> SaddleMatrix:
        """Second derivative of the action in the units of the problem."""
        problem, grid, dim = self.problem, self.problem.grid, self.path.points.shape[1]
        stages, panels = grid.stages, grid.panels
        length, momentum = problem.units
        ratio = momentum / length
        xx, px, pp = self._derivatives[3:]
        size = (2 * stages + 1) * dim
        blocks = np.zeros((panels, size, size))
        weighted = grid.widths[:, None] * grid.weights
        at_points = [slice(0, dim)] + [
            slice((stages + i) * dim, (stages + i + 1) * dim) for i in range(1, stages + 1)
        ]
        at_momenta = [slice((j + 1) * dim, (j + 2) * dim) for j in range(stages)]
        one = np.eye(dim)
        for j, momenta in enumerate(at_momenta):
            heavy = weighted[:, j, None, None]
            blocks[:, momenta, momenta] = -ratio * heavy * pp[:, j]
            for i, points in enumerate(at_points):
                across = grid.weights[j] * grid.difference[j, i] * one
                across = across - heavy * grid.evaluate[j, i] * px[:, j]
                blocks[:, momenta, points] = across
                blocks[:, points, momenta] = across.transpose(0, 2, 1)
        for i, first in enumerate(at_points):
            for k, second in enumerate(at_points):
                shares = grid.evaluate[:, i] * grid.evaluate[:, k]
                if shares.any():
                    shared = np.einsum("kj,kjab->kab", weighted * shares, xx)
                    blocks[:, first, second] = -shared / ratio
        _, slope, _, curvature = self._end
        blocks[-1, -dim:, -dim:] += curvature / ratio
        blocks[:, (stages + 1) * dim :, (stages + 1) * dim :] += (
            problem.hold / ratio * np.eye(stages * dim)
        )
        head = np.block([[-ratio * problem.spread, one], [one, problem.hold / ratio * one]])
        tail = -problem.end.compliance * np.diag(self._unit**2) / (length * momentum)
        return SaddleMatrix(head, blocks, tail, -slope * self._unit[:, None] / momentum)


def derivatives(
    hamiltonian: AbstractHamiltonian,
    points: Float[np.ndarray, "panels nodes dim"],
    momenta: Float[np.ndarray, "panels nodes dim"],
) -> tuple[Float[np.ndarray, "panels nodes ..."], ...]:
    """H, its gradients in x and p, and ``H_xx``, ``H_px`` and ``H_pp``."""
    dim = points.shape[-1]
    x, p = points.reshape(-1, dim), momenta.reshape(-1, dim)
    pieces, done = [], 0
    while done < len(x):
        chunk = CHUNKS[0] if len(x) - done <= 4 * CHUNKS[0] else CHUNKS[1]
        count = min(chunk, len(x) - done)
        padding = ((0, chunk - count), (0, 0))
        at = (np.pad(part[done : done + count], padding, mode="edge") for part in (x, p))
        pieces.append([part[:count] for part in in_float64(_derivatives, hamiltonian, *at)])
        done += count
    together = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return tuple(part.reshape(*points.shape[:2], *part.shape[1:]) for part in together)


def _derivatives(
    hamiltonian: AbstractHamiltonian, x: Float[Array, "n dim"], p: Float[Array, "n dim"]
) -> tuple[Array, ...]:
    dim = x.shape[1]

    def joint(z: Float[Array, " two_dim"]) -> Float[Array, ""]:
        return hamiltonian(z[:dim], z[dim:])

    def gradient(z: Float[Array, " two_dim"]) -> tuple[Array, tuple[Array, Array]]:
        value, slope = jax.value_and_grad(joint)(z)
        return slope, (value, slope)

    z = jnp.concatenate([x, p], axis=1)
    second, (value, slope) = jax.vmap(jax.jacfwd(gradient, has_aux=True))(z)
    xx, px, pp = second[:, :dim, :dim], second[:, dim:, :dim], second[:, dim:, dim:]
    return value, slope[:, :dim], slope[:, dim:], xx, px, pp


def _level_derivatives(
    region: AbstractRegion, x: Float[Array, " dim"]
) -> tuple[Float[Array, ""], Float[Array, " dim"], Float[Array, "dim dim"]]:
    return region._level(x), jax.grad(region._level)(x), jax.hessian(region._level)(x)
