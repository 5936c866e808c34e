"""One run, iterate by iterate: it is replica 0 of the ensemble."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.exits import trajectory
from escapade.exits.trajectory import iterates

LANDSCAPE = esc.landscapes.Quadratic([[2.0, 0.6], [0.6, 1.0]])
NOISE = esc.noise.Constant([[1.0, -0.3], [-0.3, 0.5]])


def loss(theta, example):
    return 0.5 * jnp.sum((theta - example) ** 2)


EXAMPLES = np.random.default_rng(0).normal(size=(10, 2))
EMPIRICAL = esc.landscapes.Empirical(loss, jnp.zeros(2), EXAMPLES, minima=[EXAMPLES.mean(axis=0)])


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("landscape", "dynamics", "radius"),
    [
        (LANDSCAPE, esc.GaussianSGD(0.3, 1.0, NOISE), 1.0),
        (LANDSCAPE, esc.ContinuousSGD(0.3, 1.0, NOISE, substeps=3), 1.0),
        (EMPIRICAL, esc.MinibatchSGD(0.2, 3), 0.5),
        (EMPIRICAL, esc.MinibatchSGD(0.2, 3, "shuffled_epochs"), 0.2),
    ],
)
def test_replica_zero_of_the_ensemble(landscape, dynamics, radius, precision):
    escape = esc.Escape(landscape, dynamics, esc.Ball(radius))
    sample = esc.simulate(escape, 3, 10_000, key=7, precision=precision)
    steps = int(sample.times[0])
    path = np.array(list(iterates(escape, steps + 2, 7, precision=precision)))
    assert path.shape == (steps + 3, 2)
    assert path.dtype == precision
    np.testing.assert_array_equal(path[0], escape.start.astype(precision))
    if not dynamics.continuous:  # whose exit happens at a tick between two steps
        np.testing.assert_allclose(path[steps], sample.exit_points[0], atol=2e-6)
    assert steps > 1
    before = esc.simulate(escape, 1, steps - 1, key=7, precision=precision)
    assert before.censored.all()
    np.testing.assert_allclose(path[steps - 1], before.exit_points[0], atol=2e-6)
    levels = np.array([float(escape.region.level(point.astype(float))) for point in path])
    assert (levels[:steps] < 0).all()


def test_blocks_do_not_matter(monkeypatch):
    escape = esc.Escape(LANDSCAPE, esc.ContinuousSGD(0.3, 1.0, NOISE, substeps=3), esc.Ball(1.0))
    whole = np.array(list(iterates(escape, 50, 1)))
    monkeypatch.setattr(trajectory, "BLOCK_NUMBERS", 1)
    np.testing.assert_allclose(np.array(list(iterates(escape, 50, 1))), whole, atol=1e-6)


def test_it_is_lazy_and_leaves_the_precision_alone():
    escape = esc.Escape(LANDSCAPE, esc.GaussianSGD(0.3, 1.0, NOISE), esc.Ball(1.0))
    endless = iterates(escape, 4 * 10**9, 0, precision="float64")
    first = list(itertools.islice(endless, 5000))
    assert len(first) == 5000
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(1, float).dtype == "float32"


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": 1.5}, {"key": -1}, {"precision": "half"}]
)
def test_bad_arguments_are_refused_at_once(options):
    escape = esc.Escape(LANDSCAPE, esc.GaussianSGD(0.3, 1.0, NOISE), esc.Ball(1.0))
    with pytest.raises(InvalidArgument):
        iterates(escape, **{"steps": 10} | options)
