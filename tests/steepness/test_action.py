"""The verbs `steepness` and `trace_steepness`: reference values, exact sums, bad input."""

import weakref

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import escapade as esc
from escapade.errors import Diverged, InvalidArgument, Unsupported
from escapade.exits.trajectory import iterates
from escapade.steepness.action.steepness import steepness
from escapade.steepness.action.trace import trace_steepness

H = np.array([[2.0, 0.6], [0.6, 1.0]])
C = np.array([[1.0, -0.3], [-0.3, 0.5]])
X = np.array([0.6, 0.3])
QUADRATIC = esc.landscapes.Quadratic(H)
CONTINUOUS = esc.ContinuousSGD(0.1, 1.0, esc.noise.Constant(C))
DISCRETE = esc.GaussianSGD(0.3, 1.0, esc.noise.Constant(C))


def escape(dynamics, landscape=QUADRATIC, **given):
    return esc.Escape(landscape, dynamics, esc.Ball(1.0), **given)


def example_loss(theta, example):
    slope, centre = example
    return 0.5 * slope * jnp.sum((theta - centre) ** 2)


def examples(oracle, **options):
    """The eight examples on a line of the reference cases, and their minimum."""
    params = oracle("B01")["params"]
    h, c = np.array(params["h"]), np.array(params["c"])
    minimum = (h * c).sum() / h.sum()
    landscape = esc.landscapes.Empirical(example_loss, jnp.zeros(1), (h, c))
    dynamics = esc.MinibatchSGD(**{"learning_rate": 0.3, "batch_size": 3} | options)
    return escape(dynamics, landscape, start=[minimum]), minimum, h, c


# Reference values


def test_infinite_horizons(oracle):
    problem = escape(CONTINUOUS)
    path = esc.minimum_steepness(problem, to=X).path
    # By the geometric action: the path carries no times.
    assert steepness(problem, path) == pytest.approx(oracle("Q03")["value"], rel=1e-9)
    problem = escape(DISCRETE)
    path = esc.minimum_steepness(problem, to=X).path
    assert steepness(problem, path) == pytest.approx(oracle("D01")["value"], rel=1e-10)
    params = oracle("D02")["params"]
    sharp = esc.GaussianSGD(params["eta"], 1.0, esc.noise.HessianProportional())
    problem = escape(sharp, esc.landscapes.Quadratic(params["H"]))
    path = esc.minimum_steepness(problem, to=params["x"]).path
    assert steepness(problem, path) == pytest.approx(oracle("D02")["value"], rel=1e-10)


def test_finite_horizons(oracle):
    for case, given in (("Q04", {}), ("Q05", {"start": oracle("Q05")["params"]["x0"]})):
        problem = escape(CONTINUOUS, **given)
        path = esc.minimum_steepness(problem, horizon=7, to=X).path
        value = oracle(case)["value"]
        assert steepness(problem, path, horizon=7) == pytest.approx(value, rel=1e-10)
        times = np.linspace(0, 7, len(path))
        assert steepness(problem, path, times=times) == pytest.approx(value, rel=1e-10)
    problem = escape(DISCRETE)
    path = esc.minimum_steepness(problem, horizon=5, to=X).path
    assert steepness(problem, path, 5) == pytest.approx(oracle("D03")["value"], rel=1e-12)


def test_noise_that_depends_on_the_point(oracle):
    noise = esc.noise.Function(lambda x: 1 + x[0] ** 2 / 2)
    well = esc.Escape(
        esc.landscapes.DoubleWell(), esc.ContinuousSGD(0.1, 1.0, noise), esc.Basin(), start=[-1.0]
    )
    assert steepness(well, [[-1], [0]]) == pytest.approx(oracle("N03")["value"], rel=1e-12)
    landscape = esc.landscapes.Function(lambda x: 0.2 + x[0] ** 2 / 2, 1, minima=[[0.0]])
    noise = esc.noise.Function(lambda x: 2 * (0.2 + x[0] ** 2 / 2))
    problem = escape(esc.ContinuousSGD(0.1, 1.0, noise), landscape)
    assert steepness(problem, [[0], [1]]) == pytest.approx(oracle("N09")["value"], rel=1e-12)
    # Downhill is free.
    assert steepness(well, [[0], [-0.5], [-1]]) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    ("case", "distance", "sampling"),
    [
        ("B01", 0.6, "with_replacement"),
        ("B02", -0.6, "with_replacement"),
        ("B03", 0.6, "without_replacement"),
    ],
)
def test_minibatches_in_the_continuous_limit(oracle, case, distance, sampling):
    problem, minimum, _, _ = examples(oracle, sampling=sampling)
    segment = [[minimum], [minimum + distance]]
    value = steepness(problem, segment, continuous_limit=True)
    assert value == pytest.approx(oracle(case)["value"], rel=1e-10)
    back = steepness(problem, segment[::-1], continuous_limit=True)
    assert back == pytest.approx(0, abs=1e-12)


