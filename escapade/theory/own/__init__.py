"""Escapade's own theories: uniform, along instantons, of minibatch noise, with momentum."""

from escapade.theory.own.instanton import INSTANTON
from escapade.theory.own.minibatch import MINIBATCH
from escapade.theory.own.momentum import MOMENTUM
from escapade.theory.own.quadratic import QUADRATIC

__all__ = ["INSTANTON", "MINIBATCH", "MOMENTUM", "QUADRATIC"]
