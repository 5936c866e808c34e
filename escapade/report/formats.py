"""Numbers as text: plain Unicode, so that one text serves the page, its tooltips and figures."""

import re
from collections.abc import Callable, Iterable

import numpy as np

UNKNOWN, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LARGEST = 600.0  # natural logarithm of a number that is still far from overflow


def power_of_ten(exponent: int) -> str:
    """``10`` with a raised exponent, such as 10⁻¹⁷."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def number(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits: 0.617, 22.8 or 1.03×10¹².

    From a thousand to a million there are four at least: 2,581 and 106,800.
    """
    if np.isnan(value):
        return UNKNOWN
    if np.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if -4 < int(exponent) < 6:
        if int(exponent) >= 3:
            value = float(f"{value:.{max(digits, 4) - 1}e}")
        text = f"{value:,.{max(digits - 1 - int(exponent), 0)}f}"
    else:
        text = f"{mantissa}{TIMES}{power_of_ten(int(exponent))}"
    return text.replace("-", MINUS)


def number_from_log(log_value: float, digits: int = 3) -> str:
    """The number with this natural logarithm, also where it exceeds the largest float."""
    if not np.isfinite(log_value) or abs(log_value) < _LARGEST:
        return number(exponential(log_value), digits)
    exponent = int(np.floor(log_value / np.log(10)))
    mantissa = 10 ** (log_value / np.log(10) - exponent)
    return f"{mantissa:.{digits - 1}f}{TIMES}{power_of_ten(exponent)}"


def exponential(log_value: float) -> float:
    """``exp``, infinite where it overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(log_value))


def parameter(value: float) -> str:
    """A number somebody chose, such as 0.1, 64 or 10,430, with four digits if not whole."""
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


def ratio(value: float) -> str:
    """A number of order one, with two decimals: 0.92; others with two digits: 0.0026, 4.8×10⁶."""
    return f"{value:.2f}" if 0.095 <= value < 9.995 else number(value, 2)


def ratio_from_log(log_value: float) -> str:
    """The ratio with this natural logarithm."""
    value = exponential(log_value)
    return ratio(value) if 0.095 <= value < 9.995 else number_from_log(log_value, 2)


def span(values: Iterable[float], text: Callable[[float], str] = number) -> str:
    """The range of some numbers: "0.92 to 1.09", or one number if they read alike."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return UNKNOWN
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low} to {high}"


def interval(low: float, high: float, text: Callable[[float], str] = number) -> str:
    """An interval in small print: its ends with a dash between."""
    return f"{text(low)} {UNKNOWN} {text(high)}"


def short(value: float) -> str:
    """A number with two digits, such as a barrier: 4.5."""
    return number(value, 2)


def percent(fraction: float) -> str:
    """A fraction in per cent: "13 %", with two digits below ten per cent: "3.2 %"."""
    if not np.isfinite(fraction):
        return UNKNOWN
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """An amount with its noun: "1 cell", "1,200 cells"."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def listing(items: list[str]) -> str:
    """Items joined as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def duration(seconds: float) -> str:
    """A time in the unit people would use: "41 s", "12 min", "3.5 h"."""
    if not np.isfinite(seconds):
        return UNKNOWN
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{number(seconds / size, 2)} {unit}"
    return f"{number(seconds / 86_400, 2)} days"


def typeset(text: str) -> str:
    """A sentence whose numbers read naturally: 1.3×10⁻⁴ for 1.3e-4, and 1,340 for 1.34e+03."""

    def natural(match: re.Match[str]) -> str:
        return number(float(match[0]), sum(map(str.isdigit, match[1])))

    text = re.sub(r"(\d(?:\.\d+)?)e[+-]\d+", natural, text)
    text = re.sub(rf"(?<![\d.])1{TIMES}(?=10)", "", text)
    return re.sub(r"(?<![\w-])-(?=\d)", MINUS, text)
