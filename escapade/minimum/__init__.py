"""Minima: finding them, proving that they are, and measuring what surrounds them."""

from escapade.minimum.find import Minimum, find_minimum
from escapade.minimum.neighbourhood import (
    Alignment,
    Neighbourhood,
    effective_dimension,
    neighbourhood,
)
from escapade.minimum.train import train

__all__ = [
    "Alignment",
    "Minimum",
    "Neighbourhood",
    "effective_dimension",
    "find_minimum",
    "neighbourhood",
    "train",
]
