"""Twenty prepared escapes, five of each mechanism: the one named is right in at least eighteen.

The truth of each is known by construction, said beside it, and shown by simulation in the slow
test: exponential exits at a distance in time (activated), regular ones (diffusive, drift), descent
without noise that leaves (drift), distances that grow by a factor each step (unstable).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from inspection.networks import breast_cancer, descended, offset_of, spectrum, untrained

import escapade as esc


@dataclass(frozen=True)
class Case:
    """An escape, its mechanism, and why it is that one."""

    build: Callable[[], object]
    mechanism: str
    truth: str
    network: bool = False


def quadratic(hessian, region, learning_rate=0.1, batch_size=10.0, covariance=None, **given):
    noise = esc.noise.HessianProportional() if covariance is None else covariance
    landscape = esc.landscapes.Quadratic(hessian)
    return esc.Escape(landscape, esc.GaussianSGD(learning_rate, batch_size, noise), region, **given)


def well(region, start=None, learning_rate=0.1, batch_size=1.0):
    return esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(learning_rate, batch_size, esc.noise.Isotropic()),
        region,
        minimum=[-1.0],
        start=start,
    )


def valley(theta, sharp=2.0):
    """Sharp directions whose curvature grows along a flat one, the last."""
    *xs, y = theta
    return 0.5 * sum(x**2 for x in xs) * (sharp + y) + 0.005 * y**2


def along_the_valley(directions):
    landscape = esc.landscapes.Function(valley, directions + 1, minima=np.zeros(directions + 1))
    noise = esc.noise.Constant([*np.ones(directions), 1e-6])
    region = esc.Slab([*np.zeros(directions), 1.0], 0.2)
    return esc.Escape(landscape, esc.GaussianSGD(0.1, 5.0 * directions, noise), region)


def parabola(parameters, example):
    curvature, push = example
    return jnp.sum(0.5 * curvature * parameters[0] ** 2 - push * parameters[0])


def parabolas(curvatures, learning_rate):
    """Two parameters; minibatches of one example disagree about the curvatures."""
    pushes = np.where(np.arange(len(curvatures)) % 2, 0.1, -0.1)[:, None] * np.ones(2)
    landscape = esc.landscapes.Empirical(parabola, (np.zeros(2),), (curvatures, pushes))
    dynamics = esc.MinibatchSGD(learning_rate, 1)
    return esc.Escape(landscape, dynamics, esc.Ball(30.0), minimum=[0.0, 0.0])


class Network(NamedTuple):
    """What an inspection is asked about; at a minimum it is an escape too."""

    landscape: esc.landscapes.Empirical
    theta: np.ndarray
    learning_rate: float
    batch_size: int
    region: esc.Ball | esc.Slab

    @property
    def escape(self):
        dynamics = esc.MinibatchSGD(self.learning_rate, self.batch_size)
        return esc.Escape(self.landscape, dynamics, self.region, minimum=self.theta)

    def inspected(self):
        return esc.inspect(
            self.landscape, self.theta, learning_rate=self.learning_rate,
            batch_size=self.batch_size, regions=[self.region],
        ).outlooks[0].diagnosis.mechanism  # fmt: skip


def at_minimum(learning_rate, batch_size, region):
    landscape = breast_cancer()
    return Network(landscape, landscape.minima[0], learning_rate, batch_size, region)


def network_slab():
    return at_minimum(0.1, 64, esc.Slab(*offset_of("breast_cancer", 5.0, 0.1, 64)))


def network_ball():
    values, _, covariance = spectrum("breast_cancer")
    spread = 0.1 / 64 * np.trace(covariance) / (2 * values[-1])
    return at_minimum(0.1, 64, esc.Ball(float(np.sqrt(0.01 * spread))))


def network_on_the_way_down():
    landscape = untrained()
    return Network(landscape, descended(landscape, 3, 0.1), 0.1, 256, esc.Ball(0.05))


def network_beyond_the_edge():
    values, vectors, _ = spectrum("breast_cancer")
    return at_minimum(2.2 / values[0], 64, esc.Slab(vectors[:, 0], 0.1))


CASES = {
    # Over a barrier of 4 to 6, from a minimum at which spread is small against the region.
    "one direction": Case(partial(quadratic, [1.0], esc.Ball(0.25)), "activated", "b = 6"),
    "the sharpest of fifty": Case(
        # Forty-nine other directions fluctuate, but the slab does not limit them.
        partial(quadratic, [2.0, *np.ones(49)], esc.Slab(np.eye(50)[0], 0.22)), "activated", "b = 4"
    ),
    "sublevel set, isotropic noise": Case(
        partial(quadratic, [2.0, 1.0, 0.5], esc.Sublevel(0.035), covariance=esc.noise.Isotropic()),
        "activated", "b = 2 depth B / eta = 7",
    ),
    "double well": Case(partial(well, esc.Basin()), "activated", "b = 2 rise B / eta = 5"),
    "network, slab": Case(network_slab, "activated", "b = 5", network=True),
    # The spread fills the region, whatever the barrier of any one direction.
    "fifty directions": Case(partial(quadratic, np.ones(50), esc.Ball(0.45)), "diffusive", "shell"),
    "two hundred directions, barrier 20": Case(
        partial(quadratic, np.ones(200), esc.Ball(0.6)), "diffusive", "Tr S = 2.8 R^2"
    ),
    "a flat direction": Case(
        # Its relaxation takes 1e5 steps; a random walk is out in far fewer.
        partial(quadratic, [1.0, 1e-4], esc.Ball(0.3), covariance=esc.noise.Isotropic()),
        "diffusive", "random walk",
    ),
    "a wide gate": Case(partial(quadratic, [1.0], esc.Slab([1.0], 0.07)), "diffusive", "b = 0.5"),
    "network, ball": Case(network_ball, "diffusive", "R^2 = Tr S / 100", network=True),
    # Motion of the mean.
    "overshoot": Case(
        partial(quadratic, [1.0], esc.HalfSpace([1.0], 0.5), 1.9, 1e6, start=[-0.9]),
        "drift", "-0.9 (1 - 1.9) = 0.81 is outside",
    ),
    "beyond the saddle": Case(
        partial(well, esc.HalfSpace([1.0], 1.9), start=[0.3], batch_size=100.0),
        "drift", "descent from 0.3 ends in 1",
    ),
    "valley": Case(partial(along_the_valley, 1), "drift", "mean force, flat noise 1e-6"),
    "five valleys": Case(partial(along_the_valley, 5), "drift", "mean force, flat noise 1e-6"),
    "network, on the way down": Case(network_on_the_way_down, "drift", "descent", network=True),
    # Steps that multiply the distance.
    "linear": Case(partial(quadratic, [1.0, 30.0], esc.Ball(0.5)), "unstable", "|1 - 3| = 2"),
    "at the edge": Case(
        partial(quadratic, [0.1, 21.0], esc.Sublevel(0.5)), "unstable", "|1 - 2.1| = 1.1"
    ),
    "sharpest direction, by disagreement": Case(
        partial(parabolas, np.array([[0.2, 0.1], [0.5, 0.1], [1.0, 0.1], [3.5, 0.1]]), 1.5),
        "unstable", "mean log |1 - 1.5 h| = 0.05",
    ),
    "another direction, by disagreement": Case(
        # The sharpest is stable: all examples agree on it, and a step lands on the minimum.
        partial(parabolas, np.array([[1.0, 4.0], *[[1.0, 0.0]] * 7]), 1.0),
        "unstable", "mean log |1 - h| = log(3) / 8",
    ),
    "network, beyond the edge": Case(
        network_beyond_the_edge, "unstable", "|1 - 2.2| = 1.2", network=True
    ),
}  # fmt: skip


NO_MINIMUM = "network, on the way down"
"""Of a point that is no minimum only an inspection tells."""


def named(name):
    """Every mechanism that the package names for a case: `diagnose`, and `inspect` of networks."""
    built = CASES[name].build()
    if not CASES[name].network:
        return {esc.diagnose(built).mechanism}
    if name == NO_MINIMUM:
        return {built.inspected()}
    return {built.inspected(), esc.diagnose(built.escape).mechanism}


def report(wrong):
    return "; ".join(f"{name}: {found}, not {CASES[name].mechanism}" for name, found in wrong)


def test_the_mechanism_named_is_right_of_small_problems():
    small = {name: case for name, case in CASES.items() if not case.network}
    found = {name: named(name) for name in small}
    wrong = [(name, each) for name, each in found.items() if each != {small[name].mechanism}]
    assert not wrong, report(wrong)


@pytest.mark.slow
def test_the_mechanism_named_is_right_in_eighteen_of_twenty():
    assert len(CASES) == 20
    assert {case.mechanism for case in CASES.values()} == {
        "activated", "diffusive", "drift", "unstable"
    }  # fmt: skip
    wrong = [
        (name, found) for name, case in CASES.items() if (found := named(name)) != {case.mechanism}
    ]
    assert len(wrong) <= 2, report(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != NO_MINIMUM])
def test_simulation_shows_the_mechanism(name):
    """And with a sample of exits the mechanism named is the same."""
    case = CASES[name]
    escape = case.build().escape if case.network else case.build()
    sample = esc.simulate(escape, 400, 10**5, key=7)
    variation = sample.coefficient_of_variation
    match case.mechanism:
        case "activated":
            assert abs(variation - 1) < 4 / np.sqrt(400)
        case "diffusive":
            # Free diffusion out of a gate has 0.82; in many directions less.
            assert variation < 0.9
        case "drift":
            assert variation < 0.5
        case "unstable":
            assert sample.mean < 300
    assert esc.diagnose(escape, sample).mechanism == case.mechanism
