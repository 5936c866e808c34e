"""Escapes whose exact answers are known from elsewhere."""

import jax.numpy as jnp
import numpy as np

import escapade as esc

ISOTROPIC = esc.noise.Isotropic()


def line(batch_size=10.0, radius=0.3, learning_rate=0.1):
    """A one-dimensional quadratic with C = H = 1, the problem of oracle M01 by default."""
    dynamics = esc.GaussianSGD(learning_rate, batch_size, ISOTROPIC)
    return esc.Escape(esc.landscapes.Quadratic([1.0]), dynamics, esc.Ball(radius))


def two_wells(theta):
    """x^4 / 4 - x^2 / 2 + y^2."""
    return theta[0] ** 4 / 4 - theta[0] ** 2 / 2 + theta[1] ** 2


def score(theta):
    """0 at the left well, 1/2 far from both, 1 at the right one (about)."""
    left = jnp.sum((theta - jnp.array([-1.0, 0.0])) ** 2)
    right = jnp.sum((theta - jnp.array([1.0, 0.0])) ** 2)
    return 0.5 - 0.5 * jnp.exp(-8 * left) + 0.5 * jnp.exp(-8 * right)


def wells(noise_scale, target):
    """Euler-Maruyama chain of step 0.01 until the score reaches a target."""
    landscape = esc.landscapes.Function(two_wells, 2, minima=[[-1.0, 0.0], [1.0, 0.0]])
    dynamics = esc.GaussianSGD(0.01, 0.01 / noise_scale, ISOTROPIC)
    region = esc.Where(lambda theta: score(theta) < target)
    return esc.Escape(landscape, dynamics, region, minimum=[-1.0, 0.0])


def regression(sampling, radius):
    """Least squares on sixty examples with real minibatches of four."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 3))
    labels = rows @ np.array([1.0, -1.0, 0.5]) + 0.7 * random.normal(size=60)

    def loss(theta, example):
        return 0.5 * (example[0] @ theta - example[1]) ** 2

    landscape = esc.landscapes.Empirical(loss, jnp.zeros(3), (rows, labels))
    minimum = np.linalg.solve(rows.T @ rows, rows.T @ labels)
    dynamics = esc.MinibatchSGD(0.1, 4, sampling)
    return esc.Escape(landscape, dynamics, esc.Ball(radius), minimum=minimum)
