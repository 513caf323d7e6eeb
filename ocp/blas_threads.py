"""Matrix products on one core, unless the matrices are large enough for several to pay.

The matrices of a solve are small: a product takes microseconds, and the threads of a BLAS wait for
each other at its end. On a machine that has something else to do as well, the one that waits may
wait for a time slice: a Cholesky factorisation of 600 rows then takes a second instead of 5 ms.
So a solve keeps the BLAS of NumPy and of SciPy on one thread up to THREADED decisions. By size, not
by the load of the machine, so that the same request has the same digits on every run.

OpenBLAS, which the wheels of NumPy and SciPy carry, is told by its own function; any other BLAS is
left as it is.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy

THREADED = 3000  # decisions, from which on the dense Hessian is worth several threads
FOLDERS = ("{package}.libs", "{package}/.dylibs")  # where wheels keep their libraries
NAMES = ("openblas_{verb}_num_threads", "scipy_openblas_{verb}_num_threads")
SUFFIXES = ("", "64_")  # of libraries with integers of 64 bits


@dataclass(frozen=True)
class _Library:
    """A loaded BLAS: how to ask for its number of threads, and how to set it."""

    get: Any
    set: Any


@cache
def _libraries() -> tuple[_Library, ...]:
    """The OpenBLAS of NumPy and the one of SciPy, as far as they are there."""
    found = []
    for package in (np, scipy):
        root = Path(package.__path__[0]).resolve()
        for folder in FOLDERS:
            place = root.parent / folder.format(package=root.name)
            for path in sorted(place.glob("*openblas*")):
                library = _open(path)
                if library is not None:
                    found.append(library)
    return tuple(found)


def _open(path: Path) -> _Library | None:
    try:
        library = ctypes.CDLL(str(path))
    except OSError:  # not a library that this process can load, so none that it has loaded
        return None
    for name in NAMES:
        for suffix in SUFFIXES:
            words = [name.format(verb=verb) + suffix for verb in ("get", "set")]
            if all(hasattr(library, word) for word in words):
                return _Library(*(getattr(library, word) for word in words))
    return None


class _Holders:
    """How many solves hold the libraries on one thread at the moment, in all Python threads."""

    def __init__(self) -> None:
        self.lock, self.count = threading.Lock(), 0
        self.before: list[int] = []

    def enter(self) -> None:
        with self.lock:
            self.count += 1
            if self.count == 1:
                self.before = [int(library.get()) for library in _libraries()]
                for library in _libraries():
                    library.set(1)

    def leave(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0:
                for library, threads in zip(_libraries(), self.before, strict=True):
                    library.set(threads)


_HOLDERS = _Holders()


@contextmanager
def threads_for(decisions: int) -> Iterator[None]:
    """Within it, one thread for matrices of fewer than THREADED decisions.

    May be nested, also by several Python threads: the last to leave restores what was before.
    """
    if decisions >= THREADED:
        yield
        return
    _HOLDERS.enter()
    try:
        yield
    finally:
        _HOLDERS.leave()


def blas_threads() -> list[int]:
    """Number of threads of every BLAS that is known."""
    return [int(library.get()) for library in _libraries()]
