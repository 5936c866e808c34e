"""The options all data sets share: how inputs are preprocessed, and how labels are chosen."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float, Int

from escapade.errors import InvalidArgument

PREPROCESSING = ("paper", "standard", "none")


def suggestion(value: object, options: Collection[str]) -> str:
    """The tail of an error message: the closest option, if one is close, and all of them."""
    close = get_close_matches(str(value), options, n=1)
    question = f"did you mean {close[0]!r}? " if close else ""
    return f"{question}choose from {', '.join(map(repr, options))}"


def one_of(argument: str, value: str, options: Collection[str]) -> str:
    """Return `value` if it is one of `options`.

    Raises:
        InvalidArgument: when it is not.
    """
    if value not in options:
        raise InvalidArgument(f"{argument}={value!r} is unknown; {suggestion(value, options)}")
    return value


def preprocess(
    inputs: Float[np.ndarray, "examples features"], preprocessing: str
) -> Float[np.ndarray, "examples features"]:
    """Scale raw inputs.

    - "paper": each row (example) is centred by its own mean and scaled to unit Euclidean length,
      as in the code published with Ibayashi and Imaizumi (arXiv:2111.04004).
    - "standard": each column (feature) is centred and scaled to unit variance over the examples
      given.
    - "none": unchanged.

    A constant row or column carries no information and becomes zero, not NaN.
    """
    one_of("preprocessing", preprocessing, PREPROCESSING)
    if preprocessing == "none":
        return inputs
    axis, length = (1, 1.0) if preprocessing == "paper" else (0, np.sqrt(len(inputs)))
    centred = inputs - inputs.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centred, axis=axis, keepdims=True)
    # Rounding of the mean leaves a constant row slightly off zero: ask the data, not the norm.
    constant = np.ptp(inputs, axis=axis, keepdims=True) == 0
    return np.where(constant, 0.0, length * centred / np.where(constant, 1.0, norm))


def choose_labels(
    labels: str, options: Mapping[str, tuple[Int[np.ndarray, " examples"], int]]
) -> tuple[Int[np.ndarray, " examples"], int]:
    """Pick labels and their number of classes from `options` ("class" and "parity")."""
    return options[one_of("labels", labels, options)]
