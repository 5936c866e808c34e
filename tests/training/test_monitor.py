"""A monitor on quadratic losses over examples, where everything is known."""

import json
import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import escapade as esc
from escapade.errors import InvalidArgument
from escapade.training import Monitor, read_records

DIM, EXAMPLES = 5, 300
CURVATURES = np.array([4.0, 1.0, 0.5, 0.3, 0.2])


def quadratic(parameters, push):
    theta = jnp.concatenate([parameters["a"], parameters["b"].ravel()])
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES) * theta**2) + jnp.dot(push, theta)


@pytest.fixture(scope="module")
def pushes():
    rng = np.random.default_rng(0)
    pushes = rng.standard_normal((EXAMPLES, DIM)) * np.array([1.0, 0.5, 2.0, 0.3, 1.0])
    return pushes - pushes.mean(axis=0)


@pytest.fixture(scope="module")
def landscape(pushes):
    parameters = {"a": np.full(2, 0.1), "b": np.full((3, 1), 0.1)}
    return esc.landscapes.Empirical(quadratic, parameters, pushes)


def watch(landscape, rate=0.1, batch_size=8, **options):
    options = {"every": 10, "examples": EXAMPLES, "precision": "float64", **options}
    return Monitor(landscape, rate, batch_size, **options)


def train(monitor, pushes, steps, rate=0.1, batch_size=8, seed=1, theta=None, **scheduled):
    rng = np.random.default_rng(seed)
    theta = np.zeros(DIM) if theta is None else theta
    for _ in range(steps):
        chosen = rng.integers(0, EXAMPLES, batch_size)
        theta = theta - rate * (CURVATURES * theta + pushes[chosen].mean(axis=0))
        monitor.step(theta, **scheduled)
    return theta


@pytest.fixture(scope="module")
def watched(landscape, pushes):
    monitor = watch(landscape, depth=0.05, directions=2)
    return monitor, train(monitor, pushes, 2000)


def test_records_are_what_dense_algebra_gives(watched, pushes):
    monitor, theta = watched
    assert [record.step for record in monitor.records] == list(range(1, 2000, 10))
    again = watch(monitor._subset.landscape, depth=0.05, every=1)
    again.step(theta)
    record, gradient = again.records[0], CURVATURES * theta
    covariance = np.cov(pushes.T, bias=True)
    assert record.loss == pytest.approx(0.5 * CURVATURES @ theta**2)
    assert record.gradient_norm == pytest.approx(np.linalg.norm(gradient))
    assert record.sharpness == pytest.approx(4)
    assert record.noise_variance == pytest.approx(covariance[0, 0], rel=1e-6)
    assert record.linear_margin == pytest.approx(2 / 4 / 0.1)
    # Every example curves alike, so minibatches do not destabilise.
    assert record.mean_square_margin == pytest.approx(record.linear_margin)
    assert record.sharpness_error == pytest.approx(0, abs=1e-9)
    assert record.mechanism == "activated"
    assert record.error == ""


def test_the_trace_of_the_noise_is_unbiased(watched, pushes):
    traces = np.array([record.noise_trace for record in watched[0].records])
    error = traces.std() / np.sqrt(len(traces))
    assert traces.mean() == pytest.approx(pushes.var(axis=0).sum(), abs=4 * error)


def test_noise_alone_accumulates_what_is_expected(watched):
    last = watched[0].records[-1]
    assert last.expected_steepness == pytest.approx(199)  # two directions, 1/2 each
    assert last.steepness == pytest.approx(199, abs=4 * np.sqrt(199))


def test_a_climb_shows_as_excess(landscape, pushes):
    monitor = watch(landscape)
    theta = train(monitor, pushes, 51)
    for step in range(30):
        monitor.step(theta + np.eye(DIM)[0] * 0.1 * step)
    last = monitor.records[-1]
    assert last.excess_steepness > 20 * np.sqrt(last.expected_steepness)


def test_a_subset_is_expected_to_err(landscape, pushes):
    monitor = watch(landscape, examples=50)
    train(monitor, pushes, 1000)
    last = monitor.records[-1]
    assert last.expected_steepness > 60  # 50 without the subset's error
    # Its error is the same at every record, so only the size of the excess can be judged.
    assert abs(last.excess_steepness) < 3 * last.expected_steepness


