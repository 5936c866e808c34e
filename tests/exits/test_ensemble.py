"""Direct simulation: replays, reproducibility, and exit times against independent references.

Statistical comparisons hold within 3.5 standard errors at a fixed key; continuous dynamics have in
addition a discretisation bias, which is stated where it is allowed for.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from escapade import noise
from escapade.dynamics import ContinuousSGD, GaussianSGD, LangevinSGD, MinibatchSGD
from escapade.dynamics.streams import Stream, seed_words
from escapade.errors import InvalidArgument
from escapade.escape import Escape
from escapade.exits import ensemble
from escapade.exits.ensemble import Interrupted, simulate
from escapade.landscape import DoubleWell, Empirical, Function, Quadratic, rescale
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where

HESSIAN = [[2.0, 0.6], [0.6, 1.0]]
COVARIANCE = [[1.0, -0.3], [-0.3, 0.5]]
DENSE = Quadratic(HESSIAN)
LANES = 256


def on_a_line(radius=0.3, rate=0.1, batch=10.0, **others):
    dynamics = GaussianSGD(rate, batch, noise.Isotropic(1.0))
    return Escape(Quadratic([1.0]), dynamics, Ball(radius), **others)


def in_the_plane(radius=1.0, rate=0.3, batch=1.0, covariance=COVARIANCE, hessian=HESSIAN):
    dynamics = GaussianSGD(rate, batch, noise.Constant(covariance))
    return Escape(Quadratic(hessian), dynamics, Ball(radius))


def agrees(sample, expected, bias=0.0):
    """Within 3.5 standard errors of the expected steps, and a relative bias."""
    assert not sample.censored.any()
    allowed = 3.5 * sample.standard_error + bias * expected
    assert abs(sample.mean - expected) < allowed, (sample.mean, expected, sample.standard_error)


def same_exits(one, other, atol=1e-6):
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.censored, other.censored)
    np.testing.assert_allclose(one.exit_points, other.exit_points, rtol=0, atol=atol)


# Exactness: every replica can be replayed


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_replay_of_gaussian_replicas_step_by_step(precision):
    escape = in_the_plane()
    sample = simulate(escape, 20, 10_000, key=7, precision=precision, lanes=8)
    factor = escape.dynamics.noise.factor
    np.testing.assert_allclose(factor @ factor.T, COVARIANCE)
    assert sample.precision == precision
    for replica in (0, 8, 19):
        stream = Stream(jnp.asarray(seed_words(7)), jnp.asarray([replica], jnp.uint32))
        pairs = jnp.arange(300, dtype=jnp.uint32)[:, None]
        draws = np.asarray(stream.normals(pairs, 2))[..., 0]
        ticks = np.stack([draws.real, draws.imag], axis=1).reshape(-1, 2).astype(float)
        theta, steps = np.zeros(2), 0
        while np.linalg.norm(theta) < 1.0:
            before = theta
            theta = theta - 0.3 * np.array(HESSIAN) @ theta + 0.3 * factor @ ticks[steps]
            steps += 1
        assert sample.times[replica] == steps
        np.testing.assert_allclose(sample.exit_points[replica], theta, atol=2e-6)
        assert escape.region.level(sample.exit_points[replica]) >= 0
        assert escape.region.level(before) < 0
    single = sample.exit_points.astype(np.float32) == sample.exit_points
    assert single.all() == (precision == "float32")


CURVATURES = np.array([0.5, 1.5, 1.0, 2.0])
CENTRES = np.array([-0.9, 0.4, 1.6, -0.5])


def parabola(theta, example):
    curvature, centre = example
    return 0.5 * curvature * (theta[0] - centre) ** 2


LINE = Empirical(parabola, np.zeros(1), (CURVATURES, CENTRES))
LINE_MINIMUM = CURVATURES @ CENTRES / CURVATURES.sum()


def minibatch_escape(sampling, batch=2, rate=0.5, radius=0.55, landscape=LINE):
    minimum = [LINE_MINIMUM / landscape.scale]
    dynamics = MinibatchSGD(rate, batch, sampling)
    return Escape(landscape, dynamics, Ball(radius), minimum=minimum)


def equally_likely_batches(sampling):
    """Lists of the batches of one block of steps (one step, or one epoch), all equally likely."""
    if sampling == "with_replacement":
        return [[batch] for batch in itertools.product(range(4), repeat=2)]
    if sampling == "without_replacement":
        return [[batch] for batch in itertools.combinations(range(4), 2)]
    return [[order[:2], order[2:]] for order in itertools.permutations(range(4))]


def exact_survival(sampling, blocks, rate=0.5, radius=0.55):
    """P(still inside) after each step, by following every sequence of batches."""
    inside, survival = np.array([LINE_MINIMUM]), [1.0]
    choices = equally_likely_batches(sampling)
    weight = 1.0
    for _ in range(blocks):
        moved = []
        alive = np.zeros(len(choices[0]))
        for batches in choices:
            theta, still = inside.copy(), np.ones(inside.size, bool)
            for step, batch in enumerate(np.array(batches)):
                gradient = CURVATURES[batch] * (theta[:, None] - CENTRES[batch])
                theta = theta - rate * gradient.mean(axis=1)
                still &= np.abs(theta - LINE_MINIMUM) < radius
                alive[step] += still.sum()
            moved.append(theta[still])
        weight /= len(choices)
        survival += list(alive * weight)
        inside = np.concatenate(moved)
    return np.array(survival[1:])


@pytest.mark.parametrize(
    ("sampling", "blocks"),
    [("with_replacement", 5), ("without_replacement", 7), ("shuffled_epochs", 4)],
)
def test_minibatch_sgd_against_every_sequence_of_batches(sampling, blocks):
    replicas = 4096
    sample = simulate(minibatch_escape(sampling), replicas, 1000, key=5, lanes=LANES)
    exact = exact_survival(sampling, blocks)
    assert 0.02 < exact[-1] < 0.98
    steps = np.arange(1, exact.size + 1)
    observed = (sample.times[:, None] > steps).mean(axis=0)
    error = np.sqrt(exact * (1 - exact) / replicas)
    np.testing.assert_array_less(np.abs(observed - exact), 3.5 * error + 1e-9)


def test_replay_of_minibatch_replicas_step_by_step():
    sample = simulate(minibatch_escape("with_replacement"), 4096, 1000, key=5, lanes=LANES)
    for replica in (0, 1000, 4095):
        stream = Stream(jnp.asarray(seed_words(5)), jnp.asarray([replica], jnp.uint32))
        ticks = jnp.arange(1000, dtype=jnp.uint32)[:, None]
        batches = np.asarray(stream.uniform_index(ticks, 2, 4))[..., 0]
        theta, steps = LINE_MINIMUM, 0
        while abs(theta - LINE_MINIMUM) < 0.55:
            batch = batches[steps]
            theta = theta - 0.5 * np.mean(CURVATURES[batch] * (theta - CENTRES[batch]))
            steps += 1
        assert sample.times[replica] == steps
        assert sample.exit_points[replica] == pytest.approx(theta, abs=2e-6)


def test_rescaling_is_another_learning_rate_and_another_length():
    # L_alpha at (rate, radius) is L at (alpha rate, sqrt(alpha) radius), replica by replica; with
    # alpha = 4 every number is halved, which binary arithmetic does exactly.
    plain = simulate(minibatch_escape("with_replacement"), 1024, 1000, key=5, lanes=LANES)
    sharper = minibatch_escape("with_replacement", 2, 0.125, 0.275, rescale(LINE, 4.0))
    scaled = simulate(sharper, 1024, 1000, key=5, lanes=LANES)
    np.testing.assert_array_equal(scaled.times, plain.times)
    np.testing.assert_array_equal(2 * scaled.exit_points, plain.exit_points)


# Reproducibility


@pytest.fixture(scope="module")
def reference():
    return simulate(on_a_line(0.2), 100, 100_000, key=3, lanes=LANES)


@pytest.mark.parametrize("lanes", [1, 7, 64])
def test_lanes_do_not_matter(reference, lanes):
    few = simulate(on_a_line(0.2), 20, 100_000, key=3, lanes=lanes)
    np.testing.assert_array_equal(few.times, reference.times[:20])
    np.testing.assert_allclose(few.exit_points, reference.exit_points[:20], atol=1e-7)


def test_the_number_of_replicas_does_not_matter(reference):
    more = simulate(on_a_line(0.2), 1000, 100_000, key=3, lanes=LANES)
    np.testing.assert_array_equal(more.times[:100], reference.times)
    np.testing.assert_array_equal(more.exit_points[:100], reference.exit_points)
    assert len(set(more.times.tolist())) > 500


@pytest.mark.parametrize("blocks", [1, 3, 50])
def test_chunks_do_not_matter(reference, monkeypatch, blocks):
    def fixed(run):
        run.blocks = blocks

    monkeypatch.setattr(ensemble._Run, "_adapt", fixed)
    same_exits(simulate(on_a_line(0.2), 100, 100_000, key=3, lanes=LANES), reference, atol=0)


def test_dropping_idle_lanes_does_not_matter(reference, monkeypatch):
    monkeypatch.setattr(ensemble._Run, "_remaining_seconds", lambda run, live: np.inf)
    same_exits(simulate(on_a_line(0.2), 100, 100_000, key=3, lanes=LANES), reference)


def test_keys(reference):
    for key in (jax.random.key(3), jax.random.PRNGKey(3), np.int64(3)):
        again = simulate(on_a_line(0.2), 100, 100_000, key=key, lanes=LANES)
        same_exits(again, reference, atol=0)
        assert again.key == reference.key == "3"
    other = simulate(on_a_line(0.2), 100, 100_000, key=4, lanes=LANES)
    assert (other.times != reference.times).mean() > 0.9


def test_float64_states_with_the_same_noise(reference):
    double = simulate(on_a_line(0.2), 100, 100_000, key=3, lanes=LANES, precision="float64")
    assert double.precision == "float64"
    np.testing.assert_array_equal(double.times, reference.times)
    difference = np.abs(double.exit_points - reference.exit_points)
    assert 0 < difference.max() < 1e-6


def test_langevin_is_isotropic_gaussian_sgd(reference):
    langevin = Escape(Quadratic([1.0]), LangevinSGD(0.1, 10.0), Ball(0.2))
    same_exits(simulate(langevin, 100, 100_000, key=3, lanes=LANES), reference)


# Exit times of discrete dynamics


def nystrom_mean(rate, deviation, radius, points=400):
    """E[steps] of x' = (1 - rate) x + deviation z leaving (-radius, radius), from 0."""
    x, weights = np.polynomial.legendre.leggauss(points)
    x, weights = radius * x, radius * weights
    kernel = scipy.stats.norm.pdf(x[None, :], (1 - rate) * x[:, None], deviation)
    u = np.linalg.solve(np.eye(points) - kernel * weights, np.ones(points))
    return 1 + scipy.stats.norm.pdf(x, 0, deviation) * weights @ u


