"""Inspections against simulation, dense algebra and each other."""

import importlib
import json

import numpy as np
import pytest
from inspection.networks import breast_cancer, descended, digits, offset_of, spectrum, untrained

import escapade as esc
from escapade.region.forms import LinearForm
from escapade.theory.minibatch_level import minibatch_level
from escapade.theory.uniform import uniform_mean_exit_time


@pytest.fixture(scope="module")
def found():
    normal, width = offset_of("breast_cancer", 3.0, 0.2, 64)
    regions = [esc.Slab(normal, width), esc.Sublevel(0.02)]
    return esc.inspect(breast_cancer(), learning_rate=0.2, batch_size=64, regions=regions)


def test_figures_are_those_of_dense_matrices(found):
    values, vectors, covariance = spectrum("breast_cancer")
    hessian = vectors @ np.diag(values) @ vectors.T
    np.testing.assert_allclose(found.curvature.values, values[:10], rtol=1e-8)
    top = np.linalg.eigvalsh(covariance)[::-1][:10]
    np.testing.assert_allclose(found.noise.values, top, rtol=1e-6)
    assert found.alignment.hessian_trace.value == pytest.approx(values.sum(), rel=1e-8)
    assert found.noise_trace.value == pytest.approx(np.trace(covariance), rel=1e-8)
    cosine = np.sum(covariance * hessian) / np.linalg.norm(covariance) / np.linalg.norm(hessian)
    assert found.alignment.cosine.value == pytest.approx(cosine, rel=1e-8)
    assert found.density.integral(np.square).value == pytest.approx((values**2).sum(), rel=1e-8)
    slopes = breast_cancer().example_gradients(found.theta) @ vectors[:, 0]
    skewness = np.mean((slopes - slopes.mean()) ** 3) / np.var(slopes) ** 1.5 / 8
    assert abs(found.noise_shape.skewness[0]) == pytest.approx(abs(skewness), rel=1e-8)


def test_stability_limits_follow_from_every_examples_curvature(found):
    landscape, theta = breast_cancer(), found.theta
    values, vectors, _ = spectrum("breast_cancer")
    step, along = 1e-4, vectors[:, 0]
    curvatures = np.array(
        [landscape.example_losses(theta + shift * step * along) for shift in (-1, 0, 1)]
    )
    spread = np.std((curvatures[0] - 2 * curvatures[1] + curvatures[2]) / step**2)
    assert found.stability.linear_limit == pytest.approx(2 / values[0], rel=1e-8)
    assert found.stability.curvature_spread[0] == pytest.approx(spread, rel=1e-4)
    limit = 2 * values[0] / (values[0] ** 2 + spread**2 / 64)
    assert found.stability.mean_square_limit <= limit * (1 + 1e-4)


def test_a_change_of_setting_says_what_an_inspection_there_would():
    landscape = breast_cancer()
    slab = esc.Slab(*offset_of("breast_cancer", 3.0, 0.2, 64))
    here, there = (
        esc.inspect(landscape, learning_rate=0.2, batch_size=batch, regions=[slab])
        for batch in (64, 128)
    )
    (change,) = [change for change in here.changes if change.text == "twice the batch size"]
    # The same draws, extended in another order, stand behind both: hence not to rounding.
    assert change.steps == pytest.approx(there.outlooks[0].steps, rel=1e-6)
    assert change.mechanism == there.outlooks[0].diagnosis.mechanism
    held = there.escape_map
    row, column = np.argmin(np.abs(held.learning_rates - 0.2)), list(held.batch_sizes).index(128)
    assert abs(np.log(change.steps / held.steps[row, column])) > 0.05  # the map's law is linear


def test_it_is_a_minimum_and_says_so(found):
    assert found.stationarity.is_minimum
    assert found.stationarity.noise_floor == pytest.approx(0.2 * found.noise_trace.value / 256)
    assert "minimum" in str(found)


def test_the_file_holds_every_figure_and_is_strict_json(found):
    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(found.to_json(), parse_constant=refuse)
    assert read["loss"] == found.loss
    assert read["curvature"]["values"] == found.curvature.values.tolist()
    assert "vectors" not in read["curvature"]
    assert read["outlooks"][0]["diagnosis"]["mechanism"] == "activated"


def test_layers_share_a_direction(found):
    shares = found.layers(found.outlooks[0].direction)
    assert list(shares) == breast_cancer().parameter_names
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.slow
def test_measured_in_part_or_whole_the_exits_are_the_same(found, monkeypatch):
    # `escapade.inspection.inspect` is the verb; the module of that name hides behind it.
    module = importlib.import_module("escapade.inspection.inspect")
    monkeypatch.setattr(module, "WHOLE", 10)
    regions = [outlook.region for outlook in found.outlooks]
    part = esc.inspect(breast_cancer(), learning_rate=0.2, batch_size=64, regions=regions)
    slab, sublevel = (
        np.log(mine.prediction.mean / whole.prediction.mean)
        for mine, whole in zip(part.outlooks, found.outlooks, strict=True)
    )
    # The linear law is the same; the way out is measured with fewer draws, at fewer places.
    mine, whole = part.outlooks[0].prediction, found.outlooks[0].prediction
    assert mine.exponent == pytest.approx(whole.exponent, rel=1e-6)
    assert abs(slab) < np.log1p(np.hypot(mine.relative_error, whole.relative_error))
    assert abs(sublevel) < 0.1
    whole, estimated = found.alignment.hessian_trace, part.alignment.hessian_trace
    assert abs(estimated.value - whole.value) < 4 * estimated.standard_error


