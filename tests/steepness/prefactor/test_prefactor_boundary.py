"""Exit through a smooth boundary, against exact solutions in one and two dimensions."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument, NotConverged
from escapade.minimum import neighbourhood
from escapade.region import AbstractRegion
from escapade.steepness import minimum_steepness
from escapade.steepness.hamiltonian import hamiltonian
from escapade.steepness.prefactor import boundary, boundary_prefactor, surface_prefactor
from escapade.theory.uniform import continuous_mean_exit_time

H2 = np.array([[2, 0.6], [0.6, 1]])
C2 = np.array([[1, -0.3], [-0.3, 0.5]])
RATE = 0.01


def escape_of(landscape, noise, region, noise_scale):
    return esc.Escape(landscape, esc.ContinuousSGD(RATE, RATE / noise_scale, noise), region)


def prefactor_on_line(orbits, case, noise_scale, **options):
    landscape, noise, region, minimum, ends, drift, covariance = case
    escape = escape_of(landscape, noise, region, noise_scale)
    paths = [orbits.on_line(drift, covariance, minimum, end) for end in ends]
    spread = neighbourhood(escape).stationary_covariance()
    found = boundary_prefactor(
        hamiltonian(escape), paths, escape.minimum, spread, escape.region, **options
    )
    return escape, found


def well(x):
    return x - x**3


def one(x):
    return np.ones_like(x)


LINES = {
    "half-space": (
        esc.landscapes.DoubleWell(),
        esc.noise.Isotropic(1.0),
        esc.HalfSpace([1.0], 0.6),
        -1.0,
        [-0.4],
        well,
        one,
    ),
    "noise that varies": (
        esc.landscapes.DoubleWell(),
        esc.noise.Function(lambda x: 1 + x[0] ** 2 / 2),
        esc.HalfSpace([1.0], 0.6),
        -1.0,
        [-0.4],
        well,
        lambda x: 1 + x**2 / 2,
    ),
    "two unequal exits": (
        esc.landscapes.DoubleWell(),
        esc.noise.Isotropic(1.0),
        esc.Ball(0.5),
        -1.0,
        [-0.5, -1.5],
        well,
        one,
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_one_dimension_to_the_next_order(orbits, name):
    """The error falls like eps^4 and is below 2 % from a barrier of 4.5 on."""
    _, found = prefactor_on_line(orbits, LINES[name], 0.06)
    errors, leading = {}, {}
    for noise_scale in (0.06, 0.03, 0.015, 0.0075):
        escape, _ = (escape_of(*LINES[name][:3], noise_scale), None)
        exact = esc.solve(escape).log_mean + np.log(RATE)
        errors[noise_scale] = abs(found.log_mean_exit_time(noise_scale) - exact)
        leading[noise_scale] = abs(found.leading_log_mean_exit_time(noise_scale) - exact)
    assert found.value / 0.06 > 4.5
    assert errors[0.06] < 0.02
    assert errors[0.015] < 6e-4
    assert errors[0.0075] < 0.4 * errors[0.015]
    # The plain leading order gains one power of eps^2 only.
    assert 0.3 < leading[0.0075] / leading[0.015] < 0.75 or name == "two unequal exits"
    assert leading[0.0075] > 10 * errors[0.0075]


def test_loss_proportional_noise(orbits, oracle):
    """N10: |x| = 1 on L = .2 + x^2/2 with C = 2 L."""
    case = (
        esc.landscapes.Function(lambda x: 0.2 + 0.5 * x[0] ** 2, 1, minima=[[0.0]]),
        esc.noise.Function(lambda x: 2 * (0.2 + 0.5 * x[0] ** 2)),
        esc.Ball(1.0),
        0.0,
        [1.0, -1.0],
        lambda x: -x,
        lambda x: 2 * (0.2 + 0.5 * x**2),
    )
    _, found = prefactor_on_line(orbits, case, 0.25)
    assert found.value == pytest.approx(oracle("N09")["value"], rel=1e-10)
    exact = np.log(oracle("N10")["value"])
    assert found.log_mean_exit_time(0.25) == pytest.approx(exact, abs=0.02)
    assert abs(found.leading_log_mean_exit_time(0.25) - exact) > 0.08


def linear_prefactor(orbits, hessian, covariance, region, **options):
    escape = escape_of(
        esc.landscapes.Quadratic(hessian), esc.noise.Constant(covariance), region, 0.25
    )
    spread = neighbourhood(escape).stationary_covariance()
    paths = [orbits.linear(hessian, spread, x) for x in minimum_steepness(escape).exit_points]
    found = boundary_prefactor(
        hamiltonian(escape), paths, escape.minimum, spread, escape.region, **options
    )
    return escape, paths, spread, found


def test_leading_order_of_a_quadratic_in_closed_form(orbits):
    """Ball: P02's level set and P05's ball, by the eigenvalues of S^-1."""
    *_, spread, found = linear_prefactor(orbits, H2, C2, esc.Ball(1.0))
    values, vectors = np.linalg.eigh(np.linalg.inv(spread))
    first = vectors[:, 0]
    shape = np.sqrt(values[0] * values[1] / (values[1] - values[0]))
    log_rate = np.log(2 * (first @ H2 @ first) * shape / np.sqrt(2 * np.pi)) - values[0] / 0.5
    expected = np.log(0.25) / 2 - log_rate
    assert found.leading_log_mean_exit_time(0.25) == pytest.approx(expected, abs=1e-6)

    rates = np.diag([1.0, 0.3])
    *_, found = linear_prefactor(orbits, rates, rates, esc.Sublevel(0.5))
    log_rate = np.log(2 / np.sqrt(np.pi) / np.sqrt(0.7)) - 1 / 0.25
    assert found.leading_log_mean_exit_time(0.25) == pytest.approx(
        np.log(0.25) / 2 - log_rate, abs=1e-6
    )
    assert found.soft == pytest.approx(0.7, rel=1e-9)


@pytest.mark.parametrize(
    ("hessian", "covariance", "region", "name", "at_barrier_four"),
    [
        (np.diag([1.0, 0.3]), np.diag([1.0, 0.3]), esc.Sublevel(0.5), "P02", 0.06),
        (H2, C2, esc.Ball(1.0), "P05", 0.15),
    ],
)
def test_quadratics_to_the_next_order(
    orbits, oracle, hessian, covariance, region, name, at_barrier_four
):
    escape, *_, found = linear_prefactor(orbits, hessian, covariance, region)
    exact = np.log(oracle(name)["value"])
    assert found.log_mean_exit_time(0.25) == pytest.approx(exact, abs=at_barrier_four)
    form = escape.region.local_form(escape.minimum, hessian)
    # The uniform formula of linear problems is exact to a few 1e-4 here.
    uniform = continuous_mean_exit_time(hessian, covariance, form, 0.06).log_mean
    assert found.log_mean_exit_time(0.06) == pytest.approx(uniform, abs=2e-3)
    assert abs(found.leading_log_mean_exit_time(0.06) - uniform) > 0.03


class ShearedBall(AbstractRegion):
    """The unit ball in the coordinates (x, y - bend x^2)."""

    bend: float

    def anchored(self, landscape, minimum):
        """Itself."""
        return self

    def local_form(self, minimum, hessian):
        """None."""
        return None

    def _level(self, theta):
        y = theta[1] - self.bend * theta[0] ** 2
        return jnp.sqrt(theta[0] ** 2 + y**2 + 1e-300) - 1.0

    def __str__(self):
        return "sheared ball"


def test_prefactor_does_not_depend_on_coordinates(orbits, monkeypatch):
    """A nonlinear change of coordinates of P05: drift, noise, boundary and orbit all bend, and
    Ito's rule adds a drift of order eps^2, but times are the same, to every order.
    """
    bend = 0.4
    _, paths, spread, straight = linear_prefactor(orbits, H2, C2, esc.Ball(1.0))

    def jacobian(x):
        return jnp.array([[1.0, 0.0], [2 * bend * x, 1.0]])

    def field(theta):
        x, y = theta[0], theta[1] - bend * theta[0] ** 2
        return jacobian(x) @ (-H2 @ jnp.stack([x, y]))

    noise = esc.noise.Function(lambda theta: jacobian(theta[0]) @ C2 @ jacobian(theta[0]).T)
    landscape = esc.landscapes.Drift(field, 2, minima=[[0.0, 0.0]])
    bent = esc.Escape(landscape, esc.ContinuousSGD(RATE, RATE / 0.25, noise), ShearedBall(bend))

    class ItoDrift:
        vanishes = False

        def __call__(self, theta):
            return jnp.array([0.0, bend * C2[0, 0]])

        def __hash__(self):
            return 1

        def __eq__(self, other):
            return isinstance(other, ItoDrift)

    monkeypatch.setattr(boundary, "noise_drift", lambda hamiltonian, interpretation: ItoDrift())

    def image(orbit):
        path = orbit.path + np.stack([0 * orbit.path[:, 0], bend * orbit.path[:, 0] ** 2], axis=1)
        x, p = orbit.path[:, 0], orbit.momenta
        momenta = np.stack([p[:, 0] - 2 * bend * x * p[:, 1], p[:, 1]], axis=1)
        return type(orbit)(
            orbit.times, path, momenta, orbit.actions, orbit.value, 0.0, True, "image"
        )

    found = boundary_prefactor(
        hamiltonian(bent), [image(o) for o in paths], bent.minimum, spread, bent.region
    )
    for here, there in zip(found.passages, straight.passages, strict=True):
        assert here.log_coefficient == pytest.approx(there.log_coefficient, abs=1e-6)
        total = [
            p.correction - p.profile.slope - q.bulk_correction
            for p, q in ((here, found), (there, straight))
        ]
        assert total[0] == pytest.approx(total[1], rel=1e-4)
    assert found.bulk_correction == pytest.approx(straight.bulk_correction, abs=1e-9)


@pytest.mark.parametrize(
    ("interpretation", "weight"),
    [pytest.param("stratonovich", 0.25, marks=pytest.mark.slow), ("anti_ito", 0.5)],
)
def test_interpretations_shift_the_drift(orbits, interpretation, weight):
    """Anti-Ito noise C on the double well is Ito noise with the drift eps^2 C'/2 besides."""
    case = LINES["noise that varies"]
    noise_scale = 0.03
    _, found = prefactor_on_line(orbits, case, noise_scale, interpretation=interpretation)
    minimum = -np.sqrt(1 + noise_scale * weight)
    escape = esc.Escape(
        esc.landscapes.Drift(lambda x: x - x**3 + noise_scale * weight * x, 1, minima=[[minimum]]),
        esc.ContinuousSGD(RATE, RATE / noise_scale, case[1]),
        esc.HalfSpace([1.0], -0.4 - minimum),
    )
    exact = esc.solve(escape).log_mean + np.log(RATE)
    assert found.log_mean_exit_time(noise_scale) == pytest.approx(exact, abs=4e-3)


