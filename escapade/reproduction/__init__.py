"""A paper, claim by claim: its experiments as they ran, as described and as they should be."""

from escapade.reproduction.reproduce import (
    PAPERS,
    PROTOCOLS,
    Reproduction,
    load_reproduction,
    reproduce,
)

__all__ = ["PAPERS", "PROTOCOLS", "Reproduction", "load_reproduction", "reproduce"]