def test_a_schedule_is_followed(landscape, pushes):
    monitor = watch(landscape)
    theta, rng, spent = np.zeros(DIM), np.random.default_rng(3), 0.0
    covariance = np.atleast_2d(pushes.var(axis=0)[0])
    mean, variance = np.nan, np.nan
    for step in range(1, 202):
        rate = 0.1 / step**0.3
        theta = theta - rate * (CURVATURES * theta + pushes[rng.integers(0, 300, 8)].mean(axis=0))
        mean = mean - rate * 4 * mean
        variance = (1 - 4 * rate) ** 2 * variance + rate**2 * covariance[0, 0] / 8
        if step % 10 == 1:
            if step > 1:
                spent += 0.5 * (theta[0] - mean) ** 2 / variance
            mean, variance = theta[0], 0.0
        monitor.step(theta, learning_rate=rate)
    last = monitor.records[-1]
    assert last.learning_rate == pytest.approx(0.1 / 201**0.3)
    assert last.steepness == pytest.approx(spent, rel=1e-5)


def test_stays_end_where_the_slab_is_left(landscape):
    monitor = watch(landscape, depth=0.02, every=1)  # half-width 0.1 across the first axis
    for where in (0.0, 0.05, 0.09, 0.12, 0.15, 0.21, 0.23, 0.0):
        monitor.step(np.array([where, 0, 0, 0, 0]))
    assert [record.stay for record in monitor.records] == [0, 0, 0, 1, 1, 1, 2, 3]
    assert [record.displacement for record in monitor.records][3] == pytest.approx(1.2)
    found = monitor.stays
    assert [stay.steps for stay in found] == [3, 3, 1, 0]
    assert [stay.escaped for stay in found] == [True, True, True, False]
    assert found[0].predicted == monitor.records[0].exit_steps


def test_every_form_of_the_parameters_is_read(landscape):
    monitor = watch(landscape, every=1)
    theta = np.arange(DIM) / 10
    tree = {"a": jnp.asarray(theta[:2]), "b": jnp.asarray(theta[2:, None])}
    for form in (theta, list(theta), jnp.asarray(theta), tree):
        monitor.step(form)
    losses = [record.loss for record in monitor.records]
    assert losses == pytest.approx([losses[0]] * 4)


def test_an_equinox_module_is_read():
    data = esc.data.load("breast_cancer")
    network = esc.landscapes.MLP((30, 3, 2), key=1)
    landscape = esc.landscapes.network_landscape(network, data)
    monitor = Monitor(landscape, 0.1, 16, every=1, examples=64, sampling="shuffled_epochs")
    monitor.step(network)
    monitor.step(landscape.initial)
    first, second = monitor.records
    assert first.error == second.error == ""
    assert first.loss == pytest.approx(second.loss)
    assert first.sharpness == pytest.approx(second.sharpness, rel=1e-2)
    assert first.sharpness_error > 0


