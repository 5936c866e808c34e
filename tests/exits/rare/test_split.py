"""Splitting: against exact chains and diffusions, direct simulation, and itself."""

import itertools
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from known_escapes import ISOTROPIC, line, regression, score, wells

import escapade as esc
from escapade.errors import Diverged, InvalidArgument, NotConverged
from escapade.exits.rare import batch as batch_module


def errors_off(found, log_exact):
    """Distance to the exact logarithm in standard errors of the runs."""
    return (found.log_mean - log_exact) / found.relative_error


def test_one_dimension(oracle):
    found = esc.split(line(), key=1)
    assert found.relative_error < 0.05
    assert abs(errors_off(found, np.log(oracle("M01")["value"]))) < 3
    low, high = found.interval
    assert low < found.mean < high
    assert found.cautions == ()
    # Every exit point lies outside, and the two sides are equally easy.
    assert (np.abs(found.exit_points[:, 0]) >= 0.3).all()
    assert found.exit_weights.sum() == pytest.approx(1)
    assert 0.35 < found.exit_weights[found.exit_points[:, 0] > 0].sum() < 0.65


def test_two_dimensions(oracle):
    hessian, covariance = [[2.0, 0.6], [0.6, 1.0]], [[1.0, -0.3], [-0.3, 0.5]]
    escape = esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(0.3, 1.0, esc.noise.Constant(covariance)),
        esc.Ball(1.0),
    )
    found = esc.split(escape, key=1)
    assert found.relative_error < 0.03
    assert abs(errors_off(found, np.log(oracle("M08")["value"]))) < 3


@pytest.mark.parametrize(
    "region", [esc.HalfSpace([1.0], 1.0), esc.HalfSpace([1.0], 1.6)], ids=["saddle", "beyond"]
)
def test_a_trillion_steps(region):
    escape = esc.Escape(
        esc.landscapes.DoubleWell(), esc.GaussianSGD(0.1, 5.0, ISOTROPIC), region, minimum=[-1.0]
    )
    found, exact = esc.split(escape, key=1, walkers=2048), esc.solve(escape)
    assert exact.mean > 1e12
    assert found.relative_error < 0.15
    assert abs(errors_off(found, exact.log_mean)) < 3
    assert found.steps_used < 1e-4 * exact.mean


@pytest.mark.slow
def test_diffusion_in_ten_dimensions():
    """The radius of an Ornstein-Uhlenbeck process; the scheme itself is off by less than 1 %."""
    escape = esc.Escape(
        esc.landscapes.Quadratic(np.ones(10)),
        esc.ContinuousSGD(0.05, 1.0, ISOTROPIC),
        esc.Ball(np.sqrt(0.05 * 24)),
    )
    found, exact = esc.split(escape, key=1, walkers=512), esc.solve(escape)
    assert found.relative_error < 0.1
    assert abs(errors_off(found, exact.log_mean)) < 3


@pytest.mark.parametrize(
    ("sampling", "radius"),
    [
        ("with_replacement", 0.35),
        pytest.param("without_replacement", 0.32, marks=pytest.mark.slow),
        pytest.param("shuffled_epochs", 0.2, marks=pytest.mark.slow),
    ],
)
def test_minibatches(sampling, radius):
    """Real minibatches, whole epochs of memory included, against direct simulation."""
    escape = regression(sampling, radius)
    direct = esc.simulate(escape, 4096, 10**5, key=5)
    assert not direct.censored.any()
    found = esc.split(escape, key=1, walkers=512)
    spread = np.hypot(found.relative_error, direct.standard_error / direct.mean)
    assert spread < 0.1
    assert abs(found.log_mean - np.log(direct.mean)) < 3 * spread


