"""The data set: inputs, labels, and where they came from."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from escapade.errors import DataError, InvalidArgument


def _read_only(dtype: type) -> Callable[[ArrayLike], np.ndarray]:
    """A converter to a private, read-only array, so that a data set cannot change in place."""

    def convert(values: ArrayLike) -> np.ndarray:
        array = np.asarray(values)
        # Silent truncation would turn regression targets into class labels.
        if dtype is np.int64 and not np.issubdtype(array.dtype, np.integer):
            raise InvalidArgument(
                f"labels has dtype {array.dtype}; give integer class labels 0..classes-1"
            )
        array = np.array(array, dtype=dtype)
        array.flags.writeable = False
        return array

    return convert


class Dataset(eqx.Module):
    """An immutable classification data set in host memory.

    Attributes:
        name: the name `load` knows it by.
        inputs: one row per example, float64, read-only.
        labels: the class of each example, an integer in 0..classes-1, read-only.
        classes: number of classes. A subset keeps it, even where it misses a class.
        preprocessing: what was done to the raw inputs: "paper", "standard" or "none".
        source: citation and licence.

    Raises:
        InvalidArgument: shapes or labels do not fit.
        DataError: an input is NaN or infinite.
    """

    name: str = eqx.field(static=True)
    inputs: Float[np.ndarray, "examples features"] = eqx.field(converter=_read_only(np.float64))
    labels: Int[np.ndarray, " examples"] = eqx.field(converter=_read_only(np.int64))
    classes: int = eqx.field(static=True)
    preprocessing: str = eqx.field(static=True)
    source: str = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.inputs.ndim != 2 or self.inputs.size == 0:
            raise InvalidArgument(
                f"inputs of data set {self.name!r} has shape {self.inputs.shape}; "
                "give a non-empty array of shape (examples, features)"
            )
        if self.labels.shape != (self.examples,):
            raise InvalidArgument(
                f"labels of data set {self.name!r} has shape {self.labels.shape}; "
                f"give one label for each of the {self.examples} rows of inputs"
            )
        low, high = self.labels.min(), self.labels.max()
        if low < 0 or high >= self.classes:
            raise InvalidArgument(
                f"labels of data set {self.name!r} run from {low} to {high}, "
                f"outside 0..{self.classes - 1}; renumber them, or correct classes={self.classes}"
            )
        if not np.isfinite(self.inputs).all():
            row, column = np.argwhere(~np.isfinite(self.inputs))[0]
            raise DataError(
                f"inputs of data set {self.name!r} is {self.inputs[row, column]} at row {row}, "
                f"feature {column}; remove or impute the missing values, or get the data again"
            )

    @property
    def examples(self) -> int:
        """Number of examples."""
        return self.inputs.shape[0]

    @property
    def features(self) -> int:
        """Number of features of one example."""
        return self.inputs.shape[1]

    def subset(self, count: int, seed: int = 0) -> "Dataset":
        """Draw examples at random, without replacement.

        The order is random, and for one seed a smaller subset is the beginning of a larger one.
        Inputs are taken as they are: "standard" inputs are not standardised again.

        Args:
            count: number of examples, 1..examples.
            seed: of NumPy's default generator.

        Raises:
            InvalidArgument: `count` is out of range.
        """
        if not 1 <= count <= self.examples:
            raise InvalidArgument(
                f"count={count} examples were asked of data set {self.name!r}; "
                f"give a count in 1..{self.examples}"
            )
        chosen = np.random.default_rng(seed).permutation(self.examples)[:count]
        return replace(self, inputs=self.inputs[chosen], labels=self.labels[chosen])

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: {self.examples} examples, {self.features} features, "
            f"{self.classes} classes, preprocessing={self.preprocessing!r})"
        )
