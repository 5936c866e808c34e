"""Exits: ensembles of replicas, and the statistics of when and where they leave."""

from escapade.exits.ensemble import Interrupted, simulate
from escapade.exits.sample import ExitSample
from escapade.exits.trajectory import iterates

__all__ = ["ExitSample", "Interrupted", "iterates", "simulate"]
