"""One deadline for everything that a call does, by the wall clock.

    left = at - now,    never below 0

A limit in seconds that is handed from part to part would start its clock anew in every one of
them; a point in time is the same for all. Computer time would be another clock: two threads spend
two seconds of it in one.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A point in time of this process, which only `after` and `within` know how to make.

    Args:
        at: on the monotonic clock, s; infinite if there is no limit.
    """

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """In so many seconds from now; infinitely many make a deadline that never passes."""
        return cls(time.monotonic() + seconds)

    def within(self, seconds: float) -> Deadline:
        """The earlier of this one and of so many seconds from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at)

    @property
    def left(self) -> float:
        """What is left of the time, s; 0 once the deadline has passed."""
        return max(self.at - time.monotonic(), 0.0)

    @property
    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self.at


NEVER = Deadline()
