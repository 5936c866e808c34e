"""Fashion-MNIST: the published numbers where the package is installed, a way out where it is not.

The loader itself is tested everywhere, on small files that stand in for the published ones.
"""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from escapade.data import _fashion_mnist, available, load
from escapade.data._fashion_mnist import FOLDER, SPLITS, _Published, fashion_mnist
from escapade.errors import DataError, InvalidArgument

installed = pytest.mark.skipif(
    not Path(FOLDER).is_dir(), reason="the Debian package dataset-fashion-mnist is not installed"
)


def write(folder, name, numbers):
    """An IDX file, as its authors describe the format."""
    header = struct.pack(">BBBB", 0, 0, 8, numbers.ndim)
    content = header + struct.pack(f">{numbers.ndim}I", *numbers.shape) + numbers.tobytes()
    (folder / name).write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Twelve images in a folder."""
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    names = [file.name for file in SPLITS["test"]]
    sums = [write(tmp_path, name, x) for name, x in zip(names, (images, labels), strict=True)]
    files = map(_Published, names, [(12, 784), (12,)], sums)
    monkeypatch.setitem(_fashion_mnist.SPLITS, "test", tuple(files))
    return tmp_path, images, labels


def test_the_numbers_are_those_of_the_files(small):
    folder, images, labels = small
    data = fashion_mnist(folder, "test", preprocessing="none")
    np.testing.assert_array_equal(data.inputs, images.reshape(12, 784))
    np.testing.assert_array_equal(data.labels, labels)
    assert data.classes == 10
    assert fashion_mnist(folder, "test", labels="parity").labels.tolist() == [0, 1] * 6
    np.testing.assert_allclose(fashion_mnist(folder, "test").inputs.std(axis=0), 1)


def test_it_is_never_half_read(small):
    folder, _, labels = small
    name = SPLITS["test"][1].name
    write(folder, name, labels[::-1].copy())
    with pytest.raises(DataError, match=r"is not the published file.*apt-get install"):
        fashion_mnist(folder, "test")
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(DataError, match=r"cannot be unpacked.*path="):
        fashion_mnist(folder, "test")
    with pytest.raises(DataError, match=r"train-images.* does not exist; install the Debian"):
        load("fashion_mnist", path=folder)
    with pytest.raises(InvalidArgument, match="split='tset' is unknown; did you mean 'test'"):
        fashion_mnist(folder, "tset")


@installed
def test_the_published_data():
    """A thousand of each garment; the first ten labels as its authors show them."""
    data = load("fashion_mnist", split="test", preprocessing="none")
    assert np.bincount(data.labels).tolist() == [1000] * 10
    assert data.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert (data.inputs.min(), data.inputs.max()) == (0, 255)
    # Mean and standard deviation of the pixels, 0.2868 and 0.3524 of 255.
    assert data.inputs.mean() / 255 == pytest.approx(0.2868, abs=1e-4)
    assert data.inputs.std() / 255 == pytest.approx(0.3524, abs=1e-4)
    assert f"{data.examples} test examples" in available()["fashion_mnist"]
