"""Exits: ensembles of replicas, exits too rare to wait for, and the statistics of both."""

from escapade.exits.ensemble import Interrupted, simulate
from escapade.exits.rare import (
    RareExit,
    RareProbability,
    coordinates,
    exit_probability,
    importance_sample,
    split,
)
from escapade.exits.regression import Regression, log_mean_regression, log_slope
from escapade.exits.sample import ExitSample
from escapade.exits.trajectory import iterates

__all__ = [
    "ExitSample",
    "Interrupted",
    "RareExit",
    "RareProbability",
    "Regression",
    "coordinates",
    "exit_probability",
    "importance_sample",
    "iterates",
    "log_mean_regression",
    "log_slope",
    "simulate",
    "split",
]
