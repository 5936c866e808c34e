"""A training run as a sequence of stays and escapes."""

from collections.abc import Sequence
from itertools import groupby

import equinox as eqx

from escapade.training.record import Record

RESUMED = "resumed"
"""Note of the first record after an interruption, where a stay begins without an escape."""


class Stay(eqx.Module):
    """The time between two escapes.

    A stay begins at a record and lasts until the parameters are first seen outside the slab across
    the direction that was sharpest there. Durations are known to an interval between records, and
    a shorter excursion is not seen. With a slab of changing depth each stay keeps that of its
    beginning.

    Attributes:
        first_step: where it began.
        last_step: where it was first seen to be over; where the log ends, of a stay that goes on.
        predicted: steps expected at its beginning.
        mechanism: expected there.
        escaped: whether it ended by an escape.
    """

    first_step: int
    last_step: int
    predicted: float
    mechanism: str
    escaped: bool

    @property
    def steps(self) -> int:
        """Its length; at least that, where it did not end by an escape."""
        return self.last_step - self.first_step

    def __str__(self) -> str:
        least = "" if self.escaped else "at least "
        return (
            f"stay from step {self.first_step}: {least}{self.steps} steps, predicted "
            f"{self.predicted:.3g} ({self.mechanism})"
        )


def stays(records: Sequence[Record]) -> list[Stay]:
    """The stays in the records of a monitor, in order."""
    seen = [record for record in records if not record.error]
    groups = [list(members) for _, members in groupby(seen, key=lambda record: record.stay)]
    result = []
    for number, members in enumerate(groups):
        first, last = members[0], members[-1]
        follower = groups[number + 1][0] if number + 1 < len(groups) else None
        escaped = follower is not None and RESUMED not in follower.note
        end = follower.step if follower is not None and escaped else last.step
        result.append(Stay(first.step, end, first.exit_steps, first.mechanism, escaped))
    return result
