"""What has relaxed when the exit comes, and how the hazard grows until then."""

import itertools

import numpy as np
import pytest
from numpy.polynomial import hermite_e, legendre
from scipy.special import gammaln

import escapade as esc
from escapade.errors import InvalidArgument, Unstable, Unsupported
from escapade.minimum.lyapunov import horizon_covariance, stationary_covariance
from escapade.theory.relaxation import hazard_ratio, relaxation

STIFFNESS, RATIO, BARRIER = 0.1, 0.1, 7.6
HEIGHT = BARRIER * STIFFNESS / (2 - STIFFNESS)
"""Depth of the level set with this barrier for unit learning and batch size."""


def level_set(stiffness=STIFFNESS, ratio=RATIO, depth=HEIGHT):
    """C = H in two dimensions, left through a level set; the learning rate is 1."""
    return esc.Escape(
        esc.landscapes.Quadratic([stiffness, stiffness * ratio]),
        esc.GaussianSGD(1.0, 1.0, esc.noise.HessianProportional()),
        esc.Sublevel(depth),
    )


def exact_hazard(steps, stiffness=STIFFNESS, ratio=RATIO, depth=HEIGHT, nodes=(48, 14)):
    """Hazard of each step of that chain from the minimum, and its final value.

    Independent of the package: Mehler's expansion of the slow coordinate, which is an
    autoregression and hardly ever reaches the boundary alone, and Gauss-Legendre nodes of the fast
    one between the two boundary points.
    """
    fast, slow = stiffness, stiffness * ratio
    slow_nodes, slow_weights = hermite_e.hermegauss(nodes[1])
    orders = np.arange(nodes[1])

    def hermite(at):
        return hermite_e.hermevander(at, nodes[1] - 1) / np.exp(gammaln(orders + 1) / 2)

    decay = (1 - slow) ** orders
    propagator = hermite(slow_nodes).T * slow_weights / np.sqrt(2 * np.pi)
    slow_step = (hermite(slow_nodes) * decay) @ propagator
    slow_start = (hermite(np.zeros(1)) * decay) @ propagator
    slow_x = slow_nodes * np.sqrt(slow / (1 - (1 - slow) ** 2))
    reach = np.sqrt((2 * depth - slow * slow_x**2) / fast)
    unit, weights = legendre.leggauss(nodes[0])
    x = reach[:, None] * unit

    def kernel(at):
        scaled = (x - (1 - fast) * at[..., None, None]) / np.sqrt(fast)
        return np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi * fast) * reach[:, None] * weights

    transitions = (slow_step[:, None, :, None] * kernel(x)).reshape(x.size, x.size)
    start = (slow_start[0][:, None] * kernel(np.zeros(()))).ravel()
    survival, alive = [1.0], np.ones(x.size)
    for _ in range(steps):
        survival.append(start @ alive)
        alive = transitions @ alive
    survival = np.array(survival)
    return 1 - survival[1:] / survival[:-1], 1 - np.abs(np.linalg.eigvals(transitions)).max()


def test_slow_directions_change_the_prefactor_only():
    """Theory sheet: h / h_inf = .9852, .9955, .9991 exactly, .9837, .9950, .9990 asymptotically."""
    hazard, final = exact_hazard(201)
    steps = np.array([61, 121, 201])  # those taken after 6, 12 and 20 relaxation times
    exact = hazard[steps - 1] / final
    assert exact == pytest.approx([0.9852, 0.9955, 0.9991], abs=5e-5)
    kept = RATIO * (1 - np.exp(-2 * RATIO * STIFFNESS * (steps - 1)))
    leading = np.sqrt((1 - RATIO) / (1 - kept))
    assert leading == pytest.approx([0.9837, 0.9950, 0.9990], abs=5e-5)
    law = hazard_ratio(level_set(), steps)
    assert law == pytest.approx(exact, abs=1e-3)
    # At a finite barrier it is better than the asymptotic formula.
    assert (np.abs(law - exact) < 0.7 * np.abs(leading - exact)).all()


def test_the_asymptotic_formula_is_the_limit_of_high_barriers():
    steps = np.array([120, 200])
    kept = RATIO * (1 - np.exp(-2 * RATIO * STIFFNESS * steps))
    leading = np.sqrt((1 - RATIO) / (1 - kept))
    errors = []
    for barrier in (50, 200):
        escape = esc.Escape(
            esc.landscapes.Quadratic([STIFFNESS, STIFFNESS * RATIO]),
            esc.ContinuousSGD(1.0, 1.0, esc.noise.HessianProportional()),
            esc.Sublevel(barrier * STIFFNESS / 2),
        )
        errors.append(np.abs(hazard_ratio(escape, steps) - leading).max())
    assert errors[0] < 3e-4
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.2)