@pytest.mark.parametrize(("rate", "batch", "radius"), [(0.1, 10.0, 0.2), (0.5, 4.0, 0.7)])
def test_mean_exit_time_on_a_line(rate, batch, radius):
    exact = nystrom_mean(rate, rate / np.sqrt(batch), radius)
    sample = simulate(on_a_line(radius, rate, batch), 4000, 10**6, key=1, lanes=LANES)
    agrees(sample, exact)


def test_rare_exits_on_a_line(oracle):
    case = oracle("M01")
    params = case["params"]
    escape = on_a_line(params["R"], params["eta"], params["B"])
    exact = nystrom_mean(params["eta"], params["eta"] / np.sqrt(params["B"]), params["R"])
    assert exact == pytest.approx(case["value"], rel=1e-8)
    sample = simulate(escape, 400, 10**7, key=2, lanes=LANES)
    agrees(sample, case["value"])
    # Nothing to do with a finite run: the law is exponential.
    assert abs(sample.coefficient_of_variation - 1) < 3.5 * np.sqrt(2 / 400)


@pytest.mark.parametrize("name", ["M08", "M09", "M10"])
def test_mean_exit_time_in_the_plane(oracle, name):
    case = oracle(name)
    diagonal = [[2.0, 0.0], [0.0, 0.5]]
    escape = {
        "M08": lambda: in_the_plane(),
        "M09": lambda: in_the_plane(1.0, 0.3, 1.2, diagonal, diagonal),
        "M10": lambda: in_the_plane(1.0, 0.3, 1.2, np.eye(2), diagonal),
    }[name]()
    agrees(simulate(escape, 8000, 10**6, key=4, lanes=LANES), case["value"])


