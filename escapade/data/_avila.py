"""The AVILA data set: found locally or downloaded, verified, parsed."""

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from escapade.data._dataset import Dataset
from escapade.data._options import choose_labels, one_of, preprocess
from escapade.errors import DataError

ARCHIVE = "avila.zip"
REPOSITORY = "https://archive.ics.uci.edu/static/public/459/"
ENVIRONMENT = "ESCAPADE_DATA"
CLASSES = "ABCDEFGHIWXY"
FEATURES = 10
SOURCE = (
    "C. De Stefano, M. Maniaci, F. Fontanella and A. Scotto di Freca, Reliable writer "
    "identification in medieval manuscripts through page layout features: the Avila Bible case, "
    "Engineering Applications of Artificial Intelligence 72 (2018) 99-110, "
    "doi:10.1016/j.engappai.2018.03.023; UCI Machine Learning Repository, "
    "doi:10.24432/C5K02X, CC BY 4.0"
)


class _Published(NamedTuple):
    """A file as its authors published it."""

    name: str
    size: int
    sha256: str


TRAIN = _Published(
    "avila-tr.txt", 999319, "493332af20f750a6b0f7b0c581dd2236bb68a8ace52b412aea1c9c82b2076357"
)
TEST = _Published(
    "avila-ts.txt", 999942, "0ec227d595dd8d8dc6804a7139c8b6d6e00e21aaea0d9052085057aa98c3e589"
)
SPLITS = {"train": (TRAIN,), "test": (TEST,), "both": (TRAIN, TEST)}


def avila(
    path: str | os.PathLike | None = None,
    split: str = "train",
    preprocessing: str = "paper",
    labels: str = "parity",
) -> Dataset:
    """Load AVILA: ten features of the page layout of the Avila Bible, and the copyist's letter.

    The files read are always compared with the SHA-256 of the published ones. Preprocessing
    "paper" and labels "parity" are those of the code published with H. Ibayashi and M. Imaizumi,
    arXiv:2111.04004.

    Args:
        path: an `avila.zip`, or a folder that holds it or its text files. If not given, the
            environment variable ESCAPADE_DATA is read in the same way; if that is not set either,
            the archive is downloaded once from the UCI repository into the user's cache.
        split: "train" (10430 examples), "test" (10437) or "both" (train, then test).
        preprocessing: applied to the published features, which are already standardised over
            both splits. "paper" centres each row by its own mean and scales it to unit Euclidean
            length; "standard" centres each feature and scales it to unit variance over the
            split loaded; "none" leaves them as they are.
        labels: "parity" of the letter's place in the alphabet (A = 0: ACEGIWY against BDFHX), or
            "class", its place among the twelve copyists ABCDEFGHIWXY.

    Returns:
        The data set, with 2 or 12 classes.

    Raises:
        DataError: the data are missing, unreadable, or not the published ones.
        InvalidArgument: an option is unknown.

    References:
        C. De Stefano, M. Maniaci, F. Fontanella and A. Scotto di Freca, Engineering Applications
        of Artificial Intelligence 72 (2018) 99-110, doi:10.1016/j.engappai.2018.03.023.
    """
    files = SPLITS[one_of("split", split, SPLITS)]
    tables = [_parse(content) for content in _read(path, files)]
    inputs = np.concatenate([features for features, _ in tables])
    letters = np.concatenate([letter for _, letter in tables])
    chosen, classes = choose_labels(
        labels,
        {
            "class": (np.searchsorted(_alphabet_place(CLASSES.encode()), letters), len(CLASSES)),
            "parity": (letters % 2, 2),
        },
    )
    return Dataset(
        "avila", preprocess(inputs, preprocessing), chosen, classes, preprocessing, SOURCE
    )


def _parse(
    content: bytes,
) -> tuple[Float[np.ndarray, "examples features"], Int[np.ndarray, " examples"]]:
    """Parse a verified file into its features and its letters (A = 0, ..., Y = 24)."""
    row = [("features", np.float64, FEATURES), ("letter", "S1")]
    table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=row)
    return table["features"], _alphabet_place(table["letter"].tobytes())