def test_the_hazard_is_right_while_the_sharp_direction_relaxes():
    hazard, final = exact_hazard(60)
    steps = np.array([5, 8, 10, 15, 20, 30, 40])
    law = hazard_ratio(level_set(), steps)
    # Within the step's own growth of the hazard, or 15 % of it.
    exact = hazard[steps - 1] / final
    assert law == pytest.approx(exact, rel=0.13)
    assert law[-3:] == pytest.approx(exact[-3:], rel=0.006)
    assert law[0] < 0.03


@pytest.mark.parametrize("times", [[3.0, 5.0, 10.0, 20.0, 40.0, 80.0]])
def test_diffusion_in_one_dimension(times):
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.ContinuousSGD(0.1, 0.8, esc.noise.Constant([[1.0]])),
        esc.Ball(1.0),
    )
    exact = esc.solve(escape)
    edges = np.array(times)[:, None] + [-0.01, 0.01]
    survival = exact.survival(edges)
    hazard = -np.diff(np.log(survival), axis=1)[:, 0] / 0.02 / exact.rate
    law = hazard_ratio(escape, times)
    # coth(t) p_t(R) / p(R) by hand, with barrier 8 and t = eta steps.
    t = 0.1 * np.array(times)
    spread = -np.expm1(-2 * t)
    by_hand = np.exp(-8 * (1 / spread - 1)) / np.sqrt(spread) / np.tanh(t)
    assert law == pytest.approx(by_hand, rel=1e-9)
    assert law == pytest.approx(hazard, rel=0.08)
    assert law[-2:] == pytest.approx(hazard[-2:], rel=2e-3)


def boundary_flux(time, drift, noise, matrix, radius, scale, points=4000):
    """Flux through an ellipse, summed along it."""
    spread = horizon_covariance(drift, noise, time)
    if np.isinf(time):
        spread = stationary_covariance(drift, noise)
    angles = 2 * np.pi * np.arange(points) / points
    root = np.linalg.inv(np.linalg.cholesky(matrix)).T * radius
    x = np.array([np.cos(angles), np.sin(angles)]).T @ root.T
    tangent = np.array([-np.sin(angles), np.cos(angles)]).T @ root.T
    outward = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)  # times length per angle
    inverse = np.linalg.inv(spread)
    density = np.exp(-0.5 * np.einsum("pi,ij,pj->p", x, inverse, x) / scale)
    velocity = x @ (noise @ inverse - drift).T
    return np.sum(density * np.sum(outward * velocity, axis=1)) / np.sqrt(np.linalg.det(spread))


@pytest.mark.parametrize("region", [esc.Ball(1.0), esc.Sublevel(0.6)])
def test_dense_matrices_against_a_sum_along_the_boundary(region):
    H, C = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    escape = esc.Escape(
        esc.landscapes.Quadratic(H), esc.ContinuousSGD(0.05, 0.3, esc.noise.Constant(C)), region
    )
    form = region.local_form(np.zeros(2), H) or escape.region.local_form(np.zeros(2), H)
    steps = np.array([2.0, 8.0, 20.0, 60.0])
    arguments = (H, C, form.matrix, form.radius, escape.noise_scale)
    sums = [boundary_flux(0.05 * step, *arguments) for step in steps]
    final = boundary_flux(200.0, *arguments)
    assert hazard_ratio(escape, steps) == pytest.approx(np.array(sums) / final, rel=1e-6)


