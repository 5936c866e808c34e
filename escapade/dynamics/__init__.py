"""Dynamics: the chains and diffusions that leave."""

from escapade.dynamics._base import AbstractDynamics
from escapade.dynamics.adam import Adam
from escapade.dynamics.gaussian import ContinuousSGD, GaussianSGD, LangevinSGD
from escapade.dynamics.gradients import SAMPLINGS
from escapade.dynamics.heavy_tailed import (
    AbstractHeavyTailedSGD,
    AlphaStableSGD,
    HeavyTailedSGD,
)
from escapade.dynamics.label_noise import LabelNoiseSGD
from escapade.dynamics.minibatch import MinibatchSGD
from escapade.dynamics.momentum import MomentumSGD
from escapade.dynamics.optax import OptaxSGD
from escapade.dynamics.optimiser import AbstractOptimiser

__all__ = [
    "SAMPLINGS",
    "AbstractDynamics",
    "AbstractHeavyTailedSGD",
    "AbstractOptimiser",
    "Adam",
    "AlphaStableSGD",
    "ContinuousSGD",
    "GaussianSGD",
    "HeavyTailedSGD",
    "LabelNoiseSGD",
    "LangevinSGD",
    "MinibatchSGD",
    "MomentumSGD",
    "OptaxSGD",
]
