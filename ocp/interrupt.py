"""Ctrl-C as a request that a run answers when it can, so that nothing computed is lost.

Within `interruptible`, the first SIGINT sets a flag that optimisers look at once per iteration and
series of solves between solves; a second one raises KeyboardInterrupt as usual. Nested uses share
the flag of the outermost, so an interrupt that comes late in one solve still ends the series.
Only the main thread can listen; elsewhere the flag stays down.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Request:
    """Whether an interrupt was asked for."""

    is_pending: bool = False


_current: list[Request] = []  # the outermost request in force, if any


@contextmanager
def interruptible() -> Iterator[Request]:
    """Listen for SIGINT until the end of the block."""
    if _current:
        yield _current[0]
        return
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def listen(number: int, frame: object) -> None:
        if request.is_pending:
            raise KeyboardInterrupt
        request.is_pending = True

    previous = signal.signal(signal.SIGINT, listen)
    _current.append(request)
    try:
        yield request
    finally:
        _current.clear()
        signal.signal(signal.SIGINT, previous)
