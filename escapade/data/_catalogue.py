"""Data sets by name."""

import inspect
from collections.abc import Callable
from typing import Any

from escapade.data._avila import avila
from escapade.data._dataset import Dataset
from escapade.data._fashion_mnist import fashion_mnist
from escapade.data._options import suggestion
from escapade.data._sklearn import breast_cancer, digits
from escapade.errors import DataError, InvalidArgument

_CATALOGUE: dict[str, tuple[Callable[..., Dataset], str]] = {
    "avila": (
        avila,
        "page layout of the Avila Bible: 10430 training and 10437 test examples, 10 features, "
        "12 copyists or their parity (downloaded once, or from a local copy)",
    ),
    "digits": (digits, "handwritten digits: 1797 examples, 64 features, 10 classes (offline)"),
    "breast_cancer": (
        breast_cancer,
        "Wisconsin breast masses: 569 examples, 30 features, 2 classes (offline)",
    ),
    "fashion_mnist": (
        fashion_mnist,
        "clothes: 60000 training and 10000 test examples, 784 features, 10 classes (from the "
        "Debian package dataset-fashion-mnist, or a local copy)",
    ),
}


def available() -> dict[str, str]:
    """The data sets that `load` knows: name to a one-line description."""
    return {name: description for name, (_, description) in _CATALOGUE.items()}


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    Args:
        name: "avila", "digits", "breast_cancer" or "fashion_mnist".
        options: those of the function of that name.

    Raises:
        DataError: the name is unknown or the data are unusable.
        InvalidArgument: an option is unknown.

    Example:
        >>> load("digits", labels="parity")
        Dataset('digits': 1797 examples, 64 features, 2 classes, preprocessing='standard')
    """
    if name not in _CATALOGUE:
        raise DataError(f"data set name={name!r} is unknown; {suggestion(name, _CATALOGUE)}")
    loader, _ = _CATALOGUE[name]
    accepted = inspect.signature(loader).parameters
    for option in options:
        if option not in accepted:
            raise InvalidArgument(
                f"option {option}={options[option]!r} is unknown to data set {name!r}; "
                f"{suggestion(option, accepted)}"
            )
    return loader(**options)
