"""Choosing parameters by their names: the head alone, one layer, everything but the biases."""

import fnmatch
from collections.abc import Callable, Sequence

from escapade.errors import InvalidArgument

Choice = str | Sequence[str] | Callable[[str], bool] | None
"""Names that move: a glob, several, a predicate, or None for all of them."""


def chosen(names: Sequence[str], only: Choice) -> list[bool]:
    """Which of the named parameters move; the others are frozen where they are.

    Args:
        names: such as ``"layers[0].weight"``.
        only: a glob or several (``*`` and ``?`` are wild, brackets stand for themselves), a
            predicate, or None for all. A glob that names a module means all its parameters.

    Raises:
        InvalidArgument: when `only` is none of these or a glob names no parameter.
    """
    if only is None:
        return [True] * len(names)
    if callable(only):
        moves = [bool(only(name)) for name in names]
    else:
        moves = [False] * len(names)
        for pattern in [only] if isinstance(only, str) else only:
            matches = [_is_named(name, pattern) for name in names]
            if not any(matches):
                break
            moves = [before or now for before, now in zip(moves, matches, strict=True)]
        else:
            return moves
        raise InvalidArgument(f"only names {pattern!r}; choose among {', '.join(names)}")
    if not any(moves):
        raise InvalidArgument(f"only chooses no parameter of {', '.join(names)}")
    return moves


def _is_named(name: str, pattern: str) -> bool:
    literal = pattern.replace("[", "[[]")
    return any(fnmatch.fnmatchcase(name, literal + rest) for rest in ("", ".*", "[[]*"))
