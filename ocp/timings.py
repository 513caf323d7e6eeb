"""Where the wall time of a call goes.

    total = build + search + solve + certificate + error estimate

Every second between the start and the end of a call belongs to the part that is under way. Parts
report themselves by `spent_on`, wherever in the program they are, to all calls that are under way:
a solve inside a refinement counts for both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass

PARTS = ("build", "search", "solve", "certificate", "error_estimate")


@dataclass(frozen=True)
class Timings:
    """Wall time of a call by what it was spent on, s.

    Args:
        build: transcription, derivatives, guesses, and everything that is no other part.
        search: from other starts: other guesses after the first, or all but the best of many.
        solve: the optimiser, all its runs from one guess.
        certificate: optimality conditions of the points where it stopped.
        error_estimate: comparison with the problem in continuous time.
        total: of the whole call; the sum of the parts, up to rounding.
    """

    build: float = 0.0
    search: float = 0.0
    solve: float = 0.0
    certificate: float = 0.0
    error_estimate: float = 0.0
    total: float = 0.0

    def plus(self, part: str, seconds: float) -> Timings:
        """These, and so many seconds more of one of PARTS."""
        spent = asdict(self)
        spent[part] += max(seconds, 0.0)
        spent["total"] += max(seconds, 0.0)
        return Timings(**spent)

    def __str__(self) -> str:
        parts = [f"{name.replace('_', ' ')} {getattr(self, name):.2f}" for name in PARTS]
        spent = [part for part, name in zip(parts, PARTS, strict=True) if getattr(self, name)]
        return f"{self.total:.2f} s" + (f" ({', '.join(spent)})" if spent else "")


class Stopwatch:
    """Shares out the wall time of one call among its parts, from now on.

    Args:
        part: the one of PARTS that is under way.
    """

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self.part = "build"
        self._spent = dict.fromkeys(PARTS, 0.0)

    def turn_to(self, part: str) -> str:
        """Count for this part from now on; returns the one that was under way."""
        now, before = time.perf_counter(), self.part
        self._spent[before] += now - self._last
        self._last, self.part = now, part
        return before

    def timings(self) -> Timings:
        """Of the call until now."""
        self.turn_to(self.part)
        return Timings(**self._spent, total=self._last - self._begin)


_UNDER_WAY: ContextVar[tuple[Stopwatch, ...]] = ContextVar("calls under way", default=())


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """A call whose time is to be known, with the stopwatch that knows it."""
    watch = Stopwatch()
    token = _UNDER_WAY.set((*_UNDER_WAY.get(), watch))
    try:
        yield watch
    finally:
        _UNDER_WAY.reset(token)


@contextmanager
def spent_on(part: str) -> Iterator[None]:
    """Time of this part, for all calls that are under way.

    Args:
        part: one of PARTS. What is done within a search belongs to the search.
    """
    watches = _UNDER_WAY.get()
    before = [watch.turn_to("search" if watch.part == "search" else part) for watch in watches]
    try:
        yield
    finally:
        for watch, earlier in zip(watches, before, strict=True):
            watch.turn_to(earlier)
