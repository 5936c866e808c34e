"""Eigenfunctions of a killed diffusion, for its later rates and its survival.

With ``u = exp(Phi / 2) phi`` the generator becomes self-adjoint and free of exponentials:
``int (phi' + Phi' phi / 2)(psi' + Phi' psi / 2) = rate int (2 / variance) phi psi``, discretised
by continuous polynomials on elements (Galerkin).
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy.interpolate import CubicHermiteSpline
from scipy.linalg import eigh

from escapade.exact.line.mesh import Mesh
from escapade.exact.line.process import Line

DEGREE = 12
ELEMENTS = 32

MOST_EXPONENT = 300.0
"""Cap on an exponent whose exponential would cost all digits long before it overflows."""


class Modes(eqx.Module):
    """Rates per step, increasing, and the amplitude of each in the survival from the start."""

    rates: Float[np.ndarray, " modes"]
    amplitudes: Float[np.ndarray, " modes"]


def modes(line: Line, mesh: Mesh) -> Modes:
    """Modes of the diffusion on the interval of a mesh."""
    fractions = np.linspace(0, 1, ELEMENTS + 1)
    inner = np.interp(fractions, np.linspace(0, 1, len(mesh.edges)), mesh.edges)
    uniform = mesh.edges[0] + (mesh.edges[-1] - mesh.edges[0]) * fractions
    edges = np.unique(np.concatenate([(inner + uniform) / 2, [line.start]]))
    half = np.diff(edges) / 2
    points, weights = legendre.leggauss(DEGREE + 8)
    basis, slope = _basis(points)
    at = (edges[:-1] + half)[:, None] + half[:, None] * points
    drift, variance = line(at)
    # (element, point, function): phi' + Phi' phi / 2, and phi.
    twisted = slope / half[:, None, None] - (drift / variance)[:, :, None] * basis
    measure = half[:, None] * weights
    stiffness = np.einsum("ep,epi,epj->eij", measure, twisted, twisted)
    speed = measure * 2 / variance
    mass = np.einsum("ep,pi,pj->eij", speed, basis, basis)
    drift, variance = line(mesh.edges)
    potential = CubicHermiteSpline(mesh.edges, mesh.potential_edges, -2 * drift / variance)
    height = np.minimum((potential(line.start) - potential(at)) / 2, MOST_EXPONENT)
    load = np.einsum("ep,pi->ei", speed * np.exp(height), basis)
    size = len(half) * DEGREE + 1
    A, B, right = np.zeros((size, size)), np.zeros((size, size)), np.zeros(size)
    for element in range(len(half)):
        place = slice(element * DEGREE, (element + 1) * DEGREE + 1)
        A[place, place] += stiffness[element]
        B[place, place] += mass[element]
        right[place] += load[element]
    first = 1 if np.isfinite(line.low) else 0
    last = size - 1 if np.isfinite(line.high) else size
    kept = slice(first, last)
    rates, functions = eigh(A[kept, kept], B[kept, kept])
    at_start = int(np.argmin(np.abs(edges - line.start))) * DEGREE - first
    return Modes(rates, functions[at_start] * (right[kept] @ functions))


def _basis(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lagrange polynomials on Gauss-Lobatto points, and their derivatives, at points."""
    inner = legendre.legroots(legendre.legder(np.eye(DEGREE + 1)[DEGREE]))
    lobatto = np.concatenate([[-1.0], inner, [1.0]])
    coefficients = np.linalg.inv(legendre.legvander(lobatto, DEGREE))
    return (
        legendre.legvander(points, DEGREE) @ coefficients,
        legendre.legvander(points, DEGREE - 1) @ legendre.legder(coefficients, axis=0),
    )
