"""Data sets: what is loaded is what was published, and anything else is refused by name."""

import csv
import http.server
import io
import math
import threading
import zipfile
from collections import Counter
from pathlib import Path

import equinox as eqx
import numpy as np
import pooch
import pytest
from sklearn.preprocessing import StandardScaler

from escapade.data import Dataset, _avila, _options, available, avila, breast_cancer, digits, load
from escapade.errors import DataError, InvalidArgument

# avila-description.txt of the archive, "Class distribution (training set)".
TRAIN_COUNTS = [4286, 5, 103, 352, 1095, 1961, 446, 519, 831, 44, 522, 266]
CLASSES = "ABCDEFGHIWXY"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path):
    """No test sees the user's cache, environment or network."""
    monkeypatch.delenv("ESCAPADE_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(_avila, "REPOSITORY", "http://127.0.0.1:9/")


@pytest.fixture
def published(avila_archive) -> dict[str, bytes]:
    with zipfile.ZipFile(avila_archive) as archive:
        return {name: archive.read(f"avila/{name}") for name in ("avila-tr.txt", "avila-ts.txt")}


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def rows_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("ascii"))))


# --- AVILA, against the published files read by other means ---------------------------------


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["avila-tr.txt"]),
        ("test", ["avila-ts.txt"]),
        ("both", ["avila-tr.txt", "avila-ts.txt"]),
    ],
)
def test_avila_holds_the_published_numbers(avila_archive, published, split, names):
    rows = [row for name in names for row in rows_of(published[name])]
    data = avila(avila_archive, split, preprocessing="none", labels="class")
    assert np.array_equal(data.inputs, [[float(x) for x in row[:-1]] for row in rows])
    assert "".join(CLASSES[label] for label in data.labels) == "".join(row[-1] for row in rows)
    assert (data.examples, data.features, data.classes) == (len(rows), 10, 12)
    assert data.inputs.dtype == np.float64


def test_avila_has_the_published_sizes(avila_archive):
    train = avila(avila_archive, labels="class")
    assert train.examples == 10430
    assert np.bincount(train.labels).tolist() == TRAIN_COUNTS
    assert avila(avila_archive, "test").examples == 10437


def test_avila_of_the_paper(avila_archive, published):
    """Rows by their definition, in Python floats; labels as the parity of the letter's code."""
    rows = rows_of(published["avila-tr.txt"])
    data = avila(avila_archive)
    assert data.preprocessing == "paper"
    for index in (0, 1, 5000, 10429):
        raw = [float(x) for x in rows[index][:-1]]
        centred = [x - math.fsum(raw) / 10 for x in raw]
        length = math.sqrt(math.fsum(x * x for x in centred))
        np.testing.assert_allclose(data.inputs[index], [x / length for x in centred], rtol=1e-13)
    assert np.abs(data.inputs.mean(axis=1)).max() < 1e-15
    np.testing.assert_allclose(np.linalg.norm(data.inputs, axis=1), 1, rtol=1e-14)
    assert data.labels.tolist() == [(ord(row[-1]) - ord("A")) % 2 for row in rows]
    # W is the 23rd letter of the alphabet but the 10th copyist: parity is that of the letter.
    letters = Counter(row[-1] for row in rows)
    assert data.labels.sum() == sum(letters[letter] for letter in "BDFHX")
    assert data.classes == 2


def test_avila_standard_is_over_the_split_loaded(avila_archive):
    for split in ("train", "both"):
        raw = avila(avila_archive, split, preprocessing="none").inputs
        data = avila(avila_archive, split, preprocessing="standard")
        np.testing.assert_allclose(data.inputs, StandardScaler().fit_transform(raw), atol=1e-12)


# --- AVILA, wherever it lies -----------------------------------------------------------------


def test_avila_is_found_in_every_layout(avila_archive, published, tmp_path, monkeypatch):
    expected = avila(avila_archive, "both")
    text, nested, zipped = tmp_path / "text", tmp_path / "nested", tmp_path / "zipped"
    for folder in (text, nested / "avila", zipped):
        folder.mkdir(parents=True)
    for name, content in published.items():
        (text / name).write_bytes(content)
        (nested / "avila" / name).write_bytes(content)
    pack(zipped / "avila.zip", published)
    shadows = {f"__MACOSX/avila/{name}": b"shadow" for name in published}
    shadows |= {f"./avila/._{name}": b"shadow" for name in published}
    repacked = pack(
        tmp_path / "repacked.zip",
        shadows | {f"./some/avila/{name}": content for name, content in published.items()},
    )
    for place in (text, nested, zipped, repacked, str(repacked)):
        assert eqx.tree_equal(avila(place, "both"), expected)
        monkeypatch.setenv("ESCAPADE_DATA", str(place))
        assert eqx.tree_equal(avila(split="both"), expected)


