import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from escapade import landscapes, noise
from escapade.errors import DegenerateNoise, InvalidArgument, NotAMinimum, Unsupported
from escapade.landscape.descent import newton
from escapade.minimum.find import find_minimum
from escapade.minimum.lyapunov import stationary_covariance
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where
from escapade.steepness.continuous.orbits import continuous_orbits
from escapade.steepness.hamiltonian import GaussianHamiltonian, MinibatchHamiltonian

H2 = np.array([[2.0, 0.6], [0.6, 1.0]])
C2 = np.array([[1.0, -0.3], [-0.3, 0.5]])
ORIGIN = np.zeros(2)


def gaussian(landscape, covariance=None):
    return GaussianHamiltonian(landscape, covariance or noise.Isotropic(), None)


def maier_stein(beta):
    return gaussian(landscapes.MaierStein(float(beta)))


@pytest.fixture(scope="module")
def linear():
    return gaussian(landscapes.Quadratic(H2), noise.Constant(C2))


def best(hamiltonian, start, **end):
    orbits = continuous_orbits(hamiltonian, start, **end)
    values = [orbit.value for orbit in orbits]
    assert values == sorted(values)
    for orbit in orbits:
        assert orbit.converged
        assert orbit.error <= 1e-8
        assert orbit.actions[-1] == orbit.value
        assert orbit.times[-1] == 0
        assert (np.diff(orbit.times) > 0).all()
    return orbits[0]


# Paths to a saddle.


def test_maier_stein(oracle):
    orbits = continuous_orbits(maier_stein(10), [-1.0, 0.0], to=[0.0, 0.0])
    assert len(orbits) == 2  # mirror images; the straight path is no minimum
    for orbit in orbits:
        assert orbit.value == pytest.approx(oracle("X01")["value"], rel=1e-9)
        assert np.abs(orbit.path[:, 1]).max() == pytest.approx(0.31297, abs=1.5e-5)
        np.testing.assert_array_equal(orbit.end, [0.0, 0.0])
    assert orbits[0].path[:, 1].sum() * orbits[1].path[:, 1].sum() < 0


@pytest.mark.parametrize(
    ("beta", "exact", "rel"), [(1, 0.5, 1e-9), (4, 0.5, 1e-9), (5, 0.48307, 7e-6)]
)
def test_maier_stein_other_parameters(beta, exact, rel):
    assert best(maier_stein(beta), [-1.0, 0.0], to=[0.0, 0.0]).value == pytest.approx(
        exact, rel=rel
    )


def test_hamilton_equations_hold():
    """The path, integrated anew by another solver from its own middle, goes where it says."""
    hamiltonian = maier_stein(10)
    orbit = best(hamiltonian, [-1.0, 0.0], to=[0.0, 0.0])
    first, last = (int(np.searchsorted(orbit.actions, q * orbit.value)) for q in (0.2, 0.6))

    def flow(t, state):
        x, y, p, q = state
        return [
            x - x**3 - 10 * x * y**2 + p,
            -(1 + x**2) * y + q,
            -((1 - 3 * x**2 - 10 * y**2) * p - 2 * x * y * q),
            -(-20 * x * y * p - (1 + x**2) * q),
        ]

    start = np.concatenate([orbit.path[first], orbit.momenta[first]])
    there = scipy.integrate.solve_ivp(
        flow, (orbit.times[first], orbit.times[last]), start, rtol=1e-11, atol=1e-13
    ).y[:, -1]
    np.testing.assert_allclose(there[:2], orbit.path[last], atol=3e-6)
    np.testing.assert_allclose(there[2:], orbit.momenta[last], atol=3e-6)


# Paths to a boundary.


