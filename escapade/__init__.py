"""Escapade: how fast, by which route and by which mechanism does SGD leave a minimum?

Describe an `Escape` (what is left, by which dynamics, out of which region), then ask a verb about
it: `simulate`, `split`, `solve`, `predict`, `minimum_steepness`, `quasipotential`, `steepness`,
`diagnose`. `inspect` asks them of a network, matrix-free; `Monitor` watches training.
"""

from escapade import data, errors, noise
from escapade import landscape as landscapes
from escapade.dynamics import (
    Adam,
    AlphaStableSGD,
    ContinuousSGD,
    GaussianSGD,
    HeavyTailedSGD,
    LabelNoiseSGD,
    LangevinSGD,
    MinibatchSGD,
    MomentumSGD,
    OptaxSGD,
)
from escapade.errors import EscapadeError
from escapade.escape import Escape
from escapade.exact import ExactExit, ExitField, solve
from escapade.exits import (
    ExitSample,
    Interrupted,
    RareExit,
    RareProbability,
    Regression,
    coordinates,
    exit_probability,
    importance_sample,
    iterates,
    log_mean_regression,
    log_slope,
    simulate,
    split,
)
from escapade.inspection import Inspection, inspect
from escapade.minimum import Minimum, Neighbourhood, find_minimum, neighbourhood, train
from escapade.region import Ball, Basin, HalfSpace, Slab, Sublevel, Where
from escapade.steepness import (
    GridQuasipotential,
    Instanton,
    SteepnessTrace,
    minimum_steepness,
    quasipotential,
    steepness,
    trace_steepness,
)
from escapade.theory import (
    Comparison,
    Diagnosis,
    Groups,
    Prediction,
    Relaxation,
    compare,
    diagnose,
    hazard_ratio,
    predict,
    relaxation,
)
from escapade.training import Monitor

__version__ = "0.1.0"

__all__ = [
    "Adam",
    "AlphaStableSGD",
    "Ball",
    "Basin",
    "Comparison",
    "ContinuousSGD",
    "Diagnosis",
    "EscapadeError",
    "Escape",
    "ExactExit",
    "ExitField",
    "ExitSample",
    "GaussianSGD",
    "GridQuasipotential",
    "Groups",
    "HalfSpace",
    "HeavyTailedSGD",
    "Inspection",
    "Instanton",
    "Interrupted",
    "LabelNoiseSGD",
    "LangevinSGD",
    "MinibatchSGD",
    "Minimum",
    "MomentumSGD",
    "Monitor",
    "Neighbourhood",
    "OptaxSGD",
    "Prediction",
    "RareExit",
    "RareProbability",
    "Regression",
    "Relaxation",
    "Slab",
    "SteepnessTrace",
    "Sublevel",
    "Where",
    "compare",
    "coordinates",
    "data",
    "diagnose",
    "errors",
    "exit_probability",
    "find_minimum",
    "hazard_ratio",
    "importance_sample",
    "inspect",
    "iterates",
    "landscapes",
    "log_mean_regression",
    "log_slope",
    "minimum_steepness",
    "neighbourhood",
    "noise",
    "predict",
    "quasipotential",
    "relaxation",
    "simulate",
    "solve",
    "split",
    "steepness",
    "trace_steepness",
    "train",
]
