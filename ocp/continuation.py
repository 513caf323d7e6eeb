"""Many solves of one problem: multi-start over any executor.

Local minima are told apart by their objectives. Every one found is kept, with how often.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass
from multiprocessing import active_children
from typing import Generic, Protocol, TypeVar

from ocp.interrupt import Request, interruptible
from ocp.nlp import Status

POLL = 0.2  # s, between looks at the interrupt flag while others work
GRACE = 30.0  # s, for workers to hand in their best points after an interrupt
SMALLEST = 1e-14  # objectives below this are all zero
DISTINCT = 1e-6  # objectives closer than this, relatively, count as one minimum


class HasObjective(Protocol):
    """What a multi-start needs to know of a solution."""

    @property
    def objective(self) -> float:
        """Total cost."""

    @property
    def status(self) -> Status:
        """How the solve ended."""


S = TypeVar("S", bound=HasObjective)


@dataclass(frozen=True)
class Minimum(Generic[S]):
    """A local minimum, and how many starts ended there."""

    solution: S
    count: int


@dataclass(frozen=True)
class MultiStart(Generic[S]):
    """Outcome of all starts, in the order of the starts.

    Args:
        solutions: what each finished start ended with.
        is_complete: whether all starts were run; not so after an interrupt.
    """

    solutions: tuple[S, ...]
    is_complete: bool = True

    @property
    def minima(self) -> tuple[Minimum[S], ...]:
        """Distinct solved minima, best first."""
        solved = [s for s in self.solutions if s.status is Status.SOLVED]
        groups: list[list[S]] = []
        for solution in sorted(solved, key=lambda s: s.objective):
            if groups and _same(groups[-1][0].objective, solution.objective):
                groups[-1].append(solution)
            else:
                groups.append([solution])
        return tuple(Minimum(group[0], len(group)) for group in groups)

    @property
    def best(self) -> S:
        """The best solved start; if none was solved, the one of least cost among the rest.

        An infeasible point may cost little, so it comes after every other.
        """
        if self.minima:
            return self.minima[0].solution
        return min(
            self.solutions,
            key=lambda s: (
                s.status is Status.INFEASIBLE,
                s.objective if s.objective == s.objective else float("inf"),
            ),
        )


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= max(DISTINCT * max(abs(a), abs(b)), SMALLEST)


def multi_start(
    run: Callable[[int], S],
    seeds: Sequence[int],
    executor: Executor | None = None,
    finished: Callable[[S], None] | None = None,
) -> MultiStart[S]:
    """Run one solve per seed.

    An interrupt ends the series; what is finished is kept. With nothing finished it is raised.

    Args:
        run: seed -> solution; picklable if the executor works in other processes.
        seeds: at least one.
        executor: where to run; here, one after the other, by default.
        finished: called with every solution as it arrives.

    Raises:
        ValueError: no seed.
    """
    if not seeds:
        raise ValueError("a multi-start needs at least one seed, got none.")
    found: dict[int, S] = {}
    with interruptible() as request:
        try:
            for position, solution in _outcomes(run, seeds, executor, request):
                found[position] = solution
                if finished is not None:
                    finished(solution)
                request.is_pending |= solution.status is Status.INTERRUPTED
        except KeyboardInterrupt:
            request.is_pending = True
        is_complete = len(found) == len(seeds) and not request.is_pending
    if not found:
        raise KeyboardInterrupt
    return MultiStart(tuple(found[position] for position in sorted(found)), is_complete)


def _outcomes(
    run: Callable[[int], S], seeds: Iterable[int], executor: Executor | None, request: Request
) -> Iterator[tuple[int, S]]:
    """Position and solution of every start, as they end."""
    if executor is None:
        for position, seed in enumerate(seeds):
            yield position, run(seed)
            if request.is_pending:
                return
        return
    futures = {executor.submit(run, seed): position for position, seed in enumerate(seeds)}
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            yield futures[future], future.result()
        if request.is_pending:
            waiting = {future for future in waiting if not future.cancel()}
            # A Ctrl-C reaches the workers by itself, a signal to this process alone does not.
            for process in active_children():
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGINT)
            done, waiting = wait(waiting, timeout=GRACE)
            for future in done:
                yield futures[future], future.result()
            return