def test_half_space_at_before_and_beyond_the_saddle(oracle):
    start, exact = [-1.0, 0.0], oracle("X01")["value"]
    hamiltonian = maier_stein(10)
    at = best(hamiltonian, start, region=HalfSpace([1.0, 0.0], 1.0, start))
    beyond = best(hamiltonian, start, region=HalfSpace([1.0, 0.0], 1.5, start))
    before = best(hamiltonian, start, region=HalfSpace([1.0, 0.0], 0.9, start))
    assert at.value == pytest.approx(exact, rel=1e-8)
    assert beyond.value == pytest.approx(exact, rel=1e-8)
    np.testing.assert_allclose(beyond.end, [0.5, 0.0], atol=1e-6)
    # Independent: among ends on the line, given one by one, it is the best.
    sides = [
        continuous_orbits(hamiltonian, start, to=before.end + np.array([0.0, step]))[0].value
        for step in (-0.01, 0.01)
    ]
    assert min(sides) > before.value
    assert max(sides) - min(sides) < 0.1 * (max(sides) - before.value)


def test_basin_is_left_through_its_saddle(oracle):
    landscape = landscapes.MaierStein(10.0)
    region = Basin().anchored(landscape, np.array([-1.0, 0.0]))
    orbit = best(gaussian(landscape), [-1.0, 0.0], region=region)
    assert orbit.value == pytest.approx(oracle("X01")["value"], rel=1e-8)


@pytest.mark.parametrize("case", ["Q06", "Q07", "Q08"])
def test_linear_exit(linear, oracle, case):
    region = {
        "Q06": Ball(1.0, ORIGIN),
        "Q07": Sublevel(1.0, landscapes.Quadratic(H2)),
        "Q08": HalfSpace([1.0, 1.0], 1.0, ORIGIN),
    }[case]
    orbits = continuous_orbits(linear, ORIGIN, region=region)
    assert orbits[0].value == pytest.approx(oracle(case)["value"], rel=1e-10)
    assert len(orbits) == (1 if case == "Q08" else 2)


def test_slab_is_left_on_both_sides(linear, oracle):
    orbits = continuous_orbits(linear, ORIGIN, region=Slab([1.0, 1.0], 1.0, ORIGIN))
    assert [orbit.value for orbit in orbits] == pytest.approx([oracle("Q08")["value"]] * 2)
    np.testing.assert_allclose(orbits[0].end, -orbits[1].end, atol=1e-8)


def test_predicate(linear, oracle):
    region = Where(lambda x: x[0] + x[1] < jnp.sqrt(2.0))
    assert best(linear, ORIGIN, region=region).value == pytest.approx(
        oracle("Q08")["value"], rel=1e-8
    )


# Paths to a point.


def test_linear_point(linear, oracle):
    orbit = best(linear, ORIGIN, to=[0.6, 0.3])
    assert orbit.value == pytest.approx(oracle("Q03")["value"], rel=1e-12)
    # V is quadratic: the whole curve of accumulated action and the momenta are known.
    inverse = np.linalg.inv(stationary_covariance(H2, C2))
    exact = 0.5 * np.einsum("ni,ij,nj->n", orbit.path, inverse, orbit.path)
    np.testing.assert_allclose(orbit.actions, exact, atol=1e-4)
    np.testing.assert_allclose(orbit.momenta, orbit.path @ inverse, atol=1e-4)


@pytest.mark.slow
def test_isotropic_noise(oracle):
    plain = gaussian(landscapes.Quadratic(np.diag([1.0, 4.0])))
    for shortcut in (True, False):
        orbit = best(plain, ORIGIN, to=[0.6, 0.3], shortcut=shortcut)
        assert orbit.value == pytest.approx(oracle("Q01")["value"], rel=1e-10)


@pytest.mark.slow
def test_hessian_noise(oracle):
    p = oracle("Q02")["params"]
    aligned = gaussian(landscapes.Quadratic(p["H"]), noise.HessianProportional(1.0))
    assert best(aligned, np.zeros(3), to=p["x"]).value == pytest.approx(0.45, rel=1e-10)
    # Every direction of a ball is equally easy: no end is isolated.
    everywhere = gaussian(landscapes.Quadratic(H2), noise.HessianProportional(2.0))
    orbit = best(everywhere, ORIGIN, region=Ball(1.0, ORIGIN))
    assert orbit.value == pytest.approx(0.5, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [10.0, 1e3])
