"""Data sets that travel inside scikit-learn, so that they never need the network."""

import numpy as np
from jaxtyping import Float, Int

from escapade.data._dataset import Dataset
from escapade.data._options import choose_labels, preprocess

# scikit-learn takes seconds to import, hence the imports inside the functions.


def digits(preprocessing: str = "standard", labels: str = "class") -> Dataset:
    """Load 1797 handwritten digits, images of 8 x 8 pixels (64 features of 0..16).

    Args:
        preprocessing: "standard" (three pixels that are blank in every image are left at zero),
            "paper" or "none".
        labels: "class" (the digit) or "parity" (of the digit).

    Raises:
        InvalidArgument: an option is unknown.
    """
    from sklearn.datasets import load_digits

    source = (
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (test part), UCI "
        "Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0; copy of scikit-learn"
    )
    inputs, target = load_digits(return_X_y=True)
    return _dataset("digits", inputs, target, preprocessing, labels, source)


def breast_cancer(preprocessing: str = "standard", labels: str = "class") -> Dataset:
    """Load 569 breast masses, 30 features of their cell nuclei, malignant (0) or benign (1).

    Args:
        preprocessing: "standard", "paper" or "none".
        labels: "class" or "parity"; they are the same, there being two classes.

    Raises:
        InvalidArgument: an option is unknown.
    """
    from sklearn.datasets import load_breast_cancer

    source = (
        "W. Wolberg, O. Mangasarian, N. Street and W. Street, Breast Cancer Wisconsin "
        "(Diagnostic), UCI Machine Learning Repository, 1993, doi:10.24432/C5DW2B, CC BY 4.0; "
        "copy of scikit-learn"
    )
    inputs, target = load_breast_cancer(return_X_y=True)
    return _dataset("breast_cancer", inputs, target, preprocessing, labels, source)


def _dataset(
    name: str,
    inputs: Float[np.ndarray, "examples features"],
    target: Int[np.ndarray, " examples"],
    preprocessing: str,
    labels: str,
    source: str,
) -> Dataset:
    options = {"class": (target, int(target.max()) + 1), "parity": (target % 2, 2)}
    chosen, classes = choose_labels(labels, options)
    return Dataset(name, preprocess(inputs, preprocessing), chosen, classes, preprocessing, source)
