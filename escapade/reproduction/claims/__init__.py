"""The paper, claim by claim: what is said, what was measured, and the verdict that follows."""

from escapade.reproduction.claims.claim import Claim
from escapade.reproduction.claims.evidence import Evidence, Figure, Quantity, Series
from escapade.reproduction.claims.ledger import (
    CLAIMS,
    FOLDER,
    ClaimResult,
    find_claim,
    load_claim,
    run_claim,
    run_claims,
)
from escapade.reproduction.claims.rule import Band, Comparison, Judgement, Rule, Verdict

__all__ = [
    "CLAIMS",
    "FOLDER",
    "Band",
    "Claim",
    "ClaimResult",
    "Comparison",
    "Evidence",
    "Figure",
    "Judgement",
    "Quantity",
    "Rule",
    "Series",
    "Verdict",
    "find_claim",
    "load_claim",
    "run_claim",
    "run_claims",
]
