"""Exit over a saddle: where the noiseless drift vanishes on the boundary of the basin.

With K transported along the orbit to the saddle, ``lambda`` the saddle's expansion rate and W the
Hessians of V at both ends,

    ``rate = K (lambda / 2 pi) sqrt(det W_minimum / |det W_saddle|) exp(-V / eps^2)``

is the rate of transitions to the other side (Bouchet and Reygner, Annales Henri Poincare 17, 2016;
Eyring and Kramers for a gradient with isotropic noise, where ``K = 1``, ``W = 2 Hess L / c``). The
separatrix is reached twice as often: half the paths that reach it return.

At the saddle ``W = S^-1`` with ``J S + S J^T + C = 0``, J the derivative of the drift: V there is
smooth only if the orbit arrives along ``S l``, l the left eigenvector of lambda. Otherwise (a
contraction slower than lambda, without symmetry) the prefactor has another power of eps (Maier and
Stein, SIAM J. Appl. Math. 57, 1997).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from escapade.errors import NotConverged, Unsupported
from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor.boundary import MOST_EXPANDED, peak_of
from escapade.steepness.prefactor.expansion import (
    Diffusion,
    Equations,
    Expansion,
    along,
    at_minimum,
    displaced,
)
from escapade.steepness.prefactor.interpretation import noise_drift
from escapade.steepness.prefactor.profile import profile_along
from escapade.steepness.prefactor.result import Passage, Prefactor

Vector = Float[np.ndarray, " dim"]
Matrix = Float[np.ndarray, "dim dim"]

NEAREST = 1e-6
FARTHEST = 1e-2
"""Distance from the saddle, relative to the orbit's extent, at which it is taken for linear."""

ALIGNED = 0.1
"""Largest sine of the angle between the orbit's arrival and the direction of smooth V."""

_DECADES = 7.0


def saddle_prefactor(
    hamiltonian: Diffusion,
    orbits: Sequence[Orbit],
    minimum: Vector,
    stationary: Matrix,
    *,
    committed: bool = False,
    interpretation: str = "ito",
) -> Prefactor:
    """Mean time of a diffusion to pass saddles.

    Args:
        hamiltonian: of the continuous dynamics.
        orbits: one orbit of infinite horizon to each saddle, or to a point close to it.
        minimum: the attractor, shape (dim,).
        stationary: stationary covariance S at the minimum, per eps^2.
        committed: the time of the transition to the other side, instead of the time at which the
            separatrix (the boundary of the basin) is reached first, half of it.
        interpretation: "ito" (SGD), "stratonovich" or "anti_ito".

    Raises:
        NotConverged: when there is no saddle near an orbit's end, or it passes a caustic.
        Unsupported: when V is not smooth at the saddle.
        DegenerateNoise: when S is singular.
    """
    beta = noise_drift(hamiltonian, interpretation)
    order = 4 if len(minimum) <= MOST_EXPANDED else 2
    start_equations = Equations(hamiltonian, beta, order)
    equations = Equations(hamiltonian, beta, 2)
    start = at_minimum(start_equations, minimum, stationary)
    bulk = peak_of(start_equations.jets, start.height, start.log_factor)
    passages = []
    for orbit in orbits:
        saddle = Saddle.near(equations, orbit.end)
        whole = saddle.completed(orbit)
        first = displaced(start_equations, start, whole.path[0] - minimum)
        count = len(equations.jets.monomials)
        first = Expansion(first.height[:count], first.log_factor[:count], 0.0)
        first.log_factor[1:] = 0.0
        carried = along(equations, whole, first, pinned=True)
        log_rate = (
            carried.end.log_factor[0]
            + np.log(saddle.rate / np.pi)
            - np.log(2.0 if committed else 1.0)
            + (bulk.log_determinant + np.linalg.slogdet(saddle.spread)[1]) / 2
        )
        passages.append(
            Passage(
                point=saddle.point,
                value=float(whole.value),
                log_coefficient=float(log_rate),
                correction=float("nan"),
                profile=profile_along(
                    equations,
                    whole,
                    carried,
                    0.5 if len(orbits) == 1 else 1.0,
                    saddle_rate=saddle.rate,
                    saddle_depth=saddle.depth(whole.momenta[-1]),
                ),
                noise_across=saddle.noise_across,
                soft=1.0,
            )
        )
    return Prefactor(
        passages=tuple(passages),
        bulk_correction=bulk.correction if order == 4 else float("nan"),
        power=0,
        description="transition over a saddle" if committed else "first visit to the separatrix",
    )