def _alphabet_place(letters: bytes) -> Int[np.ndarray, " letters"]:
    return np.frombuffer(letters, dtype=np.uint8).astype(np.int64) - ord("A")


def _read(path: str | os.PathLike | None, files: tuple[_Published, ...]) -> list[bytes]:
    """The verified contents of `files`, from the first place that is named, or downloaded."""
    if path is not None:
        return [_find(Path(path).expanduser(), file, "path") for file in files]
    if place := os.environ.get(ENVIRONMENT):
        return [_find(Path(place).expanduser(), file, ENVIRONMENT) for file in files]
    archive = _download()
    try:
        return [_from_archive(archive, file) for file in files]
    except DataError as error:
        # Kept, a page served in place of the archive would block every later attempt.
        archive.unlink(missing_ok=True)
        raise DataError(
            f"{error}. The downloaded copy has been removed: the next call downloads it again"
        ) from error


def _find(place: Path, file: _Published, argument: str) -> bytes:
    """Read `file` from an archive, or from a folder holding it or the archive."""
    try:
        if place.is_file():
            return _from_archive(place, file)
        if not place.exists():
            raise DataError(f"{argument}={str(place)!r} does not exist; {_way_out()}")
        # Unpacking the archive makes a folder "avila".
        for folder in (place, place / "avila"):
            if (folder / file.name).is_file():
                return _verify((folder / file.name).read_bytes(), file, str(folder / file.name))
            if (folder / ARCHIVE).is_file():
                return _from_archive(folder / ARCHIVE, file)
    except OSError as error:
        raise DataError(
            f"{argument}={str(place)!r} cannot be read ({error}); {_way_out()}"
        ) from error
    raise DataError(
        f"the folder {argument}={str(place)!r} holds neither {file.name} nor {ARCHIVE}; "
        f"{_way_out()}"
    )


def _from_archive(path: Path, file: _Published) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            content = next((archive.read(m) for m in archive.infolist() if _is(m, file)), None)
    except Exception as error:  # A damaged archive makes zipfile raise of almost every kind.
        raise DataError(f"{path} is not a readable zip archive ({error}); {_way_out()}") from error
    if content is None:
        raise DataError(f"the archive {path} has no member {file.name}; {_way_out()}")
    return _verify(content, file, f"{file.name} in {path}")


def _is(member: zipfile.ZipInfo, file: _Published) -> bool:
    """Repacked archives differ in their folders, and macOS adds a folder of shadows."""
    *folders, name = member.filename.split("/")
    return name == file.name and "__MACOSX" not in folders


def _verify(content: bytes, file: _Published, place: str) -> bytes:
    """Return `content` if it is the published one. The archive may be repacked, a file not."""
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise DataError(
            f"{place} is not the published file: it has {len(content)} bytes and SHA-256 "
            f"{found[:12]}..., not {file.size} bytes and {file.sha256[:12]}..., so it is "
            f"truncated or altered; {_way_out()}"
        )
    return content


def _download() -> Path:
    """The path of the archive in the user's cache, downloaded if it is not there."""
    import pooch

    cache = pooch.os_cache("escapade")
    # No checksum of the archive: UCI may repack it. That of the files inside is always checked.
    fetcher = pooch.create(cache, REPOSITORY, registry={ARCHIVE: None}, retry_if_failed=1)
    try:
        return Path(fetcher.fetch(ARCHIVE))
    except OSError as error:  # The base of every error of requests, too.
        raise DataError(
            f"AVILA could not be downloaded into {cache} ({type(error).__name__}); {_way_out()}"
        ) from error


def _way_out() -> str:
    return (
        f"get {REPOSITORY}{ARCHIVE} and give its path, or its folder, as path=... "
        f"or in the environment variable {ENVIRONMENT}"
    )