def test_a_basin_is_left_when_the_saddle_is_crossed():
    dynamics = GaussianSGD(0.1, 0.5, noise.Isotropic(1.0))
    basin = Escape(DoubleWell(), dynamics, Basin(), minimum=[1.0])
    positive = Escape(DoubleWell(), dynamics, HalfSpace([-1.0], 1.0), minimum=[1.0])
    where = Escape(DoubleWell(), dynamics, Where(lambda theta: theta[0] > 0), minimum=[1.0])
    crossed = simulate(positive, 64, 10**5, key=6, lanes=64)
    same_exits(simulate(where, 64, 10**5, key=6, lanes=64), crossed)
    same_exits(simulate(basin, 64, 10**5, key=6, lanes=64), crossed)


# Continuous dynamics: the mean is compared in time, (steps - 1/2) * learning_rate, since an exit
# inside a step counts as the whole step. The bias allowed for is that of the stationary variance,
# smaller by (sharpness * tick)^2 / 4, and the second order of the boundary shift, (sharpness *
# tick) / 4: at most 0.6 % here.

RATE, SUBSTEPS = 0.05, 16


def continuous(noise_scale, given, landscape, region, substeps=SUBSTEPS, **others):
    dynamics = ContinuousSGD(RATE, RATE / noise_scale, given, substeps)
    return Escape(landscape, dynamics, region, **others)


