"""One battery for every provider of the user's network, against the raw formula of each twin.

Dense gradients, Hessians and covariances come from JAX on the formula; they are themselves held
against finite differences of the losses.
"""

import functools
import importlib.util
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from landscape.providers import jax_twins  # noqa: F401  (registers its builders)
from landscape.providers.twins import BUILDERS, EXAMPLES, TWINS, landscape_of

from escapade.errors import Diverged, InvalidArgument
from escapade.precision import in_float64

if importlib.util.find_spec("landscape.providers.torch_twins"):
    from landscape.providers import torch_twins  # noqa: F401

ALL = sorted(BUILDERS)


def cases(twins, *providers):
    """Twins of the providers (of all, if none is named); what compiles longest is slow."""
    return [
        pytest.param(provider, twin, marks=() if provider in providers else pytest.mark.slow)
        for provider, twin in ALL
        if twin in twins
    ]


# The JAX providers share one landscape class, so its products are checked for one of them, and the
# wiring of each provider by losses and gradients.
WIRING = [
    *cases(("batch_norm",), "equinox", "linen", "nnx", "torch"),
    *cases(("convolutional",), "equinox", "torch"),
    *cases(("tied", "frozen"), "equinox", "nnx", "torch"),
    *cases(("scaled",), "equinox", "linen", "function", "torch"),
    *cases(("mlp",), "torch"),
]
PRODUCTS = [
    *cases(("scaled",), "equinox", "torch"),
    *cases(("convolutional", "mlp", "tied", "frozen", "batch_norm"), "torch"),
]
ONE_TWIN = cases(("scaled",), "equinox", "torch")


class Dense(NamedTuple):
    """Everything about a twin at its weights, dense."""

    losses: np.ndarray
    gradients: np.ndarray
    hessians: np.ndarray

    @property
    def covariance(self):
        centred = self.gradients - self.gradients.mean(axis=0)
        return centred.T @ centred / EXAMPLES


@functools.cache
def _formula(name):
    loss = TWINS[name].example_loss
    each = jax.vmap(
        lambda *at: (loss(*at), jax.grad(loss)(*at), jax.hessian(loss)(*at)), (None, 0, 0)
    )
    return jax.jit(each)


def dense_at(name, theta):
    with jax.enable_x64(True):
        parts = _formula(name)(theta, TWINS[name].inputs, TWINS[name].targets)
        return Dense(*map(np.asarray, parts))


@functools.cache
def dense(name):
    return dense_at(name, TWINS[name].theta)