def test_the_argument_wins_over_the_environment(avila_archive, monkeypatch, tmp_path):
    monkeypatch.setenv("ESCAPADE_DATA", str(tmp_path / "absent"))
    assert avila(avila_archive).examples == 10430
    with pytest.raises(DataError, match=r"ESCAPADE_DATA='.*absent' does not exist"):
        avila()


def test_one_split_needs_one_file(published, tmp_path):
    (tmp_path / "avila-ts.txt").write_bytes(published["avila-ts.txt"])
    assert avila(tmp_path, "test").examples == 10437
    with pytest.raises(DataError, match=r"holds neither avila-tr\.txt nor avila\.zip"):
        avila(tmp_path, "both")


# --- AVILA, refused --------------------------------------------------------------------------


def refusal(path: Path, **options: str) -> str:
    """The message of the refusal, which names the path and the way out in one line."""
    with pytest.raises(DataError) as caught:
        avila(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "path=..." in message
    assert "ESCAPADE_DATA" in message
    assert "\n" not in message
    return message


def test_missing_path(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.zip")


def test_empty_folder(tmp_path):
    assert "holds neither" in refusal(tmp_path)


def test_unreadable_path(tmp_path):
    assert "cannot be read" in refusal(tmp_path / ("long" * 1000))


def test_a_file_that_is_no_archive(tmp_path):
    path = tmp_path / "avila.zip"
    path.write_text("<html>Please log in to the wireless network</html>")
    assert "not a readable zip archive" in refusal(path)
    path.write_bytes(b"")
    assert "not a readable zip archive" in refusal(path)


def test_missing_member(published, tmp_path):
    path = pack(tmp_path / "avila.zip", {"avila/avila-tr.txt": published["avila-tr.txt"]})
    assert avila(path).examples == 10430
    assert "has no member avila-ts.txt" in refusal(path, split="test")


def test_wrong_member(published, tmp_path):
    path = pack(tmp_path / "avila.zip", {"avila-tr.txt": published["avila-ts.txt"]})
    message = refusal(path)
    assert "999942 bytes" in message
    assert "not 999319 bytes" in message


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.999])
def test_truncated_files(avila_archive, published, tmp_path, fraction):
    archive = tmp_path / "avila.zip"
    content = avila_archive.read_bytes()
    archive.write_bytes(content[: int(fraction * len(content))])
    assert "not a readable zip archive" in refusal(archive)
    text = tmp_path / "text"
    text.mkdir()
    content = published["avila-tr.txt"]
    (text / "avila-tr.txt").write_bytes(content[: int(fraction * len(content))])
    assert "truncated or altered" in refusal(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.266074", b"0.266075"),  # one digit of the first number
        (b"0.266074", b"nan"),
        (b"\n", b"\r\n"),
    ],
)
def test_altered_file(published, tmp_path, old, new):
    altered = published["avila-tr.txt"].replace(old, new)
    assert altered != published["avila-tr.txt"]
    (tmp_path / "avila-tr.txt").write_bytes(altered)
    assert "truncated or altered" in refusal(tmp_path)


