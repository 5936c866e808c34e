"""The measured way out: nothing to add where all is linear, and against simulation where not."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import escapade as esc
from escapade.inspection.fluctuations import Fluctuations, _even
from escapade.inspection.outlook import _doubts
from escapade.inspection.way_out import _mean_of_hazards, way_out
from escapade.minimum import neighbourhood
from escapade.minimum.local_model import local_model
from escapade.theory.network_law import linear_exit

RATE, BATCH, EXAMPLES = 0.2, 8, 300


def followed(loss, barrier, start=(0.0, 0.0)):
    """The way out of a slab of a barrier, its linear law, and the escape."""
    centres = np.random.default_rng(0).standard_normal((EXAMPLES, 2))
    centres -= centres.mean(axis=0)
    # All at a distance of one from the middle, so that the noise along y is small.
    centres[:, 0] = np.tile([-1.0, 1.0], EXAMPLES // 2)
    landscape = esc.landscapes.Empirical(loss, jnp.zeros(2), centres)
    theta = esc.find_minimum(landscape, start).theta
    dynamics = esc.MinibatchSGD(RATE, BATCH)
    anywhere = esc.Escape(landscape, dynamics, esc.Ball(1.0), minimum=theta)
    around = neighbourhood(anywhere)
    normal = around.sharpest_direction
    variance = RATE / BATCH * normal @ around.stationary_covariance(RATE) @ normal
    offset = float(np.sqrt(2 * barrier * variance))
    expansion = landscape.expand(theta, precision="float64")
    model = local_model(expansion, around.eigenvectors)
    along = model.basis.T @ normal
    law = linear_exit(model, along, offset, True, RATE, BATCH)
    found = way_out(
        landscape,
        Fluctuations(expansion, model, RATE, BATCH),
        normal,
        model.basis @ law.direction / offset,
        float(along @ (model.curvatures * along)),
        offset,
        law.log_mean,
        two_sided=True,
    )
    return found, law, esc.Escape(landscape, dynamics, esc.Slab(normal, offset), minimum=theta)


def test_nothing_is_added_to_a_linear_problem():
    def loss(theta, centre):
        return 0.5 * jnp.sum(jnp.array([1.0, 0.1]) * (theta - centre) ** 2)

    found, law, _ = followed(loss, 4.0)
    assert found.moved == pytest.approx(0, abs=1e-6)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert found.uncertainty == pytest.approx(0, abs=1e-6)
    assert found.push == pytest.approx(0, abs=1e-6)
    assert found.log_mean == pytest.approx(law.log_mean, abs=0.03)


def test_a_valley_that_widens_against_simulation():
    """Noise moves the mean along the flat direction, to where the valley is less sharp.

    The worst case: one direction carries it all, and how it answers to x on the way out, which is
    left out, takes half of it back. The truth lies between the linear law and the measured one.
    """

    def loss(theta, centre):
        x, y = theta
        # Balanced at the origin.
        bent = 0.5 * (1 - y) * (x - centre[0]) ** 2 + 0.5 * y
        return bent + 0.05 * (y - centre[1]) ** 2

    found, law, escape = followed(loss, 6.0)
    sample = esc.simulate(escape, 1500, 10**6, key=1)
    assert not sample.censored.any()
    error = 3 * sample.standard_error / sample.mean
    doubt = float(np.linalg.norm(_doubts(law, found)))
    assert found.moved > 0.3
    assert abs(found.log_mean - np.log(sample.mean)) < error + doubt
    assert law.log_mean + error < np.log(sample.mean) < found.log_mean - error


def test_draws_have_exact_moments_along_as_many_directions_as_there_are():
    dim, count = 40, 12
    generator = np.random.default_rng(0)
    modes = np.linalg.qr(generator.standard_normal((dim, dim)))[0]
    normals = generator.standard_normal((count, dim))
    draws = _even(normals, modes)
    widest = modes[:, -count:]
    np.testing.assert_allclose(
        (draws @ widest).T @ draws @ widest, count * np.eye(count), atol=1e-9
    )
    np.testing.assert_allclose(draws @ modes[:, :-count], normals @ modes[:, :-count], atol=1e-12)
    # Other signs, and another choice in the span of the widest: the same draws.
    turned = modes * generator.choice([-1.0, 1.0], dim)
    turned[:, -3:] = turned[:, -3:] @ np.linalg.qr(generator.standard_normal((3, 3)))[0]
    np.testing.assert_allclose(_even(normals, turned), draws, atol=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.4, -0.3])
def test_mean_of_a_hazard_that_changes(power):
    """``h(t) = t^(-power) / 100`` between two times, constant before and after."""
    times = np.array([10.0, 80.0, 400.0])

    def hazard(t):
        return np.clip(t, times[0], times[-1]) ** -power / 100

    def survival(t):
        return np.exp(-quad(hazard, 0, t, points=[p for p in (times[0], times[-1]) if p < t])[0])

    late = survival(times[-1]) / hazard(times[-1])
    expected = quad(survival, 0, times[0])[0] + quad(survival, times[0], times[-1])[0] + late
    found = _mean_of_hazards(times, -np.log(hazard(times)))
    assert found == pytest.approx(np.log(expected), abs=1e-5)


def test_one_hazard_is_its_own_mean():
    assert _mean_of_hazards(np.array([10.0]), np.array([3.0])) == 3.0
