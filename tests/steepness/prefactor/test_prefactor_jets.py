"""Truncated series against derivatives by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapade.precision import float64
from escapade.steepness.prefactor.jets import jets, taylor


def f(x):
    return jnp.exp(0.3 * x[0]) + x[0] * x[1] ** 2 + 2.0


def g(x):
    return jnp.cos(x[0] - x[1]) + x[1] ** 3 + 1.5


def derivatives(function, point, order=4):
    with float64():
        return [np.asarray(d) for d in jax.jit(lambda x: taylor(function, x, order))(point)]


def series_of(function, point, dim=2):
    return jets(dim, 4).series(derivatives(function, point))


POINT = np.array([0.4, -0.3])


@pytest.mark.parametrize(
    ("of_series", "of_functions"),
    [
        (lambda a, f, g: a.product(f, g), lambda x: f(x) * g(x)),
        (lambda a, f, g: a.power(g, -1.0), lambda x: 1 / g(x)),
        (lambda a, f, g: a.power(g, 0.5), lambda x: jnp.sqrt(g(x))),
        (lambda a, f, g: a.log(f), lambda x: jnp.log(f(x))),
    ],
)
def test_arithmetic_is_that_of_the_functions(of_series, of_functions):
    algebra = jets(2, 4)
    got = of_series(algebra, series_of(f, POINT), series_of(g, POINT))
    assert got == pytest.approx(series_of(of_functions, POINT), rel=1e-11, abs=1e-12)


def test_gradient_and_derivative_tensors():
    algebra = jets(2, 4)
    series = series_of(f, POINT)
    with float64():
        gradient = np.asarray(jax.jit(jax.grad(f))(POINT))
    third = derivatives(f, POINT, 3)[3]
    assert algebra.gradient(series)[:, 0] == pytest.approx(gradient, rel=1e-13)
    assert algebra.derivative(series, 3) == pytest.approx(third, rel=1e-12)


def test_composition_with_series_of_fewer_variables():
    inner, outer = jets(1, 4), jets(2, 4)

    def curve(z):
        return jnp.stack([jnp.sin(z[0]), z[0] ** 2 - 0.2 * z[0]])

    place = inner.series(derivatives(curve, np.zeros(1)), (2,))
    got = inner.compose(series_of(f, POINT), place, outer)
    expected = series_of(lambda z: f(POINT + curve(z)), np.zeros(1), dim=1)
    assert got == pytest.approx(expected, rel=1e-11, abs=1e-12)
