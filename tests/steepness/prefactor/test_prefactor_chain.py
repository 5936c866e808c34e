"""Chains through their equivalent diffusion, against the exact integral equation of the chain."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.minimum import neighbourhood
from escapade.steepness import minimum_steepness
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.prefactor import EquivalentDiffusion, boundary_prefactor, saddle_prefactor


def of_chain(escape):
    rate = escape.dynamics.learning_rate
    diffusion = EquivalentDiffusion(hamiltonian(escape), rate)
    return diffusion, neighbourhood(escape).stationary_covariance(rate)


def well_orbits(orbits, learning_rate, ends):
    """Of the double well's equivalent diffusion with C = 1."""

    def factor(x):
        return 1 / (1 + learning_rate / 2 * (1 - 3 * x**2))

    return [
        orbits.on_line(lambda x: factor(x) * (x - x**3), lambda x: factor(x) ** 2, -1.0, end)
        for end in ends
    ]


@pytest.mark.parametrize(
    ("learning_rate", "tolerance"),
    [
        pytest.param(0.05, 0.015, marks=pytest.mark.slow),
        pytest.param(0.1, 0.02, marks=pytest.mark.slow),
        (0.2, 0.04),
    ],
)
@pytest.mark.parametrize(
    ("region", "ends"),
    [
        (esc.HalfSpace([1.0], 0.6), [-0.4]),
        (esc.Ball(0.5), [-0.5, -1.5]),
        (esc.HalfSpace([1.0], 1.0), None),
    ],
)
def test_double_well(orbits, learning_rate, tolerance, region, ends):
    """Curvatures times learning rate up to 0.4 at the minimum and 1.2 on the way."""
    landscape, noise = esc.landscapes.DoubleWell(), esc.noise.Isotropic(1.0)
    found = None
    for barrier in (5.0, 8.0, 15.0):
        top = -0.5 if ends is None else 2 * float(landscape.loss(np.array(ends[:1])))
        noise_scale = ((top if ends else 0.0) + 0.5) / barrier
        escape = esc.Escape(
            landscape, esc.GaussianSGD(learning_rate, learning_rate / noise_scale, noise), region
        )
        if found is None:
            diffusion, spread = of_chain(escape)
            paths = well_orbits(orbits, learning_rate, ends or [-1e-6])
            if ends is None:
                found = saddle_prefactor(diffusion, paths, escape.minimum, spread)
            else:
                found = boundary_prefactor(diffusion, paths, escape.minimum, spread, escape.region)
        exact = esc.solve(escape).log_mean
        assert found.log_mean_exit_steps(noise_scale, learning_rate) == pytest.approx(
            exact, abs=tolerance
        )
    # The steps matter: the diffusion alone would be far off.
    plain = found.log_mean_exit_time(noise_scale) - np.log(learning_rate)
    assert abs(plain - exact) > 0.1


@pytest.mark.parametrize("name", ["M01", "S06"])
def test_quadratics(orbits, oracle, name):
    """The equivalent diffusion is exact there, up to s = 3 and a barrier of 45."""
    reference = oracle(name)
    params = reference["params"]
    rate = params.get("eta", params.get("eta_lam"))
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(rate, params["B"], esc.noise.Isotropic(1.0)),
        esc.Ball(params["R"]),
    )
    diffusion, spread = of_chain(escape)
    drift = 1 / (1 - rate / 2)
    paths = [
        orbits.linear(np.array([[drift]]), spread, x) for x in minimum_steepness(escape).exit_points
    ]
    found = boundary_prefactor(diffusion, paths, escape.minimum, spread, escape.region)
    assert found.log_mean_exit_steps(escape.noise_scale, rate) == pytest.approx(
        np.log(reference["value"]), abs=0.01
    )


def test_exponents_of_the_chain_itself_may_be_given(orbits):
    rate, noise_scale = 0.1, 0.07
    escape = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(rate, rate / noise_scale, esc.noise.Isotropic(1.0)),
        esc.HalfSpace([1.0], 0.6),
    )
    diffusion, spread = of_chain(escape)
    paths = well_orbits(orbits, rate, [-0.4])
    found = boundary_prefactor(diffusion, paths, escape.minimum, spread, escape.region)
    own = found.log_mean_exit_steps(noise_scale, rate)
    moved = found.log_mean_exit_steps(noise_scale, rate, np.array([found.value + 0.01]))
    assert moved - own == pytest.approx(0.01 / noise_scale, rel=1e-9)
    with pytest.raises(InvalidArgument, match="draws its noise at the current point"):
        boundary_prefactor(
            diffusion,
            paths,
            escape.minimum,
            spread,
            escape.region,
            interpretation="stratonovich",
        )


def test_a_chain_in_the_plane(orbits, oracle):
    """M08's dense covariance at twice its barrier, against simulation."""
    hessian = np.array([[2, 0.6], [0.6, 1]])
    covariance = np.array([[1, -0.3], [-0.3, 0.5]])
    escape = esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(0.2, 1.0, esc.noise.Constant(covariance)),
        esc.Ball(1.0),
    )
    diffusion, spread = of_chain(escape)
    factor = np.linalg.inv(np.eye(2) - 0.1 * hessian)
    paths = [
        orbits.linear(factor @ hessian, spread, x) for x in minimum_steepness(escape).exit_points
    ]
    found = boundary_prefactor(diffusion, paths, escape.minimum, spread, escape.region)
    sample = esc.simulate(escape, replicas=4096, max_steps=20_000, key=0)
    error = sample.times.std() / sample.mean / 64
    assert found.log_mean_exit_steps(0.2, 0.2) == pytest.approx(
        np.log(sample.mean), abs=0.06 + 3 * error
    )
