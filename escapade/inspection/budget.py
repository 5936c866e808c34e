"""Time and progress of an inspection."""

import itertools
import time
from collections.abc import Callable

Progress = Callable[[str], None]


class Budget:
    """What an inspection may spend, and what it had to leave out."""

    def __init__(self, seconds: float | None = None, progress: Progress | None = None):
        """Start the clock."""
        self.began = time.monotonic()
        self.seconds = float("inf") if seconds is None else seconds
        self.skipped: list[str] = []
        self._progress = progress or (lambda text: None)

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.spent > self.seconds

    def until(self, share: float, least: int = 0) -> Callable[[], bool]:
        """A deadline at a share of the time: early stages leave some to later ones.

        The first `least` times that it is asked all the time counts: products without which there
        would be no figure at all, hence no inspection, take from later stages what they need.
        """
        asked = itertools.count()
        return lambda: self.spent > self.seconds * (1 if next(asked) < least else share)

    def say(self, text: str) -> None:
        """Tell what is being done."""
        self._progress(text)

    def allows(self, what: str) -> bool:
        """Whether there is time for something; if not, it is recorded as left out."""
        if self.expired():
            self.leave_out(what)
            return False
        self.say(what)
        return True

    def leave_out(self, what: str) -> None:
        """Record that there was no time for something."""
        self.skipped.append(what)
