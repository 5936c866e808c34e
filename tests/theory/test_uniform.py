"""Mean exit times against exact solutions: integral equations, a PDE, simulation."""

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from numpy.polynomial import legendre
from scipy.special import gammainc, gammaln, log_ndtr, ndtr

from escapade.errors import DegenerateNoise, InvalidArgument, Unstable
from escapade.minimum.lyapunov import stationary_covariance, stationary_covariance_discrete
from escapade.region.forms import LinearForm, QuadraticForm
from escapade.theory.uniform import continuous_mean_exit_time, uniform_mean_exit_time

H2 = np.array([[2.0, 0.6], [0.6, 1.0]])
C2 = np.array([[1.0, -0.3], [-0.3, 0.5]])
I2 = np.eye(2)
INTERVAL = LinearForm([1.0], 1.0, two_sided=True)


def ball(dim, radius):
    return QuadraticForm(np.eye(dim), radius)


def log_error(found, exact):
    return found.log_mean - np.log(exact)


# Exact solutions ---------------------------------------------------------------------------------


def chain_mean(step, noise, points, weights):
    """Mean exit time of ``x' = step x + noise xi`` from 0, by Nystrom's method."""
    precision = np.linalg.inv(noise)
    scale = np.sqrt(np.linalg.det(precision / (2 * np.pi)))

    def kernel(origins):
        jumps = points[None] - (origins @ step.T)[:, None]
        return scale * np.exp(-0.5 * np.einsum("ijk,kl,ijl->ij", jumps, precision, jumps)) * weights

    means = np.linalg.solve(np.eye(len(points)) - kernel(points), np.ones(len(points)))
    return 1 + (kernel(np.zeros((1, points.shape[1]))) @ means)[0]


def interval_chain(s, stiffness):
    """One dimension, ``lambda = C = B = 1``: radius s, learning rate equal to the stiffness."""
    x, w = legendre.leggauss(200)
    step, noise = np.array([[1 - stiffness]]), np.array([[stiffness**2]])
    return chain_mean(step, noise, s * x[:, None], s * w)


def disc_chain(A, C, eta, B, matrix, radius, rings=22, rays=40):
    """Two dimensions, in polar coordinates of the form."""
    root = scipy.linalg.sqrtm(matrix).real / radius
    inverse = np.linalg.inv(root)
    r, w = legendre.leggauss(rings)
    r, w = (r + 1) / 2, w / 2
    angles = 2 * np.pi * np.arange(rays) / rays
    points = np.stack([np.outer(r, np.cos(angles)), np.outer(r, np.sin(angles))], -1)
    weights = np.outer(w * r, np.full(rays, 2 * np.pi / rays)).ravel()
    step = root @ (np.eye(2) - eta * A) @ inverse
    noise = eta**2 / B * root @ C @ root.T
    return chain_mean(step, noise, points.reshape(-1, 2), weights)


