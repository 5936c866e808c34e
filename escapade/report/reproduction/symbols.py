"""Plain formulas as a reader of the papers writes them: E[ν], λ_max, ε², exp(−2)."""

import re

from escapade.report.formats import typeset

_SYMBOLS = {
    "alpha": "α",
    "delta": "δ",
    "epsilon": "ε",
    "eta": "η",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "pi": "π",
    "sigma": "σ",
    "tau": "τ",
    "theta": "θ",
    "Delta": "Δ",
}
_NAME = re.compile(rf"(?<![A-Za-z])({'|'.join(_SYMBOLS)})(?![A-Za-z])")
_RAISED = str.maketrans("-0123456789+", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹⁺")


def formula(text: str) -> str:
    """A sentence with its formulas typeset: names of Greek letters, powers, minus signs.

    Powers are raised where they are whole numbers; others keep their caret, without brackets
    around a single number.
    """
    text = _NAME.sub(lambda match: _SYMBOLS[match[1]], text)
    text = re.sub(r"(?<![A-Za-z0-9])V0\b", "V₀", text)
    text = re.sub(r"\^\((-?\d+)\)|\^(-?\d+)(?![\d./])", _raised, text)
    return typeset(text)


def _raised(match: re.Match[str]) -> str:
    return (match[1] or match[2]).translate(_RAISED)