def test_minibatches_at_a_finite_learning_rate(oracle):
    """Along the minimiser of the discrete action, computed here by the symplectic map."""
    problem, minimum, h, c = examples(oracle, learning_rate=0.3)
    rate = 0.3

    def step(x, arriving):
        """The next point and momentum, whose implicit equation is solved on the line."""
        g = h * (x - c)

        def leaving(p):
            weights = np.exp(-p * g)
            return p - rate * (weights * p * h).sum() / weights.sum() - arriving

        p = scipy.optimize.brentq(leaving, arriving, 3 * arriving + 1e-3, xtol=1e-16)
        weights = np.exp(-p * g)
        return x - rate * (weights * g).sum() / weights.sum(), p

    # Near the minimum p = x / S with S of the linear chain.
    curvature, variance = h.mean(), np.var(h * (minimum - c))
    stationary = variance / (curvature * (2 - rate * curvature))

    def orbit(first):
        points, momentum = [minimum, minimum + first], first / stationary
        while len(points) < 60 and points[-1] < minimum + 0.4 - 1e-9:
            x, momentum = step(points[-1], momentum)
            points.append(x)
        return points

    def miss(logarithm):
        x, momentum = minimum + np.exp(logarithm), np.exp(logarithm) / stationary
        for _ in range(30):
            x, momentum = step(x, momentum)
        return x - minimum - 0.4

    growth = 1 / (1 - rate * curvature)
    guess = np.log(0.4) - 30 * np.log(growth)
    first = np.exp(scipy.optimize.brentq(miss, guess - 1, guess + 0.5, xtol=1e-14))
    path = np.array(orbit(first))[:, None]
    assert path[-1, 0] == pytest.approx(minimum + 0.4, abs=1e-6)
    assert steepness(problem, path) == pytest.approx(oracle("B04")["value"], rel=1e-5)