@pytest.mark.parametrize("dim", [2, 4, 10])
def test_dense_noise_and_spread_rates(dim, spread):
    rng = np.random.default_rng(dim)
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    hessian = (basis * np.geomspace(1, spread, dim)) @ basis.T
    factor = rng.standard_normal((dim, dim))
    covariance = factor @ factor.T / dim + 0.1 * np.eye(dim)
    stationary = stationary_covariance(hessian, covariance)
    hamiltonian = gaussian(landscapes.Quadratic(hessian), noise.Constant(covariance))
    end = rng.standard_normal(dim)
    exact = 0.5 * end @ np.linalg.solve(stationary, end)
    assert best(hamiltonian, np.zeros(dim), to=end).value == pytest.approx(exact, rel=1e-9)
    orbit = best(hamiltonian, np.zeros(dim), region=Ball(1.0, np.zeros(dim)))
    exact = 0.5 / np.linalg.eigvalsh(stationary)[-1]
    assert orbit.value == pytest.approx(exact, rel=1e-9)


# Gradient landscapes.


@pytest.mark.parametrize("dim", [2, 10, 50])
def test_styblinski_tang_saddle(oracle, dim):
    landscape = landscapes.StyblinskiTang(dim)
    saddle = landscape.minima[1].copy()
    saddle[0] = oracle("N07")["params"]["saddle"]
    orbit = best(gaussian(landscape, noise.Isotropic(2.0)), landscape.minima[1], to=saddle)
    assert orbit.value == pytest.approx(oracle("N07")["value"] / 2, rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 2, 10])
def test_styblinski_tang_saddle_without_shortcut(oracle, dim):
    landscape = landscapes.StyblinskiTang(dim)
    saddle = landscape.minima[1].copy()
    saddle[0] = oracle("N07")["params"]["saddle"]
    orbit = best(gaussian(landscape), landscape.minima[1], to=saddle, shortcut=False)
    assert orbit.value == pytest.approx(oracle("N07")["value"], rel=1e-9)


MUELLER = landscapes.MuellerBrown()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_mueller_brown_basins(which):
    """The lowest saddle next to each minimum, without being told where it is."""
    saddles = [newton(MUELLER, [-0.822, 0.624]), newton(MUELLER, [0.2125, 0.293])]
    start = MUELLER.minima[which]
    lowest = {0: 0, 1: 1, 2: 1}[which]
    region = Basin().anchored(MUELLER, start)
    orbit = best(gaussian(MUELLER), start, region=region)
    np.testing.assert_allclose(orbit.end, saddles[lowest], atol=1e-9)
    exact = 2 * (MUELLER.loss(saddles[lowest]) - MUELLER.loss(start))
    assert orbit.value == pytest.approx(exact, rel=1e-12)


@pytest.mark.slow
def test_mueller_brown_without_shortcut():
    saddle = newton(MUELLER, [-0.822, 0.624])
    exact = 2 * (MUELLER.loss(saddle) - MUELLER.loss(MUELLER.minima[0]))
    for end in (saddle, MUELLER.minima[2]):  # on to the next minimum costs nothing
        orbit = best(gaussian(MUELLER), MUELLER.minima[0], to=end, shortcut=False)
        assert orbit.value == pytest.approx(exact, rel=1e-9)


@pytest.mark.slow
def test_shortcut_agrees_with_orbits_at_a_boundary():
    hamiltonian = gaussian(landscapes.Quadratic(H2))
    region = Ball(1.0, ORIGIN)
    known = continuous_orbits(hamiltonian, ORIGIN, region=region)
    solved = continuous_orbits(hamiltonian, ORIGIN, region=region, shortcut=False)
    assert known[0].value == pytest.approx(np.linalg.eigvalsh(H2)[0], rel=1e-10)
    assert solved[0].value == pytest.approx(known[0].value, rel=1e-9)


# One dimension, state-dependent and minibatch noise.


def test_beyond_the_saddle_costs_nothing_more():
    hamiltonian = gaussian(landscapes.DoubleWell())
    above = 2 * (1.2**4 / 4 - 1.2**2 / 2 + 0.25)
    for end, exact in ((0.0, 0.5), (0.5, 0.5), (1.0, 0.5), (1.2, 0.5 + above)):
        assert best(hamiltonian, [-1.0], to=[end]).value == pytest.approx(exact, rel=1e-8)
    region = HalfSpace([1.0], 0.999, [-1.0])
    near = best(hamiltonian, [-1.0], region=region, shortcut=False)
    x = -1e-3
    assert near.value == pytest.approx(2 * (x**4 / 4 - x**2 / 2 + 0.25), rel=1e-9)


