"""Landscapes: the loss surfaces, and drifts, that SGD moves on."""

from escapade.landscape._base import AbstractLandscape, AbstractLoss
from escapade.landscape.analytic import DoubleWell, MuellerBrown, StyblinskiTang
from escapade.landscape.empirical import Empirical
from escapade.landscape.examples import AbstractEmpirical, AbstractExpansion
from escapade.landscape.function import Drift, Function, MaierStein
from escapade.landscape.network import network_landscape
from escapade.landscape.networks import MLP, ConvolutionalNetwork, logistic_regression
from escapade.landscape.quadratic import Quadratic
from escapade.landscape.rescaled import Rescaled, rescale
from escapade.landscape.valleys import AsymmetricValleys

__all__ = [
    "MLP",
    "AbstractEmpirical",
    "AbstractExpansion",
    "AbstractLandscape",
    "AbstractLoss",
    "AsymmetricValleys",
    "ConvolutionalNetwork",
    "DoubleWell",
    "Drift",
    "Empirical",
    "Function",
    "MaierStein",
    "MuellerBrown",
    "Quadratic",
    "Rescaled",
    "StyblinskiTang",
    "logistic_regression",
    "network_landscape",
    "rescale",
]