def agrees_in_time(sample, expected, sharpness):
    agrees(sample, expected / RATE + 0.5, bias=sharpness * RATE / SUBSTEPS)


@pytest.mark.parametrize("name", ["R01", "R02", "R03"])
def test_diffusion_out_of_a_ball(oracle, name):
    case = oracle(name)
    dim, noise_scale = case["params"]["d"], case["params"]["eps2"]
    landscape = Quadratic(np.ones(dim))
    escape = continuous(noise_scale, noise.Isotropic(1.0), landscape, Ball(1.0))
    sample = simulate(escape, 6000, 10**6, key=8, lanes=LANES)
    agrees_in_time(sample, case["value"], sharpness=1)


def test_coarse_ticks_of_continuous_dynamics(oracle):
    # Euler-Maruyama with these ticks of 0.025 would be 6.3 % low (barrier 5, times tick / 2).
    case = oracle("R01")
    landscape = Quadratic([1.0])
    escape = continuous(0.2, noise.Isotropic(1.0), landscape, Ball(1.0), substeps=2)
    sample = simulate(escape, 20_000, 10**6, key=77, lanes=LANES)
    agrees(sample, case["value"] / RATE + 0.5, bias=0.025)


@pytest.mark.parametrize("name", ["P01", "P02", "P03", "P04", "P05"])
def test_diffusion_in_the_plane(oracle, name):
    case = oracle(name)
    landscape, sharpness = (Quadratic([1.0, 0.3]), 1.0) if name != "P05" else (DENSE, 2.1)
    covariance = {"P01": [1.0, 0.3], "P02": [1.0, 0.3], "P05": COVARIANCE}.get(name, [1.0, 1.0])
    region = Sublevel(case["params"]["dL"]) if name in ("P02", "P03") else None
    escape = continuous(
        case["params"]["eps2"],
        noise.Constant(covariance),
        landscape,
        region or Ball(case["params"]["R"]),
    )
    sample = simulate(escape, 6000, 10**6, key=9, lanes=LANES)
    agrees_in_time(sample, case["value"], sharpness=sharpness)