class Saddle:
    """A stationary point of the drift with one unstable direction."""

    def __init__(self, point: Vector, jacobian: Matrix, covariance: Matrix):
        """From the linear drift and the noise there.

        Raises:
            NotConverged: unless exactly one direction is unstable.
            Unsupported: when an expansion and a contraction rate coincide and noise couples them.
        """
        self.point = point
        rates, left = np.linalg.eig(jacobian.T)
        if np.sum(rates.real > 0) != 1:
            raise NotConverged(
                f"the drift at {point} has {np.sum(rates.real > 0)} unstable directions; the end "
                "of an orbit must be a saddle with one"
            )
        unstable = int(np.argmax(rates.real))
        self.rate = float(rates[unstable].real)
        self.slowest = float(np.min(np.abs(rates.real)))
        self.normal = left[:, unstable].real
        unit = self.normal / np.linalg.norm(self.normal)
        self.noise_across = float(unit @ covariance @ unit)
        self.spread = _indefinite_lyapunov(rates, left, covariance)

    def depth(self, momentum: Vector) -> float:
        """V at the saddle minus V where the momentum, along the normal, is this one."""
        return float(-0.5 * momentum @ self.spread @ momentum)

    @classmethod
    def near(cls, equations: Equations, point: Vector) -> "Saddle":
        """The one that Newton's method finds from a point.

        Raises:
            NotConverged: when it finds none.
        """
        for _ in range(50):
            fields = equations.fields(point)
            jacobian = fields.drift[:, 1 : len(point) + 1]
            step = np.linalg.solve(jacobian, fields.drift[:, 0])
            point = point - step
            if np.linalg.norm(step) <= 1e-13 * (1 + np.linalg.norm(point)):
                fields = equations.fields(point)
                return cls(point, fields.drift[:, 1 : len(point) + 1], fields.covariance[..., 0])
        raise NotConverged(f"no stationary point of the drift near the orbit's end {point}")

    def completed(self, orbit: Orbit) -> Orbit:
        """The orbit with its end replaced by that of the linear dynamics at the saddle.

        Raises:
            NotConverged: when the orbit does not come close to the saddle.
            Unsupported: when it does not arrive along the direction of smooth V.
        """
        extent = np.ptp(orbit.path, axis=0).max()
        distances = np.linalg.norm(orbit.path - self.point, axis=1) / extent
        nearest = np.clip(10 * orbit.error, NEAREST, FARTHEST)
        close = np.flatnonzero(distances <= nearest)
        last = int(close[0]) if len(close) else len(distances) - 1
        if distances[last] > FARTHEST:
            raise NotConverged(
                f"the orbit ends at {orbit.end}, not near the saddle {self.point} (relative "
                f"distance {distances[last]:.2g}); solve for the orbit to the saddle"
            )
        if distances[last] == 0:
            last -= 1
        offset, momentum = orbit.path[last] - self.point, orbit.momenta[last]
        arrival = self.spread @ self.normal
        arrival /= np.linalg.norm(arrival)
        sine = np.linalg.norm(offset - arrival * (arrival @ offset)) / np.linalg.norm(offset)
        if sine > ALIGNED:
            raise Unsupported(
                f"the orbit reaches the saddle {self.point} at an angle (sine {sine:.2g}) to the "
                "direction in which the quasipotential is smooth, so the prefactor has another "
                "power of the noise; no formula is known here: use the exponent, simulate or split"
            )
        scale = (momentum @ self.normal) / (self.normal @ self.normal)
        step = min(np.median(np.diff(orbit.times)), 0.05 / self.rate)
        span = max(_DECADES / self.rate, 0.5 * _DECADES / self.slowest)
        decay = np.exp(-self.rate * np.arange(1, int(np.ceil(span / step)) + 1) * step)
        momenta = scale * np.outer(decay, self.normal)
        path = self.point + momenta @ self.spread
        depths = np.array([self.depth(p) for p in momenta])
        value = float(orbit.actions[last] + self.depth(scale * self.normal))
        times = orbit.times[last] - np.log(decay) / self.rate
        return Orbit(
            times=np.concatenate([orbit.times[: last + 1], times]) - times[-1],
            path=np.concatenate([orbit.path[: last + 1], path]),
            momenta=np.concatenate([orbit.momenta[: last + 1], momenta]),
            actions=np.concatenate([orbit.actions[: last + 1], value - depths]),
            value=value,
            error=orbit.error,
            converged=orbit.converged,
            method=orbit.method,
        )


def _indefinite_lyapunov(
    rates: Float[np.ndarray, " dim"], left: Float[np.ndarray, "dim dim"], covariance: Matrix
) -> Matrix:
    """S with ``J S + S J^T + C = 0`` in the left eigenvectors of J; unique without resonance."""
    noise = left.T @ covariance @ left
    sums = rates[:, None] + rates
    resonant = np.abs(sums) < 1e-9 * np.abs(rates).max()
    scale = np.sqrt(np.abs(np.outer(np.diag(noise), np.diag(noise))))
    if np.any(resonant & (np.abs(noise) > 1e-6 * scale)):
        raise Unsupported(
            "the saddle expands as fast as it contracts and noise couples the two directions, so "
            "the quasipotential has a logarithm there; use the exponent, simulate or split"
        )
    spread = np.where(resonant, 0.0, -noise / np.where(resonant, 1.0, sums))
    inverse = np.linalg.inv(left)
    return (inverse.T @ spread @ inverse).real