@pytest.mark.slow
def test_coordinates_agree():
    """The coordinate decides the cost, never the answer."""
    hessian, covariance = [[2.0, 0.6], [0.6, 1.0]], [[1.0, -0.3], [-0.3, 0.5]]
    escape = esc.Escape(
        esc.landscapes.Quadratic(hessian),
        esc.GaussianSGD(0.1, 0.8, esc.noise.Constant(covariance)),
        esc.Ball(1.0),
    )
    axis = np.linspace(-1.5, 1.5, 61)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    table = np.where(x**2 + y**2 < 1.2, np.hypot(x, 0.8 * y), np.nan)
    choices = ["level", "quasipotential", esc.coordinates.Tabulated((axis, axis), table)]
    found = [esc.split(escape, key=2, coordinate=choice) for choice in choices]
    for one in found[1:]:
        spread = np.hypot(one.relative_error, found[0].relative_error)
        assert spread < 0.2
        assert abs(one.log_mean - found[0].log_mean) < 3 * spread


def test_heavy_tails(oracle):
    values = oracle("M11")
    parameters = values["params"]
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.HeavyTailedSGD(0.1, 1.5, parameters["scale"]),
        esc.Ball(parameters["R"]),
    )
    found = esc.split(escape, key=1)
    assert abs(errors_off(found, np.log(values["value"]))) < 3
    assert found.relative_error < 0.1


# Exits by a given step


@pytest.mark.parametrize(("name", "steps"), [("M05", 5), ("M06", 10), ("M07", 20)])
def test_exit_before_stationarity(oracle, name, steps):
    found = esc.exit_probability(line(), steps, key=2, walkers=4096)
    value = oracle(name)["value"]
    assert found.relative_error < 0.2
    assert abs(found.probability - value) < 3 * found.relative_error * value
    low, high = found.interval
    assert low < found.probability < high


@pytest.mark.parametrize(
    ("noise_scale", "target", "steps", "exact", "uncertainty"),
    [
        (0.1, 0.95, 1000, 0.00760, 1e-5),
        (0.64, 0.8, 1000, 0.614, 0.001),
        (0.64, 0.5, 500, 0.673, 0.002),
    ],
)
def test_examples_of_other_packages(noise_scale, target, steps, exact, uncertainty):
    """Two wells until a score: mean of 200 runs against quadrature of the same chain."""
    escape = wells(noise_scale, target)
    found = esc.exit_probability(escape, steps, key=3, runs=200, walkers=50, coordinate=score)
    spread = np.hypot(found.relative_error * found.probability, uncertainty)
    assert abs(found.probability - exact) < 2 * spread


# Reproducible, restartable, parallel


def test_the_same_whoever_computes_it():
    one = esc.split(line(), key=7, walkers=256, runs=12)
    two = esc.split(line(), key=7, walkers=256, runs=12, workers=2)
    np.testing.assert_array_equal(one.rates, two.rates)
    np.testing.assert_array_equal(one.exit_points, two.exit_points)
    fewer = esc.split(line(), key=7, walkers=256, runs=8)
    np.testing.assert_array_equal(fewer.rates, one.rates[:8])
    other = esc.split(line(), key=8, walkers=256, runs=8)
    assert not np.isin(other.rates, one.rates).any()