@pytest.mark.parametrize(("learning_rate", "batch_size", "barrier"), [(0.2, 32, 5)])
def test_the_minibatch_level_is_that_of_the_linear_chain(learning_rate, batch_size, barrier):
    """Heavy-tailed slopes: the scalar chain is run with the true minibatches, 3000 replicas."""
    values, vectors, _ = spectrum("breast_cancer")
    expansion = breast_cancer().expand(breast_cancer().minima[0])
    slopes = expansion.example_slopes(vectors[:, 0])
    slopes = slopes - slopes.mean()
    rate = values[0]
    sigma = np.sqrt(
        learning_rate / batch_size * np.var(slopes) / (2 * rate - learning_rate * rate**2)
    )
    width = np.sqrt(2 * barrier) * sigma
    hazards = []
    for side in (1, -1):
        level = minibatch_level(side * slopes, rate, width, learning_rate, batch_size)
        exit_time = uniform_mean_exit_time(
            np.array([[rate]]),
            np.array([[np.var(slopes)]]),
            LinearForm([1.0], level * sigma, two_sided=False),
            learning_rate,
            batch_size,
        )
        hazards.append(1 / exit_time.mean)
    generator = np.random.default_rng(0)
    x, times = np.zeros(3000), []
    for step in range(1, 20_000):
        index = generator.integers(0, slopes.size, (x.size, batch_size))
        x = (1 - learning_rate * rate) * x - learning_rate * slopes[index].mean(axis=1)
        inside = np.abs(x) < width
        times += [step] * int((~inside).sum())
        x = x[inside]
        if not x.size:
            break
    assert not x.size
    # The saddlepoint is good to 5 %; a Gaussian of the same variance is out by a factor of two.
    assert np.mean(times) == pytest.approx(1 / sum(hazards), rel=0.06 + 4 / np.sqrt(3000))
    gaussian = uniform_mean_exit_time(
        np.array([[rate]]), np.array([[np.var(slopes)]]), LinearForm([1.0], width, True),
        learning_rate, batch_size,
    )  # fmt: skip
    assert gaussian.mean > 1.7 * np.mean(times)


@pytest.mark.slow
def test_too_large_a_learning_rate_is_unstable():
    values, vectors, _ = spectrum("breast_cancer")
    region = esc.Slab(vectors[:, 0], 0.1)
    linear = esc.inspect(
        breast_cancer(), learning_rate=2.2 / values[0], batch_size=64, regions=[region]
    )
    assert linear.outlooks[0].diagnosis.mechanism == "unstable"
    # Far below 2 / lambda, single examples disagree too much about the curvature.
    noisy = esc.inspect(breast_cancer(), learning_rate=0.5, batch_size=4, regions=[region])
    assert noisy.stability.mean_square_limit < 0.5 < noisy.stability.linear_limit
    assert noisy.outlooks[0].diagnosis.mechanism == "unstable"


@pytest.mark.slow
def test_a_point_on_the_way_down_is_left_by_descent():
    landscape = untrained()
    theta = descended(landscape, 3, 0.1)
    found = esc.inspect(
        landscape, theta, learning_rate=0.1, batch_size=256, regions=[esc.Ball(0.05)]
    )
    assert found.stationarity.verdict != "minimum"
    outlook = found.outlooks[0]
    assert outlook.diagnosis.mechanism == "drift"
    point, steps = theta.copy(), 0
    while np.linalg.norm(point - theta) < 0.05:
        point, steps = point - 0.1 * np.asarray(landscape.gradient(point)), steps + 1
    assert outlook.steps == pytest.approx(steps, abs=1, rel=0.2)


@pytest.mark.slow
def test_a_small_ball_is_left_by_diffusion():
    values, _, covariance = spectrum("digits")
    learning_rate, batch_size = 0.2, 64
    trace = np.trace(covariance) * learning_rate / batch_size / (2 * values[-1])
    region = esc.Ball(float(np.sqrt(0.02 * trace)))
    found = esc.inspect(
        digits(), learning_rate=learning_rate, batch_size=batch_size, regions=[region]
    ).outlooks[0]
    dynamics = esc.MinibatchSGD(learning_rate, batch_size)
    escape = esc.Escape(digits(), dynamics, region, minimum=digits().minima[0])
    sample = esc.simulate(escape, 100, 10**4, key=2)
    assert found.diagnosis.mechanism == "diffusive"
    assert sample.coefficient_of_variation < 0.6
    assert 1 / 3 < found.steps / sample.mean < 3


def test_bad_input_is_named():
    landscape = breast_cancer()
    settings = {"learning_rate": 0.1, "batch_size": 32}
    with pytest.raises(esc.errors.InvalidArgument, match="network_landscape"):
        esc.inspect(esc.landscapes.Quadratic([1.0]), **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="theta has shape"):
        esc.inspect(landscape, np.zeros(3), **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="time_budget"):
        esc.inspect(landscape, time_budget=1e-9, **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="precision"):
        esc.inspect(landscape, precision="half", **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="Basin"):
        esc.inspect(landscape, regions=[esc.Basin()], **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="centre"):
        esc.inspect(landscape, regions=[esc.Ball(1.0, np.zeros(128))], **settings)
    with pytest.raises(esc.errors.InvalidArgument, match="normal"):
        esc.inspect(landscape, regions=[esc.Slab([1.0, 0.0], 1.0)], **settings)
    with pytest.raises(esc.errors.EscapadeError, match="NaN"):
        esc.inspect(landscape, np.full(128, np.nan), **settings)
