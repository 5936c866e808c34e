"""How numbers become a verdict: bands in which the intervals of quantities must lie."""

import math
from dataclasses import dataclass
from enum import StrEnum

from escapade.errors import InvalidArgument
from escapade.reproduction.claims.evidence import Evidence, Quantity


class Verdict(StrEnum):
    """What the measured numbers say of a claim."""

    SUPPORTED = "supported"
    IN_REGIME = "supported in regime"
    REFUTED = "refuted"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Band:
    """What a claim says of one quantity: that it lies between two numbers.

    Attributes:
        quantity: its name.
        low: lowest value that agrees with the claim.
        high: highest one.
    """

    quantity: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InvalidArgument(
                f"the band of {self.quantity!r} goes from {self.low} to {self.high}"
            )

    def holds(self, measured: Quantity) -> bool | None:
        """Whether the interval lies within the band; None when it reaches across an end of it."""
        low, high = measured.interval
        if not math.isfinite(measured.value) or math.isnan(low) or math.isnan(high):
            return None
        if self.low <= low and high <= self.high:
            return True
        return False if high < self.low or self.high < low else None

    @property
    def limits(self) -> str:
        """What is claimed, in words."""
        if math.isinf(self.high):
            return f"{self.low:.3g} or more"
        if math.isinf(self.low):
            return f"{self.high:.3g} or less"
        return f"{self.low:.3g} to {self.high:.3g}"

    def __str__(self) -> str:
        return f"{self.quantity}: {self.limits}"


@dataclass(frozen=True)
class Comparison:
    """One measured quantity against the band it is judged by.

    Attributes:
        band: what the claim says.
        quantity: what was measured.
        holds: True where they agree, False where they contradict, None where nothing is decided.
        within: whether it belongs to the regime of the claim, rather than beyond it.
    """

    band: Band
    quantity: Quantity
    holds: bool | None
    within: bool

    def __str__(self) -> str:
        low, high = self.quantity.interval
        says = {True: "agrees with", False: "contradicts", None: "decides nothing about"}
        where = "" if self.within else " (beyond the regime)"
        value = f"{self.quantity.value:.4g} [{low:.4g}, {high:.4g}]"
        return f"{value} {says[self.holds]} {self.band}{where}"


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        verdict: the verdict.
        comparisons: every comparison that was made, in the order of the rule.
        failed: assumptions of the test that did not hold.
    """

    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    failed: tuple[str, ...] = ()

    @property
    def decisive(self) -> Quantity:
        """The number that decided."""
        return self.deciding.quantity

    @property
    def deciding(self) -> Comparison:
        """What decided: the first that contradicts, else that decides nothing, else the first."""
        for holds in (False, None):
            for one in self.comparisons:
                if one.holds is holds:
                    return one
        return self.comparisons[0]


def near(quantity: str, value: float, relative: float = 0.1) -> Band:
    """The band of a fraction around what is claimed."""
    width = relative * abs(value)
    return Band(quantity, value - width, value + width)


def at_least(quantity: str, value: float) -> Band:
    """The band above a number."""
    return Band(quantity, value, math.inf)


def at_most(quantity: str, value: float) -> Band:
    """The band below a number."""
    return Band(quantity, -math.inf, value)


@dataclass(frozen=True)
class Rule:
    """A claim is true in its regime if `within` holds, and as it is worded if `beyond` does, too.

    The regime is the one most favourable to the claim. An interval that lies within a band agrees,
    one that lies outside contradicts, and one that reaches across an end decides nothing.

    Attributes:
        within: bands of the quantities measured in the regime.
        beyond: bands of those measured outside it, where the claim as worded holds as well.
    """

    within: tuple[Band, ...]
    beyond: tuple[Band, ...]

    def __call__(self, evidence: Evidence) -> Judgement:
        """The verdict that the numbers lead to.

        Raises:
            InvalidArgument: when a quantity of the rule was not measured.
        """
        inside = [_compare(band, evidence, True) for band in self.within]
        outside = [_compare(band, evidence, False) for band in self.beyond]
        found = [one.holds for one in inside]
        if evidence.failed or (None in found and False not in found):
            verdict = Verdict.NOT_TESTABLE
        elif False in found:
            verdict = Verdict.REFUTED
        else:
            holds = all(one.holds for one in outside)
            verdict = Verdict.SUPPORTED if holds else Verdict.IN_REGIME
        # What lies beyond the regime says nothing more of a claim that fails within it.
        holding = verdict in (Verdict.SUPPORTED, Verdict.IN_REGIME)
        compared = (*inside, *outside) if holding else tuple(inside)
        return Judgement(verdict, compared, evidence.failed)

    @property
    def words(self) -> str:
        """The rule as it would be read out; made from the bands themselves."""
        within, beyond = (
            "; ".join(str(band) for band in part) for part in (self.within, self.beyond)
        )
        return (
            f"Refuted if the interval of one of these lies outside its band: {within}. Supported "
            "in regime if all of them lie within, and supported if all of these do, too: "
            f"{beyond}. Not testable here if none of the former lies outside but one reaches "
            "across an end of its band, or if an assumption of the test fails."
        )


def _compare(band: Band, evidence: Evidence, within: bool) -> Comparison:
    try:
        measured = evidence[band.quantity]
    except KeyError:
        raise InvalidArgument(
            f"the evidence lacks the quantity {band.quantity!r} that the rule judges by; it holds "
            f"{', '.join(one.name for one in evidence.quantities) or 'none'}"
        ) from None
    return Comparison(band, measured, band.holds(measured), within)