@functools.cache
def case(provider, name):
    """Landscape, point, dense reference in the provider's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape, order = landscape_of(provider, TWINS[name])
    reference = dense(name)
    gradients = reference.gradients[:, order]
    hessians = reference.hessians[:, order][:, :, order]
    return landscape, TWINS[name].theta[order], Dense(reference.losses, gradients, hessians)


@functools.cache
def expansion(provider, name, precision="float64", memory=None):
    landscape, theta, _ = case(provider, name)
    return landscape.expand(theta, precision=precision, memory=memory)


def vectors(size, count=3):
    return np.random.default_rng(size).standard_normal((count, size))


@pytest.mark.parametrize("name", TWINS)
def test_the_reference_agrees_with_finite_differences(name):
    theta, reference, step = TWINS[name].theta, dense(name), 1e-4
    for v in vectors(theta.size):
        ahead, behind = dense_at(name, theta + step * v), dense_at(name, theta - step * v)
        slopes = (ahead.losses - behind.losses) / (2 * step)
        np.testing.assert_allclose(reference.gradients @ v, slopes, rtol=1e-5, atol=1e-6)
        bends = (ahead.gradients - behind.gradients) / (2 * step)
        np.testing.assert_allclose(reference.hessians @ v, bends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("provider", "name"), WIRING)
def test_twins_agree_in_double_precision(provider, name):
    landscape, theta, reference = case(provider, name)
    np.testing.assert_allclose(landscape.initial, theta, rtol=1e-14)
    assert (landscape.examples, landscape.dim) == (EXAMPLES, theta.size)
    at = expansion(provider, name)
    np.testing.assert_allclose(at.example_losses, reference.losses, rtol=1e-12)
    np.testing.assert_allclose(at.gradient, reference.gradients.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(("provider", "name"), PRODUCTS)
def test_products_agree_with_dense_matrices(provider, name):
    _, theta, reference = case(provider, name)
    at = expansion(provider, name)
    hessian, covariance = reference.hessians.mean(axis=0), reference.covariance
    for v in vectors(theta.size):
        np.testing.assert_allclose(at.hessian_product(v), hessian @ v, atol=1e-11)
        np.testing.assert_allclose(at.noise_product(v), covariance @ v, atol=1e-11)
        np.testing.assert_allclose(at.example_slopes(v), reference.gradients @ v, atol=1e-11)
        curvatures = np.einsum("i,nij,j->n", v, reference.hessians, v)
        np.testing.assert_allclose(at.example_curvatures(v), curvatures, atol=1e-10)
    for weights in vectors(EXAMPLES):
        np.testing.assert_allclose(at.pull(weights), weights @ reference.gradients, atol=1e-11)


@pytest.mark.parametrize(("provider", "name"), PRODUCTS)
def test_hessian_is_symmetric_and_covariance_positive(provider, name):
    at = expansion(provider, name)
    u, v, w = vectors(at.dim)
    for product in (at.hessian_product, at.noise_product):
        assert u @ product(v) == pytest.approx(v @ product(u), rel=1e-10, abs=1e-12)
        np.testing.assert_allclose(product(2 * v - w), 2 * product(v) - product(w), atol=1e-11)
    slopes = at.example_slopes(v)
    assert v @ at.noise_product(v) == pytest.approx(slopes.var(), rel=1e-10)
    assert slopes.var() > 0


@pytest.mark.parametrize(("provider", "name"), PRODUCTS)
def test_expansion_knows_its_point(provider, name):
    landscape, theta, reference = case(provider, name)
    twin, at = TWINS[name], expansion(provider, name)
    assert (at.dim, at.examples, at.precision) == (theta.size, EXAMPLES, "float64")
    assert at.weight_decay == pytest.approx(twin.weight_decay * twin.scale**2, rel=1e-15)
    assert at.loss == pytest.approx(reference.losses.mean(), rel=1e-13)
    np.testing.assert_array_equal(at.theta, theta)
    assert {array.dtype for array in (at.theta, at.gradient, at.example_losses)} == {
        np.dtype(np.float64)
    }
    known = landscape.at_minimum(theta)
    np.testing.assert_array_equal(known.minima, theta[None])


@pytest.mark.parametrize(("provider", "name"), cases(("convolutional",), "equinox", "torch"))
def test_host_calls_agree_with_the_formula(provider, name):
    landscape, theta, reference = case(provider, name)
    index = np.array([5, 0, 5])
    np.testing.assert_allclose(landscape.gradient(theta), reference.gradients.mean(0), atol=1e-12)
    assert landscape.loss(theta) == pytest.approx(reference.losses.mean(), rel=1e-13)
    np.testing.assert_allclose(
        landscape.example_losses(theta, index), reference.losses[index], rtol=1e-12
    )
    np.testing.assert_allclose(
        landscape.batch_gradient(theta, index), reference.gradients[index].mean(0), atol=1e-12
    )
    np.testing.assert_allclose(landscape.example_gradients(theta), reference.gradients, atol=1e-12)


def _slope_and_bend(landscape, theta, direction):
    _, slope = jax.jvp(landscape._loss, (theta,), (direction,))
    _, bend = jax.jvp(landscape._gradient, (theta,), (direction,))
    _, pull = jax.vjp(landscape.example_losses, theta)
    lanes = jax.vmap(landscape._gradient)(jnp.stack([theta, theta + direction]))
    return slope, bend, pull(jnp.arange(1.0, EXAMPLES + 1))[0], lanes


@pytest.mark.parametrize(("provider", "name"), ONE_TWIN)
def test_compiled_code_differentiates_through_the_landscape(provider, name):
    landscape, theta, reference = case(provider, name)
    v = vectors(theta.size, 1)[0]
    slope, bend, pulled, lanes = in_float64(_slope_and_bend, landscape, theta, v)
    gradient = reference.gradients.mean(axis=0)
    assert slope == pytest.approx(gradient @ v, rel=1e-10)
    np.testing.assert_allclose(bend, reference.hessians.mean(axis=0) @ v, atol=1e-11)
    np.testing.assert_allclose(pulled, np.arange(1, EXAMPLES + 1) @ reference.gradients, atol=1e-10)
    np.testing.assert_allclose(lanes[0], gradient, atol=1e-12)
    np.testing.assert_allclose(lanes[1], landscape.gradient(theta + v), atol=1e-12)


@pytest.mark.parametrize(("provider", "name"), ONE_TWIN)
@pytest.mark.parametrize("memory", [4e3, 8e3])
def test_chunks_change_nothing(provider, name, memory):
    # One chunk of everything against single examples of which some are kept, and against chunks
    # of three, which do not fill the last one.
    whole, chunked = expansion(provider, name), expansion(provider, name, memory=memory)
    np.testing.assert_allclose(chunked.example_losses, whole.example_losses, rtol=1e-13)
    np.testing.assert_allclose(chunked.gradient, whole.gradient, atol=1e-13)
    v, weights = vectors(whole.dim, 1)[0], vectors(EXAMPLES, 1)[0]
    verbs = ("hessian_product", "noise_product")
    if memory > 5e3:
        verbs += ("example_slopes", "example_curvatures")
    for _ in range(2):  # at first use, and again
        for verb in verbs:
            np.testing.assert_allclose(
                getattr(chunked, verb)(v), getattr(whole, verb)(v), atol=1e-11, err_msg=verb
            )
        np.testing.assert_allclose(chunked.pull(weights), whole.pull(weights), atol=1e-12)


@pytest.mark.parametrize(("provider", "name"), ONE_TWIN)
def test_single_precision_agrees_with_double(provider, name):
    single, double = expansion(provider, name, "float32"), expansion(provider, name)
    v, weights = vectors(double.dim, 1)[0], vectors(EXAMPLES, 1)[0]
    pairs = [
        (single.gradient, double.gradient),
        (single.example_losses, double.example_losses),
        (single.hessian_product(v), double.hessian_product(v)),
        (single.noise_product(v), double.noise_product(v)),
        (single.example_slopes(v), double.example_slopes(v)),
        (single.pull(weights), double.pull(weights)),
    ]
    for low, high in pairs:
        assert low.dtype == np.float32
        np.testing.assert_allclose(low, high, atol=1e-5 * np.abs(high).max())


@pytest.mark.parametrize(("provider", "name"), ONE_TWIN)
def test_bad_points_are_refused(provider, name):
    landscape, theta, _ = case(provider, name)
    with pytest.raises(InvalidArgument, match="theta"):
        landscape.expand(theta[:-1])
    with pytest.raises(InvalidArgument, match="theta"):
        landscape.loss(theta[:-1])
    with pytest.raises(InvalidArgument, match="precision"):
        landscape.expand(theta, precision="half")
    with pytest.raises(InvalidArgument, match="memory"):
        landscape.expand(theta, memory=-1.0)
    with pytest.raises(InvalidArgument, match="vector"):
        expansion(provider, name).hessian_product(theta[:-1])
    with pytest.raises(InvalidArgument, match="weights"):
        expansion(provider, name).pull(np.ones(EXAMPLES + 1))
    with pytest.raises(Diverged, match="examples 0, 1"):
        landscape.expand(np.full_like(theta, np.nan))