def test_failures_do_not_reach_the_training(landscape, pushes):
    monitor = watch(landscape, every=1)
    with pytest.warns(UserWarning, match="no record at step 1: theta has shape"):
        monitor.step(np.zeros(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a second failure is silent
        monitor.step(np.full(DIM, np.nan))
        monitor.step({"other": np.zeros(2)})
        monitor.step(None)
        monitor.step(np.zeros(DIM), learning_rate="fast")
        train(monitor, pushes, 3)
    assert [bool(record.error) for record in monitor.records] == [True] * 4 + [False] * 3
    assert "Diverged" in monitor.records[1].error
    assert monitor.records[-1].steepness > 0
    assert len(monitor.to_xarray().step) == 7


def test_momentum_and_others_leave_out_what_does_not_apply(landscape, pushes):
    heavy = watch(landscape, momentum=0.9)
    train(heavy, pushes, 11)
    last = heavy.records[-1]
    assert last.linear_margin == pytest.approx(2 * 1.9 / 4 / 0.1, rel=1e-3)
    for name in ("mean_square_margin", "exit_steps", "steepness", "expected_steepness"):
        assert math.isnan(getattr(last, name))
    assert "momentum 0.9" in last.note
    adam = watch(landscape, optimiser="Adam")
    train(adam, pushes, 1)
    assert math.isnan(adam.records[0].linear_margin)
    assert "Adam" in adam.records[0].note
    assert adam.records[0].sharpness == pytest.approx(4, rel=1e-3)


def test_the_table_grows_row_by_row_and_a_killed_run_goes_on(landscape, pushes, tmp_path):
    monitor = watch(landscape, folder=tmp_path)
    theta = train(monitor, pushes, 35)
    table = tmp_path / "records.csv"
    assert [record.step for record in read_records(table)] == [1, 11, 21, 31]
    table.write_text(table.read_text() + "41,0.5,0.1,3.")  # cut off while writing
    resumed = watch(landscape, folder=tmp_path)
    before = resumed.records[-1]
    assert before.step == 31
    train(resumed, pushes, 25, theta=theta)
    steps = [record.step for record in read_records(tmp_path)]
    assert steps == [1, 11, 21, 31, 32, 42, 52]
    first, second = resumed.records[4], resumed.records[5]
    assert first.note == "resumed"
    assert first.steepness == before.steepness < second.steepness
    assert first.stay == before.stay + 1
    assert not resumed.stays[before.stay].escaped
    resumed.close()
    stored = json.loads((tmp_path / "records.json").read_text())
    assert [row["step"] for row in stored["records"]] == steps
    assert stored["monitor"]["batch_size"] == 8


def test_nothing_is_recorded_twice_when_steps_are_done_again(landscape, pushes, tmp_path):
    monitor = watch(landscape, folder=tmp_path)
    train(monitor, pushes, 25)
    again = watch(landscape, folder=tmp_path)
    for step in range(16, 30):  # from a checkpoint at step 15
        again.step(np.zeros(DIM), step=step)
    assert [record.step for record in read_records(tmp_path)] == [1, 11, 21, 22]


def test_a_context_closes_it(landscape, pushes, tmp_path):
    with watch(landscape, folder=tmp_path) as monitor:
        train(monitor, pushes, 2)
    assert (tmp_path / "records.json").exists()


class Writer:
    """As strict as TensorBoard's: it takes numbers, not strings, and whole steps."""

    def __init__(self):
        self.scalars = []

    def add_scalar(self, tag, scalar_value, global_step=None):
        assert isinstance(tag, str)
        assert isinstance(global_step, int)
        self.scalars.append((tag, float(scalar_value), global_step))


def test_scalars_go_to_a_writer(landscape, pushes):
    writer = Writer()
    monitor = watch(landscape, tensorboard=writer)
    train(monitor, pushes, 1)
    assert ("escapade/sharpness", monitor.records[0].sharpness, 1) in writer.scalars
    assert all(math.isfinite(value) for _, value, _ in writer.scalars)


def test_a_full_disk_does_not_end_the_training(landscape, pushes, tmp_path, monkeypatch):
    monitor = watch(landscape, folder=tmp_path)

    def full(record):
        raise OSError("no space left on device")

    monkeypatch.setattr(monitor._log, "write", full)
    with pytest.warns(UserWarning, match="no space left"):
        train(monitor, pushes, 12)
    assert len(monitor.records) == 2


def test_it_becomes_a_dataset(watched):
    dataset = watched[0].to_xarray()
    assert dataset.sizes == {"step": 200}
    assert dataset.sharpness.values[-1] == watched[0].records[-1].sharpness
    assert dataset.attrs["batch_size"] == 8
    assert "Monitor of 300 of 300 examples every 10 steps" in repr(watched[0])


def test_records_read_back_are_the_same(watched, tmp_path):
    from escapade.training.log import Log

    log = Log(tmp_path)
    log.read()
    for record in watched[0].records[:20]:
        log.write(record)
    for record, again in zip(watched[0].records, read_records(tmp_path), strict=False):
        for name in vars(record):
            one, other = getattr(record, name), getattr(again, name)
            assert one == other or (math.isnan(one) and math.isnan(other))


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "records.csv").write_text("a,b\n1,2\n")
    with pytest.raises(esc.errors.DataError, match="holds no records of a monitor"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"examples": 0.5}, "examples is 0.5"),
        ({"directions": 9}, "directions is 9"),
        ({"depth": -1.0}, "depth is -1"),
        ({"momentum": 1.0}, "momentum is 1"),
        ({"sampling": "bootstrap"}, "sampling is 'bootstrap'"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"tensorboard": 3}, "tensorboard is a int"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_bad_arguments_are_refused(landscape, options, message):
    with pytest.raises(InvalidArgument, match=message):
        watch(landscape, **options)


def test_a_landscape_without_examples_is_refused():
    with pytest.raises(InvalidArgument, match="needs a loss over examples"):
        Monitor(esc.landscapes.DoubleWell(), 0.1, 8)


def test_tensorboard_by_folder_needs_it_installed(landscape, tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(InvalidArgument, match="pip install"):
            watch(landscape, tensorboard=tmp_path)
    else:
        watch(landscape, tensorboard=tmp_path).close()
        assert list(tmp_path.iterdir())


def test_tensorboard_itself_reads_what_was_recorded(landscape, pushes, tmp_path):
    pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monitor = watch(landscape, tensorboard=tmp_path / "runs")
    train(monitor, pushes, 12)
    monitor.close()
    events = accumulator.EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    sharpness = events.Scalars("escapade/sharpness")
    assert [event.step for event in sharpness] == [record.step for record in monitor.records]
    assert [event.value for event in sharpness] == pytest.approx(
        [record.sharpness for record in monitor.records], rel=1e-6
    )
    assert "escapade/note" not in events.Tags()["scalars"]