def test_dense_matrices_against_a_simulation():
    """Hazard in bins of the early steps, non-commuting noise, exit through a half-space."""
    H, C = np.array([[2.0, 0.6], [0.6, 0.4]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    escape = esc.Escape(
        esc.landscapes.Quadratic(H),
        esc.GaussianSGD(0.1, 0.2, esc.noise.Constant(C)),
        esc.HalfSpace([0.3, 1.0], 1.8),
    )
    edges = np.array([0, 10, 20, 30, 40, 60, 80, 100, 400])
    sample = esc.simulate(escape, 40_000, max_steps=400, key=11)
    measured = sample.hazard(edges)
    law = hazard_ratio(escape, np.arange(1, 401))
    expected = np.array([law[a:b].mean() for a, b in itertools.pairwise(edges)])
    # One constant, from the last bin; the growth before it is what is compared.
    counts = expected * measured.exposure * measured.rate[-1] / expected[-1]
    assert measured.exits[1:-1].min() > 30
    assert measured.rate[2] < 0.7 * measured.rate[-1]
    deviations = (measured.exits - counts)[1:-1] / np.sqrt(
        counts[1:-1] + (0.05 * counts[1:-1]) ** 2
    )
    assert np.abs(deviations).max() < 3.5


def test_relaxation_times_of_a_chain_and_of_a_diffusion():
    eigenvalues = np.array([2.0, 0.5, 0.01])
    noise = esc.noise.HessianProportional()
    landscape, region = esc.landscapes.Quadratic(eigenvalues), esc.Slab([1.0, 0, 0], 0.6)
    chain = relaxation(esc.Escape(landscape, esc.GaussianSGD(0.1, 4, noise), region))
    assert chain.times == pytest.approx(-1 / np.log(1 - 0.1 * eigenvalues))
    diffusion = relaxation(esc.Escape(landscape, esc.ContinuousSGD(0.1, 4, noise), region))
    assert diffusion.times == pytest.approx(10 / eigenvalues)
    bouncing = relaxation(esc.Escape(landscape, esc.GaussianSGD(0.8, 4, noise), region))
    assert bouncing.times[0] == pytest.approx(-1 / np.log(0.6))
    with pytest.raises(Unstable):
        relaxation(esc.Escape(landscape, esc.GaussianSGD(1.0, 4, noise), region))


def test_shares_are_those_of_the_easiest_exit():
    H, C = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    escape = esc.Escape(
        esc.landscapes.Quadratic(H),
        esc.GaussianSGD(0.05, 4, esc.noise.Constant(C)),
        esc.HalfSpace([1.0, 2.0], 1.0),
    )
    found = relaxation(escape)
    # Out of a half-space the easiest exit is along S n and its momentum along n.
    S = esc.neighbourhood(escape).stationary_covariance(0.05)
    for shares, vector in (
        (found.exit_share, S @ [1.0, 2.0]),
        (found.momentum_share, np.array([1.0, 2.0])),
    ):
        cosines = np.linalg.eigh(H)[1][:, ::-1].T @ vector / np.linalg.norm(vector)
        assert shares == pytest.approx(cosines**2)
    assert found.carrier_time == pytest.approx(found.times.max())


def test_equally_easy_exits_are_added_up():
    """Isotropic noise out of a level set: every direction carries the exit, the flat one too."""
    landscape = esc.landscapes.Quadratic(np.diag([1.0, 0.1, 0.01]))
    escape = esc.Escape(
        landscape, esc.ContinuousSGD(0.1, 1.0, esc.noise.Isotropic()), esc.Sublevel(0.4)
    )
    found = relaxation(escape)
    # x_i = radius / sqrt(lambda_i) and p_i = lambda_i x_i, each in its own exit.
    assert found.exit_share == pytest.approx(np.array([1, 10, 100]) / 111)
    assert found.momentum_share == pytest.approx(np.array([100, 10, 1]) / 111)
    assert list(found.carriers) == [0, 2]
    assert found.carrier_time == pytest.approx(1000.0)


def test_exact_times_where_there_is_an_exact_solution(oracle):
    parameters = oracle("M01")["params"]
    escape = one_dimensional(parameters)
    found = relaxation(escape)
    assert found.exact
    assert found.exit_time == pytest.approx(oracle("M04")["value"], rel=1e-7)
    first, second = oracle("M02")["value"], oracle("M03")["value"]
    assert found.quasi_stationary == pytest.approx(1 / (first - second), rel=1e-6)
    assert "its one direction relaxes before it" in str(found)
    assert "(exact)" in str(found)
    assert relaxation(escape, exact=esc.solve(escape)).exit_time == found.exit_time


def one_dimensional(parameters):
    return esc.Escape(
        esc.landscapes.Quadratic([parameters["lam"]]),
        esc.GaussianSGD(
            parameters["eta"], parameters["B"], esc.noise.Constant([[parameters["C"]]])
        ),
        esc.Ball(parameters["R"]),
    )


def test_the_sentence_counts_directions():
    landscape = esc.landscapes.Quadratic([2.0, 0.5, 1e-4, 2e-5])
    noise = esc.noise.HessianProportional()
    escape = esc.Escape(landscape, esc.GaussianSGD(0.1, 8, noise), esc.Slab([1.0, 0, 0, 0], 0.25))
    found = relaxation(escape)
    assert not found.exact
    assert found.quasi_stationary is None
    assert found.exit_time == pytest.approx(esc.predict(escape).mean)
    assert found.times[1] < found.exit_time < found.times[2]
    assert found.unrelaxed == 2
    assert "2 of 4 directions relax before it" in str(found)
    assert "2 do not (in 100,000 to 500,000 steps)" in str(found)
    assert "direction 1 carries 100 % of the easiest exit" in str(found)
    assert list(found.carriers) == [0]
    assert found.carrier_time == found.times[0]


def test_arguments_of_the_hazard_are_checked():
    with pytest.raises(InvalidArgument, match="whole positive"):
        hazard_ratio(level_set(), [1.5])
    with pytest.raises(InvalidArgument, match="positive"):
        hazard_ratio(level_set(), [0])
    elsewhere = esc.Escape(
        esc.landscapes.Quadratic([1.0, 1.0]),
        esc.GaussianSGD(0.1, 1.0, esc.noise.Isotropic()),
        esc.Ball(1.0),
        start=[0.1, 0.0],
    )
    with pytest.raises(Unsupported, match="minimum"):
        hazard_ratio(elsewhere, [10])
    basin = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, 20.0, esc.noise.Isotropic()),
        esc.Basin(),
        minimum=[-1.0],
    )
    with pytest.raises(Unsupported, match="no closed form"):
        hazard_ratio(basin, [10])