def test_a_recorded_step_of_distinct_examples():
    """More parameters than examples: log(N / B) per step, or (1 / B) log binomial(N, B)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 9))
    landscape = esc.landscapes.Empirical(example_loss, jnp.zeros(9), (np.ones(6), centres))
    start = centres.mean(axis=0)
    path = [start]
    for batch in ([0, 1, 2], [3, 1, 5], [0, 4, 5]):
        path.append(path[-1] - 0.1 * (path[-1] - centres[batch].mean(axis=0)))
    for sampling, each in (
        ("with_replacement", np.log(2)),
        ("without_replacement", np.log(20) / 3),
    ):
        problem = escape(esc.MinibatchSGD(0.1, 3, sampling), landscape, start=start)
        assert steepness(problem, path) == pytest.approx(3 * 0.1 * each, rel=1e-8)
        single = np.asarray(path, np.float32)
        assert steepness(problem, single) == pytest.approx(3 * 0.1 * each, rel=2e-2)
        impossible = [start, start + 0.1 * np.ones(9)]
        assert steepness(problem, impossible) == np.inf


def test_singular_noise():
    noise = esc.noise.Constant(np.diag([1.0, 0.0]))
    chain = escape(esc.GaussianSGD(0.1, 1.0, noise), esc.landscapes.Quadratic([1.0, 2.0]))
    limit = escape(esc.ContinuousSGD(0.1, 1.0, noise), esc.landscapes.Quadratic([1.0, 2.0]))
    assert steepness(chain, [[0, 0], [0.1, 0]]) == pytest.approx(0.05)
    assert steepness(chain, [[0, 0], [0.1, 1e-4]]) == np.inf
    assert steepness(limit, [[0, 0], [0.5, 0]]) == pytest.approx(0.25)
    assert steepness(limit, [[0, 0], [0.5, 0.5]]) == np.inf
    # Down the coordinate without noise, at the pace of the drift: y = exp(-2 t), x = exp(-t).
    y = np.linspace(1, 0.25, 40)
    assert steepness(limit, np.stack([np.sqrt(y), y], 1)) == pytest.approx(0, abs=1e-8)
    held = steepness(limit, np.stack([np.ones(40), y], 1))
    assert held == pytest.approx(0.5 * np.log(4) / 2, rel=1e-6)


# Bad input


def test_bad_paths():
    problem, chain = escape(CONTINUOUS), escape(DISCRETE)
    for path, match in (
        ([[0.0, 0.0, 0.0]], "shape"),
        ([[0.0, 0.0]], "at least two"),
        ([0.0, 0.0], "at least two"),
        ([[0.0, 0.0], [np.nan, 0.0]], "NaN"),
        ([["a", "b"]], "real numbers"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            steepness(problem, path)
    path = [[0.0, 0.0], [0.1, 0.1], [0.2, 0.2]]
    for options, match in (
        ({"times": [0, 1]}, "3 finite, increasing"),
        ({"times": [0, 1, 1]}, "increasing"),
        ({"times": [0, 1, 2], "horizon": 2}, "both"),
        ({"horizon": -1}, "positive"),
        ({"tolerance": -1.0}, "tolerance"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            steepness(problem, path, **options)
    with pytest.raises(InvalidArgument, match="continuous_limit"):
        steepness(chain, path, horizon=3)
    with pytest.raises(InvalidArgument, match="continuous_limit"):
        steepness(chain, path, times=[0, 1, 2])
    assert steepness(chain, path, 2) == steepness(chain, path) > 0


def test_off_the_domain():
    landscape = esc.landscapes.Function(lambda x: jnp.sum(x - jnp.log(x)), 1, minima=[[1.0]])
    problem = esc.Escape(landscape, esc.LangevinSGD(0.1), esc.Ball(0.5))
    with pytest.raises(InvalidArgument, match="point 1"):
        steepness(problem, [[1.0], [-0.5], [1.0]])
    with pytest.raises(InvalidArgument, match="domain"):
        steepness(problem, [[1.0], [0.0]])


def test_shuffled_epochs(oracle):
    problem, minimum, _, _ = examples(oracle, sampling="shuffled_epochs")
    with pytest.raises(Unsupported, match="with or without replacement"):
        steepness(problem, [[minimum], [minimum + 0.1]])


# Training runs


def test_traces_are_the_steepness_of_the_path():
    problem = escape(DISCRETE)
    path = np.array(list(iterates(problem, 300, key=1, precision="float64")))
    trace = trace_steepness(problem, path)
    assert trace.value == pytest.approx(steepness(problem, path), rel=1e-12)
    kicks = np.diff(path, axis=0) + 0.3 * path[:-1] @ H
    expected = (kicks @ np.linalg.inv(C) * kicks).sum(axis=1) / 0.6
    np.testing.assert_allclose(trace.increments, expected, rtol=1e-9)
    np.testing.assert_array_equal(trace.steps, np.arange(1, 301))
    np.testing.assert_allclose(trace.cumulative, np.cumsum(expected), rtol=1e-9)
    # Each step's noise is two normals: twice (B / eta) S is chi-squared with 600 degrees.
    chi_squared = 2 * trace.value / problem.noise_scale
    assert abs(chi_squared - 600) < 3.5 * np.sqrt(1200)
    dataset = trace.to_xarray()
    assert dataset.sizes == {"step": 300}
    assert dataset.attrs["steepness"] == trace.value
    assert "300 steps" in str(trace)


def test_traces_read_their_iterates_once_and_a_few_at_a_time():
    problem = escape(DISCRETE)
    references, most = [], 0

    class Row(np.ndarray):
        """An array that can be referred to weakly."""

    def stream():
        nonlocal most
        for k in range(1000):
            row = np.full(2, 1e-3 * (k % 7)).view(Row)
            references.append(weakref.ref(row))
            most = max(most, sum(reference() is not None for reference in references))
            yield row

    assert len(trace_steepness(problem, stream()).steps) == 999
    assert len(references) == 1000
    assert most <= 3


def test_traces_of_bad_runs():
    problem = escape(DISCRETE)
    with pytest.raises(InvalidArgument, match="two"):
        trace_steepness(problem, [np.zeros(2)])
    with pytest.raises(InvalidArgument, match="iterate 1 has shape"):
        trace_steepness(problem, [np.zeros(2), np.zeros(3)])
    with pytest.raises(Diverged, match="iterate 1"):
        trace_steepness(problem, [np.zeros(2), np.full(2, np.inf)])
    with pytest.raises(Unsupported, match="times"):
        trace_steepness(escape(CONTINUOUS), np.zeros((3, 2)))
    singular = esc.GaussianSGD(0.1, 1.0, esc.noise.Constant(np.diag([1.0, 0.0])))
    trace = trace_steepness(escape(singular), [[0, 0], [0.1, 0], [0.1, 0.1]])
    assert trace.value == np.inf
    assert "step 2" in str(trace)


def test_a_training_run_on_real_data():
    """One line, on a network; a step cannot cost more than the rarest minibatch."""
    pytest.importorskip("sklearn")
    data = esc.data.breast_cancer()
    landscape = esc.landscapes.network_landscape(esc.landscapes.MLP((30, 2), key=0), data, 0.01)
    minimum = esc.find_minimum(landscape, landscape.initial).theta
    problem = escape(esc.MinibatchSGD(0.1, 8), landscape, start=minimum)
    trace = trace_steepness(problem, iterates(problem, 16, key=3))
    per_step = trace.increments / 0.1
    assert (per_step > 0).all()
    assert (per_step < np.log(569)).all()
    # A minibatch that was drawn had probability 8! / 569^8 or more.
    assert trace.value / problem.noise_scale < 16 * 8 * np.log(569)
