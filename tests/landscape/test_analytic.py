"""Analytic landscapes: their gradients, their minima, and the two doors, NumPy and JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapade.errors import InvalidArgument, NotAMinimum
from escapade.landscape import (
    AsymmetricValleys,
    DoubleWell,
    Drift,
    Function,
    MaierStein,
    MuellerBrown,
    Quadratic,
    StyblinskiTang,
    rescale,
)
from escapade.landscape.descent import jacobian, newton, roll

DENSE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.2], [0.1, -0.2, 0.5]])

LOSSES = {
    "quadratic": (Quadratic(DENSE, minimum=[1.0, -2.0, 0.5]), [0.3, 0.7, -1.1]),
    "double well": (DoubleWell(), [0.7]),
    "Styblinski-Tang": (StyblinskiTang(3), [-2.0, 0.4, 2.2]),
    "Mueller-Brown": (MuellerBrown(), [-0.3, 0.9]),
    "valleys, flat side": (AsymmetricValleys(9.0, 2.0, 0.5, 0.8, dim=3), [0.4, 0.2, -0.3]),
    "valleys, sharp side": (AsymmetricValleys(9.0, 2.0, 0.5, 0.8, dim=3), [-0.2, 0.2, -0.3]),
    "function": (Function(lambda t: jnp.sum(jnp.sin(t) * t[::-1]), 3), [0.3, 0.7, -1.1]),
    "rescaled": (rescale(MuellerBrown(), 3.0), [-0.2, 0.5]),
}


def central_differences(loss, theta, step=1e-5):
    theta = np.asarray(theta, dtype=float)
    steps = step * np.eye(theta.size)
    return np.array([(loss(theta + h) - loss(theta - h)) / (2 * step) for h in steps])


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_derivative_of_the_loss(name):
    landscape, theta = LOSSES[name]
    theta = np.array(theta)
    expected = central_differences(landscape.loss, theta)
    # The differences have rounding 1e-16 |L| / step = 1e-11 |L| and truncation step^2 = 1e-10.
    scale = 1 + np.abs(landscape.loss(theta)) + np.abs(expected).max()
    np.testing.assert_allclose(landscape.gradient(theta), expected, atol=1e-8 * scale, rtol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_numpy_in_gives_numpy_float64_out_without_any_setting(name):
    assert not jax.config.jax_enable_x64
    landscape, theta = LOSSES[name]
    for point in (theta, np.array(theta)):
        loss, gradient = landscape.loss(point), landscape.gradient(point)
        assert isinstance(loss, np.ndarray)
        assert isinstance(gradient, np.ndarray)
        assert (loss.dtype, loss.shape) == (np.float64, ())
        assert (gradient.dtype, gradient.shape) == (np.float64, (landscape.dim,))
    assert not jax.config.jax_enable_x64
    assert jnp.ones(2).dtype == jnp.float32


def test_jax_in_gives_jax_out_and_can_be_transformed():
    landscape, theta = LOSSES["Mueller-Brown"]
    point = jnp.asarray(theta)
    exact = landscape.loss(theta), landscape.gradient(theta)
    loss, gradient = jax.jit(lambda t: (landscape.loss(t), landscape.gradient(t)))(point)
    assert isinstance(loss, jax.Array)
    assert loss.dtype == gradient.dtype == jnp.float32
    np.testing.assert_allclose(loss, exact[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, exact[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.grad(landscape.loss)(point), gradient, rtol=1e-5)
    many = jax.vmap(landscape.loss)(jnp.stack([point, point + 0.1]))
    np.testing.assert_allclose(many, [exact[0], landscape.loss(np.add(theta, 0.1))], rtol=1e-5)


def test_quadratic_values():
    landscape = Quadratic([3.0, 0.5], minimum=[1.0, 2.0])
    assert landscape.dim == 2
    assert landscape.loss([2.0, 4.0]) == 0.5 * (3 * 1 + 0.5 * 4)
    np.testing.assert_array_equal(landscape.gradient([2.0, 4.0]), [3.0, 1.0])
    np.testing.assert_array_equal(landscape.minima, [[1.0, 2.0]])
    np.testing.assert_array_equal(jacobian(Quadratic(DENSE), np.ones(3)), DENSE)
    assert Quadratic(2.0).dim == 1


def test_double_well_has_two_minima_of_depth_a_quarter():
    landscape = DoubleWell()
    np.testing.assert_array_equal(landscape.minima, [[-1.0], [1.0]])
    assert [landscape.loss(point) for point in landscape.minima] == [-0.25, -0.25]
    assert landscape.loss([0.0]) == 0.0
    assert jacobian(landscape, [1.0]) == pytest.approx(2.0)
    assert jacobian(landscape, [0.0]) == pytest.approx(-1.0)


@pytest.mark.parametrize("dim", [1, 4])
def test_styblinski_tang_minima(dim):
    landscape = StyblinskiTang(dim)
    deep, shallow = landscape.minima
    np.testing.assert_allclose(deep, np.full(dim, -2.903534027771177), atol=1e-13)
    np.testing.assert_allclose(shallow, np.full(dim, 2.7468027709908376), atol=1e-13)
    assert landscape.loss(deep) == pytest.approx(-39.16616570377142 * dim, abs=1e-11 * dim)
    for point in landscape.minima:
        assert np.abs(landscape.gradient(point)).max() < 1e-12


def test_styblinski_tang_barrier(oracle):
    landscape = StyblinskiTang(1)
    saddle = newton(landscape, [0.15])
    barrier = landscape.loss(saddle) - landscape.loss(landscape.minima[1])
    assert 2 * barrier == pytest.approx(oracle("N07")["value"], rel=1e-12)


def test_mueller_brown_minima_and_saddles():
    landscape = MuellerBrown()
    energies = [landscape.loss(point) for point in landscape.minima]
    np.testing.assert_allclose(energies, [-146.69952, -108.16673, -80.76782], atol=1e-5)
    known = [[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]]
    np.testing.assert_allclose(landscape.minima, known, atol=1e-6)
    for point in landscape.minima:
        assert np.abs(landscape.gradient(point)).max() < 1e-10
        assert np.linalg.eigvalsh(jacobian(landscape, point)).min() > 0
    for rough, energy in (([-0.822, 0.624], -40.66484), ([0.212, 0.293], -72.24894)):
        saddle = newton(landscape, rough)
        assert landscape.loss(saddle) == pytest.approx(energy, abs=1e-5)
        low, high = np.linalg.eigvalsh(jacobian(landscape, saddle))
        assert low < 0 < high


def test_maier_stein_drift():
    landscape = MaierStein(beta=10.0, mu=2.0)
    u, v = 0.3, -0.7
    drift = [u - u**3 - 10 * u * v**2, -2 * (1 + u**2) * v]
    np.testing.assert_allclose(-landscape.gradient([u, v]), drift, rtol=1e-14)
    np.testing.assert_array_equal(landscape.minima, [[-1.0, 0.0], [1.0, 0.0]])
    for point in landscape.minima:
        np.testing.assert_array_equal(landscape.gradient(point), [0.0, 0.0])
        assert np.linalg.eigvals(jacobian(landscape, point)).real.min() > 0
    # Only for beta = mu is the drift a gradient: its Jacobian is then symmetric everywhere.
    skew = jacobian(landscape, [u, v])
    assert skew[0, 1] != pytest.approx(skew[1, 0])
    even = jacobian(MaierStein(beta=1.0), [u, v])
    assert even[0, 1] == pytest.approx(even[1, 0], rel=1e-14)


def test_drift_is_minus_the_gradient_field():
    rotation = np.array([[-1.0, 2.0], [-2.0, -1.0]])
    landscape = Drift(lambda t: jnp.asarray(rotation) @ t, 2, minima=[0.0, 0.0])
    np.testing.assert_allclose(landscape.gradient([1.0, 0.5]), -rotation @ [1.0, 0.5])
    np.testing.assert_array_equal(landscape.minima, [[0.0, 0.0]])
    np.testing.assert_allclose(jacobian(landscape, np.zeros(2)), -rotation)


def test_function_keeps_float64_through_closures():
    shift = np.array([1e-12, 0.0])
    landscape = Function(lambda t: jnp.sum((t - 1.0 - shift) ** 2), 2)
    assert landscape.loss([1.0, 1.0]) == pytest.approx(1e-24, rel=1e-3)


def test_newton_reports_a_point_far_from_any_stationary_one():
    with pytest.raises(NotAMinimum, match="find_minimum"):
        newton(Function(lambda t: jnp.sum(jnp.exp(-t)), 1), [0.0])


def test_roll_ends_at_the_minimum_of_the_start():
    landscape = DoubleWell()
    for start, end in ((0.01, 1.0), (-0.01, -1.0), (30.0, 1.0)):
        rolled = roll(landscape, jnp.array([start]), 0.25, 200, longest=0.2)
        np.testing.assert_allclose(rolled, [end], atol=1e-5)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (lambda: Quadratic([[1.0, 2.0]]), "hessian"),
        (lambda: Quadratic([[1.0, 0.5], [0.0, 1.0]]), "hessian"),
        (lambda: Quadratic([1.0, np.nan]), "hessian"),
        (lambda: Quadratic([]), "hessian"),
        (lambda: Quadratic("wide"), "hessian"),
        (lambda: Quadratic([[1.0], [1.0, 2.0]]), "hessian"),
        (lambda: Quadratic([1.0, 1.0], minimum=[0.0]), "minimum"),
        (lambda: StyblinskiTang(0), "dim"),
        (lambda: StyblinskiTang(2.5), "dim"),
        (lambda: Function(lambda t: t, 2), "loss"),
        (lambda: Function(lambda t: np.linalg.norm(t), 2), "loss"),
        (lambda: Function(lambda t: t[0] @ t, 2), "loss"),
        (lambda: Function(lambda t: t[0], 0), "dim"),
        (lambda: Function(lambda t: t[0], 2, minima=[[0.0, 0.0, 0.0]]), "minima"),
        (lambda: Function(lambda t: t[0], 2, minima=[0.0, np.inf]), "minima"),
        (lambda: Drift(lambda t: t[0], 2), "field"),
        (lambda: Drift(lambda t: jnp.concatenate([t, t]), 2), "field"),
        (lambda: rescale(DoubleWell(), 0.0), "factor"),
        (lambda: rescale(DoubleWell(), "two"), "factor"),
        (lambda: rescale(MaierStein(1.0), 2.0), "landscape"),
        (lambda: DoubleWell().loss([0.0, 0.0]), "theta"),
        (lambda: MuellerBrown().gradient(np.zeros(3)), "theta"),
        (lambda: MuellerBrown().loss(jnp.zeros(3)), "theta"),
    ],
)
def test_bad_arguments_are_named(build, argument):
    with pytest.raises(InvalidArgument, match=argument):
        build()


def test_rescaling_multiplies_the_hessian_and_draws_the_minima_in():
    original, sharper = MuellerBrown(), rescale(MuellerBrown(), 4.0)
    theta = np.array([-0.2, 0.5])
    assert sharper.loss(theta) == original.loss(2 * theta)
    np.testing.assert_allclose(sharper.minima, original.minima / 2)
    for before, after in zip(original.minima, sharper.minima, strict=True):
        hessian = jacobian(original, before)
        np.testing.assert_allclose(jacobian(sharper, after), 4 * hessian, rtol=1e-9)