def test_an_unknown_interpretation_is_refused(orbits):
    case, noise_scale = LINES["noise that varies"], 0.03
    with pytest.raises(InvalidArgument, match="interpretation is 'backward'"):
        prefactor_on_line(orbits, case, noise_scale, interpretation="backward")


@pytest.mark.slow
def test_leading_order_alone_in_high_dimension(orbits):
    """Without the correction the profile along the orbit still resums the boundary layer."""
    hessian = np.diag([1.0, 3.0, 4.0])
    escape, *_, found = linear_prefactor(orbits, hessian, np.eye(3), esc.Ball(1.0), corrected=False)
    *_, corrected = linear_prefactor(orbits, hessian, np.eye(3), esc.Ball(1.0))
    form = escape.region.local_form(escape.minimum, hessian)
    uniform = continuous_mean_exit_time(hessian, np.eye(3), form, 0.1).log_mean
    for passage, other in zip(found.passages, corrected.passages, strict=True):
        assert passage.log_coefficient == pytest.approx(other.log_coefficient, abs=1e-6)
        assert np.isnan(passage.correction)
    errors = [
        abs(value - uniform)
        for value in (corrected.log_mean_exit_time(0.1), found.leading_log_mean_exit_time(0.1))
    ]
    assert errors[0] < 0.02 < errors[1]
    assert found.relative_error(0.1) > corrected.relative_error(0.1)


