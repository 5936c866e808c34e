"""Every theory of escape by its name."""

from escapade.theory._base import Theory
from escapade.theory.own import INSTANTON, MINIBATCH, MOMENTUM, QUADRATIC
from escapade.theory.rivals import (
    EXPONENTIAL_LAW,
    HU,
    IBAYASHI_IMAIZUMI_V1,
    IBAYASHI_IMAIZUMI_V2,
    JASTRZEBSKI,
    KRAMERS,
    LEVY,
    LINEAR_STABILITY,
    LIU,
    MORI,
    XIE,
    ZHU,
)

THEORIES: dict[str, Theory] = {
    theory.name: theory
    for theory in (
        QUADRATIC,
        INSTANTON,
        MINIBATCH,
        MOMENTUM,
        KRAMERS,
        JASTRZEBSKI,
        ZHU,
        HU,
        LEVY,
        XIE,
        MORI,
        LIU,
        LINEAR_STABILITY,
        IBAYASHI_IMAIZUMI_V1,
        IBAYASHI_IMAIZUMI_V2,
        EXPONENTIAL_LAW,
    )
}
"""Ours first, then the rivals."""