def test_diffusion_over_a_saddle(oracle):
    case = oracle("N01")
    escape = continuous(
        case["params"]["eps2"],
        noise.Isotropic(1.0),
        DoubleWell(),
        HalfSpace([1.0], 0.0, reference=[0.0]),
        minimum=[-1.0],
    )
    sample = simulate(escape, 2000, 10**6, key=10, lanes=LANES)
    agrees_in_time(sample, case["value"], sharpness=2)


@pytest.mark.parametrize("name", ["N04", "N10"])
def test_multiplicative_noise_is_read_at_the_current_point(oracle, name):
    # Ito: the Stratonovich and anti-Ito values of N04 are 19 % and 41 % higher.
    case = oracle(name)
    if name == "N04":
        landscape, minimum = DoubleWell(), [-1.0]
        region = HalfSpace([1.0], 0.0, reference=[0.0])
        given = noise.Function(lambda theta: 1 + theta[0] ** 2 / 2)
    else:
        landscape, minimum, region = Quadratic([1.0]), [0.0], Slab([1.0], 1.0)
        given = noise.Function(lambda theta: 2 * (0.2 + theta[0] ** 2 / 2))
    escape = continuous(case["params"]["eps2"], given, landscape, region, minimum=minimum)
    sample = simulate(escape, 2000, 10**6, key=11, lanes=LANES)
    agrees_in_time(sample, case["value"], sharpness=2)


def test_continuous_exits_are_at_the_boundary():
    escape = continuous(0.25, noise.Constant(COVARIANCE), DENSE, Ball(1.0))
    sample = simulate(escape, 300, 10**6, key=9, lanes=LANES)
    radii = np.linalg.norm(sample.exit_points, axis=1)
    # Within the boundary shift inside, within a few standard deviations of a tick outside.
    deviation = np.sqrt(0.25 * RATE / SUBSTEPS * np.linalg.eigvalsh(COVARIANCE)[-1])
    assert 1 - 0.583 * deviation < radii.min() < 1
    assert 1 < radii.max() < 1 + 4 * deviation


def test_a_tick_that_reaches_from_start_to_boundary_is_refused():
    dynamics = ContinuousSGD(0.5, 0.5, noise.Isotropic(1.0), substeps=1)
    with pytest.raises(InvalidArgument, match="substeps"):
        simulate(Escape(Quadratic([1.0]), dynamics, Ball(0.3)), 10, 100, lanes=16)


# Caps, divergence, interruption


def test_censoring_is_exactly_at_the_cap():
    escape = on_a_line(0.2)
    full = simulate(escape, 200, 10**6, key=3, lanes=LANES)
    for cap in (1, 2, 37, int(np.median(full.times))):
        capped = simulate(escape, 200, cap, key=3, lanes=LANES)
        np.testing.assert_array_equal(capped.times, np.minimum(full.times, cap))
        np.testing.assert_array_equal(capped.censored, full.times > cap)
        exited = ~capped.censored
        np.testing.assert_array_equal(capped.exit_points[exited], full.exit_points[exited])
        assert (np.abs(capped.exit_points[capped.censored]) < 0.2).all()
        assert capped.max_steps == cap


