"""Engines and steps with a memory: states are carried, branched, saved and started afresh whole.

Statistical comparisons hold within 3.5 standard errors at fixed keys.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import Unsupported
from escapade.exits.rare import batch as batch_module

LINE = esc.landscapes.Quadratic([1.0])
ISOTROPIC = esc.noise.Isotropic(1.0)
EXAMPLES = np.random.default_rng(0).normal(size=(10, 2))


def distance(theta, example):
    return 0.5 * jnp.sum((theta - example) ** 2)


CLOUD = esc.landscapes.Empirical(distance, jnp.zeros(2), EXAMPLES, minima=[EXAMPLES.mean(axis=0)])
RATE, MOMENTUM = 0.05, 0.8


def heavy_ball(batch_size=10.0, radius=0.3, **others):
    dynamics = esc.MomentumSGD(RATE, batch_size, MOMENTUM, noise=ISOTROPIC)
    return esc.Escape(LINE, dynamics, esc.Ball(radius), **others)


def minibatches(dynamics, radius, **options):
    return esc.Escape(CLOUD, dynamics(batch_size=3, **options), esc.Ball(radius))


SHUFFLED = minibatches(esc.MomentumSGD, 0.15, learning_rate=0.02, sampling="shuffled_epochs")
ADAM = minibatches(esc.Adam, 0.2, learning_rate=0.02, beta2=0.9)


@pytest.mark.parametrize(
    ("escape", "precision"), [(SHUFFLED, "float32"), (ADAM, "float64")], ids=["momentum", "adam"]
)
def test_replica_zero_of_the_ensemble(escape, precision):
    sample = esc.simulate(escape, 3, 10_000, key=7, precision=precision)
    steps = int(sample.times[0])
    path = np.array(list(esc.iterates(escape, steps + 1, 7, precision=precision)))
    np.testing.assert_allclose(path[steps], sample.exit_points[0], atol=1e-5)
    levels = np.array([float(escape.region.level(point.astype(float))) for point in path])
    assert steps > 3
    assert (levels[:steps] < 0).all()
    assert levels[steps] >= 0


def test_a_refilled_lane_forgets():
    """Replicas that follow others on a lane leave as on lanes of their own."""
    wide = esc.simulate(heavy_ball(), 48, 10_000, key=5, lanes=48, precision="float64")
    narrow = esc.simulate(heavy_ball(), 48, 10_000, key=5, lanes=4, precision="float64")
    np.testing.assert_array_equal(narrow.times, wide.times)
    np.testing.assert_allclose(narrow.exit_points, wide.exit_points, atol=1e-12)


def agree(found, direct, largest_error):
    spread = np.hypot(found.relative_error, direct.standard_error / direct.mean)
    assert not direct.censored.any()
    assert spread < largest_error
    assert abs(found.log_mean - np.log(direct.mean)) < 3.5 * spread


@pytest.mark.parametrize(
    ("escape", "largest_error"),
    [
        pytest.param(SHUFFLED, 0.1, id="momentum, shuffled epochs"),
        pytest.param(ADAM, 0.1, id="adam"),
    ],
)
@pytest.mark.slow
def test_splitting_of_minibatches_and_direct_simulation(escape, largest_error):
    found = esc.split(escape, key=1, walkers=256)
    agree(found, esc.simulate(escape, 4096, 10**6, key=2), largest_error)


@pytest.fixture(scope="module")
def split_heavy_ball():
    return esc.split(heavy_ball(14.0), key=1, walkers=512, paths=40)


def test_splitting_and_direct_simulation(split_heavy_ball):
    agree(split_heavy_ball, esc.simulate(heavy_ball(14.0), 4096, 10**6, key=2), 0.08)


@pytest.mark.slow
def test_splitting_from_a_start_away_from_the_minimum():
    escape = heavy_ball(8.0, start=[0.295])
    direct = esc.simulate(escape, 4096, 10**6, key=2)
    assert direct.mean < 0.9 * esc.simulate(heavy_ball(8.0), 4096, 10**6, key=3).mean
    agree(esc.split(escape, key=1, walkers=512), direct, 0.08)


@pytest.mark.parametrize(
    ("escape", "steps"),
    [
        pytest.param(heavy_ball(), 12, id="heavy ball"),
        pytest.param(ADAM, 12, id="adam", marks=pytest.mark.slow),
    ],
)
def test_early_exits(escape, steps):
    """Before anything has settled, from no velocity and no steps counted."""
    found = esc.exit_probability(escape, steps, key=2, walkers=2048)
    direct = esc.simulate(escape, 200_000, steps, key=3)
    share = (~direct.censored).mean()
    error = np.hypot(found.relative_error * share, np.sqrt(share / 200_000))
    assert 1e-4 < share < 0.05
    assert error < 0.15 * share
    assert abs(found.probability - share) < 3.5 * error


def test_reactive_paths_follow_their_velocity(split_heavy_ball):
    """Each velocity comes from the last one, gradient and noise; the last state alone is outside.

    Were branches to start at rest, the mean exit time would be off by a factor of thousands.
    """
    residuals, turns = [], []
    for path in split_heavy_ball.paths:
        levels = np.abs(path[:, 0]) - 0.3
        assert levels[-1] >= -1e-6
        assert (levels[:-1] < 0).all()
        velocity = -np.diff(path[:, 0]) / RATE
        residuals.append(velocity[1:] - MOMENTUM * velocity[:-1] - path[1:-1, 0])
        turns.append(velocity[1:] - path[1:-1, 0])
    noise = 1 / np.sqrt(14.0)
    assert np.concatenate(residuals).size > 100
    assert np.abs(np.concatenate(residuals)).max() < 5 * noise
    assert np.abs(np.concatenate(turns)).max() > 5 * noise  # no velocity would not do


@pytest.mark.parametrize(
    "escape", [heavy_ball(), pytest.param(ADAM, marks=pytest.mark.slow)], ids=["heavy ball", "adam"]
)
def test_goes_on_where_it_stopped(tmp_path, monkeypatch, escape):
    monkeypatch.setattr(batch_module, "SAVE_SECONDS", 0.0)
    options = {"key": 7, "walkers": 64, "runs": 4, "burn_in": 200, "paths": 2}
    whole, iterate = esc.split(escape, **options), batch_module.iterate

    def interrupted(*arguments):
        *others, after_each = arguments

        def stop_at_the_third(now):
            if now.iteration == 3:
                raise KeyboardInterrupt
            after_each(now)

        return iterate(*others, stop_at_the_third)

    with monkeypatch.context() as patch:
        patch.setattr(batch_module, "iterate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            esc.split(escape, checkpoint=tmp_path, **options)
    again = esc.split(escape, checkpoint=tmp_path, **options)
    np.testing.assert_array_equal(again.rates, whole.rates)
    for path, expected in zip(again.paths, whole.paths, strict=True):
        np.testing.assert_array_equal(path, expected)


@pytest.mark.slow
def test_the_quasipotential_as_coordinate():
    """Where plain SGD of the same learning rate would be unstable, momentum is not."""
    dynamics = esc.MomentumSGD(2.2, 100.0, 0.5, noise=ISOTROPIC)
    escape = esc.Escape(LINE, dynamics, esc.Ball(0.9))
    found = esc.split(escape, key=1, walkers=512, coordinate="quasipotential")
    agree(found, esc.simulate(escape, 4096, 10**6, key=2), 0.15)


# Theories of plain SGD

LINE_PATH = np.array([[0.0], [0.1], [0.3]])

ASKED = {
    "exponential law": lambda escape: esc.predict(escape, "exponential_law"),
    "diagnose": esc.diagnose,
    "relaxation": esc.relaxation,
    "hazard": lambda escape: esc.hazard_ratio(escape, [10]),
    "solve": esc.solve,
    "minimum steepness": esc.minimum_steepness,
    "finite horizon": lambda escape: esc.minimum_steepness(escape, horizon=20),
    "quasipotential": lambda escape: esc.quasipotential(escape, [-1.0], [1.0]),
    "steepness": lambda escape: esc.steepness(escape, LINE_PATH),
    "trace": lambda escape: esc.trace_steepness(escape, LINE_PATH),
    "importance": lambda escape: esc.importance_sample(escape, None),
}


@pytest.mark.parametrize("asked", ASKED)
def test_no_theory_answers_as_if_it_were_plain_sgd(asked):
    with pytest.raises(Unsupported, match=r"earlier gradients.*split.*learning rate 0\.25"):
        ASKED[asked](heavy_ball())


def test_momentum_has_a_theory_of_its_own():
    escape = heavy_ball()
    assert esc.predict(escape).theory == "momentum"
    assert esc.predict(escape).log_mean == esc.predict(escape, "momentum").log_mean


def test_what_has_no_plain_limit():
    escape = esc.Escape(LINE, esc.Adam(0.1, 4.0, noise=ISOTROPIC), esc.Ball(0.5))
    with pytest.raises(Unsupported, match=r"simulate or split$"):
        esc.predict(escape)
