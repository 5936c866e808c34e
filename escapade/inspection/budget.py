"""Time and progress of an inspection."""

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

    def until(self, share: float) -> Callable[[], bool]:
        """A deadline at a share of the time: early stages leave some to later ones."""
        return lambda: self.spent > share * self.seconds

    def say(self, text: str) -> None:
        """Tell what is being done."""
        self._progress(text)

    def allows(self, what: str) -> bool:
        """Whether there is time for something; if not, it is recorded as left out."""
        if self.expired():
            self.skipped.append(what)
            return False
        self.say(what)
        return True