def test_a_cap_on_whole_steps_of_continuous_dynamics():
    escape = continuous(0.2, noise.Isotropic(1.0), Quadratic([1.0]), Ball(1.0))
    full = simulate(escape, 100, 10**6, key=8, lanes=LANES)
    cap = int(np.median(full.times))
    capped = simulate(escape, 100, cap, key=8, lanes=LANES)
    np.testing.assert_array_equal(capped.times, np.minimum(full.times, cap))
    np.testing.assert_array_equal(capped.censored, full.times > cap)


def test_divergence_is_reported_and_not_averaged():
    # The first parameter overflows within some ten steps, far from the face that is watched.
    landscape = Function(lambda theta: theta[0] ** 4 + theta[1] ** 2 / 2, 2, minima=[0.0, 0.0])
    dynamics = GaussianSGD(0.5, 2.0, noise.Isotropic(1.0))
    escape = Escape(landscape, dynamics, HalfSpace([0.0, 1.0], 1.0), start=[2.0, 0.0])
    sample = simulate(escape, 200, 1000, key=1, lanes=LANES)
    assert 50 < sample.diverged.sum() < 200
    assert not np.isfinite(sample.exit_points[sample.diverged]).all(axis=1).any()
    assert np.isfinite(sample.exit_points[~sample.diverged]).all()
    assert not (sample.diverged & sample.censored).any()
    assert sample.times[sample.diverged].max() < 20
    assert sample.exits == (~sample.diverged).sum()
    assert sample.mean == pytest.approx(sample.times[~sample.diverged].mean())


def test_interruption_keeps_what_was_done():
    def stop(finished, replicas):
        if finished >= 100:
            raise KeyboardInterrupt

    escape = on_a_line(0.2)
    with pytest.raises(Interrupted) as caught:
        simulate(escape, 5000, 10**6, key=3, lanes=64, progress=stop)
    assert isinstance(caught.value, KeyboardInterrupt)
    partial = caught.value.sample
    full = simulate(escape, 5000, 10**6, key=3, lanes=64)
    assert 100 <= partial.exits < 5000
    assert partial.replicas - partial.exits == partial.censored.sum() <= 64
    exact = full.times[: partial.replicas]
    finished = ~partial.censored
    np.testing.assert_array_equal(partial.times[finished], exact[finished])
    assert (partial.times[~finished] <= exact[~finished]).all()
    np.testing.assert_array_equal(
        partial.exit_points[finished], full.exit_points[: partial.replicas][finished]
    )


def test_interruption_before_anything_was_done(monkeypatch):
    def stop(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(ensemble._Run, "advance", stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        simulate(on_a_line(), 10)
    assert not isinstance(caught.value, Interrupted)


def test_progress_reaches_the_end():
    seen = []
    escape = on_a_line(0.2)
    simulate(escape, 300, key=3, lanes=64, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (300, 300)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_record():
    sample = simulate(on_a_line(0.2), 100, 10_000, key=3, lanes=LANES)
    assert (sample.replicas, sample.max_steps, sample.precision) == (100, 10_000, "float32")
    np.testing.assert_array_equal(sample.start, [0.0])
    assert sample.times.dtype == np.int64
    assert sample.exit_points.dtype == np.float64
    assert sample.seconds > 0
    assert "256 lanes" in sample.engine
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"escape": 3}, "escape"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": 2.5}, "replicas"),
        ({"replicas": "many"}, "replicas"),
        ({"replicas": None}, "replicas"),
        ({"replicas": np.nan}, "replicas"),
        ({"replicas": True}, "replicas"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2**33}, "max_steps"),
        ({"max_steps": np.inf}, "max_steps"),
        ({"key": -1}, "key"),
        ({"key": "seed"}, "key"),
        ({"key": None}, "key"),
        ({"precision": "float16"}, "precision"),
        ({"lanes": 0}, "lanes"),
    ],
)
def test_bad_arguments_are_named(arguments, argument):
    with pytest.raises(InvalidArgument, match=argument):
        simulate(**({"escape": on_a_line(), "replicas": 10} | arguments))
