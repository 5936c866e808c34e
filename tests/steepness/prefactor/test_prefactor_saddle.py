"""Transitions over saddles, against exact solutions and published constants."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import NotConverged, Unsupported
from escapade.minimum import neighbourhood
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.orbit import Orbit
from escapade.steepness.prefactor import saddle_prefactor


def prefactor(landscape, noise, orbit, **options):
    escape = esc.Escape(landscape, esc.ContinuousSGD(0.01, 0.1, noise), esc.Basin())
    spread = neighbourhood(escape).stationary_covariance()
    return saddle_prefactor(hamiltonian(escape), [orbit], escape.minimum, spread, **options)


def well(x):
    return x - x**3


def one(x):
    return np.ones_like(x)


def on_axis(orbits, end=-1e-6):
    """The orbit of the Maier-Stein drift along its axis, the one of the double well."""
    line = orbits.on_line(well, one, -1.0, end)
    zero = np.zeros_like(line.path)
    return Orbit(
        line.times,
        np.hstack([line.path, zero]),
        np.hstack([line.momenta, zero]),
        (1 - line.path[:, 0] ** 2) ** 2 / 2,
        0.5,
        0.0,
        True,
        "axis",
    )


@pytest.mark.parametrize(("beta", "constant"), [(0.0, 4.442883), (1.0, np.pi), (3.0, 1.163097)])
def test_maier_stein_constants(orbits, beta, constant):
    """E tau = C exp(U / eps): a gradient for beta = 1 (Eyring and Kramers), no gradient else."""
    found = prefactor(
        esc.landscapes.MaierStein(beta=beta),
        esc.noise.Isotropic(1.0),
        on_axis(orbits),
        committed=True,
    )
    assert np.exp(-found.passages[0].log_coefficient) == pytest.approx(constant, rel=1e-6)
    assert found.value == pytest.approx(0.5, abs=1e-12)
    assert found.power == 0


def test_maier_stein_at_finite_noise(orbits):
    """Mean times from a two-dimensional generator (trusted to .5 %): what is resummed along the
    orbit takes the error from 7 to below 1 % for the gradient, and halves it for beta = 3.
    """
    table = {1.0: {0.1: 543.27, 0.05: 74075, 0.03: 5.6528e7}, 3.0: {0.05: 33377, 0.03: 2.3835e7}}
    for beta, times in table.items():
        found = prefactor(
            esc.landscapes.MaierStein(beta=beta),
            esc.noise.Isotropic(1.0),
            on_axis(orbits),
            committed=True,
        )
        for noise_scale, time in times.items():
            error = found.log_mean_exit_time(noise_scale) - np.log(time)
            leading = found.leading_log_mean_exit_time(noise_scale) - np.log(time)
            assert abs(error) < 0.62 * abs(leading)
            if beta == 1:
                assert abs(error) < 0.02


def test_double_well(orbits, oracle):
    """N01 and N02: the saddle is reached in half the time of the transition."""
    landscape, noise = esc.landscapes.DoubleWell(), esc.noise.Isotropic(1.0)
    orbit = orbits.on_line(well, one, -1.0, -1e-6)
    half = prefactor(landscape, noise, orbit)
    whole = prefactor(landscape, noise, orbit, committed=True)
    assert np.exp(whole.leading_log_mean_exit_time(0.1)) == pytest.approx(659.38, rel=1e-3)
    for found, name in ((half, "N01"), (whole, "N02")):
        exact = np.log(oracle(name)["value"])
        assert found.log_mean_exit_time(0.1) == pytest.approx(exact, abs=0.02)
        assert abs(found.leading_log_mean_exit_time(0.1) - exact) > 0.08


@pytest.mark.parametrize(
    ("name", "interpretation", "constant"),
    [
        ("N04", "ito", 1.0),
        pytest.param("N05", "stratonovich", np.sqrt(1.5), marks=pytest.mark.slow),
        ("N06", "anti_ito", 1.5),
    ],
)
def test_interpretations_of_multiplicative_noise(orbits, oracle, name, interpretation, constant):
    """C = 1 + x^2/2: K at the saddle is ``(C(-1) / C(0))^-a`` times less from Ito to anti-Ito."""
    found = prefactor(
        esc.landscapes.DoubleWell(),
        esc.noise.Function(lambda x: 1 + x[0] ** 2 / 2),
        orbits.on_line(well, lambda x: 1 + x**2 / 2, -1.0, -1e-6),
        interpretation=interpretation,
    )
    assert found.value == pytest.approx(oracle("N03")["value"], abs=1e-10)
    exact = np.log(oracle(name)["value"])
    assert found.log_mean_exit_time(0.1) == pytest.approx(exact, abs=0.015)
    # pi / lambda sqrt(W_s / W_a) K_s^-1, with K = C^-1 for Ito, W = 2 L'' / C.
    ito = np.pi * np.sqrt(2 / (4 / 1.5)) / 1.5
    assert np.exp(-found.passages[0].log_coefficient) == pytest.approx(ito * constant, rel=1e-5)


def test_styblinski_tang(orbits, oracle):
    """N08: from the shallow minimum to the saddle."""
    reference = oracle("N08")
    start, target = reference["params"]["start"], reference["params"]["target"]
    landscape = esc.landscapes.StyblinskiTang(1)
    orbit = orbits.on_line(
        lambda x: -(2 * x**3 - 16 * x + 2.5), one, start, target + 1e-6, points=1500
    )
    escape = esc.Escape(
        landscape,
        esc.ContinuousSGD(1e-3, 1e-4, esc.noise.Isotropic(1.0)),
        esc.Basin(),
        start=[start],
    )
    spread = neighbourhood(escape).stationary_covariance()
    found = saddle_prefactor(hamiltonian(escape), [orbit], escape.minimum, spread)
    assert found.log_mean_exit_time(10.0) == pytest.approx(np.log(reference["value"]), abs=0.03)


def test_what_is_no_saddle_is_refused(orbits):
    landscape, noise = esc.landscapes.MaierStein(beta=1.0), esc.noise.Isotropic(1.0)
    with pytest.raises(NotConverged, match="not near the saddle"):
        prefactor(landscape, noise, on_axis(orbits, end=-0.1))
    # An orbit that arrives across the unstable direction: V is not smooth there.
    orbit = on_axis(orbits)
    turned = orbit.path + np.stack([0 * orbit.path[:, 0], -0.3 * orbit.path[:, 0]], axis=1)
    bent = Orbit(orbit.times, turned, orbit.momenta, orbit.actions, orbit.value, 0.0, True, "bent")
    with pytest.raises(Unsupported, match="at an angle"):
        prefactor(landscape, noise, bent)
