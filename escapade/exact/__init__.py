"""Exact: mean exit times and survival to quadrature accuracy, in one dimension or by radius."""

from escapade.exact.exit import ExactExit
from escapade.exact.solve import solve

__all__ = ["ExactExit", "solve"]
