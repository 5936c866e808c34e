"""The ledger in words: rows of the table of claims, and what each rests on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from escapade.report import formats
from escapade.report.reproduction.symbols import formula
from escapade.reproduction.claims import ClaimResult, Comparison, Quantity, Verdict

CLASSES = {
    Verdict.SUPPORTED: "holds",
    Verdict.IN_REGIME: "partly",
    Verdict.REFUTED: "fails",
    Verdict.NOT_TESTABLE: "note",
}
"""How a verdict is marked."""

MEANINGS = {
    Verdict.SUPPORTED: "true in its regime, and as it is worded",
    Verdict.IN_REGIME: "true in the regime named, not as it is worded",
    Verdict.REFUTED: "contradicted in the regime most favourable to it",
    Verdict.NOT_TESTABLE: "the measurement made here decides nothing",
}
"""What a verdict means, as the rules have it."""


@dataclass(frozen=True)
class QuantityRow:
    """One measured number, beside what each position says."""

    name: str
    value: str
    interval: str
    positions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ComparisonRow:
    """One measured number against what the claim says of it."""

    measured: QuantityRow
    claimed: str
    mark: str
    beyond: bool


@dataclass(frozen=True)
class ClaimRow:
    """One claim of the ledger, ready for the page."""

    number: int
    statement: str
    source: str
    regime: str
    test: str
    rule: str
    verdict: str
    mark: str
    decisive: ComparisonRow
    comparisons: tuple[ComparisonRow, ...]
    quantities: tuple[QuantityRow, ...]
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    command: str
    quick: bool


def claim_row(result: ClaimResult) -> ClaimRow:
    """A claim with its evidence and verdict."""
    claim, judgement = result.claim, result.judgement
    rows = tuple(map(_comparison_row, judgement.comparisons))
    return ClaimRow(
        number=claim.number,
        statement=formula(claim.statement),
        source=formula(claim.source),
        regime=formula(claim.regime),
        test=formula(claim.test),
        rule=formula(claim.rule.words),
        verdict=str(judgement.verdict),
        mark=CLASSES[judgement.verdict],
        decisive=next(
            row
            for row, one in zip(rows, judgement.comparisons, strict=True)
            if one.quantity is judgement.decisive
        ),
        comparisons=rows,
        quantities=tuple(map(quantity_row, result.evidence.quantities)),
        failed=tuple(map(formula, judgement.failed)),
        notes=tuple(map(formula, result.evidence.notes)),
        command=result.command,
        quick=result.quick,
    )


def _comparison_row(comparison: Comparison) -> ComparisonRow:
    band = comparison.band
    low, high = formats.number(band.low, 3), formats.number(band.high, 3)
    claimed = f"{low} to {high}"
    if band.high == float("inf"):
        claimed = f"{low} or more"
    elif band.low == -float("inf"):
        claimed = f"{high} or less"
    mark = {True: "agrees", False: "deviates", None: "open"}[comparison.holds]
    return ComparisonRow(quantity_row(comparison.quantity), claimed, mark, not comparison.within)


def quantity_row(quantity: Quantity) -> QuantityRow:
    """A number with its interval; an exact one says how exact."""
    low, high = quantity.interval
    unit = f" {quantity.unit}" if quantity.unit else ""
    half, size = (high - low) / 2, max(abs(low), abs(high))
    value = 0.0 if abs(quantity.value) <= half < 1e-9 else quantity.value
    if half <= 5e-5 * size or half < 1e-9:
        digits, interval = 5, f"exact to {formats.number(max(half, 0.0), 1)}"
    else:
        digits, interval = 3, formats.interval(low, high)
    return QuantityRow(
        name=formula(quantity.name),
        value=formats.number(value, digits) + unit,
        interval=interval,
        positions=tuple(
            (formula(position), formats.number(value, 4))
            for position, value in quantity.expected.items()
        ),
    )


def verdict_counts(results: Sequence[ClaimResult]) -> list[tuple[Verdict, int]]:
    """How many claims met each verdict, in the order from supported to undecided."""
    counts = Counter(result.judgement.verdict for result in results)
    return [(verdict, counts[verdict]) for verdict in Verdict if counts[verdict]]


def headline(results: Sequence[ClaimResult], planned: int) -> str:
    """The ledger in one sentence."""
    if not results:
        return "No claim has been measured yet."
    said = {Verdict.IN_REGIME: "supported in their regime only"}
    parts = [
        f"{count} {'is' if count == 1 else 'are'} {said.get(verdict, verdict)}"
        for verdict, count in verdict_counts(results)
    ]
    missing = planned - len(results)
    open_ones = f"; {formats.count(missing, 'claim')} not measured yet" if missing else ""
    return f"Of {formats.count(len(results), 'claim')}, {formats.listing(parts)}{open_ones}."
