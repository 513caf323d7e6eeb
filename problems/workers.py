"""Processes that solves and runs are handed to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


@contextmanager
def processes(number: int | None) -> Iterator[Executor | None]:
    """So many processes; None, which means this one, if no more than one is asked for.

    They leave Ctrl-C to the solves that they run, which hand in their best points.
    """
    if number is None or number == 1:
        yield None
        return
    with ProcessPoolExecutor(
        number, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        yield pool
