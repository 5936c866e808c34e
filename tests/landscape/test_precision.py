"""Two precisions in one process: no global setting, and closures over NumPy arrays in both."""

import jax
import jax.numpy as jnp
import numpy as np

from escapade.landscape import Function
from escapade.precision import context, float64, in_float64, place

SHIFT = np.array([1e-12, 0.0])


def squared_distance(theta):
    return jnp.sum((theta - 1.0 - SHIFT) ** 2)


def test_contexts_do_not_leak():
    with float64():
        assert jnp.ones(2).dtype == jnp.float64
        with context("float32"):
            assert jnp.ones(2).dtype == jnp.float32
        assert jnp.ones(2).dtype == jnp.float64
    with context("float64"):
        assert jnp.ones(2).dtype == jnp.float64
    assert jnp.ones(2).dtype == jnp.float32


def test_in_float64_gives_numpy_and_keeps_the_digits():
    value, label = in_float64(lambda x: (x + 1e-15, "kept"), np.ones(2))
    assert label == "kept"
    assert isinstance(value, np.ndarray)
    np.testing.assert_array_equal(value, np.ones(2) + 1e-15)


def test_place_takes_the_precision_of_the_context():
    tree = {"array": np.ones(2), "rate": 0.1, "count": 3, "name": "x"}
    with context("float32"):
        single = place(tree)
    with context("float64"):
        double = place(tree)
    assert single["array"].dtype == single["rate"].dtype == jnp.float32
    assert double["array"].dtype == double["rate"].dtype == jnp.float64
    assert single["count"] == 3
    assert single["name"] == "x"


def test_a_numpy_array_closed_over_serves_both_precisions():
    # Regression: JAX 0.10 keeps the array in the precision that it first met.
    for function in (squared_distance, jax.jit(squared_distance)):
        for _ in range(2):
            assert jax.jit(function)(jnp.ones(2)).dtype == jnp.float32
            exact = in_float64(function, np.ones(2))
            np.testing.assert_allclose(exact, 1e-24, rtol=1e-3)
    landscape = Function(squared_distance, 2)
    assert landscape.loss([1.0, 1.0]) > 0
    assert jax.jit(lambda theta: landscape.gradient(theta))(jnp.zeros(2)).dtype == jnp.float32
    np.testing.assert_array_equal(landscape.gradient([1.0, 1.0]), -2 * SHIFT)