def strip_chain(A, C, eta, B, normal, half_width):
    """Two dimensions, between two lines, the other coordinate to seven standard deviations."""
    turn = np.array([normal, [-normal[1], normal[0]]])
    A, C = turn @ A @ turn.T, turn @ C @ turn.T
    along, w = legendre.leggauss(36)
    along, w = half_width * along, half_width * w
    reach = 7 * np.sqrt(stationary_covariance_discrete(A, C, eta)[1, 1] * eta / B)
    across, v = legendre.leggauss(44)
    points = np.stack(np.meshgrid(along, reach * across, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(w, reach * v).ravel()
    return chain_mean(np.eye(2) - eta * A, eta**2 / B * C, points, weights)


def two_groups(counts, rates, noises, forms, noise_scale, degree=24):
    """Continuous exit of ``sum_i form_i |x_i|^2 < 1``, x_1 and x_2 of many equal dimensions.

    The generator in ``y_i = form_i |x_i|^2`` has polynomial coefficients: collocation by least
    squares with the basis ``(1 - y_1 - y_2) P_j(y_1) P_k(y_2)``.
    """
    nodes = (legendre.leggauss(degree + 4)[0] + 1) / 2
    radius, share = (part.ravel() for part in np.meshgrid(nodes, nodes))
    y = (radius * share, radius * (1 - share))
    differentiate = np.zeros((degree + 1, degree + 1))
    for k in range(1, degree + 1):
        differentiate[:k, k] = 2 * legendre.legder(np.eye(k + 1)[k])
    first, second = np.array([(j, k) for j in range(degree + 1) for k in range(degree + 1 - j)]).T

    def basis(values, index):
        table = legendre.legvander(2 * values - 1, degree)
        return [
            table[:, index],
            (table @ differentiate)[:, index],
            (table @ differentiate @ differentiate)[:, index],
        ]

    f, g = basis(y[0], first), basis(y[1], second)
    room = (1 - y[0] - y[1])[:, None]
    operator = 0.0
    for n, rate, noise, form, at, (u, du, ddu), other in (
        (counts[0], rates[0], noises[0], forms[0], y[0], f, g[0]),
        (counts[1], rates[1], noises[1], forms[1], y[1], g, f[0]),
    ):
        slope = (room * du - u) * other
        curve = (room * ddu - 2 * du) * other
        spread = 0.5 * noise_scale * noise * form
        operator = operator + spread * (4 * at[:, None] * curve + 2 * n * slope)
        operator = operator - 2 * rate * at[:, None] * slope
    solution = np.linalg.lstsq(operator, -np.ones(len(y[0])), rcond=None)[0]
    zero = np.zeros(1)
    return float((basis(zero, first)[0] * basis(zero, second)[0] @ solution)[0])


def spread_over(counts, values):
    return np.diag(np.repeat(np.asarray(values, dtype=float), counts))


# Reference values --------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "dim"), [("R01", 1), ("R02", 2), ("R03", 10)])
def test_isotropic_continuous_reference_values(oracle, case, dim):
    found = continuous_mean_exit_time(np.eye(dim), np.eye(dim), ball(dim, 1.0), 0.2)
    assert found.log_mean == pytest.approx(np.log(oracle(case)["value"]), abs=1e-9)
    assert found.relative_error < 1e-5


@pytest.mark.parametrize(
    ("case", "A", "C", "form"),
    [
        ("P01", np.diag([1, 0.3]), np.diag([1, 0.3]), ball(2, 1.0)),
        ("P02", np.diag([1, 0.3]), np.diag([1, 0.3]), QuadraticForm(np.diag([1, 0.3]), 1.0)),
        ("P03", np.diag([1, 0.3]), I2, QuadraticForm(np.diag([1, 0.3]), 1.0)),
        ("P04", np.diag([1, 0.3]), I2, ball(2, 1.4)),
        ("P05", H2, C2, ball(2, 1.0)),
    ],
)
def test_planar_continuous_reference_values(oracle, case, A, C, form):
    found = continuous_mean_exit_time(A, C, form, 0.25)
    error = abs(log_error(found, oracle(case)["value"]))
    assert error < 0.03
    assert error < found.relative_error < 0.1


@pytest.mark.parametrize(
    ("case", "form", "eta", "B"),
    [
        ("M01", LinearForm([1.0], 0.3, two_sided=True), 0.1, 10),
        ("M01", ball(1, 0.3), 0.1, 10),
        ("S06", INTERVAL, 0.2, 9),
    ],
)
def test_interval_chain_reference_values(oracle, case, form, eta, B):
    found = uniform_mean_exit_time(np.eye(1), np.eye(1), form, eta, B)
    error = abs(log_error(found, oracle(case)["value"]))
    assert error < 1e-3
    assert error < found.relative_error < 5e-3


def test_discrete_over_continuous_reference_value(oracle):
    eta = oracle("S05")["params"]["eta_lam"]
    discrete = uniform_mean_exit_time(np.eye(1), np.eye(1), INTERVAL, eta, 1)
    continuous = continuous_mean_exit_time(np.eye(1), np.eye(1), INTERVAL, eta)
    ratio = np.exp(discrete.log_mean - continuous.log_mean) * eta
    assert ratio == pytest.approx(oracle("S05")["value"], rel=1e-3)


@pytest.mark.parametrize(
    ("case", "A", "C", "B"),
    [
        ("M08", H2, C2, 1.0),
        ("M09", np.diag([2, 0.5]), np.diag([2, 0.5]), 1.2),
        ("M10", np.diag([2, 0.5]), I2, 1.2),
    ],
)
def test_planar_chain_reference_values(oracle, case, A, C, B):
    found = uniform_mean_exit_time(A, C, ball(2, 1.0), 0.3, B)
    error = abs(log_error(found, oracle(case)["value"]))
    assert error < 0.03
    assert error < found.relative_error < 0.25


# Beyond the reference values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("s", "stiffness"),
    # Beyond a barrier of 12 the integral equation loses its digits.
    [(s, e) for s in (0.3, 0.7, 1.3, 2.0) for e in (0.05, 0.2, 0.5, 0.8) if s**2 / e < 12],
)
def test_interval_chain_at_any_step(s, stiffness):
    exact = interval_chain(s, stiffness)
    found = uniform_mean_exit_time(
        np.eye(1), np.eye(1), LinearForm([1.0], s, two_sided=True), stiffness, 1.0
    )
    error = abs(log_error(found, exact))
    assert error < max(found.relative_error, 1e-4)
    if found.barrier > 2.5:
        assert error < 0.02


@pytest.mark.parametrize("dim", [2, 7, 40])
@pytest.mark.parametrize("barrier", [0.5, 4.0, 30.0])
def test_isotropic_ball_is_exact(dim, barrier):
    """``E[tau] = 1/lambda int_0^b u^{-d/2} e^u gamma(d/2, u) du / 2``, u = V / eps^2."""

    def integrand(u):
        return np.exp(u - barrier - dim / 2 * np.log(u) + gammaln(dim / 2)) * gammainc(dim / 2, u)

    integral, _ = scipy.integrate.quad(integrand, 0, barrier, epsrel=1e-12, limit=200)
    expected = np.log(integral / 2) + barrier - np.log(0.7)
    found = continuous_mean_exit_time(
        0.7 * np.eye(dim), 1.4 * np.eye(dim), ball(dim, 1.0), 1 / (2 * barrier), samples=64
    )
    assert found.barrier == pytest.approx(barrier, rel=1e-12)
    assert found.log_mean == pytest.approx(expected, abs=1e-7)


def test_half_space_along_an_eigenvector_is_exact():
    """Scale-speed integral of the projection, whatever the noise of the other directions."""
    A, C = np.diag([0.8, 0.1, 2.0]), np.diag([0.5, 3.0, 1.0])
    width = np.sqrt(0.5 / 1.6 * 0.1)

    def integrand(x):
        return np.exp(x**2 / (2 * width**2)) * ndtr(x / width)

    integral, _ = scipy.integrate.quad(integrand, 0, 0.5, epsrel=1e-12)
    expected = integral * np.sqrt(2 * np.pi) * width / (0.5 * 0.1 * 0.5)
    form = LinearForm([1.0, 0.0, 0.0], 0.5, two_sided=False)
    found = continuous_mean_exit_time(A, C, form, 0.1)
    assert found.log_mean == pytest.approx(np.log(expected), abs=1e-9)
    assert found.relative_error < 1e-5


@pytest.mark.parametrize(
    ("rates", "noises", "forms", "tolerance"),
    [
        ((1, 0.1), (1, 0.1), (1, 0.1), 0.07),  # C = H, sublevel set: the sharpest mode leads
        ((1, 0.6), (1, 0.6), (1, 1), 0.05),  # C = H, ball: every direction is as easy
        ((0.3, 1), (1, 1), (1, 1), 0.15),  # C = I, ball: the flattest mode leads
        ((1, 1e-3), (1, 1e-3), (1, 1e-3), 0.03),  # slow modes frozen at the exit
        ((1, 1e-3), (1, 1), (1, 1e-3), 0.15),  # frozen, though as easy to leave by
    ],
)
@pytest.mark.parametrize("counts", [(1, 4), (1, 12)])
@pytest.mark.parametrize("barrier", [3.0, 6.0])
def test_many_dimensions(counts, rates, noises, forms, tolerance, barrier):
    easiest = np.max(np.array(noises) / (2 * np.array(rates)) * forms)
    noise_scale = 1 / (2 * easiest * barrier)
    exact = two_groups(counts, rates, noises, forms, noise_scale)
    found = continuous_mean_exit_time(
        spread_over(counts, rates),
        spread_over(counts, noises),
        QuadraticForm(spread_over(counts, forms), 1.0),
        noise_scale,
        samples=1024,
    )
    error = abs(log_error(found, exact))
    assert error < tolerance
    assert error < 2 * found.relative_error


@pytest.mark.parametrize("B", [1.1, 2.2, 3.3])
def test_planar_chain_with_dense_matrices(B):
    A, C = np.array([[1.1, 0.3], [0.3, 0.6]]), np.array([[0.5, -0.2], [-0.2, 0.9]])
    found = uniform_mean_exit_time(A, C, ball(2, 1.05), 0.3, B)
    error = abs(log_error(found, disc_chain(A, C, 0.3, B, I2, 1.05)))
    assert error < 0.05
    assert error < found.relative_error < 0.1


def test_estimated_errors_cover_random_planar_chains():
    rng = np.random.default_rng(3)
    covered = []
    for k in range(16):
        X, Y = rng.normal(size=(2, 2, 2))
        A = X @ X.T + 0.5 * I2 + (k % 3 == 2) * 0.5 * rng.normal() * np.array([[0, 1], [-1, 0]])
        C = Y @ Y.T + 0.3 * I2
        form = QuadraticForm((A + A.T) / 2 if k % 2 else I2, 1.0)
        a = np.linalg.eigvals(A)
        eta = rng.choice([0.5, 0.9, 1.3]) * np.min(a.real / np.abs(a) ** 2)
        S = stationary_covariance_discrete(A, C, eta)
        B = 3.0 * 2 * eta * np.max(np.linalg.eigvals(S @ form.matrix).real)
        found = uniform_mean_exit_time(A, C, form, eta, B)
        assert found.barrier == pytest.approx(3.0, rel=1e-9)
        exact = disc_chain(A, C, eta, B, form.matrix, 1.0)
        if abs(disc_chain(A, C, eta, B, form.matrix, 1.0, 18, 34) / exact - 1) > 1e-3:
            continue  # a law too narrow for this quadrature
        covered.append(abs(log_error(found, exact)) / np.log1p(found.relative_error))
    assert len(covered) >= 10
    assert np.mean(np.array(covered) < 1) >= 0.7
    assert np.max(covered) < 2


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_strip_between_lines_that_are_no_eigenvectors(angle):
    normal, eta = np.array([np.cos(angle), np.sin(angle)]), 0.3
    S = stationary_covariance_discrete(H2, C2, eta)
    B = 4.0 * 2 * eta * (normal @ S @ normal)
    found = uniform_mean_exit_time(H2, C2, LinearForm(normal, 1.0, two_sided=True), eta, B)
    error = abs(log_error(found, strip_chain(H2, C2, eta, B, normal, 1.0)))
    assert error < 0.05
    assert error < found.relative_error < 0.35


def test_simulation_in_six_dimensions():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6, 6))
    H = np.diag(np.geomspace(1, 0.2, 6))
    C = 0.5 * H + 0.2 * X @ X.T / 6
    eta, B, radius, replicas = 0.3, 3.0, 0.75, 2000
    found = uniform_mean_exit_time(H, C, ball(6, radius), eta, B)
    factor = np.linalg.cholesky(C).T * eta / np.sqrt(B)
    x, total, alive = np.zeros((replicas, 6)), 0, replicas
    while alive:
        x = x - eta * x @ H + rng.normal(size=x.shape) @ factor
        total += alive
        x = x[np.sum(x**2, axis=1) < radius**2]
        alive = len(x)
    mean = total / replicas
    assert 50 < mean < 500
    assert abs(log_error(found, mean)) < found.relative_error + 4 / np.sqrt(replicas)
    assert found.relative_error < 0.3


