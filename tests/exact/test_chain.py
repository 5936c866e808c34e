"""Chains: the integral equation against oracles, rational arithmetic, brute force, simulation."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtr

import escapade as esc
from escapade.dynamics import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.errors import DegenerateNoise, InvalidArgument, Unsupported
from escapade.escape import Escape
from escapade.exact import solve
from escapade.exact.chain.elimination import eliminate
from escapade.exact.chain.interval import discretise
from escapade.exact.line.process import line_of
from escapade.exits import simulate
from escapade.landscape import DoubleWell, Quadratic
from escapade.noise import Function, HessianProportional, Isotropic
from escapade.region import Ball, HalfSpace, Sublevel, Where


def quadratic(learning_rate, batch_size, radius):
    dynamics = GaussianSGD(learning_rate, batch_size, Isotropic(1.0))
    return Escape(Quadratic([1.0]), dynamics, Ball(radius))


def over_the_barrier(learning_rate=0.1, batch_size=1.0, noise=None):
    dynamics = GaussianSGD(learning_rate, batch_size, noise or Isotropic(1.0))
    return Escape(DoubleWell(), dynamics, HalfSpace([1.0], 1.0))


@pytest.fixture(scope="module")
def m_rows():
    return solve(quadratic(0.1, 10.0, 0.3))


def test_mean_and_rates(m_rows, oracle):
    assert m_rows.mean == pytest.approx(oracle("M01")["value"], rel=1e-12)
    assert 1 - m_rows.rate == pytest.approx(oracle("M02")["value"], rel=1e-15)
    assert 1 / m_rows.rate == pytest.approx(oracle("M04")["value"], rel=1e-11)
    assert 1 - m_rows.second_rate == pytest.approx(oracle("M03")["value"], rel=1e-12)
    assert m_rows.error < 1e-12


def test_early_exits(m_rows, oracle):
    expected = [oracle(case)["value"] for case in ("M05", "M06", "M07")]
    steps = np.array([5, 10, 20])
    np.testing.assert_allclose(m_rows.exit_probability(steps), expected, rtol=1e-12)
    np.testing.assert_allclose(m_rows.survival(steps), 1 - np.array(expected), rtol=1e-14)


def test_survival_sums_to_the_mean():
    exact = solve(quadratic(0.3, 1.0, 0.5))
    survival = exact.survival(np.arange(3000))
    assert survival[0] == 1
    assert survival.sum() == pytest.approx(exact.mean, rel=1e-12)
    assert exact.survival(3000) / exact.survival(2999) == pytest.approx(1 - exact.rate, rel=1e-12)


def test_survival_beyond_relaxation_continues_the_iteration(m_rows):
    law = m_rows.law
    step = law._relaxed + 400
    kept = law.quasi_stationary_survival(np.array([0.0, 400.9]))
    assert kept[1] / kept[0] == pytest.approx((1 - law.rate) ** 400, rel=1e-12)
    kept = np.linalg.matrix_power(law.transitions, step - 1).sum(axis=1)
    assert m_rows.survival(step) == pytest.approx(law.start_transitions @ kept, rel=1e-11)
    total = m_rows.survival(step) + m_rows.exit_probability(step)
    assert total == pytest.approx(1, rel=1e-11)


def test_hazard_is_the_exit_probability_of_the_next_step(m_rows):
    steps = np.arange(40)
    kept = m_rows.survival(np.append(steps, 40))
    hazard = m_rows.law.hazard(steps)
    np.testing.assert_allclose(hazard * kept[:-1], kept[:-1] - kept[1:], atol=1e-15)
    # Small ones keep their digits: the exit probabilities of single steps do.
    single = np.diff(m_rows.exit_probability(np.append(steps, 40)))
    np.testing.assert_allclose((hazard * kept[:-1])[3:], single[3:], rtol=1e-9)
    assert hazard[0] == pytest.approx(2 * ndtr(-0.3 / (0.1 / np.sqrt(10))), rel=1e-12)
    assert m_rows.law.hazard(np.array([1e7])) == pytest.approx(m_rows.rate, rel=1e-12)


def test_discrete_over_continuous(oracle):
    discrete = solve(quadratic(0.05, 1.0, 1.0))
    continuous = solve(
        Escape(Quadratic([1.0]), ContinuousSGD(0.05, 1.0, Isotropic(1.0)), Ball(1.0))
    )
    assert discrete.mean / continuous.mean == pytest.approx(oracle("S05")["value"], rel=1e-11)


def test_where_plain_elimination_fails(oracle):
    exact = solve(quadratic(0.2, 9.0, 1.0))
    assert exact.mean == pytest.approx(oracle("S06")["value"], rel=1e-11)
    assert exact.error < 1e-11
    identity = np.eye(len(exact.law.nodes))
    plain = 1 + exact.law.start_transitions @ np.linalg.solve(
        identity - exact.law.transitions, np.ones(len(identity))
    )
    assert abs(plain / exact.mean - 1) > 0.1


def test_mean_of_1e38_by_the_uniform_formula():
    """E = 1 / (2 theta(s) Phi(-R / sigma)), whose error is 1e-5 at s = 4."""
    rate, batch, radius = 0.2, 18.0, 1.0
    exact = solve(quadratic(rate, batch, radius))
    s = np.sqrt(batch) * radius
    n = np.arange(1, 200)
    index = np.exp(-2 * np.sum(ndtr(-s * np.sqrt(n)) / n))
    deviation = np.sqrt(rate / batch / (2 - rate))
    assert exact.mean > 1e35
    assert exact.mean == pytest.approx(1 / (2 * index * ndtr(-radius / deviation)), rel=1e-4)
    assert exact.error < 1e-10


@pytest.mark.parametrize("block", [1, 3, 48])
def test_elimination_against_rational_arithmetic(block, monkeypatch):
    monkeypatch.setattr("escapade.exact.chain.elimination.BLOCK", block)
    rng = np.random.default_rng(1)
    size = 8
    transitions = rng.random((size, size)) ** 4
    transitions *= (0.7 + 0.2 * rng.random(size))[:, None] / transitions.sum(axis=1)[:, None]
    exits = 10.0 ** -rng.uniform(20, 60, size)
    exact = [[Fraction(float(-x)) for x in row] for row in transitions]
    for state in range(size):
        others = [-exact[state][j] for j in range(size) if j != state]
        exact[state][state] = Fraction(float(exits[state])) + sum(others)
    means = solve_rationally(exact, [Fraction(1)] * size)
    visits = solve_rationally([list(row) for row in zip(*exact, strict=True)], [Fraction(1)] * size)
    factors = eliminate(transitions, exits)
    np.testing.assert_allclose(factors.solve(np.ones(size)), means, rtol=1e-14)
    np.testing.assert_allclose(factors.solve_transposed(np.ones(size)), visits, rtol=1e-14)
    product = factors.upper @ factors.lower
    np.testing.assert_allclose(product, np.array(exact, dtype=float), rtol=1e-12, atol=1e-15)


def solve_rationally(matrix, values):
    rows = [[*row, value] for row, value in zip(matrix, values, strict=True)]
    for i in range(len(rows)):
        rows[i] = [entry / rows[i][i] for entry in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [float(row[-1]) for row in rows]


def test_half_line_with_changing_noise_against_the_midpoint_rule():
    def covariance(theta):
        return 1 + theta[0] ** 2 / 2

    exact = solve(over_the_barrier(0.2, 0.5, Function(covariance)))
    rate, batch = 0.2, 0.5
    edges = np.linspace(-9, 0, 2001)
    x = (edges[1:] + edges[:-1]) / 2
    center = x - rate * (x**3 - x)
    deviation = rate * np.sqrt((1 + x**2 / 2) / batch)
    scaled = (x - center[:, None]) / deviation[:, None]
    kernel = np.exp(-(scaled**2) / 2) / (np.sqrt(2 * np.pi) * deviation[:, None]) * np.diff(edges)
    times = np.linalg.solve(np.eye(len(x)) - kernel, np.ones(len(x)))
    assert exact.mean == pytest.approx(np.interp(-1.0, x, times), rel=2e-5)


def test_half_line_does_not_depend_on_where_it_is_cut():
    escape = over_the_barrier(0.1, 2.0)
    exact = solve(escape)
    line = line_of(escape, escape.start)
    wider = discretise(line, 1.2 * exact.law.nodes[0], 0.0, 1.4)
    assert wider.mean == pytest.approx(exact.mean, rel=1e-12)


def test_refinement_converges():
    escape = quadratic(0.1, 10.0, 0.3)
    line = line_of(escape, escape.start)
    means = [discretise(line, line.low, line.high, width).mean for width in (12, 8, 5, 3, 1)]
    errors = np.abs(np.array(means[:-1]) / means[-1] - 1)
    assert (errors[1:] < 0.1 * errors[:-1])[:2].all()
    assert errors[-1] < 1e-10


def test_agrees_with_simulation():
    escape = over_the_barrier(0.3, 1.0, Function(lambda theta: 1 + theta[0] ** 2 / 2))
    exact = solve(escape)
    sample = simulate(escape, replicas=4096, max_steps=100_000, key=3)
    assert not sample.censored.any()
    assert abs(sample.times.mean() - exact.mean) < 3.5 * sample.times.std() / np.sqrt(4096)
    median = int(np.median(sample.times))
    survival = exact.survival(median)
    surviving = (sample.times > median).mean()
    assert abs(surviving - survival) < 3.5 * np.sqrt(survival * (1 - survival) / 4096)


def test_any_start():
    escape = quadratic(0.3, 1.0, 0.5)
    means = [solve(escape, start=[x]).mean for x in (-0.4, 0.0, 0.4, 0.4999)]
    assert means[0] == pytest.approx(means[2], rel=1e-12)
    assert means[1] > means[2] > means[3] > 1


def test_langevin_is_isotropic_gaussian():
    langevin = Escape(DoubleWell(), LangevinSGD(0.1, 2.0, 1.5), HalfSpace([1.0], 1.0))
    gaussian = over_the_barrier(0.1, 2.0, Isotropic(1.5))
    assert solve(langevin).mean == pytest.approx(solve(gaussian).mean, rel=1e-13)


def test_what_has_no_exact_chain():
    two_wells = Escape(DoubleWell(), GaussianSGD(0.1, 1.0, Isotropic(1.0)), Sublevel(0.24))
    with pytest.raises(Unsupported, match="another part"):
        solve(two_wells)
    with pytest.raises(Unsupported, match="standard deviations of one step"):
        solve(quadratic(0.01, 1e5, 1.0))
    with pytest.raises(Unsupported, match="1e280"):
        solve(quadratic(0.2, 200.0, 1.0))
    with pytest.raises(DegenerateNoise, match="vanishes"):
        solve(over_the_barrier(noise=HessianProportional()))
    with pytest.raises(InvalidArgument, match='"ito" is the only one'):
        solve(over_the_barrier(), interpretation="stratonovich")
    with pytest.raises(InvalidArgument, match="nodes"):
        solve(over_the_barrier(), nodes=100)
    runaway = Escape(
        DoubleWell(),
        GaussianSGD(0.1, 1.0, Isotropic(1.0)),
        Where(lambda theta: (theta[0] < 0) & (theta[0] > -1.5)),
    )
    assert solve(runaway).mean < solve(over_the_barrier()).mean


def test_two_wells_nearly_as_deep():
    """The quasi-stationary law of both wells, which plain iteration would take ages to find."""
    landscape = esc.landscapes.Function(
        lambda x: x[0] ** 4 / 4 - x[0] ** 2 / 2 - 2e-6 * x[0], 1, minima=[[-1.0]]
    )
    dynamics = esc.GaussianSGD(0.1, 10.0, esc.noise.Isotropic())
    found = solve(esc.Escape(landscape, dynamics, esc.Ball(1.25, [0.0])))
    square = found.law.transitions @ np.eye(len(found.law.exits))
    assert found.rate == pytest.approx(1 - np.abs(np.linalg.eigvals(square)).max(), rel=1e-6)


def test_times_beyond_all_integers():
    found = solve(
        esc.Escape(
            esc.landscapes.Quadratic([1.0]),
            esc.GaussianSGD(0.2, 9.0, esc.noise.Isotropic()),
            esc.Ball(1.0),
        )
    )
    assert found.mean > 1e18
    assert found.survival(10 * found.mean) == pytest.approx(np.exp(-10), rel=1e-6)
    assert found.survival(1e200) == 0
