"""Facts about multi-starts: minima and how often each was found, on any executor."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import casadi as ca
import numpy as np
import pytest

from ocp import (
    EULER,
    MultiStart,
    OptimalControlProblem,
    Solution,
    StagedProblem,
    Status,
    TimeGrid,
    discretize,
    multi_start,
    random_guess,
    solve_staged,
)

SEEDS = range(8)


@dataclass(frozen=True)
class Outcome:
    """As much of a solution as a multi-start needs."""

    objective: float
    status: Status = Status.SOLVED


def double_well() -> StagedProblem:
    """Two minima, near x(1) = -1 and x(1) = 1, the left one lower, and a maximum between."""
    x, u = ca.SX.sym("x"), ca.SX.sym("u")
    problem = OptimalControlProblem(
        x,
        u,
        u,
        1.0,
        [0.0],
        control_cost=0.01 * u**2,
        terminal_cost=(x**2 - 1) ** 2 + 0.1 * x,
    )
    return discretize(problem, TimeGrid.uniform(3), EULER)


def solve_from(staged: StagedProblem, seed: int) -> Solution:
    return solve_staged(staged, random_guess(staged, seed))


def threads() -> Executor:
    return ThreadPoolExecutor(2)


def processes() -> Executor:
    # Not forked: the parent has threads of its own by now.
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def wells() -> list[float]:
    """Objectives at the two minima: with x(1) = s, the control is s and costs 0.01 s^2."""
    roots = np.roots([4.0, 0.0, 2 * 0.01 - 4.0, 0.1])
    values = (roots**2 - 1) ** 2 + 0.1 * roots + 0.01 * roots**2
    return sorted(values.real)[:2]


def test_a_multi_start_counts_the_distinct_minima_best_first():
    outcome = multi_start(partial(solve_from, double_well()), SEEDS)
    assert outcome.is_complete
    assert len(outcome.solutions) == len(SEEDS)
    objectives = [minimum.solution.objective for minimum in outcome.minima]
    assert objectives == pytest.approx(wells(), rel=1e-9)
    counts = [minimum.count for minimum in outcome.minima]
    assert sum(counts) == sum(s.is_solved for s in outcome.solutions)
    assert min(counts) >= 1
    assert outcome.best is outcome.minima[0].solution


@pytest.mark.parametrize("pool", [threads, processes])
def test_every_executor_finds_what_a_loop_finds_in_the_order_of_the_seeds(
    pool: Callable[[], Executor],
):
    run = partial(solve_from, double_well())
    here = multi_start(run, SEEDS)
    arrived = []
    with pool() as executor:
        there = multi_start(run, SEEDS, executor, arrived.append)
    assert [s.objective for s in there.solutions] == [s.objective for s in here.solutions]
    assert len(arrived) == len(SEEDS)
    assert there.is_complete


def test_minima_closer_than_rounding_are_one():
    def run(seed: int) -> Outcome:
        return Outcome([2.0, 1.0, 1.0 + 1e-9, 2.0 - 1e-9, 1.0][seed])

    outcome = multi_start(run, range(5))
    assert [(m.solution.objective, m.count) for m in outcome.minima] == [
        (1.0, 3),
        (2.0 - 1e-9, 2),
    ]


def test_only_solved_starts_are_minima():
    outcomes = [
        Outcome(0.1, Status.INACCURATE),
        Outcome(3.0),
        Outcome(0.2, Status.NOT_A_MINIMUM),
        Outcome(np.nan, Status.INVALID_NUMBER),
    ]
    found = multi_start(outcomes.__getitem__, range(4))
    assert [(m.solution, m.count) for m in found.minima] == [(outcomes[1], 1)]
    assert found.best is outcomes[1]


def test_without_a_solved_start_the_cheapest_of_those_not_infeasible_is_the_best():
    cheap = Outcome(-5.0, Status.INFEASIBLE)
    nothing = Outcome(np.nan, Status.INVALID_NUMBER)
    partial_ = Outcome(2.0, Status.ITERATION_LIMIT)
    outcomes = [cheap, nothing, partial_]
    assert multi_start(outcomes.__getitem__, range(3)).best is partial_
    assert MultiStart((cheap, nothing)).best is nothing
    assert MultiStart((cheap,)).best is cheap
    assert MultiStart((cheap,)).minima == ()


def test_a_multi_start_needs_a_seed():
    with pytest.raises(ValueError, match="at least one seed, got none"):
        multi_start(solve_from, [])


def test_an_interrupted_solve_ends_the_series_and_what_is_finished_is_kept():
    ran = []

    def run(seed: int) -> Outcome:
        ran.append(seed)
        return Outcome(1.0, Status.INTERRUPTED if seed == 2 else Status.SOLVED)

    outcome = multi_start(run, SEEDS)
    assert ran == [0, 1, 2]
    assert len(outcome.solutions) == 3
    assert not outcome.is_complete


def test_an_interrupted_solve_cancels_what_an_executor_has_not_begun():
    ran, lock = [], threading.Lock()

    def run(seed: int) -> Outcome:
        with lock:
            ran.append(seed)
        time.sleep(0.02)
        return Outcome(1.0, Status.INTERRUPTED if seed == 0 else Status.SOLVED)

    with ThreadPoolExecutor(1) as executor:
        outcome = multi_start(run, range(50), executor)
    assert len(ran) < 50
    assert not outcome.is_complete
    assert outcome.solutions[0].status is Status.INTERRUPTED


def test_the_interrupt_key_during_a_solve_ends_the_series():
    staged = double_well()

    def run(seed: int) -> Solution:
        def progress(iteration):
            if seed == 1 and iteration.number == 1:
                os.kill(os.getpid(), signal.SIGINT)

        return solve_staged(staged, random_guess(staged, seed), progress=progress)

    outcome = multi_start(run, SEEDS)
    assert [s.status is Status.INTERRUPTED for s in outcome.solutions] == [False, True]
    assert np.isfinite(outcome.solutions[1].objective)
    assert not outcome.is_complete


def test_the_interrupt_key_between_solves_keeps_what_is_finished():
    def run(seed: int) -> Outcome:
        if seed == 2:
            raise KeyboardInterrupt
        return Outcome(float(seed))

    outcome = multi_start(run, SEEDS)
    assert [s.objective for s in outcome.solutions] == [0.0, 1.0]
    assert not outcome.is_complete


def test_the_interrupt_key_before_anything_is_finished_is_passed_on():
    def run(seed: int) -> Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        multi_start(run, SEEDS)