def test_rank_one_form_is_a_slab():
    normal = np.array([0.6, 0.8])
    slab = uniform_mean_exit_time(H2, C2, LinearForm(normal, 0.9, two_sided=True), 0.2, 4)
    flat = uniform_mean_exit_time(H2, C2, QuadraticForm(np.outer(normal, normal), 0.9), 0.2, 4)
    assert flat.log_mean == pytest.approx(slab.log_mean, rel=1e-10)


def test_directions_that_do_not_matter_change_nothing():
    """Independent parameters without influence on the region, and parameters without noise."""
    form, wide = QuadraticForm(H2, 1.0), np.zeros((4, 4))
    wide[:2, :2] = H2
    plain = uniform_mean_exit_time(H2, C2, form, 0.2, 4)
    for noise in (I2, 0 * I2):
        extended = uniform_mean_exit_time(
            scipy.linalg.block_diag(H2, np.diag([0.5, 3.0])),
            scipy.linalg.block_diag(C2, noise),
            QuadraticForm(wide, 1.0),
            0.2,
            4,
        )
        assert extended.log_mean == pytest.approx(plain.log_mean, abs=5e-3)


@pytest.mark.parametrize("form", [ball(2, 1.0), LinearForm([0.6, 0.8], 1.0, two_sided=True)])
def test_invariances(form):
    plain = uniform_mean_exit_time(H2, C2, form, 0.2, 4)
    # L -> a L, C -> a^2 C, eta -> eta / a leaves every path of SGD unchanged.
    scaled = uniform_mean_exit_time(3 * H2, 9 * C2, form, 0.2 / 3, 4)
    assert scaled.log_mean == pytest.approx(plain.log_mean, rel=1e-10)
    R = scipy.linalg.expm(np.array([[0.0, 0.6], [-0.6, 0.0]]))
    turned_form = (
        LinearForm(R @ form.normal, form.offset, two_sided=True)
        if isinstance(form, LinearForm)
        else form
    )
    turned = uniform_mean_exit_time(R @ H2 @ R.T, R @ C2 @ R.T, turned_form, 0.2, 4)
    assert turned.log_mean == pytest.approx(plain.log_mean, rel=1e-9)
    # Lengths in other units.
    wider = (
        LinearForm(form.normal, 2 * form.offset, two_sided=True)
        if isinstance(form, LinearForm)
        else ball(2, 2.0)
    )
    assert uniform_mean_exit_time(H2, 4 * C2, wider, 0.2, 4).log_mean == pytest.approx(
        plain.log_mean, rel=1e-10
    )


