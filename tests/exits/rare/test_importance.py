"""Importance sampling along the easiest path, against exact chains."""

import numpy as np
import pytest
from known_escapes import ISOTROPIC, line, regression

import escapade as esc
from escapade.errors import InvalidArgument, Unsupported


def errors_off(found, log_exact):
    return (found.log_mean - log_exact) / found.relative_error


def test_beyond_a_million_trillion_steps(oracle):
    """Steps as large as the scale on which the quasipotential changes."""
    escape = line(batch_size=9.0, radius=1.0, learning_rate=0.2)
    found = esc.importance_sample(escape, esc.minimum_steepness(escape), key=1)
    assert found.relative_error < 0.1
    assert abs(errors_off(found, np.log(oracle("S06")["value"]))) < 3
    assert found.cautions == ()
    # Splitting agrees, with a wide interval that it warns of.
    split = esc.split(escape, key=1, walkers=4096)
    low, high = split.interval
    assert low < oracle("S06")["value"] < high


@pytest.mark.parametrize("continuous", [pytest.param(False, marks=pytest.mark.slow), True])
def test_over_a_saddle(continuous):
    dynamics = esc.GaussianSGD(0.1, 5.0, ISOTROPIC)
    if continuous:
        dynamics = esc.ContinuousSGD(0.1, 5.0, ISOTROPIC)
    escape = esc.Escape(
        esc.landscapes.DoubleWell(), dynamics, esc.HalfSpace([1.0], 1.0), minimum=[-1.0]
    )
    found = esc.importance_sample(escape, esc.minimum_steepness(escape), key=1)
    assert found.relative_error < 0.1
    assert abs(errors_off(found, esc.solve(escape).log_mean)) < 3


def test_state_dependent_noise():
    """The tilt goes through the square root of the covariance at each point."""
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(0.1, 1.0, esc.noise.Function(lambda x: 1 + x[0] ** 2 / 2)),
        esc.HalfSpace([1.0], 2.0),
    )
    found = esc.importance_sample(escape, esc.minimum_steepness(escape), key=1)
    exact = esc.solve(escape)
    assert exact.mean > 1e6
    assert found.relative_error < 0.1
    assert abs(errors_off(found, exact.log_mean)) < 3


def test_dense_noise_in_two_dimensions():
    """Against splitting with many walkers."""
    hessian, covariance = [[2.0, 0.6], [0.6, 1.0]], [[1.0, -0.3], [-0.3, 0.5]]
    escape = esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(0.1, 2.0, esc.noise.Constant(covariance)),
        esc.Ball(1.0),
    )
    found = esc.importance_sample(escape, esc.minimum_steepness(escape), key=1)
    split = esc.split(escape, key=1, walkers=4096)
    spread = np.hypot(found.relative_error, split.relative_error)
    assert spread < 0.15
    assert abs(found.log_mean - split.log_mean) < 3 * spread


def test_ways_that_the_paths_do_not_show():
    """Twenty directions nearly as easy as the one followed: the weights give it away."""
    escape = esc.Escape(
        esc.landscapes.Quadratic(np.geomspace(1, 0.05, 20)),
        esc.GaussianSGD(0.1, 1.0, esc.noise.HessianProportional()),
        esc.Sublevel(1.0),
    )
    found = esc.importance_sample(escape, esc.minimum_steepness(escape), key=1)
    assert found.weight_shape > 0.7
    assert any("heavy tail" in caution for caution in found.cautions)


def test_what_it_cannot_do():
    escape = regression("with_replacement", 0.3)
    with pytest.raises(Unsupported, match="use split"):
        esc.importance_sample(escape, None)
    plane = esc.Escape(
        esc.landscapes.Quadratic([1.0, 2.0]),
        esc.GaussianSGD(0.1, 10.0, ISOTROPIC),
        esc.Ball(0.3),
    )
    with pytest.raises(InvalidArgument, match="dimension 2"):
        esc.importance_sample(line(), esc.minimum_steepness(plane))