def test_damaged_archives_never_pass_or_escape(avila_archive, published, tmp_path):
    """Random bytes in its index, where zipfile is fragile: the published data or a DataError."""
    rng = np.random.default_rng(0)
    path = tmp_path / "avila.zip"
    content = np.frombuffer(avila_archive.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        damaged = content.copy()
        damaged[-rng.integers(1, 400, 4)] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            (read,) = _avila._read(path, (_avila.TRAIN,))
        except DataError:
            refused += 1
        else:
            assert read == published["avila-tr.txt"]
    assert 0 < refused < 300


def test_an_archive_with_a_name_that_is_no_text(avila_archive, tmp_path):
    """zipfile raises UnicodeDecodeError for such a name, no error of its own."""
    content = bytearray(avila_archive.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 9] |= 0x08  # the flag that says: this name is UTF-8
    content[entry + 46] = 0xFF  # the first byte of the name
    path = tmp_path / "avila.zip"
    path.write_bytes(content)
    with pytest.raises(UnicodeDecodeError):
        zipfile.ZipFile(path)
    assert "not a readable zip archive" in refusal(path)


# --- AVILA, downloaded -----------------------------------------------------------------------


class Repository(http.server.ThreadingHTTPServer):
    """A local stand-in for the UCI repository, serving one archive and counting its visitors."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.archive: bytes | None = None
        self.visits = 0


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.visits += 1
        found = self.path == "/459/avila.zip" and self.server.archive is not None
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(self.server.archive)

    def log_message(self, *_):
        pass


@pytest.fixture
def repository(monkeypatch):
    with Repository() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/459/"
        monkeypatch.setattr(_avila, "REPOSITORY", url)
        yield server
        server.shutdown()
        thread.join()


def test_download_happens_once(avila_archive, repository, tmp_path):
    repository.archive = avila_archive.read_bytes()
    first, second = avila(split="both"), avila(split="both")
    assert eqx.tree_equal(first, second)
    assert eqx.tree_equal(first, avila(avila_archive, "both"))
    assert repository.visits == 1
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in cached] == ["avila.zip"]


def test_a_wrong_download_is_not_kept(avila_archive, repository, tmp_path):
    repository.archive = b"<html>Please log in to the wireless network</html>"
    with pytest.raises(DataError, match=r"not a readable zip archive.*copy has been removed"):
        avila()
    assert not list((tmp_path / "cache").rglob("*.zip"))
    repository.archive = avila_archive.read_bytes()
    assert avila().examples == 10430


def test_absent_from_the_repository(repository):
    with pytest.raises(DataError, match=r"could not be downloaded.*HTTPError"):
        avila()


def test_offline():
    with pytest.raises(DataError, match=r"could not be downloaded.*path=\.\.\.") as caught:
        avila()
    assert "\n" not in str(caught.value)


# --- scikit-learn's ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "counts"),
    [
        (digits, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),  # UCI, optdigits.names
        (breast_cancer, [212, 357]),  # UCI, wdbc.names: malignant, benign
    ],
)
def test_embedded_data_sets(loader, counts):
    raw = loader(preprocessing="none")
    assert np.bincount(raw.labels).tolist() == counts
    assert raw.classes == len(counts)
    standard = loader()
    assert standard.preprocessing == "standard"
    np.testing.assert_allclose(
        standard.inputs, StandardScaler().fit_transform(raw.inputs), rtol=1e-9, atol=1e-9
    )
    paper = loader("paper")
    np.testing.assert_allclose(paper.inputs.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(paper.inputs, axis=1), 1, rtol=1e-14)
    assert np.array_equal(paper.labels, raw.labels)
    parity = loader(labels="parity")
    assert parity.labels.tolist() == [label % 2 for label in raw.labels.tolist()]
    assert parity.classes == 2


def test_blank_pixels_stay_zero():
    raw, standard = digits("none").inputs, digits().inputs
    blank = np.ptp(raw, axis=0) == 0
    assert blank.sum() == 3
    assert np.all(standard[:, blank] == 0)


@pytest.mark.parametrize("how", ["paper", "standard"])
def test_constants_become_zero(how):
    """0.1 is not a binary fraction: its mean is off by rounding, which must not be amplified."""
    inputs = np.array([[0.1, 0.1, 0.1], [0.1, 2.0, 3.0], [0.1, 5.0, 7.0]])
    scaled = _options.preprocess(inputs, how)
    assert np.all((scaled[0] if how == "paper" else scaled[:, 0]) == 0)
    rest = scaled[1:] if how == "paper" else scaled[:, 1:].T
    length = 1 if how == "paper" else math.sqrt(3)
    np.testing.assert_allclose(np.linalg.norm(rest, axis=1), length, rtol=1e-14)


# --- by name ---------------------------------------------------------------------------------


def test_load_dispatches(avila_archive):
    data = load("avila", path=avila_archive, split="test", preprocessing="none")
    assert eqx.tree_equal(data, avila(avila_archive, "test", "none"))
    assert eqx.tree_equal(load("digits", labels="parity"), digits(labels="parity"))
    assert eqx.tree_equal(load("breast_cancer"), breast_cancer())


def test_available_describes_each(avila_archive):
    descriptions = available()
    assert set(descriptions) == {"avila", "digits", "breast_cancer", "fashion_mnist"}
    del descriptions["fashion_mnist"]  # not on every machine: see test_fashion_mnist.py
    for name, description in descriptions.items():
        options = {"path": avila_archive} if name == "avila" else {}
        data = load(name, **options)
        assert data.name == name
        assert str(data.examples) in description
        assert f"{data.features} features" in description
        assert "\n" not in description
        assert "CC BY 4.0" in data.source
        assert "doi:" in data.source


def test_unknown_names():
    with pytest.raises(DataError, match=r"'digit' is unknown; did you mean 'digits'.*'avila'"):
        load("digit")
    with pytest.raises(DataError, match="'mnist' is unknown; choose from 'avila'"):
        load("mnist")


def test_unknown_options(tmp_path):
    with pytest.raises(InvalidArgument, match=r"label='parity'.*did you mean 'labels'"):
        load("digits", label="parity")
    with pytest.raises(InvalidArgument, match="split='trian' is unknown; did you mean 'train'"):
        avila(tmp_path, split="trian")
    with pytest.raises(InvalidArgument, match="preprocessing='whiten' is unknown; choose from"):
        digits("whiten")
    with pytest.raises(InvalidArgument, match=r"labels='classes'.*did you mean 'class'"):
        breast_cancer(labels="classes")


# --- the data set itself ---------------------------------------------------------------------


def make(inputs=((0.0, 1.0), (2.0, 3.0), (4.0, 5.0)), labels=(0, 1, 0), classes=2) -> Dataset:
    return Dataset("tiny", np.array(inputs), np.array(labels), classes, "none", "made up")


def test_repr_is_one_line():
    assert repr(make()) == (
        "Dataset('tiny': 3 examples, 2 features, 2 classes, preprocessing='none')"
    )


def test_dataset_is_immutable():
    inputs = np.array([[1.0, 2.0]])
    data = Dataset("tiny", inputs, np.array([0]), 1, "none", "made up")
    inputs[0, 0] = 7
    assert data.inputs[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        data.inputs[0, 0] = 7
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 7
    with pytest.raises(AttributeError):
        data.name = "other"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_values_are_refused(bad):
    with pytest.raises(DataError, match=f"'tiny' is {bad} at row 1, feature 0"):
        make(inputs=((0.0, 1.0), (bad, 3.0), (4.0, bad)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": (0, 1, 2)}, "from 0 to 2, outside 0..1"),
        ({"labels": (0, -1, 0)}, "from -1 to 0, outside 0..1"),
        ({"labels": (0.0, 0.5, 1.0)}, "dtype float64"),
        ({"inputs": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "non-empty"),
    ],
)
def test_bad_labels_and_empty_inputs_are_refused(change, message):
    with pytest.raises(InvalidArgument, match=message):
        make(**change)


def test_subset():
    data = digits("none")
    part = data.subset(100, seed=3)
    assert (part.examples, part.features, part.classes) == (100, 64, 10)
    assert (part.name, part.source) == (data.name, data.source)
    # Every row is one of the originals with its own label, and none is drawn twice.
    rows = {(row.tobytes(), label) for row, label in zip(data.inputs, data.labels, strict=True)}
    drawn = {(row.tobytes(), label) for row, label in zip(part.inputs, part.labels, strict=True)}
    assert len(rows) == 1797  # so that a set tells repetitions
    assert len(drawn) == 100
    assert drawn <= rows
    assert eqx.tree_equal(part, data.subset(100, seed=3))
    assert np.array_equal(data.subset(500, seed=3).inputs[:100], part.inputs)
    assert not np.array_equal(data.subset(100, seed=4).inputs, part.inputs)
    whole = data.subset(1797, seed=3)
    assert sorted(whole.labels) == sorted(data.labels)


@pytest.mark.parametrize(
    "change", [{"labels": (0, 1)}, {"labels": ((0, 1, 0),)}, {"inputs": (0.0, 1.0, 2.0)}]
)
def test_shapes_that_do_not_fit_are_refused(change):
    with pytest.raises(InvalidArgument, match="has shape"):
        make(**change)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_subset_size_is_checked(count):
    with pytest.raises(InvalidArgument, match=rf"count={count} .* 1\.\.3"):
        make().subset(count, seed=0)
