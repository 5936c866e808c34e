"""Dynamics: the chains and diffusions that leave."""

from escapade.dynamics._base import AbstractDynamics
from escapade.dynamics.gaussian import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.dynamics.heavy_tailed import HeavyTailedSGD
from escapade.dynamics.minibatch import SAMPLINGS, MinibatchSGD

__all__ = [
    "SAMPLINGS",
    "AbstractDynamics",
    "ContinuousSGD",
    "GaussianSGD",
    "HeavyTailedSGD",
    "LangevinSGD",
    "MinibatchSGD",
]
