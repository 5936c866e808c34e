"""The result of an ensemble: what is counted, excluded, shown and stored."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

from escapade.errors import Diverged, InvalidArgument
from escapade.exits import statistics
from escapade.exits.sample import ExitSample


def sample_of(times, censored=None, diverged=None, **others):
    """A sample in the plane; exits on the first axis at distance 2 from the start (1, 0)."""
    times = np.asarray(times)
    none = np.zeros(times.size, dtype=bool)
    fields = {
        "times": times,
        "censored": none if censored is None else np.asarray(censored, dtype=bool),
        "diverged": none if diverged is None else np.asarray(diverged, dtype=bool),
        "exit_points": np.tile([3.0, 0.0], (times.size, 1)),
        "start": np.array([1.0, 0.0]),
        "max_steps": 1000,
        "seconds": 1.5,
        "precision": "float64",
        "engine": "jax",
        "key": "7",
    }
    return ExitSample(**(fields | others))


@pytest.fixture
def mixed():
    """Three exits, one replica inside after 1000 steps, one diverged after 40."""
    points = np.array([[3.0, 0.0], [1.0, 5.0], [2.0, 1.0], [1.5, 0.0], [np.nan, np.inf]])
    return sample_of(
        [100, 250, 400, 1000, 40],
        censored=[0, 0, 0, 1, 0],
        diverged=[0, 0, 0, 0, 1],
        exit_points=points,
    )


def geometric_sample(mean=300, size=400, last=10**6, seed=0):
    times = np.random.default_rng(seed).geometric(1 / mean, size)
    return sample_of(np.minimum(times, last), censored=times > last, max_steps=10**6)


def test_counts(mixed):
    assert (mixed.replicas, mixed.exits, mixed.walker_steps) == (5, 3, 1790)
    assert mixed.times.dtype == np.int64


def test_diverged_replicas_are_in_no_statistic(mixed):
    times = np.array([100, 250, 400, 1000])
    censored = np.array([False, False, False, True])
    assert mixed.mean == 1750 / 3
    assert mixed.standard_error == pytest.approx(1750 / 3 / np.sqrt(3))
    assert mixed.interval == statistics.mean_interval(times, censored)
    variation = statistics.coefficient_of_variation(times, censored)
    assert mixed.coefficient_of_variation == variation.value
    assert mixed.exponentiality == statistics.exponentiality_test(times, censored)
    assert mixed.kaplan_meier().at_risk[0] == 4
    assert mixed.survival(250) == 0.5
    np.testing.assert_array_equal(mixed.survival(np.array([0, 100])), [1, 0.75])
    hazard = mixed.hazard(bins=np.array([0, 1000]))
    np.testing.assert_array_equal(hazard.exposure, [1750])


def test_a_diverged_replica_is_no_exit_even_if_also_marked_censored():
    sample = sample_of([5, 9], censored=[0, 1], diverged=[0, 1])
    assert (sample.exits, sample.mean) == (1, 5.0)


def test_a_sample_that_all_diverged_has_no_mean_but_can_be_shown_and_stored():
    sample = sample_of([4, 6], diverged=[1, 1], exit_points=np.full((2, 2), np.nan))
    for name in ("mean", "interval", "standard_error", "coefficient_of_variation"):
        with pytest.raises(Diverged, match="all 2 replicas"):
            getattr(sample, name)
    with pytest.raises(Diverged):
        sample.survival(3)
    with pytest.raises(Diverged):
        sample.hazard()
    assert "2 diverged (excluded)" in repr(sample)
    restored = ExitSample.from_xarray(sample.to_xarray())
    np.testing.assert_array_equal(restored.diverged, [True, True])


def test_a_single_replica():
    sample = sample_of([50])
    assert (sample.mean, sample.exits) == (50.0, 1)
    assert sample.interval[0] < 50 < sample.interval[1]
    assert np.isnan(sample.coefficient_of_variation)
    assert "mean exit time" in repr(sample)


def test_no_exit():
    sample = sample_of([1000, 1000], censored=[1, 1])
    assert sample.mean == np.inf
    assert sample.interval == (pytest.approx(2000 / np.log(20)), np.inf)
    assert "no exit seen; above 667.6 steps" in repr(sample)
    assert np.isnan(sample.exit_directions(np.eye(2)).value).all()


def test_the_test_of_the_exponential_law_is_computed_once():
    sample = geometric_sample()
    assert sample.exponentiality is sample.exponentiality


# ---- exit directions --------------------------------------------------------------------------


def test_exit_directions_by_hand(mixed):
    # Displacements from the start: (2, 0), (0, 5), (1, 1).
    found = mixed.exit_directions(np.eye(2))
    np.testing.assert_allclose(found.value, [0.5, 0.5])
    error = np.std([1, 0, 0.5], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(found.standard_error, [error, error])


def test_exit_directions_use_the_centre_and_normalise(mixed):
    found = mixed.exit_directions(np.array([[0.0], [-3.0]]), center=np.array([1.0, 1.0]))
    # Displacements from (1, 1): (2, -1), (0, 4), (1, 0).
    np.testing.assert_allclose(found.value, [(1 / 5 + 1 + 0) / 3])


def test_exit_directions_of_isotropic_exits():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4000, 5))
    sample = sample_of(np.ones(4000, dtype=int), exit_points=points, start=np.zeros(5))
    basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    found = sample.exit_directions(basis)
    assert found.value.sum() == pytest.approx(1)
    # Var cos^2 = 3 / (d (d + 2)) - 1 / d^2 for a uniform direction in dimension d.
    error = np.sqrt((3 / 35 - 1 / 25) / 4000)
    assert np.abs(found.value - 0.2).max() < 4 * error
    np.testing.assert_allclose(found.standard_error, error, rtol=0.1)


@pytest.mark.parametrize(
    ("eigenvectors", "center"),
    [
        (np.eye(3), None),
        (np.ones(2), None),
        (np.eye(2), np.zeros(3)),
        (np.zeros((2, 1)), None),
        (np.eye(2), np.array([3.0, 0.0])),
    ],
)
def test_exit_directions_refuse_what_has_no_direction(mixed, eigenvectors, center):
    with pytest.raises(InvalidArgument, match="eigenvector"):
        mixed.exit_directions(eigenvectors, center=center)


# ---- showing ----------------------------------------------------------------------------------


def test_representation():
    sample = sample_of([4000, 5000, 6500, 8000], max_steps=10**6)
    lower, upper = sample.interval
    lines = repr(sample).splitlines()
    assert f"5,875 steps, 95 % interval {lower:,.0f} to {upper:,.0f}" in lines[1]
    assert "4: 4 exits, 0 censored, 0 diverged" in lines[2]
    assert f"{sample.coefficient_of_variation:.3g} ±" in lines[3]
    assert f"p = {sample.exponentiality.p_value:.2g}" in lines[4]
    assert "jax, float64, 23,500 steps in 1.5 s" in lines[5]
    assert len(lines) == 6


def test_representation_tells_of_diverged_and_many_censored(mixed):
    text = repr(mixed)
    assert "5: 3 exits, 1 censored, 1 diverged (excluded)" in text
    assert "25% censored" in text
    assert "censored:" not in repr(geometric_sample())


def test_representation_tells_when_censoring_hides_a_law_that_is_not_exponential():
    times = np.rint(np.random.default_rng(2).gamma(100, 3, 200)).astype(int)
    sharp = sample_of(np.minimum(times, 300), censored=times > 300)
    assert "which the exits contradict" in repr(sharp)
    assert "contradict" not in repr(geometric_sample(last=300, seed=3))


def test_html_representation_shows_the_same_and_is_escaped():
    html = sample_of([5, 9], engine="<torch>")._repr_html_()
    assert "&lt;torch&gt;" in html
    assert "<torch>" not in html
    assert "2: 2 exits, 0 censored, 0 diverged" in html


# ---- storing ----------------------------------------------------------------------------------


def assert_same(one, other):
    for field in dataclasses.fields(ExitSample):
        value, restored = getattr(one, field.name), getattr(other, field.name)
        assert type(value) is type(restored)
        np.testing.assert_array_equal(value, restored)
        if isinstance(value, np.ndarray):
            assert value.dtype == restored.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_netcdf_round_trip(mixed, dtype, tmp_path):
    sample = dataclasses.replace(mixed, exit_points=mixed.exit_points.astype(dtype))
    sample.to_xarray().to_netcdf(tmp_path / "sample.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sample.nc", engine="h5netcdf") as dataset:
        assert_same(sample, ExitSample.from_xarray(dataset.load()))


def test_netcdf_of_a_sample_without_an_exit(tmp_path):
    sample = sample_of([1000, 1000], censored=[1, 1])
    sample.to_xarray().to_netcdf(tmp_path / "sample.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "sample.nc", engine="h5netcdf") as dataset:
        assert dataset.attrs["mean_exit_time"] == np.inf
        assert_same(sample, ExitSample.from_xarray(dataset.load()))


def test_dataset_carries_units_and_the_headline(mixed):
    dataset = mixed.to_xarray()
    assert dict(dataset.sizes) == {"replica": 5, "parameter": 2}
    assert dataset["times"].attrs["units"] == "SGD steps"
    assert dataset.attrs["mean_exit_time"] == mixed.mean
    np.testing.assert_array_equal(dataset.attrs["mean_exit_time_interval_95"], mixed.interval)


def test_from_xarray_names_what_is_missing(mixed):
    dataset = mixed.to_xarray().drop_vars("start")
    del dataset.attrs["engine"]
    with pytest.raises(InvalidArgument, match="lacks start, engine"):
        ExitSample.from_xarray(dataset)


# ---- joining and refusing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"times": np.array([], dtype=int)}, "times"),
        ({"times": np.array([[3, 4]])}, "times"),
        ({"times": np.array([3.0, 4.0])}, "times"),
        ({"times": np.array([0, 4])}, "times"),
        ({"times": np.array([3, 1001])}, "max_steps"),
        ({"censored": np.array([True])}, "censored"),
        ({"diverged": np.array([0, 1])}, "diverged"),
        ({"exit_points": np.zeros((2, 3))}, "exit_points"),
        ({"exit_points": np.array([[0.0, np.nan], [0.0, 1.0]])}, "diverged"),
        ({"start": np.zeros((1, 2))}, "start"),
    ],
)
def test_bad_samples_are_refused(change, name):
    with pytest.raises(InvalidArgument, match=name):
        dataclasses.replace(sample_of([3, 4]), **change)


def test_a_sample_is_immutable_and_a_pytree(mixed):
    with pytest.raises(dataclasses.FrozenInstanceError):
        mixed.times = np.array([1])
    assert_same(mixed, jax.tree.map(lambda leaf: leaf, mixed))


def test_restricted_mean_assumes_no_law(mixed):
    known = statistics.restricted_mean(
        mixed.times[~mixed.diverged], mixed.censored[~mixed.diverged]
    )
    assert mixed.restricted_mean == known
    plain = sample_of([3, 5, 10])
    assert plain.restricted_mean.value == pytest.approx(6.0)
    assert plain.mean == pytest.approx(6.0)
