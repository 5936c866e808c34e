"""Transformations of optax: the same runs as our own optimisers, and what cannot be run."""

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument, Unsupported
from escapade.precision import context

optax = pytest.importorskip("optax")

EXAMPLES = np.random.default_rng(0).normal(size=(12, 5))


def loss(parameters, example):
    image = example[:3] @ parameters["weights"] + parameters["bias"]
    return 0.5 * jnp.sum((image - example[3:]) ** 2)


PARAMETERS = {"weights": np.zeros((3, 2)), "bias": np.zeros(2)}
NETWORK = esc.landscapes.Empirical(loss, PARAMETERS, EXAMPLES, weight_decay=0.1)
MINIMUM = esc.find_minimum(NETWORK, NETWORK.initial).theta
PLANE = esc.landscapes.Quadratic([2.0, 1.0])
NOISE = esc.noise.Isotropic(1.0)


def path_of(dynamics, landscape=NETWORK, minimum=MINIMUM, precision="float64"):
    escape = esc.Escape(landscape, dynamics, esc.Ball(50.0), minimum=minimum)
    return np.array(list(esc.iterates(escape, 60, 3, precision=precision)))


@pytest.mark.parametrize(
    ("transformation", "ours"),
    [
        (optax.sgd(0.1), lambda **source: esc.MomentumSGD(0.1, momentum=0.0, **source)),
        (optax.sgd(0.02, 0.9), lambda **source: esc.MomentumSGD(0.02, **source)),
        (
            optax.sgd(0.02, 0.9, nesterov=True),
            lambda **source: esc.MomentumSGD(0.02, nesterov=True, **source),
        ),
        (optax.adam(0.01), lambda **source: esc.Adam(0.01, **source)),
        (
            optax.adamw(0.01, 0.8, 0.99, 1e-6, weight_decay=0.1),
            lambda **source: esc.Adam(0.01, beta1=0.8, beta2=0.99, epsilon=1e-6,
                                      weight_decay=0.1, **source),
        ),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)  # fmt: skip
def test_the_runs_of_our_own_optimisers(transformation, ours):
    source = {"batch_size": 4, "sampling": "shuffled_epochs"}
    theirs = path_of(esc.OptaxSGD(transformation, 0.01, **source))
    np.testing.assert_allclose(path_of(ours(**source)), theirs, atol=1e-9)


def test_gaussian_noise_instead_of_minibatches():
    source = {"batch_size": 2.5, "noise": NOISE}
    theirs = path_of(esc.OptaxSGD(optax.adam(0.01), 0.01, **source), PLANE, np.zeros(2))
    ours = path_of(esc.Adam(0.01, **source), PLANE, np.zeros(2))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_a_chain_with_clipping_and_a_schedule():
    """By hand: the gradient clipped in norm, times a rate that falls every ten steps."""
    schedule = optax.exponential_decay(0.2, 10, 0.5, staircase=True)
    chain = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_learning_rate(schedule))
    dynamics = esc.OptaxSGD(chain, 0.2, 4)
    theta, gradients = np.zeros(8), np.random.default_rng(2).normal(size=(35, 8))
    with context("float64"):
        state = dynamics.initial_state(NETWORK, jnp.zeros(8))
        for step, gradient in enumerate(gradients):
            state = dynamics.update(NETWORK, state, jnp.asarray(gradient))
            clipped = gradient / max(np.linalg.norm(gradient), 1.0)
            theta = theta - 0.2 * 0.5 ** (step // 10) * clipped
    np.testing.assert_allclose(state[0], theta, rtol=1e-5)


def test_parameters_are_seen_as_the_user_built_them():
    """One array is frozen by its name: it does not move, and the other does."""
    rates = {"moves": optax.sgd(0.1), "stays": optax.set_to_zero()}
    chain = optax.multi_transform(rates, {"weights": "moves", "bias": "stays"})
    path = path_of(esc.OptaxSGD(chain, 0.1, 4), precision="float32")
    moved = np.abs(path - path[0]).max(axis=0) > 0
    assert moved.tolist() == [False] * 2 + [True] * 6
    assert "bias" in NETWORK.parameter_names[0]


def test_counters_stay_integers():
    """In single precision too, beyond the integers that it can count."""
    dynamics = esc.OptaxSGD(optax.adam(0.1), 0.1, 1, NOISE)
    theta, memory = dynamics.initial_state(PLANE, jnp.zeros(2))
    late = (memory[0]._replace(count=jnp.int32(2**24 + 1)), *memory[1:])
    _, after = dynamics.update(PLANE, (theta, late), jnp.ones(2))
    assert (after[0].count.dtype, int(after[0].count)) == (np.int32, 2**24 + 2)


@pytest.mark.parametrize(
    ("transformation", "error", "message"),
    [
        (optax.noisy_sgd(0.1, key=0), Unsupported, "random key"),
        (optax.lbfgs(), Unsupported, "gradient alone"),
        ("adam", InvalidArgument, "transformation is 'adam'"),
    ],
    ids=["random", "line search", "name"],
)
def test_what_cannot_be_run(transformation, error, message):
    with pytest.raises(error, match=message):
        esc.Escape(PLANE, esc.OptaxSGD(transformation, 0.1, 1, NOISE), esc.Ball(1.0))


@pytest.mark.parametrize(
    ("transformation", "factor"),
    [
        (optax.adam(0.01), 0.999),
        (optax.adamw(0.01, 0.8, 0.99), 0.99),
        (optax.rmsprop(0.01, decay=0.95), 0.95),
        (optax.chain(optax.clip(1.0), optax.sgd(0.1, momentum=0.9)), 0.9),
        (optax.sgd(0.1), 0.0),
        (optax.chain(optax.scale_by_schedule(lambda count: 0.1), optax.scale(-1.0)), 0.0),
    ],
    ids=["adam", "adamw", "rmsprop", "clipped momentum", "sgd", "schedule"],
)
@pytest.mark.parametrize("landscape", [PLANE, NETWORK], ids=["plane", "network"])
def test_memory_is_that_of_the_slowest_mean(transformation, factor, landscape):
    found = esc.OptaxSGD(transformation, 0.01, 4.0, NOISE).memory(landscape)
    assert found == pytest.approx(-1 / np.log(factor) if factor else 0.0, rel=1e-2)


def test_splitting_burns_in_for_several_memories():
    from escapade.exits.rare.split import RELAXATIONS, UNKNOWN_BURN_IN, prepared

    def burn_in(transformation, given=None):
        dynamics = esc.OptaxSGD(transformation, 0.01, 4.0, NOISE)
        escape = esc.Escape(PLANE, dynamics, esc.Ball(0.5))
        plan = prepared(escape, 0, 2, 16, "level", 0.5, 0, "float32", 10**6, given)
        return plan[4]

    memory = -1 / np.log(0.999)
    assert burn_in(optax.adam(0.01)) == pytest.approx(RELAXATIONS * memory, rel=0.02)
    assert burn_in(optax.sgd(0.01)) == UNKNOWN_BURN_IN
    assert burn_in(optax.adam(0.01), given=70) == 70
