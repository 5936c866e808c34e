"""The Fashion-MNIST data set, as the distribution's package installs it."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from escapade.data._dataset import Dataset
from escapade.data._options import choose_labels, one_of, preprocess
from escapade.errors import DataError

FOLDER = "/usr/share/datasets/fashion-mnist"
PACKAGE = "dataset-fashion-mnist"
SOURCE = (
    "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking "
    "Machine Learning Algorithms, 2017, doi:10.48550/arXiv.1708.07747, MIT licence; "
    f"Debian package {PACKAGE}"
)


class _Published(NamedTuple):
    """A file, unpacked: the archive around it may have been packed again."""

    name: str
    shape: tuple[int, ...]
    sha256: str


SPLITS = {
    "train": (
        _Published(
            "train-images-idx3-ubyte.gz",
            (60000, 784),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _Published(
            "train-labels-idx1-ubyte.gz",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        _Published(
            "t10k-images-idx3-ubyte.gz",
            (10000, 784),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _Published(
            "t10k-labels-idx1-ubyte.gz",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def fashion_mnist(
    path: str | os.PathLike | None = None,
    split: str = "train",
    preprocessing: str = "standard",
    labels: str = "class",
) -> Dataset:
    """Load Fashion-MNIST: grey images of 28 x 28 pixels (784 features of 0..255) of clothes.

    Never downloaded: ``apt-get install dataset-fashion-mnist`` puts the files where they are found
    on Debian and its relatives; elsewhere give the folder that holds the four published files.

    Args:
        path: the folder; that of the Debian package unless given.
        split: "train" (60000 examples, 376 MB as float64) or "test" (10000).
        preprocessing: "standard" (over the split loaded), "paper" or "none".
        labels: "class" (the kind of garment) or "parity" (of its number).

    Raises:
        DataError: the data are missing, unreadable, or not the published ones.
        InvalidArgument: an option is unknown.
    """
    folder = Path(FOLDER if path is None else path).expanduser()
    images, targets = (_read(folder, file) for file in SPLITS[one_of("split", split, SPLITS)])
    garments = targets.astype(np.int64)
    chosen, classes = choose_labels(labels, {"class": (garments, 10), "parity": (garments % 2, 2)})
    inputs = preprocess(images.astype(np.float64), preprocessing)
    return Dataset("fashion_mnist", inputs, chosen, classes, preprocessing, SOURCE)


def _read(folder: Path, file: _Published) -> UInt8[np.ndarray, "examples ..."]:
    """The verified numbers of an IDX file: a header of four bytes and four for each axis."""
    place = folder / file.name
    if not place.is_file():
        raise DataError(f"{place} does not exist; {_way_out()}")
    try:
        content = gzip.decompress(place.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place} cannot be unpacked ({error}); {_way_out()}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{place} is not the published file: unpacked it has SHA-256 {found[:12]}..., not "
            f"{file.sha256[:12]}...; {_way_out()}"
        )
    size = int(np.prod(file.shape))
    return np.frombuffer(content, np.uint8, offset=len(content) - size).reshape(file.shape)


def _way_out() -> str:
    return (
        f"install the Debian package {PACKAGE} (apt-get install {PACKAGE}), or give the folder of "
        "the four published files as path=..."
    )
