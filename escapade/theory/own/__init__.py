"""Escapade's own theories: uniform, along instantons, and with the noise minibatches have."""

from escapade.theory.own.instanton import INSTANTON
from escapade.theory.own.minibatch import MINIBATCH
from escapade.theory.own.quadratic import QUADRATIC

__all__ = ["INSTANTON", "MINIBATCH", "QUADRATIC"]