@pytest.mark.slow
def test_state_dependent_noise(oracle):
    well = gaussian(landscapes.DoubleWell(), noise.Function(lambda x: 1 + x[0] ** 2 / 2))
    assert best(well, [-1.0], to=[0.0]).value == pytest.approx(oracle("N03")["value"], rel=1e-9)


@pytest.mark.slow
def test_state_dependent_noise_of_other_kinds(oracle):
    loss = landscapes.Function(lambda x: 0.2 + 0.5 * x[0] ** 2, 1)
    scaled = gaussian(loss, noise.Function(lambda x: 2 * (0.2 + 0.5 * x[0] ** 2)))
    assert best(scaled, [0.0], to=[1.0]).value == pytest.approx(oracle("N09")["value"], rel=1e-9)
    line = gaussian(landscapes.Quadratic([[1.0]]), noise.Function(lambda x: 1 + 0.3 * x[0] ** 2))
    assert best(line, [0.0], to=[1.0]).value == pytest.approx(np.log(1.3) / 0.3, rel=1e-10)


def minibatch(oracle, batch_size, replacement):
    p = oracle("B01")["params"]
    weights, centres = np.array(p["h"]), np.array(p["c"])
    landscape = landscapes.Empirical(
        lambda theta, example: example[0] * jnp.sum(theta - example[1]) ** 2 / 2,
        np.zeros(1),
        (weights, centres),
    )
    minimum = weights @ centres / weights.sum()
    return MinibatchHamiltonian(landscape, batch_size, replacement, None), minimum


@pytest.mark.slow
def test_minibatch_noise_with_replacement(oracle):
    hamiltonian, minimum = minibatch(oracle, 1, True)
    region = Ball(0.6, [minimum])
    right, left = continuous_orbits(hamiltonian, [minimum], region=region)
    assert right.value == pytest.approx(oracle("B01")["value"], rel=1e-9)
    assert left.value == pytest.approx(oracle("B02")["value"], rel=1e-9)


@pytest.mark.slow
def test_minibatch_noise_without_replacement(oracle):
    hamiltonian, minimum = minibatch(oracle, 3, False)
    orbit = best(hamiltonian, [minimum], to=[minimum + 0.6])
    assert orbit.value == pytest.approx(oracle("B03")["value"], rel=1e-8)


# Noise that does not reach every direction, and other drifts.


def langevin(friction):
    field = landscapes.Drift(
        lambda u: jnp.stack([u[1], u[0] - u[0] ** 3 - friction * u[1]]), 2, minima=[[-1.0, 0.0]]
    )
    return gaussian(field, noise.Constant(np.diag([0.0, 2 * friction])))


@pytest.mark.parametrize("friction", [pytest.param(0.1, marks=pytest.mark.slow), 1.0])
def test_langevin(friction):
    """U = p^2 / 2 + V - V(-1) whatever the friction, with noise on the momentum alone."""
    hamiltonian = langevin(friction)
    assert best(hamiltonian, [-1.0, 0.0], to=[0.0, 0.0]).value == pytest.approx(0.25, rel=1e-8)
    x, v = -0.5, 0.3
    exact = v**2 / 2 + x**4 / 4 - x**2 / 2 + 0.25
    assert best(hamiltonian, [-1.0, 0.0], to=[x, v]).value == pytest.approx(exact, rel=1e-8)


@pytest.mark.slow
def test_van_der_pol_friction():
    field = landscapes.Drift(
        lambda u: jnp.stack([u[1], u[0] - u[0] ** 3 - (1 - 0.3 * (1 - u[0] ** 2)) * u[1]]), 2
    )
    hamiltonian = gaussian(field, noise.Constant(np.diag([0.0, 2.0])))
    value = best(hamiltonian, [-1.0, 0.0], to=[0.0, 0.0]).value
    assert 0.15 < value < 0.24  # CriticalTransitions.jl's bracket


