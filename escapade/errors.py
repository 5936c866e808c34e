"""The one error hierarchy: every message names the argument, what was given and a way out."""


class EscapadeError(Exception):
    """Base of every error Escapade raises on purpose."""


class InvalidArgument(EscapadeError, ValueError):
    """An argument has the wrong shape, type or range."""


class Unsupported(EscapadeError, NotImplementedError):
    """The verb does not apply to this kind of problem; the message says which verb does."""


class NotAMinimum(EscapadeError):
    """A point that must be a minimum (or an attractor of the drift) is not one."""


class NotInRegion(EscapadeError):
    """The start lies outside the region that is to be left."""


class NoBoundary(EscapadeError):
    """No boundary of the region was found inside the box searched."""


class DegenerateNoise(EscapadeError):
    """The gradient noise is zero, no covariance (not positive), or does not reach the exit."""


class Unstable(EscapadeError):
    """The learning rate makes the dynamics unstable at the minimum: no theory of exit applies."""


class Diverged(EscapadeError):
    """A run produced NaN or infinity."""


class NotConverged(EscapadeError):
    """An iterative solver did not reach its tolerance; no unconverged number is returned."""


class DataError(EscapadeError):
    """A data file is missing, corrupt, truncated or not the file it should be."""


class StudyError(EscapadeError):
    """A study is unknown, malformed, or its output folder cannot be used."""


def in_one_line(error: Exception) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())
