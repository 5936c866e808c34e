"""Orbits that are known without a path solver."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

from escapade.steepness.orbit import Orbit


def _orbit(times, path, momenta, value=None) -> Orbit:
    work = np.einsum("ni,ni->n", np.diff(path, axis=0), (momenta[1:] + momenta[:-1]) / 2)
    actions = np.concatenate([[0.0], np.cumsum(work)])
    actions += (actions[-1] if value is None else value) - actions[-1]
    return Orbit(times, path, momenta, actions, float(actions[-1]), 0.0, True, "analytic")


def linear(drift_matrix, stationary, end, points: int = 400) -> Orbit:
    """Of ``b = -A x`` with constant noise: ``p = exp(A^T t) S^-1 x``, ``x = S p``."""
    slowest = np.linalg.eigvals(drift_matrix).real.min()
    times = np.linspace(-16 / slowest, 0, points)
    last = np.linalg.solve(stationary, end)
    momenta = np.array([scipy.linalg.expm(drift_matrix.T * t) @ last for t in times])
    path = momenta @ stationary
    actions = 0.5 * np.einsum("ni,ni->n", path, momenta)
    return Orbit(times, path, momenta, actions, float(actions[-1]), 0.0, True, "linear")


def on_line(
    drift: Callable, covariance: Callable, minimum: float, end: float, points: int = 800
) -> Orbit:
    """In one dimension: reversed descent from the end, ``p = -2 b / C``."""

    def arrived(time, x):
        return abs(x[0] - minimum) - 1e-6

    arrived.terminal = True
    descent = scipy.integrate.solve_ivp(
        lambda t, x: drift(x),
        (0, 400),
        [end],
        method="DOP853",
        rtol=1e-12,
        atol=1e-15,
        events=arrived,
        dense_output=True,
    )
    times = np.linspace(0, descent.t[-1], points)
    path = descent.sol(times).T[::-1]
    momenta = -2 * drift(path) / covariance(path)
    value = scipy.integrate.quad(
        lambda x: -2 * drift(x) / covariance(x), minimum, end, epsabs=1e-13, epsrel=1e-13
    )[0]
    return _orbit(-times[::-1], path, momenta, value)


@pytest.fixture(scope="session")
def orbits() -> SimpleNamespace:
    """Solvable orbits: ``orbits.linear`` and ``orbits.on_line``."""
    return SimpleNamespace(linear=linear, on_line=on_line)
