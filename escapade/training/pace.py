"""When to look: often enough to see, seldom enough not to be felt."""

import time

import numpy as np

SHARE = 0.03
"""Of the time of training that records may take at an interval chosen here."""

TRIAL = 20
"""Steps timed before an interval is chosen."""


class Pace:
    """Keeps time, and says when a record is due.

    Attributes:
        every: steps between records; None until it has been chosen.
        spent: seconds inside the monitor.
    """

    def __init__(self, every: int | None):
        self.every = every
        self.spent = 0.0
        self._chosen_here = every is None
        self._began: float | None = None
        self._steps = 0
        self._since: int | None = None

    def begin(self) -> float:
        """Start of one call; the clock."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
        self._steps += 1
        return now

    def end(self, began: float) -> None:
        """End of that call."""
        self.spent += time.perf_counter() - began

    @property
    def seconds(self) -> float:
        """Since the first call."""
        return 0.0 if self._began is None else time.perf_counter() - self._began

    @property
    def overhead(self) -> float:
        """Share of the time since the first call that was spent in the monitor."""
        seconds = self.seconds
        return self.spent / seconds if seconds > 0 else 0.0

    def due(self, cost: float) -> bool:
        """Whether to record now, given the seconds a record takes."""
        if self._since is None:
            self._since = self._steps
            return True
        passed = self._steps - self._since
        if self._chosen_here and (self.every is None or passed >= self.every):
            self._choose(cost)
        if self.every is None or passed < self.every:
            return False
        self._since = self._steps
        return True

    def _choose(self, cost: float) -> None:
        """The interval at which records take their share; it only grows."""
        if self._steps <= TRIAL:
            return
        training = (self.seconds - self.spent) / (self._steps - 1)
        least = cost / (SHARE * max(training, 1e-9))
        self.every = max(rounded_up(least), self.every or 1)


def rounded_up(number: float) -> int:
    """To two digits: 730 for 721.3."""
    unit = 10.0 ** max(np.floor(np.log10(max(number, 1.0))) - 1, 0)
    return int(unit * np.ceil(max(number, 1.0) / unit * (1 - 1e-9)))
