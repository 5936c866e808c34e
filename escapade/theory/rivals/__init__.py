"""Theories of escape by others, as their authors have them: one module each."""

from escapade.theory.rivals.hu import HU
from escapade.theory.rivals.ibayashi_imaizumi import (
    EXPONENTIAL_LAW,
    IBAYASHI_IMAIZUMI_V1,
    IBAYASHI_IMAIZUMI_V2,
)
from escapade.theory.rivals.jastrzebski import JASTRZEBSKI
from escapade.theory.rivals.kramers import KRAMERS
from escapade.theory.rivals.levy import LEVY
from escapade.theory.rivals.linear_stability import LINEAR_STABILITY
from escapade.theory.rivals.liu import LIU
from escapade.theory.rivals.mori import MORI
from escapade.theory.rivals.xie import XIE
from escapade.theory.rivals.zhu import ZHU

__all__ = [
    "EXPONENTIAL_LAW",
    "HU",
    "IBAYASHI_IMAIZUMI_V1",
    "IBAYASHI_IMAIZUMI_V2",
    "JASTRZEBSKI",
    "KRAMERS",
    "LEVY",
    "LINEAR_STABILITY",
    "LIU",
    "MORI",
    "XIE",
    "ZHU",
]