@pytest.mark.slow
def test_fitzhugh_nagumo():
    field = landscapes.Drift(
        lambda u: jnp.stack([(u[0] - u[0] ** 3 - u[1]) / 0.1, -3 * u[1] + u[0]]), 2
    )
    start = [np.sqrt(2 / 3), np.sqrt(2 / 27)]
    value = best(gaussian(field), start, to=[0.0, 0.0]).value
    assert value == pytest.approx(0.17979, abs=5e-6)


@pytest.mark.slow
def test_kerr_oscillator():
    pump, loss = 3 / 1.21 * 2 / 295, 1 / 295

    def field(x):
        square = 3 * (x[0] ** 2 + x[1] ** 2)
        return jnp.stack([
            (-4 * loss * x[0] - 2 * pump * x[1] + square * x[1]) / 8,
            (-4 * loss * x[1] - 2 * pump * x[0] - square * x[0]) / 8,
        ])  # fmt: skip

    orbit = best(gaussian(landscapes.Drift(field, 2)), [-0.0208693, 0.0990889], to=[0.0, 0.0])
    assert orbit.value == pytest.approx(5.4993e-6, abs=5e-10)


def test_along_a_limit_cycle():
    """Stuart-Landau: the drift itself leads from one point of the cycle to another."""
    field = landscapes.Drift(lambda x: x * (1 - x @ x) + jnp.stack([-x[1], x[0]]), 2)
    orbit = continuous_orbits(gaussian(field), [1.0, 0.0], to=[np.cos(2.0), np.sin(2.0)])[0]
    assert abs(orbit.value) < 1e-12


# What cannot be done.


@pytest.mark.slow
def test_kink_is_named():
    loss = landscapes.Function(lambda x: 0.5 * x @ x + 0.5 * jax.nn.relu(x[0] - 0.4), 2)
    with pytest.raises(Unsupported, match="not smooth"):
        continuous_orbits(gaussian(loss, noise.Constant(C2)), ORIGIN, to=[1.0, 0.45])


def test_noise_that_leads_nowhere_near():
    flat = gaussian(landscapes.Quadratic(np.eye(2)), noise.Constant(np.ones((2, 2))))
    with pytest.raises(DegenerateNoise, match="direction"):
        continuous_orbits(flat, ORIGIN, to=[1.0, 0.45])


def test_arguments(linear):
    with pytest.raises(InvalidArgument, match="either"):
        continuous_orbits(linear, ORIGIN)
    with pytest.raises(InvalidArgument, match="start itself"):
        continuous_orbits(linear, ORIGIN, to=ORIGIN)
    with pytest.raises(NotAMinimum, match="saddle"):
        continuous_orbits(maier_stein(10), [0.0, 0.0], to=[1.0, 1.0])
    chain = GaussianHamiltonian(landscapes.Quadratic(H2), noise.Constant(C2), 0.1)
    with pytest.raises(InvalidArgument, match="chain"):
        continuous_orbits(chain, ORIGIN, to=[1.0, 1.0])


@pytest.mark.slow
def test_minibatch_exit_from_a_classifier_against_a_scan_of_the_boundary():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 2))
    labels = np.sign(inputs @ rng.standard_normal(2) + rng.standard_normal(20))
    landscape = landscapes.Empirical(
        lambda theta, example: jax.nn.softplus(-example[1] * (example[0] @ theta)),
        ORIGIN,
        (inputs, labels),
        weight_decay=0.05,
    )
    minimum = find_minimum(landscape, ORIGIN).theta
    hamiltonian = MinibatchHamiltonian(landscape, 1, True, None)
    orbits = continuous_orbits(hamiltonian, minimum, region=Ball(1.0, minimum))
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    ends = minimum + np.stack([np.cos(angles), np.sin(angles)], axis=1)
    scan = np.array([continuous_orbits(hamiltonian, minimum, to=end)[0].value for end in ends])
    lowest = np.flatnonzero((scan < np.roll(scan, 1)) & (scan < np.roll(scan, -1)))
    assert len(orbits) == len(lowest) == 2
    for orbit, index in zip(orbits, lowest[np.argsort(scan[lowest])], strict=True):
        assert 0.98 * scan[index] < orbit.value <= scan[index]
        assert np.linalg.norm(orbit.end - ends[index]) < 2 * np.pi / 36