def test_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_module, "SAVE_SECONDS", 0.0)
    whole = esc.split(line(), key=7, walkers=64, runs=8, paths=3)
    iterate, calls = batch_module.iterate, []

    def interrupted(*arguments):
        *others, after_each = arguments

        def stop_at_the_third(now):
            calls.append(now.iteration)
            if now.iteration == 3:
                raise KeyboardInterrupt
            after_each(now)

        return iterate(*others, stop_at_the_third)

    options = {"key": 7, "walkers": 64, "runs": 8, "paths": 3, "checkpoint": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(batch_module, "iterate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            esc.split(line(), **options)
    assert calls == [1, 2, 3]
    again = esc.split(line(), **options)
    np.testing.assert_array_equal(again.rates, whole.rates)
    assert again.steps_used == whole.steps_used
    for path, expected in zip(again.paths, whole.paths, strict=True):
        np.testing.assert_array_equal(path, expected)
    # What is finished is read, not computed again.
    finished = esc.split(line(), **options)
    np.testing.assert_array_equal(finished.rates, whole.rates)
    with pytest.raises(InvalidArgument, match="another calculation"):
        esc.split(line(radius=0.31), **options)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(b"broken")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        esc.split(line(), **options)


def test_progress_and_threads():
    seen, threads = [], threading.active_count()
    esc.split(line(), walkers=256, runs=12, progress=lambda done, runs: seen.append((done, runs)))
    assert seen == [(8, 12), (12, 12)]
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    "sampling",
    ["with_replacement", pytest.param("shuffled_epochs", marks=pytest.mark.slow)],
)
def test_reactive_paths(sampling):
    """Each step of a path is one that the dynamics can make, and only the last one is outside."""
    escape = regression(sampling, 0.3 if sampling == "with_replacement" else 0.2)
    found = esc.split(escape, key=4, walkers=128, paths=6)
    assert len(found.paths) == 6
    examples = escape.landscape.example_gradients
    for path in found.paths:
        levels = np.array([float(escape.region.level(theta)) for theta in path])
        assert levels[-1] >= 0
        assert (levels[:-1] < 0).all()
        assert levels[0] >= found.threshold - 1e-6
        for before, after in itertools.pairwise(path):
            # A mean of four gradients is no larger than the largest of sixty.
            step = (before - after) / 0.1
            gradients = examples(before)
            assert np.abs(step).max() <= np.abs(gradients).max() + 1e-4


def test_paths_of_a_chain_follow_its_noise():
    """Gaussian steps along reactive paths: larger than unconditioned ones, none impossible."""
    found = esc.split(line(), key=4, walkers=256, paths=20)
    kicks = np.concatenate([path[1:, 0] - 0.9 * path[:-1, 0] for path in found.paths])
    scaled = kicks / (0.1 / np.sqrt(10))
    assert np.abs(scaled).max() < 6.7
    assert scaled.size > 50


# What cannot be done


def test_walkers_that_never_come_back():
    """A second well above the threshold holds a walker for longer than is allowed."""
    escape = esc.Escape(
        esc.landscapes.DoubleWell(),
        esc.GaussianSGD(0.1, 2.0, ISOTROPIC),
        esc.HalfSpace([1.0], 3.2),
        minimum=[-1.0],
    )
    with pytest.raises(NotConverged, match="another attractor"):
        esc.split(escape, walkers=64, runs=2, max_steps=2000)


def test_a_coordinate_that_leads_nowhere():
    """It stops growing on the way: all walkers are tied, far from the exit."""
    escape = line(batch_size=40.0)

    def stuck(theta):
        return jnp.minimum(jnp.abs(theta[0]), 0.12)

    with pytest.raises(NotConverged, match="died out"):
        esc.split(escape, walkers=16, runs=2, coordinate=stuck)


def test_slow_directions_are_named():
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0, 1e-6]),
        esc.GaussianSGD(0.1, 10.0, esc.noise.HessianProportional()),
        esc.Slab([1.0, 0.0], 0.45),
    )
    found = esc.split(escape, walkers=64, runs=4, burn_in=200)
    assert found.relaxation_time == pytest.approx(1e7, rel=1e-3)
    assert any("burn-in" in caution for caution in found.cautions)
    assert "caution" in str(found)


def test_divergence_is_reported():
    def loss(theta):
        return 0.5 * theta @ theta + jnp.where(jnp.abs(theta[0]) > 2, jnp.inf, 1.0) * theta[0] ** 2

    landscape = esc.landscapes.Function(loss, 1, minima=[[0.0]])
    escape = esc.Escape(landscape, esc.GaussianSGD(0.5, 1.0, ISOTROPIC), esc.Ball(4.0))
    with pytest.raises(Diverged, match="learning rate"):
        esc.split(escape, walkers=512, runs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 1}, "runs is 1"),
        ({"walkers": 1}, "walkers is 1"),
        ({"kill": 0.95}, "kill is 0.95"),
        ({"coordinate": "distance"}, "coordinate is 'distance'"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"workers": 0}, "workers is 0"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"key": -3}, "key is -3"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InvalidArgument, match=message):
        esc.split(line(), **options)


