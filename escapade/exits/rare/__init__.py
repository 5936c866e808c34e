"""Exits too rare to wait for: adaptive multilevel splitting, and importance sampling."""

from escapade.exits.rare import coordinates
from escapade.exits.rare.importance import importance_sample
from escapade.exits.rare.rare_exit import RareExit, RareProbability
from escapade.exits.rare.split import exit_probability, split

__all__ = [
    "RareExit",
    "RareProbability",
    "coordinates",
    "exit_probability",
    "importance_sample",
    "split",
]
