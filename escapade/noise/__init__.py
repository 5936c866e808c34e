"""Gradient noise: the covariance of one example's gradient."""

from escapade.noise._base import AbstractNoise
from escapade.noise.constant import Constant, Isotropic
from escapade.noise.empirical import Empirical
from escapade.noise.function import Function
from escapade.noise.hessian_proportional import HessianProportional
from escapade.noise.loss_proportional import LossProportional

__all__ = [
    "AbstractNoise",
    "Constant",
    "Empirical",
    "Function",
    "HessianProportional",
    "Isotropic",
    "LossProportional",
]