def test_bad_tables():
    with pytest.raises(InvalidArgument, match="shape"):
        esc.coordinates.Tabulated((np.arange(3.0),), np.zeros(4))
    with pytest.raises(InvalidArgument, match="regular grid"):
        esc.coordinates.Tabulated((np.array([0.0, 1.0, 3.0]),), np.zeros(3))
    with pytest.raises(InvalidArgument, match="no finite number"):
        esc.coordinates.Tabulated((np.arange(3.0),), np.full(3, np.nan))
    with pytest.raises(InvalidArgument, match=r"escapade\.Escape"):
        esc.split("digits")


def test_results_are_labelled():
    found = esc.split(line(), walkers=64, runs=8, key=1)
    data = found.to_xarray()
    assert data.sizes["run"] == 8
    assert data.attrs["log_mean_exit_time"] == pytest.approx(found.log_mean)
    assert "95 % interval" in str(found)
    by_step = esc.exit_probability(line(), 30, walkers=64, runs=8)
    assert "within 30 steps" in str(by_step)


@pytest.mark.slow
def test_a_start_from_which_many_leave_at_once():
    """Quick exits and late ones, each with its own share: a drift that is no gradient."""

    def shear(theta):
        return jnp.stack([-theta[0] + 4 * theta[1], -theta[1]])

    escape = esc.Escape(
        esc.landscapes.Drift(shear, 2, minima=[[0.0, 0.0]]),
        esc.GaussianSGD(0.2, 4.0, ISOTROPIC),
        esc.HalfSpace([1.0, 0.0], 2.0),
        start=[0.0, 1.3],
        minimum=[0.0, 0.0],
    )
    found, exact = esc.split(escape, key=1, walkers=2048), esc.solve(escape)
    assert 0.05 < found.departure.survived.mean() < 0.6
    assert found.relative_error < 0.2
    assert abs(errors_off(found, exact.log_mean)) < 3


@pytest.mark.parametrize("batch_size", [0.5, 15.0])
def test_a_start_near_the_boundary(batch_size):
    escape = esc.Escape(
        esc.landscapes.Quadratic([1.0]),
        esc.GaussianSGD(0.1, batch_size, ISOTROPIC),
        esc.Ball(0.3),
        start=[0.27],
    )
    found, exact = esc.split(escape, key=1), esc.solve(escape)
    assert found.relative_error < 0.1
    assert abs(errors_off(found, exact.log_mean)) < 3
    assert exact.mean < 0.98 * esc.solve(escape, start=[0.0]).mean


@pytest.mark.parametrize(
    ("coordinate", "error", "message"),
    [
        (lambda theta: 0 * theta[0], NotConverged, "nowhere larger"),
        (lambda theta: theta, InvalidArgument, "shape"),
        (lambda theta: jnp.log(theta[0]), InvalidArgument, "NaN"),
        (lambda theta: float(theta[0]), InvalidArgument, "traced"),
    ],
    ids=["constant", "vector", "nan", "no jax"],
)
def test_coordinates_that_are_none(coordinate, error, message):
    with pytest.raises(error, match=message):
        esc.split(line(), walkers=16, runs=2, coordinate=coordinate)


def test_a_coordinate_of_steps():
    """Zero on most of the region: the threshold is its first step."""
    found = esc.split(
        line(batch_size=2.0), key=3, coordinate=lambda theta: jnp.floor(10 * jnp.abs(theta[0]))
    )
    exact = esc.solve(line(batch_size=2.0))
    assert found.relative_error < 0.05
    assert abs(errors_off(found, exact.log_mean)) < 3


def test_checkpoints_tell_functions_apart(tmp_path):
    """Two lambdas of one name, with another number inside."""
    for radius in (0.2, 0.3):
        escape = esc.Escape(
            esc.landscapes.Quadratic([1.0]),
            esc.GaussianSGD(0.1, 10.0, ISOTROPIC),
            esc.Where(lambda theta, radius=radius: jnp.abs(theta[0]) < radius),
        )
        if radius == 0.2:
            esc.exit_probability(escape, 30, walkers=64, runs=2, checkpoint=tmp_path)
        else:
            with pytest.raises(InvalidArgument, match="another calculation"):
                esc.exit_probability(escape, 30, walkers=64, runs=2, checkpoint=tmp_path)
