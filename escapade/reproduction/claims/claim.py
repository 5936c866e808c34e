"""A claim as data, bound to the measurement that decides it."""

from collections.abc import Callable
from dataclasses import dataclass

from escapade.reproduction.claims.evidence import Evidence, Progress
from escapade.reproduction.claims.rule import Judgement, Rule

Measure = Callable[[bool, int, Progress], Evidence]


@dataclass(frozen=True)
class Claim:
    """One statement of the paper or its figures, and the test of it.

    Attributes:
        number: its place in the ledger.
        slug: a name for files.
        statement: as quoted or fairly worded.
        source: where it is made.
        regime: where the test is made, the most favourable case first.
        test: the test in one sentence.
        rule: how the measured numbers become a verdict.
        measure: ``measure(quick, key, progress)``, the computation.
    """

    number: int
    slug: str
    statement: str
    source: str
    regime: str
    test: str
    rule: Rule
    measure: Measure

    def __str__(self) -> str:
        return f"claim {self.number}"

    def judge(self, evidence: Evidence) -> Judgement:
        """The verdict on the measured numbers."""
        return self.rule(evidence)
