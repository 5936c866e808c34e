"""Exact: mean exit times, rates and survival of escapes small enough to be solved."""

from escapade.exact.exit import ExactExit
from escapade.exact.field import ExitField
from escapade.exact.solve import solve

__all__ = ["ExactExit", "ExitField", "solve"]