def test_what_is_no_exit_is_refused(orbits):
    escape, _, spread, _ = linear_prefactor(orbits, H2, C2, esc.Ball(1.0))
    aside = orbits.linear(H2, spread, np.array([1.0, 0.0]))
    with pytest.raises(InvalidArgument, match="leans by"):
        boundary_prefactor(hamiltonian(escape), [aside], escape.minimum, spread, escape.region)


@pytest.mark.parametrize(
    ("name", "covariance", "region", "count"),
    [
        ("P01", np.diag([1.0, 0.3]), esc.Ball(1.0), 8),
        # The sum over rays converges geometrically: 3 % at 8 around this ellipse, 0.06 % at 16.
        pytest.param("P03", np.eye(2), esc.Sublevel(0.5), 16, marks=pytest.mark.slow),
    ],
)
def test_continuum_of_exits(orbits, oracle, name, covariance, region, count):
    """All boundary points are equally easy: ``d/Tr H Gamma(d/2)/2 (eps/R)^d exp(R^2 / eps^2)``."""
    hessian = np.diag([1.0, 0.3])
    escape = escape_of(
        esc.landscapes.Quadratic(hessian), esc.noise.Constant(covariance), region, 0.25
    )
    spread = neighbourhood(escape).stationary_covariance()
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    form = escape.region.local_form(escape.minimum, hessian)
    scales = form.radius / np.sqrt(np.einsum("ni,ij,nj->n", rays, form.matrix, rays))
    paths = [
        orbits.linear(hessian, spread, scale * ray) for scale, ray in zip(scales, rays, strict=True)
    ]
    found = surface_prefactor(
        hamiltonian(escape),
        paths,
        np.full(count, 2 * np.pi / count),
        escape.minimum,
        spread,
        escape.region,
    )
    expected = np.log(2 / 1.3 / 2 * 0.25) + 1 / 0.25
    assert found.leading_log_mean_exit_time(0.25) == pytest.approx(expected, abs=2e-3)
    exact = np.log(oracle(name)["value"])
    assert found.log_mean_exit_time(0.25) == pytest.approx(exact, abs=0.06)
    assert abs(found.leading_log_mean_exit_time(0.25) - exact) > 0.25
    uniform = continuous_mean_exit_time(hessian, covariance, form, 0.06).log_mean
    assert found.log_mean_exit_time(0.06) == pytest.approx(uniform, abs=0.01)
    with pytest.raises(NotConverged, match="many exits are equally easy"):
        boundary_prefactor(hamiltonian(escape), paths[:1], escape.minimum, spread, escape.region)
