"""The cumulants of minibatches against chains in which every minibatch is enumerated."""

import numpy as np
import pytest

import escapade as esc
from escapade.errors import Unsupported

CENTRES = np.array([-0.9, 0.4, 1.6, -0.5, 0.2, -0.6, 2.2, -0.4])


def parabola(theta, centre):
    return 0.5 * (theta[0] - centre) ** 2


def skewed(region, rate=0.1, batch=2, sampling="with_replacement"):
    landscape = esc.landscapes.Empirical(parabola, np.zeros(1), CENTRES - CENTRES.mean())
    dynamics = esc.MinibatchSGD(rate, batch, sampling)
    return esc.Escape(landscape, dynamics, region, minimum=[0.0])


@pytest.mark.parametrize(
    ("region", "gaussian_is_off_by"),
    [
        pytest.param(esc.HalfSpace([1.0], 0.6), 0.3, marks=pytest.mark.slow),
        (esc.HalfSpace([-1.0], 0.5), 1.0),
        # Two errors that cancel: twice the rate, on one side.
        pytest.param(esc.Slab([1.0], 0.6), 0.0, marks=pytest.mark.slow),
        pytest.param(esc.Ball(0.6), 0.0, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_against_the_exact_chain(region, gaussian_is_off_by):
    escape = skewed(region)
    exact = esc.solve(escape).log_mean
    assert abs(esc.predict(escape, "quadratic").log_mean - exact) > gaussian_is_off_by
    assert esc.predict(escape, "minibatch").log_mean == pytest.approx(exact, abs=0.1)


def test_it_is_about_minibatches():
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(0.1, 10, esc.noise.Isotropic()),
        esc.Ball(0.3),
    )
    with pytest.raises(Unsupported, match="minibatches"):
        esc.predict(escape, "minibatch")
    with pytest.raises(Unsupported, match="shuffled"):
        esc.predict(skewed(esc.Ball(0.6), sampling="shuffled_epochs"), "minibatch")