def test_coordinates_do_not_matter_where_all_directions_are_as_easy():
    rng = np.random.default_rng(2)
    rates = np.diag(np.geomspace(1, 1e-2, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    plain = uniform_mean_exit_time(rates, rates, ball(8, 0.6), 0.3, 8)
    turned = turn @ rates @ turn.T
    other = uniform_mean_exit_time(turned, turned, ball(8, 0.6), 0.3, 8)
    assert other.log_mean == pytest.approx(plain.log_mean, abs=1e-3)
    assert other.relative_error == pytest.approx(plain.relative_error, rel=1e-2)


@pytest.mark.parametrize("aligned", [True, False], ids=["every direction as easy", "mixed"])
def test_rounding_of_the_matrices_is_not_amplified(aligned):
    """Signs and choice of eigenvectors follow rounding; sampled directions must not."""
    rng = np.random.default_rng(5)
    square = rng.normal(size=(8, 8))
    A = np.diag(np.geomspace(1, 0.02, 8))
    C = A if aligned else 0.5 * A + 0.1 * square @ square.T / 8
    plain = uniform_mean_exit_time(A, C, ball(8, 1.0), 0.3, 6.0)
    assert plain.sampling_error > 1e-4  # the directions do matter
    for _ in range(5):
        noise = rng.normal(size=(8, 8))
        rounded = uniform_mean_exit_time(
            A, C * (1 + 1e-13 * (noise + noise.T)), ball(8, 1.0), 0.3, 6.0
        )
        assert rounded.log_mean == pytest.approx(plain.log_mean, rel=1e-7)
        assert rounded.relative_error == pytest.approx(plain.relative_error, rel=1e-7)


@pytest.mark.parametrize("form", [ball(2, 1.0), LinearForm([0.6, 0.8], 1.0, two_sided=True)])
def test_small_steps_tend_to_continuous_time(form):
    """At fixed eps^2 the delay of discrete observation vanishes like the square root of eta."""
    limit = continuous_mean_exit_time(H2, C2, form, 0.1).log_mean
    delays = [
        uniform_mean_exit_time(H2, C2, form, eta, eta / 0.1).log_mean + np.log(eta) - limit
        for eta in (4e-4, 1e-4)
    ]
    assert 0 < delays[1] < delays[0]
    assert delays[0] / delays[1] == pytest.approx(2, rel=0.05)


def test_isolated_jumps_at_large_signal():
    """For large s exits are single jumps of independent draws: ``E[nu] = 1 / P(outside)``."""
    found = uniform_mean_exit_time(np.eye(1), np.eye(1), INTERVAL, 0.2, 36.0)
    width = np.sqrt(1 / 36 / (2 - 0.2) * 0.2)
    expected = -np.log(2) - log_ndtr(-1 / width)
    assert found.signal_to_noise == pytest.approx(6, rel=0.01)
    assert found.log_mean == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_barriers_far_beyond_double_precision(dim):
    found = uniform_mean_exit_time(np.eye(dim), np.eye(dim), ball(dim, 1.0), 0.1, 1e5)
    assert found.mean == np.inf
    assert found.log_mean == pytest.approx(found.barrier, rel=1e-4)
    assert np.isfinite(found.relative_error)


def test_diffusive_exit_has_no_barrier():
    """Inside the typical shell the exit is the free diffusion's, ``R^2 / (eps^2 Tr C)``."""
    dim, noise_scale = 50, 1.0
    found = continuous_mean_exit_time(
        1e-3 * np.eye(dim), np.eye(dim), ball(dim, 1.0), noise_scale, samples=64
    )
    assert found.mean == pytest.approx(1 / (noise_scale * dim), rel=1e-3)


def test_sampling_is_reproducible_and_accurate():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 60))
    H = np.diag(np.geomspace(1, 0.01, 30))
    C = H + 0.1 * X @ X.T / 60
    form = ball(30, 1.5)
    one, same, other = (
        uniform_mean_exit_time(H, C, form, 0.2, 20, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same or one.log_mean == same.log_mean
    assert one.sampling_error < 0.01
    assert abs(one.log_mean - other.log_mean) < 5 * np.hypot(
        one.sampling_error, other.sampling_error
    )


def test_errors():
    with pytest.raises(InvalidArgument, match="form has 3 parameters"):
        uniform_mean_exit_time(H2, C2, ball(3, 1.0), 0.1, 1)
    with pytest.raises(InvalidArgument, match="learning_rate / batch_size"):
        uniform_mean_exit_time(H2, C2, ball(2, 1.0), 0.1, -1)
    with pytest.raises(InvalidArgument, match="samples is 100"):
        continuous_mean_exit_time(np.eye(3), np.eye(3), ball(3, 1.0), 0.1, samples=100)
    with pytest.raises(Unstable, match="largest stable learning rate"):
        uniform_mean_exit_time(H2, C2, ball(2, 1.0), 1.0, 1)
    silent = np.diag([1.0, 0.0])
    for form in (
        LinearForm([0.0, 1.0], 1.0, two_sided=True),
        QuadraticForm(np.diag([0.0, 1.0]), 1),
    ):
        with pytest.raises(DegenerateNoise, match="never leaves"):
            uniform_mean_exit_time(I2, silent, form, 0.1, 1)


def test_stationary_law_of_the_steps():
    """The barrier is that of the discrete stationary covariance."""
    found = uniform_mean_exit_time(H2, C2, ball(2, 1.0), 0.3, 2.0)
    S = stationary_covariance_discrete(H2, C2, 0.3)
    assert found.barrier == pytest.approx(2.0 / 0.3 / (2 * np.linalg.eigvalsh(S)[-1]), rel=1e-10)
    slow = continuous_mean_exit_time(H2, C2, ball(2, 1.0), 0.15)
    S = stationary_covariance(H2, C2)
    assert slow.barrier == pytest.approx(1 / 0.15 / (2 * np.linalg.eigvalsh(S)[-1]), rel=1e-10)
